//! `tidemill log`: looks into a data folder that no server has open.

mod backup;
mod lines;
mod repair;
mod running;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use tidemill::broker::inspect::{self, Dump, Finding, InspectError, Report, Severity};

use crate::failure::Failure;
use crate::folder::of_a_demo;
use crate::listing::print_json;
use crate::output::{unwritten, write};
use crate::progress::Reading;
use crate::values;

/// Verify, show, back up, restore and repair a data folder that no server has open
#[derive(Subcommand)]
#[command(after_help = "Example:\n  tidemill log verify --data ./tidemill-data")]
pub(crate) enum Log {
    Verify(Verify),
    Dump(DumpFiles),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Repair(repair::Repair),
}

/// Check every byte of a data folder, and change nothing
///
/// Reads superblocks, snapshot, journal and segments, and says which files, topics and offsets
/// are damaged. A note is nothing lost: it is what a killed server leaves, or a file that
/// nothing names.
///
/// Exit codes: 0 clean, 1 damage was found, 2 nothing could be verified, as without the permission
/// to read a file, or the report of a clean folder could not be written.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill log verify --data ./tidemill-data\n  \
    tidemill log verify --data /backup/monday --json")]
pub(crate) struct Verify {
    /// The data folder
    #[arg(long = "data", env = "TIDEMILL_DATA", value_name = "DIR")]
    folder: PathBuf,
    /// Print a line of JSON for each finding, and one for the report
    #[arg(long)]
    json: bool,
}

/// Show what the files of a data folder hold
///
/// Without FILE it shows what the newest superblock leads to: snapshot, journal from its head on,
/// and segments. With one, every whole thing in that file.
///
/// Exit codes: 0 done, 1 nothing of it is readable, 2 nothing could be looked at.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill log dump --data ./tidemill-data --max 50\n  \
    tidemill log dump --data ./tidemill-data superblock.0\n  \
    tidemill log dump --data ./tidemill-data journal/0000000001.journal --from 17 --json\n  \
    tidemill log dump --data ./tidemill-data topics/ID/0/00000000000000000000.log --payloads")]
pub(crate) struct DumpFiles {
    /// One file, as a path inside of the data folder
    file: Option<String>,
    /// The data folder
    #[arg(long = "data", env = "TIDEMILL_DATA", value_name = "DIR")]
    folder: PathBuf,
    /// Print a line of JSON for each thing
    #[arg(long)]
    json: bool,
    /// Begin with this entry of the journal, or this offset of a segment
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = values::number::<u64>)]
    from: u64,
    /// Show at most so many lines
    #[arg(long, value_name = "N", value_parser = values::count::<u64>)]
    max: Option<u64>,
    /// Show keys, values and headers, which may be anybody's secrets
    #[arg(long)]
    payloads: bool,
}

impl Log {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Verify(command) => command.run(),
            Self::Dump(command) => command.run(),
            Self::Backup(command) => command.run(),
            Self::Restore(command) => command.run(),
            Self::Repair(command) => command.run(),
        }
    }
}

