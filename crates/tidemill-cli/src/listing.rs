//! Listings: a table for people, JSON for programs.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

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
        self.table.add_row(cells);
    }

    /// Prints the table.
    ///
    /// # Errors
    /// When standard output takes nothing.
    pub(crate) fn print(&self) -> Result<(), Failure> {
        say(Shown::on_standard_output().lines(&self.table.trim_fmt()))
    }
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
