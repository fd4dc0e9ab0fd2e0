//! Lines become invoices, rejected lines become the reject file, and every line is counted as one
//! or the other. Knows nothing of prices' versions, ids of products, or the bus.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::Serialize;
use thiserror::Error;

use super::line::{self, COLUMNS, InvoiceNumber, Line, Reason};
use super::lines::{Lines, RawLine};
use crate::limits::{INVOICE_TEXT_MAX_BYTES, INVOICES_MAX, ORDER_LINES_MAX, REJECT_TEXT_MAX_BYTES};
use crate::money::Pence;

/// An invoice of the file with the lines that were accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    /// Its number.
    pub number: InvoiceNumber,
    /// Who; `None` is a guest.
    pub customer: Option<i64>,
    /// The accepted lines, in their order; none when the invoice lost them all.
    pub lines: Vec<Line>,
}

/// What became of the lines and invoices of a file so far. `lines = accepted + refused`, and
/// `invoices = orders + credit_notes + empty_invoices`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Lines below the header.
    pub lines: u64,
    /// Lines that are part of an order or of a credit note.
    pub accepted: u64,
    /// Lines in the reject file.
    pub refused: u64,
    /// Different invoice numbers.
    pub invoices: u64,
    /// Invoices that became an order.
    pub orders: u64,
    /// Invoices that became a credit note.
    pub credit_notes: u64,
    /// Invoices of which no line was accepted.
    pub empty_invoices: u64,
    /// The worth of all accepted lines of orders, in pence.
    pub ordered_pence: i64,
    /// The worth of all accepted lines of credit notes, in pence.
    pub credited_pence: i64,
}

/// Why a file cannot be replayed at all.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// Reading it, or writing the reject file, failed.
    #[error("the file cannot be read or its rejects cannot be written: {0}")]
    Io(#[from] io::Error),
    /// The first line is not the header.
    #[error("the first line is not \"{}\"; replay a file of that form", COLUMNS.join(","))]
    Header,
    /// Too many invoices.
    #[error("more than {INVOICES_MAX} invoices; split the file")]
    TooMany,
    /// The worth of the file does not fit.
    #[error("the sum of the file's prices does not fit; split the file")]
    TooMuch,
}

/// Checks that a file begins as one that can be replayed.
///
/// # Errors
/// [`ReplayError::Header`], or it cannot be read.
pub fn check(file: &Path) -> Result<(), ReplayError> {
    header(&mut Lines::new(BufReader::new(File::open(file)?)))
}

fn header<R: BufRead>(lines: &mut Lines<R>) -> Result<(), ReplayError> {
    match lines.next()? {
        Some((_, RawLine::Whole(header))) if is_header(header) => Ok(()),
        _ => Err(ReplayError::Header),
    }
}

/// Reads a file invoice by invoice. What it cannot use goes to the reject file.
pub struct Invoices<R, W: Write> {
    lines: Lines<R>,
    rejects: csv::Writer<W>,
    open: Option<Open>,
    /// Every invoice text seen so far, at most [`INVOICES_MAX`].
    seen: HashSet<Box<str>>,
    tally: Tally,
    /// The last line read, and the last one before the open invoice.
    line: u64,
    through: u64,
    ended: bool,
}

/// The invoice whose lines are being collected.
struct Open {
    text: Box<str>,
    /// Known from the first line that could be read.
    number: Option<InvoiceNumber>,
    customer: Option<i64>,
    lines: Vec<Line>,
}

/// What a line's invoice means for the open one.
enum Turn {
    /// It is the open one, or not known.
    Same,
    /// It is a new one; the open one ended.
    Next(Option<Open>),
    /// It ended earlier.
    Scattered,
}

impl<R: BufRead, W: Write> Invoices<R, W> {
    /// Begins with `file`, whose first line must be the header; rejected lines go to `rejects`
    /// as CSV with line number, invoice, reason and text.
    ///
    /// # Errors
    /// [`ReplayError::Header`], or input and output failed.
    pub fn new(file: R, rejects: W) -> Result<Self, ReplayError> {
        let mut lines = Lines::new(file);
        header(&mut lines)?;
        let mut rejects = csv::Writer::from_writer(rejects);
        write_row(&mut rejects, &["Line", "InvoiceNo", "Reason", "Text"])?;
        Ok(Self {
            lines,
            rejects,
            open: None,
            seen: HashSet::new(),
            tally: Tally::default(),
            line: 1,
            through: 1,
            ended: false,
        })
    }

