//! LaTeX: `booktabs` rules and `siunitx` (version 3) columns, one file to `\input`, and a document to look
//! at it.
//!
//! Numbers are set in `S` columns, aligned at their decimal point, with their uncertainty apart
//! (`uncertainty-mode = separate`). The best ones are set in the bold series that is as wide as the
//! upright one (`b`, not `bx`), so that they stay aligned; that needs text mode.

use super::Render;
use crate::report::metric;
use crate::report::statistics::Interval;
use crate::report::table::{Cell, Column, Table, Tone};
use crate::report::text::is_unsafe;

/// A `table` environment for `\input`; what it needs in the preamble is said in its first lines.
#[derive(Debug, Clone, Copy, Default)]
pub struct Latex;

/// A document of its own that has [`Latex`]'s file of the table's name in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct LatexPreview;

impl Render for Latex {
    fn render(&self, table: &Table) -> String {
        let table = &*table.shown();
        let columns: Vec<Set> = (0..table.columns.len())
            .map(|index| Set::of(table, index))
            .collect();
        let width: usize = columns.iter().map(Set::width).sum();
        let mut out = String::from(HEAD);
        // A caption above a table touches its rule in the standard classes.
        out.push_str("\\begin{table}[htbp]\n\\centering\n\\setlength{\\belowcaptionskip}{5pt}\n");
        out.push_str(&format!(
            "\\caption{{{} {}}}\n\\label{{{}}}\n",
            title(&table.title),
            escape(&table.caption_with("Bold")),
            label(table)
        ));
        out.push_str(SETUP);
        let specification: String = columns.iter().map(Set::specification).collect();
        out.push_str(&format!(
            "\\begin{{tabular}}{{@{{}}{specification}@{{}}}}\n\\toprule\n"
        ));
        heads(table, &columns, &mut out);
        out.push_str("\\midrule\n");
        for (index, row) in table.rows.iter().enumerate() {
            if let Some(group) = table.group_head(index) {
                if index > 0 {
                    out.push_str("\\addlinespace\n");
                }
                out.push_str(&format!(
                    "\\multicolumn{{{width}}}{{@{{}}l}}{{\\itshape {}}} \\\\\n",
                    escape(group)
                ));
            }
            let cells = row.cells.iter().zip(&columns);
            let cells: Vec<String> = cells.map(|(cell, set)| set.cell(cell)).collect();
            out.push_str(&cells.join(" & "));
            out.push_str(" \\\\\n");
        }
        out.push_str("\\bottomrule\n\\end{tabular}\n");
        if !table.footnotes.is_empty() {
            out.push_str(
                "\n\\smallskip\n\\begin{minipage}{\\linewidth}\\footnotesize\\raggedright\n",
            );
            for note in &table.footnotes {
                out.push_str(&format!("{}\\par\n", escape(note)));
            }
            out.push_str("\\end{minipage}\n");
        }
        out.push_str("\\end{table}\n");
        out
    }
}

impl Render for LatexPreview {
    fn render(&self, table: &Table) -> String {
        format!(
            "% Shows {0}.tex: pdflatex {0}-preview.tex\n\
             \\documentclass[10pt]{{article}}\n\
             \\usepackage[T1]{{fontenc}}\n\
             \\usepackage[paperwidth=420mm, paperheight=297mm, margin=15mm]{{geometry}}\n\
             \\usepackage{{array, booktabs, siunitx, xcolor}}\n\
             \\pagestyle{{empty}}\n\
             \\begin{{document}}\n\
             \\input{{{0}.tex}}\n\
             \\end{{document}}\n",
            table.name
        )
    }
}

/// The commands are defined where the document hasn't its own.
const HEAD: &str = "% Made by ablate. In the preamble: \\usepackage[T1]{fontenc} \\usepackage{array, booktabs, siunitx, xcolor}
% siunitx is version 3 or later. To change how it looks, define these commands before:
\\providecommand{\\ablatebest}{\\fontseries{b}\\selectfont}
\\providecommand{\\ablategood}{\\color[HTML]{1B7837}}
\\providecommand{\\ablatebad}{\\color[HTML]{B2182B}}
\\providecommand{\\ablatefaint}{\\color[gray]{0.45}}
\\providecommand{\\ablatechar}[1]{\\ifdefined\\Umathchar\\char\"#1\\else\\texttt{U+#1}\\fi}
";

/// Local to the table's environment.
const SETUP: &str =
    "\\sisetup{mode = text, reset-text-series = false, uncertainty-mode = separate, \
retain-explicit-plus = true, table-number-alignment = center}
";

/// The table's label, which no other experiment's table has.
fn label(table: &Table) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let name = |text: &str| -> String {
        text.chars()
            .map(|c| if plain(c) { c } else { '-' })
            .collect()
    };
    match table.experiment.as_str() {
        "" => format!("tab:{}", name(&table.name)),
        experiment => format!("tab:{}-{}", name(experiment), name(&table.name)),
    }
}

