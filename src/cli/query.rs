//! `ablate query`: SQL over the store, read-only by construction.

use crate::cli::lookup::{self, LookupError, ignore_closed_pipe};
use crate::report::text::clean;
use crate::store::{Cell, Query, view_docs};
use clap::{Args, ValueEnum};
use std::io::Write;
use std::path::Path;

/// Ask the store in SQL (it can only be read)
#[derive(Debug, Clone, Args)]
pub struct QueryArgs {
    /// One statement: SELECT, WITH, VALUES or EXPLAIN
    #[arg(value_name = "SQL", required_unless_present = "schema")]
    pub sql: Option<String>,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = QueryFormat::Table)]
    pub format: QueryFormat,
    /// Print the documented views and their columns
    #[arg(long, conflicts_with = "sql")]
    pub schema: bool,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum QueryFormat {
    /// For people
    Table,
    /// Comma-separated values (RFC 4180), NULL as an empty field
    Csv,
    /// An array of objects
    Json,
    /// GitHub-flavoured Markdown
    Md,
}

/// Runs the command on the store at `store`: the answer to `out`, warnings to `err`.
pub async fn run(
    args: &QueryArgs,
    store: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    let mut out = std::io::BufWriter::new(out);
    let result = answer(args, store, &mut out, err).await;
    ignore_closed_pipe(result.and_then(|()| Ok(out.flush()?)))
}

async fn answer(
    args: &QueryArgs,
    store: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    let Some(sql) = args.sql.as_deref().filter(|_| !args.schema) else {
        return Ok(schema(args.format, out)?);
    };
    let store = lookup::open(store, err).await?;
    let query = store.query(sql).await?;
    match args.format {
        QueryFormat::Table => table(query, out).await,
        QueryFormat::Csv => csv(query, out).await,
        QueryFormat::Json => json(query, out).await,
        QueryFormat::Md => markdown(query, out).await,
    }
}

/// A cell as text; NULL is `None`.
fn text(cell: &Cell) -> Option<String> {
    Some(match cell {
        Cell::Null => return None,
        Cell::Integer(number) => number.to_string(),
        Cell::Real(number) => real(*number),
        Cell::Text(text) => text.clone(),
        Cell::Blob(bytes) => hex(bytes),
    })
}

/// A number in the fewest digits that read back as the same one, with a point in it.
fn real(number: f64) -> String {
    format!("{number:?}")
}

/// `x'00ff'`, as SQL writes bytes.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(2 * bytes.len() + 3);
    text.push_str("x'");
    for byte in bytes {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\'');
    text
}

async fn table(query: Query<'_>, out: &mut dyn Write) -> Result<(), LookupError> {
    let head = query.columns().to_vec();
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut numeric = vec![true; head.len()];
    query
        .for_each(|row| {
            for (numeric, cell) in numeric.iter_mut().zip(&row) {
                *numeric &= matches!(cell, Cell::Null | Cell::Integer(_) | Cell::Real(_));
            }
            rows.push(
                row.iter()
                    .map(|cell| text(cell).unwrap_or_default())
                    .collect(),
            );
            Ok::<(), LookupError>(())
        })
        .await?;
    let right: Vec<usize> = (0..head.len()).filter(|&column| numeric[column]).collect();
    Ok(out.write_all(lookup::grid(&head, rows, &right).as_bytes())?)
}

async fn csv(query: Query<'_>, out: &mut dyn Write) -> Result<(), LookupError> {
    let head: Vec<String> = query.columns().iter().map(|name| field(name)).collect();
    writeln!(out, "{}", head.join(","))?;
    query
        .for_each(|row| {
            let fields: Vec<String> = row
                .iter()
                .map(|cell| text(cell).map_or(String::new(), |text| field(&text)))
                .collect();
            // A line with nothing on it would be no record.
            match fields.as_slice() {
                [only] if only.is_empty() => writeln!(out, "\"\"")?,
                _ => writeln!(out, "{}", fields.join(","))?,
            }
            Ok(())
        })
        .await
}

