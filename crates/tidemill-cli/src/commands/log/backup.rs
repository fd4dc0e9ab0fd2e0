//! `tidemill log backup` and `tidemill log restore`.

use std::path::{Path, PathBuf};

use clap::Args;
use tidemill::broker::OpenError;
use tidemill::broker::backup::{self, BackupError};
use tidemill::broker::inspect::{InspectError, Report, Severity};

use crate::failure::Failure;
use crate::listing::print_json;
use crate::output::{all_the_same, say};
use crate::progress::Reading;
use crate::values::ServerUrl;

use super::running;

/// Copy a data folder, or let a running server copy its own, so that it can be restored
///
/// With --data and --to it copies a folder that no server has open; one that is in use is refused.
/// With --server and --name the server copies its own data while it goes on working, into the
/// folder that `tidemill serve --backups DIR` names; a program that has a broker open does so with
/// `Broker::backup`.
///
/// `tidemill log restore` makes a data folder of the backup. Where both folders are on one file
/// system, files that never change again share their bytes; --copy copies them too. The backup is
/// read again and verified, and its manifest lists every file with its checksum. Missing folders
/// above the backup's are made.
///
/// Exit codes: 0 done, 1 done and the data has damage or the output could not be written, 2 nothing
/// was backed up.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill log backup --data ./tidemill-data --to /backup/monday\n  \
    tidemill log backup --data ./tidemill-data --to /mnt/other-disk/monday --copy\n  \
    tidemill log backup --server http://127.0.0.1:7575 --name monday")]
pub(crate) struct Backup {
    /// The data folder [env: TIDEMILL_DATA]
    #[arg(long = "data", value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The folder of the backup; it must be new or empty
    #[arg(long, value_name = "DIR", required_unless_present_any = ["server", "name"])]
    to: Option<PathBuf>,
    /// Copy every file, also those that could share their bytes
    #[arg(long)]
    copy: bool,
    /// The running server that is to take it
    #[arg(long, value_name = "URL", requires = "name")]
    #[arg(conflicts_with_all = ["folder", "to", "copy"])]
    server: Option<ServerUrl>,
    /// The backup's name in the server's folder of backups
    #[arg(long, value_name = "NAME", requires = "server")]
    #[arg(conflicts_with_all = ["folder", "to", "copy"])]
    name: Option<String>,
    /// Print a line of JSON
    #[arg(long)]
    json: bool,
}

/// Make a data folder of a backup
///
/// Every file is compared with the backup's manifest and copied. A backup that was broken off,
/// changed, or opened as a data folder is refused, and so is a folder with anything in it, or one
/// inside of the backup. Missing folders above it are made. The new folder is read again and
/// verified: damage that the data had when it was backed up is named.
///
/// Exit codes: 0 done, 1 done and the data has damage or the output could not be written, 2 nothing
/// was restored.
#[derive(Args)]
#[command(after_help = "Example:\n  \
    tidemill log restore --from /backup/monday --data ./tidemill-data")]
pub(crate) struct Restore {
    /// The folder of the backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The data folder; it must be new or empty
    #[arg(long = "data", env = "TIDEMILL_DATA", value_name = "DIR")]
    folder: PathBuf,
    /// Print a line of JSON
    #[arg(long)]
    json: bool,
}

impl Backup {
    pub(super) fn run(self) -> Result<(), Failure> {
        match (&self.server, &self.name, &self.to) {
            (Some(server), Some(name), _) => {
                super::super::narrow(running::take(server, name, self.json))
            }
            (_, _, Some(to)) => self.copy_to(to),
            _ => Err(Failure::usage(
                "name a folder with --to, or a server with --server",
            )),
        }
    }

    /// The folder that was typed, or else that the environment names.
    fn data(&self) -> Result<PathBuf, Failure> {
        let named = self.folder.clone();
        named
            .or_else(|| std::env::var_os("TIDEMILL_DATA").map(PathBuf::from))
            .ok_or_else(|| Failure::usage("name the data folder with --data"))
    }