/// The title in bold, ended by a full stop.
fn title(title: &str) -> String {
    match title.trim() {
        "" => String::new(),
        title => format!("\\textbf{{{}.}}", escape(title)),
    }
}

/// How a column is set.
enum Set {
    Text,
    Number {
        /// siunitx' `table-format`.
        format: String,
        /// Whether something stands behind numbers: an interval, or n.
        tail: bool,
    },
}

/// A number and what stands behind it.
struct Number {
    /// As siunitx reads it: `-1.3`, `57.3(7)`.
    text: String,
    tail: String,
}

impl Set {
    fn of(table: &Table, index: usize) -> Set {
        let numbers = || {
            table
                .rows
                .iter()
                .filter_map(|row| number(row.cells.get(index)?))
        };
        if table.columns[index].kind.is_text() || numbers().next().is_none() {
            return Set::Text;
        }
        let (mut sign, mut whole, mut decimals, mut uncertainty) = ("", 1, 0, 0);
        for number in numbers() {
            let (value, digits) = match number.text.split_once('(') {
                Some((value, digits)) => (value.to_owned(), digits.len() - 1),
                None => (number.text, 0),
            };
            let plain = value.trim_start_matches(['+', '-']);
            if plain.len() < value.len() {
                sign = "+";
            }
            let (before, after) = plain.split_once('.').unwrap_or((plain, ""));
            whole = whole.max(before.len());
            decimals = decimals.max(after.len());
            uncertainty = uncertainty.max(digits);
        }
        let uncertainty = match uncertainty {
            0 => String::new(),
            digits => format!("({digits})"),
        };
        let fraction = if decimals > 0 {
            format!(".{decimals}")
        } else {
            String::new()
        };
        Set::Number {
            format: format!("{sign}{whole}{fraction}{uncertainty}"),
            tail: numbers().any(|number| !number.tail.is_empty()),
        }
    }

    /// Columns of the `tabular` that it takes.
    fn width(&self) -> usize {
        match self {
            Set::Number { tail: true, .. } => 2,
            _ => 1,
        }
    }

    fn specification(&self) -> String {
        match self {
            Set::Text => "l".to_owned(),
            Set::Number { format, tail } => {
                let tail = if *tail { "@{\\,}>{\\scriptsize}l" } else { "" };
                format!("S[table-format = {format}]{tail}")
            }
        }
    }

    fn head(&self, column: &Column) -> String {
        let note = match column.note {
            Some(note) => format!("\\textsuperscript{{{note}}}"),
            None => String::new(),
        };
        let head = format!("{}{note}", escape(&column.head));
        match self {
            Set::Text => format!("{{{head}}}"),
            set => format!("\\multicolumn{{{}}}{{c}}{{{head}}}", set.width()),
        }
    }

    fn cell(&self, cell: &Cell) -> String {
        let words = cell.words();
        let mut style = String::new();
        style.push_str(match words.tone {
            Tone::Plain => "",
            Tone::Good => "\\ablategood ",
            Tone::Bad => "\\ablatebad ",
            Tone::Faint => "\\ablatefaint ",
        });
        if words.bold {
            style.push_str("\\ablatebest ");
        }
        match (self, number(cell)) {
            (Set::Number { tail, .. }, Some(number)) => {
                let text = format!("{style}{}", number.text);
                match tail {
                    true if number.tail.is_empty() => format!("{text} & "),
                    true => format!("{text} & {style}{}", number.tail),
                    false => text,
                }
            }
            // Braces keep siunitx from reading it, and `\\` from taking a bracket for its argument.
            (Set::Number { tail: true, .. }, None) => {
                format!("\\multicolumn{{2}}{{c}}{{{style}{}}}", escape(&words.text))
            }
            _ => format!("{{{style}{}}}", escape(&words.text)),
        }
    }
}

