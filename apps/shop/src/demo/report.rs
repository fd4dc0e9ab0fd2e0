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

/// How far a file was replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Its invoices that were taken in, by this process or an earlier one, empty ones included.
    pub invoices: u64,
    /// The last line that they reach to, the header being line 1; 0 before the first of them.
    pub line: u64,
    /// Invoices among them that were other ones when they were taken in before, and how the first
    /// few are called. What was taken in stays.
    pub changed: u64,
    /// At most [`CHANGED_MAX`](crate::limits::CHANGED_MAX).
    pub changed_invoices: Vec<String>,
    /// What became of the file's lines, where it was read to its end.
    #[serde(skip)]
    pub tally: Option<Tally>,
    /// Whether there is a reject file that an earlier replay wrote. A replay writes its own at
    /// the end of the file.
    pub stale_rejects: bool,
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
    /// Messages of plain clients of Kafka whose type has no meaning.
    pub ignored: u64,
    /// From the publishing of a request to the end of its order.
    #[serde(flatten)]
    pub times: Times,
    /// Orders of this run that ended.
    pub ended: u64,
    /// What became of the file's lines, if one was read to its end.
    pub replay: Option<Tally>,
    /// How far a file came, whether or not it was read to its end.
    pub file: Option<Replayed>,
    /// Services that ended by themselves, and why; the demo ended with them.
    pub trouble: Vec<String>,
    /// What the log has lost since the databases began, a sentence for each partition: it was
    /// deleted, made again or cut.
    pub lost: Vec<String>,
    /// Groups that were read again from their beginning, in this run or an earlier one.
    pub read_again: Vec<&'static str>,
    /// The log from its beginning.
    pub log: LogSummary,
    /// The services' databases.
    pub balance: Balance,
    /// What does not add up between log and databases; empty when all does, when something is lost
    /// and when there was trouble: what is under way is not held against each other.
    pub complaints: Vec<String>,
}

impl DemoReport {
    /// Whether every accepted order reached a final state, stock and money add up, and nothing
    /// was lost or doubled.
    #[must_use]
    pub fn is_success(&self) -> bool {
        let adds_up = self.complaints.is_empty() && self.balance.is_even();
        self.trouble.is_empty() && self.lost.is_empty() && adds_up
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
    for trouble in &report.trouble {
        writeln!(to, "  ended     {trouble}")?;
    }
    for lost in &report.lost {
        writeln!(to, "  lost      {lost}")?;
    }
    match (&report.replay, &report.file) {
        (Some(tally), _) => write_tally(to, tally)?,
        (None, Some(file)) => write_broken_off(to, file)?,
        (None, None) => {}
    }
    if let Some(file) = &report.file {
        write_changed(to, file)?;
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
    let verdict = match (report.is_success(), report.trouble.is_empty()) {
        _ if !report.lost.is_empty() => {
            "the log has lost events that the databases follow from, so nothing goes on here; \
             restore the folder from a backup, or begin in another one"
        }
        (true, _) => {
            "everything adds up: every accepted order has ended, nothing lost, nothing doubled"
        }
        (false, true) => "something is wrong; see the lines above",
        (false, false) => {
            "the demo was cut short and orders under way were not waited for; the next one on \
             the same data goes on with them"
        }
    };
    writeln!(to, "{verdict}")
}

fn write_tally(to: &mut String, tally: &Tally) -> std::fmt::Result {
    writeln!(
        to,
        "  file      {} lines: {} accepted, {} refused (they are in the reject file)",
        tally.lines, tally.accepted, tally.refused,
    )?;
    writeln!(
        to,
        "            {} invoices: {} orders, {} credit notes, {} empty (no line was accepted)",
        tally.invoices, tally.orders, tally.credit_notes, tally.empty_invoices,
    )
}

fn write_broken_off(to: &mut String, file: &Replayed) -> std::fmt::Result {
    let place = match file.line {
        0 => "before its first invoice".to_owned(),
        line => format!("after line {line} ({} invoices)", file.invoices),
    };
    writeln!(
        to,
        "  file      broken off {place}; replay it again on the same data to go on from there",
    )?;
    let rejects = match file.stale_rejects {
        true => "the one that is there is of an earlier replay",
        false => "there is none yet",
    };
    writeln!(
        to,
        "            the reject file is written at the end of the file: {rejects}"
    )
}

fn write_changed(to: &mut String, file: &Replayed) -> std::fmt::Result {
    if file.changed == 0 {
        return Ok(());
    }
    let more = match file.changed > file.changed_invoices.len() as u64 {
        true => " and others",
        false => "",
    };
    writeln!(
        to,
        "  changed   {} invoices are not as they were when they were taken in ({}{more}); what \
         was taken in stays as it is",
        file.changed,
        file.changed_invoices.join(", "),
    )
}

fn write_balance(to: &mut String, report: &DemoReport) -> std::fmt::Result {
    let DemoReport { log, balance, .. } = report;
    let pounds = |pence| Pence(pence).to_string();
    writeln!(
        to,
        "  orders    {} confirmed ({} shipped, {} delivered), {} sent back, {} cancelled, {} \
         empty, {} out of stock, {} returned, {} wait for their buyer, {} unfinished",
        balance.confirmed,
        balance.shipped,
        balance.delivered,
        balance.sent_back,
        balance.cancelled,
        balance.empty,
        balance.out_of_stock,
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
        "  log       {} accepted from files and traffic, {} events of the services, {} told again, \
         {} dead letters",
        log.accepted, log.events, log.doubled, log.dead_letters,
    )?;
    if report.read_again.is_empty() {
        return Ok(());
    }
    writeln!(
        to,
        "            read again from the beginning: {}; what had been done was told again under \
         the same ids and changed nothing",
        report.read_again.join(", "),
    )
}
