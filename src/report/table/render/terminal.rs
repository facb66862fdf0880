//! For people at a terminal, by comfy-table.

use super::Render;
use crate::report::table::{Kind, Table, Tone};
use crate::report::text::clean;
use comfy_table::{CellAlignment, ContentArrangement, ContentLineStyle, LineStyle, TableStyle};
use std::io::IsTerminal;

/// Width to which caption and footnotes are wrapped.
const TEXT_WIDTH: usize = 100;

/// Terminal text, with or without colour.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminal {
    pub colour: bool,
}

/// Whether stdout may be coloured: it is a terminal, `NO_COLOR` isn't set (or is empty) and the
/// terminal isn't a dumb one.
pub fn may_colour() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        && std::io::stdout().is_terminal()
}

/// A rule above, one below the head, one below the rows, as in print.
const RULES: TableStyle = TableStyle::new()
    .top_border(LineStyle::none().fill('─').junction('─'))
    .header_lines(ContentLineStyle::none().junction(' '))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .content_lines(ContentLineStyle::none().junction(' '))
    .bottom_border(LineStyle::none().fill('─').junction('─'));

/// Marks of style inside cells: invisible operators, which take no columns when the table is laid out
/// and which no label can contain (labels are cleaned of all invisible characters).
const BOLD: char = '\u{2061}';
const GOOD: char = '\u{2062}';
const BAD: char = '\u{2063}';
const FAINT: char = '\u{2064}';
const END: char = '\u{2060}';

impl Render for Terminal {
    fn render(&self, table: &Table) -> String {
        let table = &*table.shown();
        let mut grid = comfy_table::Table::new();
        grid.load_style(RULES);
        grid.set_content_arrangement(ContentArrangement::Disabled);
        grid.set_header(table.columns.iter().map(|column| {
            let mut head = clean(&column.full_head());
            if let Some(note) = column.note {
                head.push_str(&format!(" ({note})"));
            }
            comfy_table::Cell::new(self.styled(&head, true, Tone::Plain))
        }));
        for (index, row) in table.rows.iter().enumerate() {
            if let Some(group) = table.group_head(index) {
                let head = self.styled(&format!("{}:", clean(group)), true, Tone::Plain);
                grid.add_row([comfy_table::Cell::new(head)]);
            }
            grid.add_row(row.cells.iter().map(|cell| {
                let words = cell.words();
                let mut text = clean(&words.text);
                if words.bold && !self.colour {
                    text.push('*');
                }
                comfy_table::Cell::new(self.styled(&text, words.bold, words.tone))
            }));
        }
        for (index, column) in table.columns.iter().enumerate() {
            if column.kind == Kind::Count
                && let Some(column) = grid.column_mut(index)
            {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        if !table.title.is_empty() {
            text.push_str(&self.styled(&clean(&table.title), true, Tone::Plain));
            text.push('\n');
        }
        for line in grid.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        for paragraph in std::iter::once(&table.caption_with("*")).chain(&table.footnotes) {
            wrap(&clean(paragraph), TEXT_WIDTH, &mut text);
        }
        if self.colour { coloured(&text) } else { text }
    }
}

impl Terminal {
    fn styled(&self, text: &str, bold: bool, tone: Tone) -> String {
        let mark = match tone {
            _ if !self.colour => None,
            Tone::Good => Some(GOOD),
            Tone::Bad => Some(BAD),
            Tone::Faint => Some(FAINT),
            Tone::Plain if bold => Some(BOLD),
            Tone::Plain => None,
        };
        match mark {
            Some(mark) => format!("{mark}{text}{END}"),
            None => text.to_owned(),
        }
    }
}

fn coloured(text: &str) -> String {
    use anstyle::{AnsiColor, Style};
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let style = match c {
            BOLD => Style::new().bold(),
            GOOD => AnsiColor::Green.on_default(),
            BAD => AnsiColor::Red.on_default(),
            FAINT => Style::new().dimmed(),
            END => {
                out.push_str(&anstyle::Reset.render().to_string());
                continue;
            }
            c => {
                out.push(c);
                continue;
            }
        };
        out.push_str(&style.render().to_string());
    }
    out
}

fn wrap(paragraph: &str, width: usize, out: &mut String) {
    let mut column = 0;
    for word in paragraph.split(' ').filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out.push('\n');
            column = 0;
        }
        if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
}
