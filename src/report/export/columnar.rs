//! Views and tables as columns: Parquet, Arrow IPC (Feather) and CSV.

use super::{ExportError, Written, io_error};
use crate::report::data::ExperimentData;
use crate::report::files;
use crate::report::frame::outside_runtimes;
use crate::report::table::render::{Csv, Render};
use crate::report::table::{Kind, Table, tables};
use crate::store::{Cell, Store, View, view_docs};
use polars::prelude::*;
use std::fs::File;
use std::io::Cursor;
use std::path::Path;
use tempfile::NamedTempFile;

/// Rows in memory at a time (Parquet: in a row group).
const BATCH: usize = 65_536;

/// A form of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Parquet,
    Arrow,
    Csv,
}

impl Form {
    /// The ending of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Form::Parquet => "parquet",
            Form::Arrow => "arrow",
            Form::Csv => "csv",
        }
    }
}

/// Writes all rows of `view` that belong to `experiments` to `path`. Parquet and CSV need memory for some ten thousand
/// rows, however many there are; Arrow for all.
pub async fn view(
    store: &Store,
    view: View,
    experiments: &[String],
    form: Form,
    path: &Path,
) -> Result<Written, ExportError> {
    let query = store.extract(view, experiments).await?;
    let docs = view_docs();
    let doc = docs.iter().find(|doc| doc.name == view.name());
    let mut batch: Vec<Builder> = query
        .columns()
        .iter()
        .map(|name| {
            let column = doc.and_then(|doc| doc.columns.iter().find(|column| column.name == *name));
            Builder::new(name, column.map_or("text", |column| column.kind.as_str()))
        })
        .collect();
    let schema = frame(&mut batch)
        .map_err(form_error(path))?
        .schema()
        .as_ref()
        .clone();
    let mut sink = Sink::begin(form, path, &schema)?;
    let (mut rows, mut waiting) = (0u64, 0);
    query
        .for_each(|row| {
            for (builder, cell) in batch.iter_mut().zip(row) {
                builder.push(cell);
            }
            waiting += 1;
            rows += 1;
            if waiting == BATCH {
                waiting = 0;
                sink.write(frame(&mut batch).map_err(form_error(path))?)?;
            }
            Ok::<(), ExportError>(())
        })
        .await?;
    sink.write(frame(&mut batch).map_err(form_error(path))?)?;
    sink.finish()?;
    Ok(Written {
        path: path.to_owned(),
        rows,
    })
}

/// Writes the tables of `data` into `folder`, one file each, in full precision: the columns of the table's own CSV.
pub fn report_tables(
    data: &ExperimentData,
    form: Form,
    folder: &Path,
) -> Result<Vec<Written>, ExportError> {
    let mut written = Vec::new();
    for table in tables(data)? {
        let path = folder.join(format!("{}.{}", table.name, form.extension()));
        let text = Csv.render(&table);
        let mut frame = outside_runtimes(|| {
            CsvReadOptions::default()
                .with_has_header(true)
                .with_infer_schema_length(None)
                .with_schema_overwrite(Some(words(&table).into()))
                .into_reader_with_file_handle(Cursor::new(text.into_bytes()))
                .finish()
        })
        .map_err(form_error(&path))?;
        let rows = frame.height() as u64;
        frame.rechunk_mut();
        let schema = frame.schema().as_ref().clone();
        let mut sink = Sink::begin(form, &path, &schema)?;
        sink.write(frame)?;
        sink.finish()?;
        written.push(Written { path, rows });
    }
    Ok(written)
}

/// The columns of words, which stay what they are though they may look like numbers (`1e-3`, `007`).
fn words(table: &Table) -> Schema {
    let mut heads: Vec<String> = Vec::new();
    let columns = table.columns.iter().map(|column| {
        let is_text = column.kind.is_text() || column.kind == Kind::Mixed;
        (column.full_head(), is_text)
    });
    columns
        .chain([("group".to_owned(), true)])
        .filter_map(|(head, is_text)| {
            // Of heads that are alike, all but the first get a number when they are read.
            let earlier = heads.iter().filter(|other| **other == head).count();
            heads.push(head.clone());
            let name = match earlier {
                0 => head,
                earlier => format!("{head}_duplicated_{}", earlier - 1),
            };
            is_text.then(|| Field::new(name.into(), DataType::String))
        })
        .collect()
}

fn form_error(path: &Path) -> impl Fn(PolarsError) -> ExportError + '_ {
    |source| ExportError::Form {
        path: path.display().to_string(),
        source,
    }
}