    /// The last line that the invoices given so far are from; the header is line 1.
    #[must_use]
    pub fn through(&self) -> u64 {
        self.through
    }

    /// What became of everything read so far; complete once [`Self::next`] gave `None`.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The next invoice with a number; `None` at the end of the file.
    ///
    /// # Errors
    /// [`ReplayError`]; nothing can be read after one.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not fail")]
    pub fn next(&mut self) -> Result<Option<Invoice>, ReplayError> {
        while !self.ended {
            let closed = match self.lines.next()? {
                Some((number, raw)) => {
                    let read = Read::of(number, &raw);
                    self.tally.lines += 1;
                    let closed = self.sort(read)?;
                    if closed.is_some() {
                        self.through = self.line;
                    }
                    self.line = number;
                    closed
                }
                None => {
                    self.ended = true;
                    self.through = self.line;
                    self.rejects.flush()?;
                    self.open.take()
                }
            };
            if let Some(invoice) = closed.and_then(|open| self.close(open)) {
                self.sum(&invoice)?;
                return Ok(Some(invoice));
            }
        }
        Ok(None)
    }

    /// Accepts or rejects one line; gives back the invoice that ended with the line before it.
    fn sort(&mut self, read: Read) -> Result<Option<Open>, ReplayError> {
        let turn = match &read.invoice {
            Some(name) => self.turn_to(name)?,
            None => Turn::Same,
        };
        let scattered = matches!(turn, Turn::Scattered);
        let taken = match read.line {
            _ if scattered => Err(Reason::Scattered),
            Ok(line) => self.take(line),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = taken {
            self.tally.refused += 1;
            let invoice = read.invoice.unwrap_or_default();
            let number = read.number.to_string();
            let row = [&*number, &*invoice, &*reason.to_string(), &*read.text];
            write_row(&mut self.rejects, &row)?;
        }
        match turn {
            Turn::Next(closed) => Ok(closed),
            Turn::Same | Turn::Scattered => Ok(None),
        }
    }

    /// The line is of the invoice `name`: opens it if it is new.
    fn turn_to(&mut self, name: &str) -> Result<Turn, ReplayError> {
        if self.open.as_ref().is_some_and(|open| *open.text == *name) {
            return Ok(Turn::Same);
        }
        if self.seen.contains(name) {
            return Ok(Turn::Scattered);
        }
        if self.seen.len() >= INVOICES_MAX {
            return Err(ReplayError::TooMany);
        }
        self.seen.insert(name.into());
        self.tally.invoices += 1;
        let next = Open {
            text: name.into(),
            number: InvoiceNumber::parse(name),
            customer: None,
            lines: Vec::new(),
        };
        Ok(Turn::Next(self.open.replace(next)))
    }

    fn take(&mut self, line: Line) -> Result<(), Reason> {
        let open = self.open.as_mut().ok_or(Reason::Scattered)?;
        if open.lines.is_empty() {
            open.customer = line.customer;
        } else if open.customer != line.customer {
            return Err(Reason::OtherCustomer);
        }
        if open.lines.len() >= ORDER_LINES_MAX {
            return Err(Reason::TooManyLines);
        }
        open.lines.push(line);
        self.tally.accepted += 1;
        Ok(())
    }

    /// Counts an invoice that ended; one whose number is none goes no further.
    fn close(&mut self, open: Open) -> Option<Invoice> {
        match open.number {
            Some(number) if !open.lines.is_empty() && number.is_credit() => {
                self.tally.credit_notes += 1;
            }
            Some(_) if !open.lines.is_empty() => self.tally.orders += 1,
            _ => self.tally.empty_invoices += 1,
        }
        Some(Invoice {
            number: open.number?,
            customer: open.customer,
            lines: open.lines,
        })
    }

    fn sum(&mut self, invoice: &Invoice) -> Result<(), ReplayError> {
        let sum = match invoice.number.is_credit() {
            true => &mut self.tally.credited_pence,
            false => &mut self.tally.ordered_pence,
        };
        for line in &invoice.lines {
            let worth = line.price.times(line.quantity).unwrap_or(Pence(i64::MAX));
            *sum = sum.checked_add(worth.0).ok_or(ReplayError::TooMuch)?;
        }
        Ok(())
    }
}

fn is_header(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    line == COLUMNS.join(",").as_bytes()
}

/// One line as far as it could be read.
struct Read {
    number: u64,
    /// Cut to its bound, for the reject file.
    text: String,
    /// The invoice's number in one form, or what stands in its place; `None` where nothing does.
    invoice: Option<String>,
    line: Result<Line, Reason>,
}

impl Read {
    fn of(number: u64, raw: &RawLine<'_>) -> Self {
        let (bytes, parsed) = match raw {
            RawLine::Whole(bytes) => (*bytes, line::parse(bytes)),
            RawLine::TooLong(bytes) => (*bytes, Err((Reason::LineTooLong, None))),
        };
        let cut = bytes.get(..REJECT_TEXT_MAX_BYTES).unwrap_or(bytes);
        let (invoice, line) = match parsed {
            Ok(line) => (Some(line.invoice.to_string()), Ok(line)),
            Err((reason, text)) => (text.and_then(|t| one_form(&t)), Err(reason)),
        };
        Self {
            number,
            // A NUL byte would cut the row short for some who read it.
            text: String::from_utf8_lossy(cut).replace('\0', "\u{2400}"),
            invoice,
            line,
        }
    }
}

/// `00536365` and `536365` are one invoice; what is no number stands for itself, if it is short.
fn one_form(text: &str) -> Option<String> {
    let number = InvoiceNumber::parse(text).map(|n| n.to_string());
    let short = !text.is_empty() && text.len() <= INVOICE_TEXT_MAX_BYTES;
    number.or_else(|| short.then(|| text.to_owned()))
}

fn write_row<W: Write>(to: &mut csv::Writer<W>, row: &[&str]) -> Result<(), ReplayError> {
    to.write_record(row)
        .map_err(|error| ReplayError::Io(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(body: &[&str]) -> (Vec<Invoice>, Tally, String) {
        let text = format!("{}\n{}\n", COLUMNS.join(","), body.join("\n"));
        let mut rejects = Vec::new();
        let mut invoices = Invoices::new(text.as_bytes(), &mut rejects).unwrap();
        let mut all = Vec::new();
        while let Some(invoice) = invoices.next().unwrap() {
            all.push(invoice);
        }
        let tally = invoices.tally();
        drop(invoices);
        assert_eq!(tally.lines, tally.accepted + tally.refused);
        assert_eq!(
            tally.invoices,
            tally.orders + tally.credit_notes + tally.empty_invoices
        );
        let rows = String::from_utf8(rejects).unwrap();
        assert_eq!(rows.lines().count() as u64, tally.refused + 1);
        (all, tally, rows)
    }

    #[test]
    fn lines_become_invoices_and_each_line_is_counted_once() {
        let (all, tally, rejects) = run(&[
            "1,A,n,2,01-31-2024 23:59,1.50,7,X",
            "1,B,n,1,01-31-2024 23:59,0,7,X",
            "C1,A,n,-1,01-31-2024 23:59,1.50,7,X",
            "2,A,n,1,01-31-2024 23:59,0,,X",
        ]);
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].lines.len(), 1);
        assert_eq!(all[1].number, InvoiceNumber::Credit(1));
        assert!(all[2].lines.is_empty());
        assert_eq!((tally.orders, tally.credit_notes), (1, 1));
        assert_eq!(tally.empty_invoices, 1);
        assert_eq!((tally.ordered_pence, tally.credited_pence), (300, 150));
        assert!(rejects.contains("3,1,zero price,"), "{rejects}");
    }

    #[test]
    fn a_stray_line_of_an_ended_invoice_harms_no_other() {
        let (all, tally, rejects) = run(&[
            "1,A,n,1,01-31-2024 23:59,1,7,X",
            "2,A,n,1,01-31-2024 23:59,1,7,X",
            "1,B,n,1,01-31-2024 23:59,1,7,X",
            "2,B,n,1,01-31-2024 23:59,1,7,X",
        ]);
        assert_eq!(
            all.iter().map(|i| i.lines.len()).collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(tally.invoices, 2);
        assert!(
            rejects.contains("4,1,its invoice ended earlier"),
            "{rejects}"
        );
    }

    #[test]
    fn an_invoice_has_one_customer_and_one_form_of_its_number() {
        let (all, tally, _) = run(&[
            "001,A,n,1,01-31-2024 23:59,1,7,X",
            "1,B,n,1,01-31-2024 23:59,1,8,X",
            "0001,B,n,1",
        ]);
        assert_eq!((all.len(), all[0].lines.len()), (1, 1));
        assert_eq!((tally.invoices, tally.refused), (1, 2));
    }

    #[test]
    fn an_invoice_without_a_number_is_rejected_and_counted() {
        let (all, tally, _) = run(&["A9,B,bad debt,1,01-31-2024 23:59,-11062.06,,X", "garbage"]);
        assert!(all.is_empty());
        assert_eq!((tally.empty_invoices, tally.refused), (2, 2));
    }

    #[test]
    fn bad_bytes_cost_their_line_only() {
        let mut text = COLUMNS.join(",").into_bytes();
        text.extend_from_slice(b"\n1,A,\xff,1,01-31-2024 23:59,1,7,X\n");
        text.extend_from_slice(b"1,A,\"open,1,01-31-2024 23:59,1,7,X\n");
        text.extend_from_slice(b"1,A,fine,1,01-31-2024 23:59,1,7,X");
        let mut invoices = Invoices::new(&text[..], io::sink()).unwrap();
        assert_eq!(invoices.next().unwrap().unwrap().lines.len(), 1);
        assert_eq!(invoices.next().unwrap(), None);
        assert_eq!(
            (invoices.tally().accepted, invoices.tally().refused),
            (1, 2)
        );
    }

    #[test]
    fn blank_lines_nul_bytes_and_odd_dates_are_refused_with_their_line() {
        let (all, tally, rejects) = run(&[
            "1,A,n,1,01-31-2024 23:59,1,7,X",
            "",
            "  \t ",
            "1,B\0,n,1,01-31-2024 23:59,1,7,X",
            "1,C,n,1,02-30-2024 23:59,1,7,X",
            "1,D,n,1,01-31-24 23:59,1,7,X",
            "1,E,n,1,31.01.2024,1,7,X",
            "1,F,n,1,01-31-2024 23:59,1,7,X",
        ]);
        assert_eq!((all.len(), all[0].lines.len()), (1, 2));
        assert_eq!((tally.accepted, tally.refused), (2, 6));
        let expected = "\
Line,InvoiceNo,Reason,Text
3,,the line is blank,
4,,the line is blank,  \t\x20
5,,the line holds a NUL byte,\"1,B\u{2400},n,1,01-31-2024 23:59,1,7,X\"
6,1,there is no such day or time,\"1,C,n,1,02-30-2024 23:59,1,7,X\"
7,1,the year is not 1900 to 2199,\"1,D,n,1,01-31-24 23:59,1,7,X\"
8,1,the date is not month-day-year hour:minute,\"1,E,n,1,31.01.2024,1,7,X\"
";
        assert_eq!(rejects, expected);
    }

    #[test]
    fn the_line_that_the_invoices_reach_to_is_known() {
        let text = "1,A,n,1,01-31-2024 23:59,1,7,X\n1,B,n,1,01-31-2024 23:59,1,7,X\n\
                    2,A,n,1,01-31-2024 23:59,1,7,X\n\n";
        let text = format!("{}\n{text}", COLUMNS.join(","));
        let mut invoices = Invoices::new(text.as_bytes(), io::sink()).unwrap();
        assert_eq!(invoices.through(), 1);
        assert_eq!(invoices.next().unwrap().unwrap().lines.len(), 2);
        assert_eq!(invoices.through(), 3);
        assert_eq!(invoices.next().unwrap().unwrap().lines.len(), 1);
        assert_eq!(invoices.through(), 5);
    }

    #[test]
    fn another_header_is_refused() {
        let error = Invoices::new(&b"a,b\n1,2\n"[..], io::sink()).err();
        assert!(matches!(error, Some(ReplayError::Header)));
        assert!(Invoices::new(&b""[..], io::sink()).is_err());
    }
}