/// A line of JSON that says what it is.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Told<'a> {
    Finding(&'a Finding),
    Report(&'a Report),
}

impl Verify {
    fn run(self) -> Result<(), Failure> {
        is_folder(&self.folder)?;
        let bar = Reading::new();
        let report = inspect::verify(&self.folder, |at| {
            bar.show(at.file, at.done_bytes, at.total_bytes);
        });
        bar.end();
        let report = report.map_err(|error| named(&self.folder, &error))?;
        let data = self.folder.display();
        match (self.tell(&report), report.clean) {
            (told, false) => {
                let why = told.err().map(|failure| format!("{failure}; "));
                Err(Failure::new(format!(
                    "{}--data {data}: {} findings of damage; nothing was changed",
                    why.unwrap_or_default(),
                    report.damage
                )))
            }
            // 1 would say that there is damage.
            (Err(failure), true) => Err(Failure::usage(format!(
                "{failure}; --data {data} is clean all the same"
            ))),
            (Ok(()), true) => Ok(()),
        }
    }

    fn tell(&self, report: &Report) -> Result<(), Failure> {
        if !self.json {
            return show(report);
        }
        for finding in &report.findings {
            print_json(&Told::Finding(finding))?;
        }
        print_json(&Told::Report(report))
    }
}

fn show(report: &Report) -> Result<(), Failure> {
    let mut text = String::new();
    for finding in &report.findings {
        text += &format!("{}\n", sentence(finding));
    }
    let kept = report.findings.len() as u64;
    let left_out = (report.damage + report.notes).saturating_sub(kept);
    if left_out > 0 {
        text += &format!("and {left_out} more findings\n");
    }
    for (name, count) in &report.counts {
        text += &format!("{:<16} {count}\n", name.replace('_', " "));
    }
    if report.clean {
        text += "clean\n";
    }
    write(text.as_bytes())
}

/// A finding for people.
pub(super) fn sentence(finding: &Finding) -> String {
    let mut text = match finding.severity {
        Severity::Damage => "damage: ".to_owned(),
        Severity::Note => "note: ".to_owned(),
    };
    text += &finding.file;
    if let Some(byte) = finding.byte {
        text += &format!(" from byte {byte}");
    }
    if let (Some(id), Some(partition)) = (finding.topic_id, finding.partition) {
        let topic = finding.topic.as_ref().map(ToString::to_string);
        text += &format!(", {}/{partition}", topic.unwrap_or_else(|| id.to_string()));
    }
    if let Some(offsets) = finding.offsets {
        text += &format!(", offsets {} until {}", offsets.from, offsets.until);
    }
    if let Some(entries) = finding.entries {
        text += &format!(", entries {} until {}", entries.from, entries.until);
    }
    text + ": " + &finding.what
}

impl DumpFiles {
    fn run(self) -> Result<(), Failure> {
        is_folder(&self.folder)?;
        let what = Dump {
            file: self.file,
            from: self.from,
        };
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let mut left = self.max.unwrap_or(u64::MAX);
        let mut wrote = Ok(());
        let (mut readable, mut unreadable) = (false, false);
        let each = |line: inspect::Line| {
            if left == 0 {
                return false;
            }
            left -= 1;
            match line.what {
                "unreadable" => unreadable = true,
                // The file itself, before anything of it was read.
                "segment" | "sidecar" => {}
                _ => readable = true,
            }
            let text = match self.json {
                true => lines::json(&line, self.payloads),
                false => lines::text(&line, self.payloads),
            };
            wrote = writeln!(out, "{text}");
            wrote.is_ok()
        };
        let shown = inspect::dump(&self.folder, &what, each);
        shown.map_err(|error| named(&self.folder, &error))?;
        match wrote.and_then(|()| out.flush()) {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            Ok(()) if unreadable && !readable => Err(Failure::new(format!(
                "--data {}: nothing of it is readable",
                self.folder.display()
            ))),
            other => other.map_err(|error| unwritten(&error)),
        }
    }
}

/// A typing error names the folder, and makes none.
fn is_folder(folder: &Path) -> Result<(), Failure> {
    let what = match folder.metadata() {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => "this is a file",
        Err(_) => "there is no such folder",
    };
    Err(Failure::usage(format!(
        "--data {}: {what}; name a data folder",
        folder.display()
    )))
}

/// Nothing was read: wrong use, as far as the exit code goes.
fn named(folder: &Path, error: &InspectError) -> Failure {
    let shown = folder.display();
    match (error, of_a_demo(folder)) {
        (InspectError::NoLog, Some(bus)) => Failure::usage(format!(
            "--data {shown}: there is no log in this folder; {bus}"
        )),
        _ => Failure::usage(format!("--data {shown}: {error}")),
    }
}