/// A column in the making.
struct Builder {
    name: String,
    values: Values,
}

enum Values {
    Text(Vec<Option<String>>),
    Integer(Vec<Option<i64>>),
    Real(Vec<Option<f64>>),
}

impl Builder {
    /// `kind`: as the views' documentation calls it.
    fn new(name: &str, kind: &str) -> Self {
        Builder {
            name: name.to_owned(),
            values: match kind {
                "integer" => Values::Integer(Vec::new()),
                "real" => Values::Real(Vec::new()),
                _ => Values::Text(Vec::new()),
            },
        }
    }

    fn push(&mut self, cell: Cell) {
        match &mut self.values {
            Values::Text(values) => values.push(match cell {
                Cell::Null => None,
                Cell::Text(text) => Some(text),
                Cell::Integer(number) => Some(number.to_string()),
                Cell::Real(number) => Some(number.to_string()),
                Cell::Blob(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            }),
            Values::Integer(values) => values.push(match cell {
                Cell::Integer(number) => Some(number),
                Cell::Real(number) => Some(number as i64),
                _ => None,
            }),
            Values::Real(values) => values.push(match cell {
                Cell::Integer(number) => Some(number as f64),
                Cell::Real(number) => Some(number),
                _ => None,
            }),
        }
    }

    /// What was pushed, as a column; the builder is empty then.
    fn take(&mut self) -> Column {
        let name = self.name.as_str().into();
        match &mut self.values {
            Values::Text(values) => Column::new(name, std::mem::take(values)),
            Values::Integer(values) => Column::new(name, std::mem::take(values)),
            Values::Real(values) => Column::new(name, std::mem::take(values)),
        }
    }
}

fn frame(builders: &mut [Builder]) -> PolarsResult<DataFrame> {
    DataFrame::new_infer_height(builders.iter_mut().map(Builder::take).collect())
}

/// A file that takes batches.
struct Sink<'p> {
    path: &'p Path,
    file: NamedTempFile,
    writer: Writer,
}

enum Writer {
    Parquet(Box<polars::io::parquet::write::BatchedWriter<File>>),
    Csv(Box<polars::io::csv::write::BatchedWriter<File>>),
    /// Written whole at the end.
    Arrow(Option<DataFrame>),
}

impl<'p> Sink<'p> {
    fn begin(form: Form, path: &'p Path, schema: &Schema) -> Result<Self, ExportError> {
        let file = files::begin(path).map_err(io_error(path))?;
        let handle = file.as_file().try_clone().map_err(io_error(path))?;
        let writer = match form {
            Form::Parquet => ParquetWriter::new(handle)
                .batched(schema)
                .map(|writer| Writer::Parquet(Box::new(writer))),
            Form::Csv => CsvWriter::new(handle)
                .batched(schema)
                .map(|writer| Writer::Csv(Box::new(writer))),
            Form::Arrow => Ok(Writer::Arrow(None)),
        }
        .map_err(form_error(path))?;
        Ok(Sink { path, file, writer })
    }

    fn write(&mut self, frame: DataFrame) -> Result<(), ExportError> {
        let writer = &mut self.writer;
        outside_runtimes(|| match writer {
            Writer::Parquet(writer) if frame.height() > 0 => writer.write_batch(&frame),
            Writer::Csv(writer) if frame.height() > 0 => writer.write_batch(&frame),
            Writer::Arrow(Some(all)) => all.vstack_mut_owned(frame).map(drop),
            Writer::Arrow(all) => {
                *all = Some(frame);
                Ok(())
            }
            _ => Ok(()),
        })
        .map_err(form_error(self.path))
    }

    fn finish(self) -> Result<(), ExportError> {
        let Sink { path, file, writer } = self;
        let handle = file.as_file().try_clone().map_err(io_error(path))?;
        outside_runtimes(move || match writer {
            Writer::Parquet(writer) => writer.finish().map(drop),
            Writer::Csv(mut writer) => writer.finish(),
            Writer::Arrow(all) => {
                let mut all = all.unwrap_or_default();
                all.rechunk_mut();
                // Plain strings: Arrow's newer views are unknown to many readers.
                IpcWriter::new(handle)
                    .with_compat_level(CompatLevel::oldest())
                    .finish(&mut all)
            }
        })
        .map_err(form_error(path))?;
        files::finish(file, path).map_err(io_error(path))
    }
}
