//! How the demo tells what it does: a line a second and a summary, for people or as JSON. Decides
//! nothing.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use super::flight::Times;
use super::logbook::LogSummary;
use crate::balance::Balance;
use crate::money::Pence;
use crate::replay::Tally;

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// One second of the demo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Second {
    /// Which one, from 1.
    pub second: u64,
    /// Events published in it, by the source and by the services.
    pub published: u64,
    /// Events handled in it.
    pub handled: u64,
    /// From the publishing of a request to the end of its order, of the orders that ended in it.
    #[serde(flatten)]
    pub times: Times,
    /// Orders under way.
    pub waiting: u64,
    /// Calls of handlers that failed since the start; they are tried again.
    pub failed: u64,
}

/// How the demo ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DemoReport {
    /// How long orders were taken, in seconds.
    pub seconds: u64,
    /// Events published, by the source and by the services.
    pub published: u64,
    /// Events handled.
    pub handled: u64,
    /// Events among them that had been handled before, by this process or an earlier one.
    pub handled_again: u64,
    /// Calls of handlers that failed.
    pub failed: u64,
    /// From the publishing of a request to the end of its order.
    #[serde(flatten)]
    pub times: Times,
    /// Orders of this run that ended.
    pub ended: u64,
    /// What became of the file's lines, if one was read to its end.
    pub replay: Option<Tally>,
    /// The log from its beginning.
    pub log: LogSummary,
    /// The three databases.
    pub balance: Balance,
    /// What does not add up between log and databases; empty when all does.
    pub complaints: Vec<String>,
}

impl DemoReport {
    /// Whether every accepted order reached a final state, stock and money add up, and nothing
    /// was lost or doubled.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.complaints.is_empty() && self.balance.is_even()
    }
}

pub(super) fn second(to: &mut dyn Write, format: Format, second: &Second) -> io::Result<()> {
    if format == Format::Json {
        return json(to, second);
    }
    let Second {
        second,
        published,
        handled,
        times,
        waiting,
        failed,
    } = second;
    writeln!(
        to,
        "{second:>5}s  published {published:>6}/s  handled {handled:>6}/s  p50 {:>9}  p99 {:>9}  \
         waiting {waiting:>5}  failed {failed:>3}",
        millis(times.p50_us),
        millis(times.p99_us),
    )?;
    to.flush()
}

pub(super) fn note(to: &mut dyn Write, format: Format, name: &str, text: &str) -> io::Result<()> {
    if format == Format::Json {
        return json(to, &serde_json::json!({ name: text }));
    }
    writeln!(to, "{name}: {text}")?;
    to.flush()
}

pub(super) fn summary(to: &mut dyn Write, format: Format, report: &DemoReport) -> io::Result<()> {
    if format == Format::Json {
        return json(to, &serde_json::json!({ "summary": report }));
    }
    to.write_all(text(report).as_bytes())?;
    to.flush()
}

fn json(to: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, value)?;
    to.write_all(b"\n")?;
    to.flush()
}

fn millis(us: u64) -> String {
    match us {
        0 => "-".to_owned(),
        _ => format!("{}.{} ms", us / 1000, us % 1000 / 100),
    }
}

fn text(report: &DemoReport) -> String {
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = write_text(&mut text, report);
    text
}

fn write_text(to: &mut String, report: &DemoReport) -> std::fmt::Result {
    writeln!(to, "after {} s:", report.seconds)?;
    if let Some(tally) = &report.replay {
        write_tally(to, tally)?;
    }
    writeln!(
        to,
        "  events    {} published, {} handled ({} again), {} failed calls",
        report.published, report.handled, report.handled_again, report.failed,
    )?;
    writeln!(
        to,
        "  time      from request to end p50 {}, p99 {}",
        millis(report.times.p50_us),
        millis(report.times.p99_us),
    )?;
    write_balance(to, report)?;
    for complaint in report.complaints.iter().chain(&report.balance.complaints) {
        writeln!(to, "  wrong     {complaint}")?;
    }
    let verdict = match report.is_success() {
        true => "everything adds up: every accepted order has ended, nothing lost, nothing doubled",
        false => "something is wrong; see the lines above",
    };
    writeln!(to, "{verdict}")
}

fn write_tally(to: &mut String, tally: &Tally) -> std::fmt::Result {
    writeln!(
        to,
        "  file      {} lines: {} accepted, {} in the reject file",
        tally.lines, tally.accepted, tally.rejected,
    )?;
    writeln!(
        to,
        "            {} invoices: {} orders, {} credit notes, {} rejected",
        tally.invoices, tally.orders, tally.credit_notes, tally.rejected_invoices,
    )
}

fn write_balance(to: &mut String, report: &DemoReport) -> std::fmt::Result {
    let DemoReport { log, balance, .. } = report;
    let pounds = |pence| Pence(pence).to_string();
    writeln!(
        to,
        "  orders    {} confirmed, {} cancelled, {} rejected, {} returned, {} wait for their \
         buyer, {} unfinished",
        balance.confirmed,
        balance.cancelled,
        balance.rejected,
        balance.returned,
        balance.by_hand,
        balance.unfinished,
    )?;
    writeln!(
        to,
        "  money     {} sold = {} captured - {} refunded; {} given for credit notes ({} lines \
         matched)",
        pounds(balance.sold_pence),
        pounds(balance.captured_pence),
        pounds(balance.refunded_pence),
        pounds(balance.credited_pence),
        balance.matched_lines,
    )?;
    writeln!(
        to,
        "  stock     {} available = {} at first - {} held + {} returned",
        balance.available_pieces,
        balance.opening_pieces,
        balance.held_pieces,
        balance.returned_pieces,
    )?;
    writeln!(
        to,
        "  log       {} accepted from files and traffic, {} events of the services, {} twice, {} \
         dead letters",
        log.accepted, log.events, log.doubled, log.dead_letters,
    )
}
