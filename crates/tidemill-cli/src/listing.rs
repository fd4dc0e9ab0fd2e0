//! Listings: a table or lines for people, JSON for programs.

use std::borrow::Cow;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use tidemill::core::shown::{commands, escaped};

use crate::failure::Failure;
use crate::output::{Shown, say, write};

/// A table without lines, numbers to the right.
pub(crate) struct Listing {
    table: Table,
}

impl Listing {
    /// A table with these heads; those that end with `>` are set to the right, without it.
    pub(crate) fn new(heads: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(heads.iter().map(|h| h.trim_end_matches('>').to_uppercase()));
        for (column, head) in table.column_iter_mut().zip(heads) {
            if head.ends_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { table }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: &[String]) {
        self.table.add_row(cells.iter().map(|cell| one_line(cell)));
    }

    /// Prints the table.
    ///
    /// # Errors
    /// When standard output takes nothing.
    pub(crate) fn print(&self) -> Result<(), Failure> {
        say(Shown::on_standard_output().lines(&self.table.trim_fmt()))
    }
}

/// A text of a stranger as part of a line: what would end the line, or command a terminal, is
/// escaped, wherever it goes.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    match text.contains(commands) {
        false => Cow::Borrowed(text),
        true => Cow::Owned(escaped(text)),
    }
}

/// Lines with a name and a value each, about one thing.
#[derive(Default)]
pub(crate) struct Lines {
    lines: Vec<(String, String)>,
}

impl Lines {
    /// Adds a line.
    pub(crate) fn add(&mut self, name: &str, value: impl AsRef<str>) {
        let value = one_line(value.as_ref()).into_owned();
        self.lines.push((one_line(name).into_owned(), value));
    }

    /// Adds a line where there is something to say.
    pub(crate) fn add_some(&mut self, name: &str, value: Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The values stand below each other.
    pub(crate) fn text(&self) -> String {
        let names = self.lines.iter().map(|(name, _)| name.len());
        let width = names.max().unwrap_or_default();
        let lines = self.lines.iter();
        let lines = lines.map(|(name, value)| format!("{name:width$}  {value}"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Prints them.
    ///
    /// # Errors
    /// When standard output takes nothing.
    pub(crate) fn print(&self) -> Result<(), Failure> {
        say(self.text())
    }
}

/// A number for a table, or that there is none.
pub(crate) fn or_dash(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |n| n.to_string())
}

/// Prints `value` as one line of JSON.
///
/// # Errors
/// When standard output takes nothing.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(value).expect("listings have string keys and finite numbers");
    line.push(b'\n');
    write(&Shown::on_standard_output().json(line))
}

/// Prints each of `values` as a line of JSON.
///
/// # Errors
/// As [`print_json`].
pub(crate) fn print_json_lines<T: Serialize>(values: &[T]) -> Result<(), Failure> {
    let mut text = Vec::new();
    for value in values {
        serde_json::to_writer(&mut text, value)
            .expect("listings have string keys and finite numbers");
        text.push(b'\n');
    }
    write(&Shown::on_standard_output().json(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_makes_no_row_of_his_own() {
        let mut listing = Listing::new(&["client", "user"]);
        listing.row(&[
            "a\nroot  admin".to_owned(),
            "\u{1b}[2J\u{202e}\t".to_owned(),
        ]);
        let text = listing.table.trim_fmt();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("a\\nroot  admin"), "{text}");
        assert!(text.contains("\\u{1b}[2J\\u{202e}\\t"), "{text}");
        let mut lines = Lines::default();
        lines.add("name", "a\r\nstate  works");
        lines.add_some("last error", Some("no"));
        lines.add_some("trouble", None::<&str>);
        assert_eq!(
            lines.text(),
            "name        a\\r\\nstate  works\nlast error  no"
        );
    }
}