fn field(text: &str) -> String {
    match text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

async fn json(query: Query<'_>, out: &mut dyn Write) -> Result<(), LookupError> {
    let names = query.columns().to_vec();
    let mut first = true;
    write!(out, "[")?;
    query
        .for_each(|row| {
            let object: serde_json::Map<String, serde_json::Value> = names
                .iter()
                .zip(row)
                .map(|(name, cell)| {
                    let value = match cell {
                        Cell::Null => serde_json::Value::Null,
                        Cell::Integer(number) => number.into(),
                        // Null if it is not finite: JSON has no such number.
                        Cell::Real(number) => number.into(),
                        Cell::Text(text) => text.into(),
                        Cell::Blob(bytes) => hex(&bytes).into(),
                    };
                    (name.clone(), value)
                })
                .collect();
            write!(
                out,
                "{}\n  {}",
                if first { "" } else { "," },
                serde_json::Value::Object(object)
            )?;
            first = false;
            Ok::<(), LookupError>(())
        })
        .await?;
    writeln!(out, "{}]", if first { "" } else { "\n" })?;
    Ok(())
}

async fn markdown(query: Query<'_>, out: &mut dyn Write) -> Result<(), LookupError> {
    let head: Vec<String> = query.columns().iter().map(|name| escaped(name)).collect();
    writeln!(out, "| {} |", head.join(" | "))?;
    writeln!(out, "|{}", " --- |".repeat(head.len()))?;
    query
        .for_each(|row| {
            let cells: Vec<String> = row
                .iter()
                .map(|cell| escaped(&text(cell).unwrap_or_default()))
                .collect();
            Ok(writeln!(out, "| {} |", cells.join(" | "))?)
        })
        .await
}

fn escaped(text: &str) -> String {
    clean(text).replace('\\', "\\\\").replace('|', "\\|")
}

/// The documentation of the views.
fn schema(format: QueryFormat, out: &mut dyn Write) -> std::io::Result<()> {
    let views = view_docs();
    match format {
        QueryFormat::Json => {
            let views: Vec<serde_json::Value> = views
                .iter()
                .map(|view| {
                    let columns: Vec<serde_json::Value> = view
                        .columns
                        .iter()
                        .map(
                            |c| serde_json::json!({"name": c.name, "type": c.kind, "text": c.text}),
                        )
                        .collect();
                    serde_json::json!({"view": view.name, "text": view.text, "columns": columns})
                })
                .collect();
            writeln!(out, "{:#}", serde_json::Value::Array(views))
        }
        QueryFormat::Csv => {
            writeln!(out, "view,column,type,text")?;
            for view in &views {
                for c in &view.columns {
                    let fields = [&view.name, &c.name, &c.kind, &c.text].map(|text| field(text));
                    writeln!(out, "{}", fields.join(","))?;
                }
            }
            Ok(())
        }
        QueryFormat::Md => {
            for view in &views {
                writeln!(out, "## `{}`\n\n{}\n", view.name, view.text)?;
                writeln!(out, "| column | type | meaning |\n| --- | --- | --- |")?;
                for c in &view.columns {
                    writeln!(out, "| `{}` | {} | {} |", c.name, c.kind, c.text)?;
                }
                writeln!(out)?;
            }
            Ok(())
        }
        QueryFormat::Table => {
            for (index, view) in views.iter().enumerate() {
                let gap = if index > 0 { "\n" } else { "" };
                writeln!(out, "{gap}{}  {}", view.name, view.text)?;
                let width = view.columns.iter().map(|c| c.name.len()).max().unwrap_or(0);
                for c in &view.columns {
                    writeln!(out, "  {:width$}  {:<7}  {}", c.name, c.kind, c.text)?;
                }
            }
            Ok(())
        }
    }
}