/// The number in a cell; `None` where it has words.
fn number(cell: &Cell) -> Option<Number> {
    let plain = |text: String| Number {
        text,
        tail: String::new(),
    };
    // siunitx reads ASCII.
    let ascii = |text: String| text.replace('−', "-");
    let bounds = |interval: Interval, print: &dyn Fn(f64) -> String| {
        let (low, high) = (print(interval.low), print(interval.high));
        format!("[{}, {}]", escape(&low), escape(&high))
    };
    let number = match cell {
        Cell::Value(value) => {
            if !value.mean.is_finite() {
                return None;
            }
            let mut text = ascii(metric::number(value.mean, value.decimals));
            let mut tail = Vec::new();
            match (value.sd.filter(|sd| sd.is_finite()), value.images) {
                (Some(sd), _) => {
                    // The uncertainty in units of the last digit.
                    let printed = metric::number(sd, value.decimals).replace('.', "");
                    let digits = printed.trim_start_matches('0');
                    let digits = if digits.is_empty() { "0" } else { digits };
                    text.push_str(&format!("({digits})"));
                }
                (None, Some(interval)) => {
                    tail.push(bounds(interval, &|v| metric::number(v, value.decimals)));
                }
                (None, None) => {}
            }
            if let Some(n) = value.n.filter(|_| value.says_n) {
                tail.push(format!("($n = {n}$)"));
            }
            Number {
                text,
                tail: tail.join(" "),
            }
        }
        Cell::Delta(delta) => {
            let print = |v| metric::signed(v, delta.decimals);
            Number {
                text: ascii(print(delta.mean)),
                tail: delta
                    .interval
                    .map_or(String::new(), |(interval, _)| bounds(interval, &print)),
            }
        }
        Cell::Estimate(estimate) => {
            let print = |v| {
                if estimate.signed {
                    metric::signed(v, estimate.decimals)
                } else {
                    metric::number(v, estimate.decimals)
                }
            };
            Number {
                text: ascii(print(estimate.value)),
                tail: estimate
                    .interval
                    .map_or(String::new(), |interval| bounds(interval, &print)),
            }
        }
        Cell::Count { n, of } if n == of => plain(n.to_string()),
        Cell::Failures(n) => plain(n.to_string()),
        Cell::Probability(p) if *p >= 0.001 => plain(cell.words().text),
        _ => return None,
    };
    // NaN and infinities are words.
    number
        .text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'(' | b')'))
        .then_some(number)
}

/// The line of heads, with one over it where columns have groups.
fn heads(table: &Table, columns: &[Set], out: &mut String) {
    if table.columns.iter().any(|column| column.group.is_some()) {
        let (mut cells, mut rules) = (Vec::new(), String::new());
        let (mut column, mut place) = (0, 1);
        for (group, count) in table.column_groups() {
            let width: usize = columns[column..column + count].iter().map(Set::width).sum();
            match group {
                Some(group) => {
                    cells.push(format!(
                        "\\multicolumn{{{width}}}{{c}}{{{}}}",
                        escape(group)
                    ));
                    rules.push_str(&format!("\\cmidrule(lr){{{place}-{}}}", place + width - 1));
                }
                None => cells.push("& ".repeat(width - 1)),
            }
            column += count;
            place += width;
        }
        out.push_str(&format!("{} \\\\\n{rules}\n", cells.join(" & ")));
    }
    let cells: Vec<String> = table
        .columns
        .iter()
        .zip(columns)
        .map(|(column, set)| set.head(column))
        .collect();
    out.push_str(&format!("{} \\\\\n", cells.join(" & ")));
}

/// `text` as LaTeX that prints `text`, in any of its engines: active characters by their commands, signs
/// by symbols, letters beyond Latin by `\ablatechar`, control and invisible characters as `\u{…}`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            '\\' => out.push_str("\\textbackslash{}"),
            '{' | '}' | '$' | '&' | '#' | '_' | '%' => {
                out.push('\\');
                out.push(c);
            }
            '^' => out.push_str("\\textasciicircum{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '<' => out.push_str("\\textless{}"),
            '>' => out.push_str("\\textgreater{}"),
            '|' => out.push_str("\\textbar{}"),
            '"' => out.push_str("\\textquotedbl{}"),
            '\'' => out.push_str("\\textquotesingle{}"),
            '`' => out.push_str("\\textasciigrave{}"),
            // No ligatures to dashes and Spanish marks.
            '-' => out.push_str("{-}"),
            '?' | '!' => {
                out.push('{');
                out.push(c);
                out.push('}');
            }
            '−' => out.push_str("$-$"),
            '±' => out.push_str("$\\pm$"),
            '×' => out.push_str("$\\times$"),
            'Δ' => out.push_str("$\\Delta$"),
            '→' => out.push_str("$\\rightarrow$"),
            '≤' => out.push_str("$\\le$"),
            '≥' => out.push_str("$\\ge$"),
            '∞' => out.push_str("$\\infty$"),
            '·' => out.push_str("$\\cdot$"),
            '✓' | '√' => out.push_str("$\\surd$"),
            '²' => out.push_str("$^2$"),
            '…' => out.push_str("\\ldots{}"),
            '–' => out.push_str("\\textendash{}"),
            '—' => out.push_str("\\textemdash{}"),
            '“' => out.push_str("\\textquotedblleft{}"),
            '”' => out.push_str("\\textquotedblright{}"),
            '‘' => out.push_str("\\textquoteleft{}"),
            '’' => out.push_str("\\textquoteright{}"),
            // Letters of Latin-1 and Latin Extended-A, without those that T1 hasn't.
            ' '..='~' | 'À'..='ĥ' | 'Ĩ'..='ķ' | 'Ĺ'..='ľ' | 'Ł'..='ň' | 'Ŋ'..='ť' | 'Ũ'..='ž' =>
            {
                out.push(c);
            }
            c if is_unsafe(c) => {
                out.push_str(&format!("\\textbackslash{{}}u\\{{{:x}\\}}", c as u32))
            }
            c => out.push_str(&format!("\\ablatechar{{{:04X}}}", c as u32)),
        }
    }
    out
}