    fn copy_to(&self, to: &Path) -> Result<(), Failure> {
        let folder = self.data()?;
        super::is_folder(&folder)?;
        let bar = Reading::new();
        let taken = backup::backup(&folder, to, !self.copy, |at| {
            bar.show(at.file, at.done_bytes, at.total_bytes);
        });
        bar.end();
        let (data, to) = (folder.display(), to.display());
        let taken = taken.map_err(|error| {
            failed(
                &format!("--data {data} --to {to}"),
                "the backup is taken",
                &error,
            )
        })?;
        let told = match self.json {
            true => print_json(&taken),
            false => taken
                .report
                .findings
                .iter()
                .try_for_each(|finding| say(super::sentence(finding)))
                .and_then(|()| {
                    say(format_args!(
                        "{} files, {} of them shared, {} bytes in {to}; tidemill log restore \
                         --from {to} --data DIR makes a data folder of it",
                        taken.files, taken.linked_files, taken.bytes
                    ))
                }),
        };
        let damage = damage(&taken.report).map(|count| {
            format!("--data {data}: {count} findings of damage, which are in the backup too")
        });
        end(told, format!("the backup in {to} is taken"), damage)
    }
}

/// Where nothing came of it, it was asked for wrongly; where everything was copied it is `done`.
fn failed(options: &str, done: &str, error: &BackupError) -> Failure {
    match error {
        BackupError::Unverified(_) => Failure::new(format!("{options}: {done}: {error}")),
        BackupError::Open(OpenError::Locked(_))
        | BackupError::Inspect(InspectError::Open(OpenError::Locked(_))) => {
            Failure::usage(format!(
                "{options}: {error}; a running server takes a backup by --server URL --name NAME"
            ))
        }
        _ => Failure::usage(format!("{options}: {error}")),
    }
}

fn damage(report: &Report) -> Option<u64> {
    (report.damage > 0).then_some(report.damage)
}

/// How a command ends that has done what it was asked for: what of it could not be told, and what
/// damage was found.
fn end(told: Result<(), Failure>, done: String, damage: Option<String>) -> Result<(), Failure> {
    match (all_the_same(told, done), damage) {
        (told, None) => told,
        (Ok(()), Some(damage)) => Err(Failure::new(damage)),
        (Err(failure), Some(damage)) => Err(Failure::new(format!("{failure}\n{damage}"))),
    }
}

impl Restore {
    pub(super) fn run(self) -> Result<(), Failure> {
        is_backup(&self.from)?;
        let bar = Reading::new();
        let restored = backup::restore(&self.from, &self.folder, |at| {
            bar.show(at.file, at.done_bytes, at.total_bytes);
        });
        bar.end();
        let (from, data) = (self.from.display(), self.folder.display());
        let restored = restored.map_err(|error| {
            failed(
                &format!("--from {from} --data {data}"),
                "the data folder is restored",
                &error,
            )
        })?;
        let told = match self.json {
            true => print_json(&restored),
            false => say(format_args!(
                "{} files, {} bytes in {data}; tidemill serve --data {data} opens it",
                restored.files, restored.bytes
            )),
        };
        let damage = damage(&restored.report).map(|count| {
            let findings = restored.report.findings.iter();
            let damaged = findings.filter(|finding| finding.severity == Severity::Damage);
            let mut named = String::new();
            for finding in damaged {
                named += &format!("\n{}", super::sentence(finding));
            }
            format!(
                "--from {from}: restored, with {count} findings of damage that the data had when \
                 it was backed up; an older backup may be without{named}"
            )
        });
        end(told, format!("the data folder {data} is restored"), damage)
    }
}

fn is_backup(folder: &Path) -> Result<(), Failure> {
    match folder.is_dir() {
        true => Ok(()),
        false => Err(Failure::usage(format!(
            "--from {}: there is no such folder; name a backup",
            folder.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_and_not_verified_is_no_wrong_use() {
        let fails = |error| failed("--from a --data b", "the data folder is restored", &error);
        let restored = fails(BackupError::Unverified(InspectError::NoLog));
        let text = restored.to_string();
        assert!(matches!(restored, Failure::Failed(_)), "{text}");
        for part in ["is restored", "could not be verified", "--data b"] {
            assert!(text.contains(part), "{text}");
        }
        let nothing = fails(BackupError::NotWhole("it has no manifest".to_owned()));
        assert!(matches!(nothing, Failure::Usage(_)), "{nothing}");
    }
}
