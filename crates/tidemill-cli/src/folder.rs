//! Data folders as every command meets them: which may begin a log there, and what is said when
//! one cannot be opened.
//!
//! A log begins only in a folder that is new or empty: `serve`, `bench` and `demo` make the folder
//! too, `publish` and `topic create` do not, because a typing error makes none, and begin one only
//! where `--data` was typed, not where the environment names the folder. Every other command needs
//! a log that is there.
//!
//! This room may not know what is in a log.

use std::fmt::Display;
use std::path::{Path, PathBuf};

#[cfg(feature = "kafka")]
use tidemill::broker::PRIVATE_DIR;
use tidemill::broker::backup::{is_backup, lies_in};
use tidemill::broker::inspect::{holds_log, lacks_superblocks, outer_folder};
use tidemill::broker::{Broker, OpenError};

use crate::failure::Failure;
use crate::shell;

/// Whether a command may begin a log where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    May,
    MayNot,
}

/// Opens a folder that must be there already.
///
/// # Errors
/// The folder is not there, or holds no log and `begin` lets none be made; or it cannot be opened:
/// then the text says who has it.
pub(crate) async fn open(dir: &Path, begin: Begin) -> Result<Broker, Failure> {
    if !dir.is_dir() {
        let why = match dir.exists() {
            true => "it is a file; name a folder",
            false => "there is no such folder; `tidemill serve --data` makes one",
        };
        return Err(named(dir, why));
    }
    if begin == Begin::MayNot && !holds_log(dir) {
        return Err(no_log(dir));
    }
    keep_backup(dir)?;
    let opened = Broker::builder().path(dir).open().await;
    opened.map_err(|error| refused(dir, &error))
}

/// Checks that what belongs to a log may be put beside it: a log is there, or may begin there.
///
/// # Errors
/// The folder is not there, is a backup, or has something else in it.
#[cfg(feature = "kafka")]
pub(crate) fn may_hold_log(dir: &Path) -> Result<(), Failure> {
    let Ok(mut found) = std::fs::read_dir(dir) else {
        let why = "there is no such folder that can be read; `tidemill serve --data` makes one";
        return Err(named(dir, why));
    };
    keep_backup(dir)?;
    if let Some(outer) = outer_folder(dir) {
        return Err(named(dir, OpenError::Inside(outer.display().to_string())));
    }
    let of_a_log = |name: &std::ffi::OsStr| name == PRIVATE_DIR || name == "lost+found";
    let others = found.any(|entry| !entry.is_ok_and(|entry| of_a_log(&entry.file_name())));
    match !others || holds_log(dir) {
        true => Ok(()),
        false => Err(no_log(dir)),
    }
}

/// Refuses a backup: once it is opened as a log it is none any more.
///
/// # Errors
/// The folder is a backup; the text says how a log is made of it.
pub(crate) fn keep_backup(dir: &Path) -> Result<(), Failure> {
    if !is_backup(dir) {
        return Ok(());
    }
    let words = ["--from".to_owned(), dir.display().to_string()];
    Err(named(
        dir,
        format!(
            "this is a backup, which an opening would spoil; make a data folder of it with \
             `tidemill log restore {} --data NEW`",
            shell::line(&words)
        ),
    ))
}

/// Checks that backups of a server can be taken into a folder, which is made where it is not there.
///
/// # Errors
/// It lies in the data folder or in another log, is no folder, or cannot be made or written to.
pub(crate) fn may_hold_backups(dir: &Path, data: &Path) -> Result<(), Failure> {
    let refuse = |why: String| Failure::new(format!("--backups {}: {why}", dir.display()));
    let outer = match lies_in(dir, data) {
        true => Some(data.to_path_buf()),
        // A backup is a folder in it.
        false => outer_folder(&dir.join("name")),
    };
    if let Some(outer) = outer {
        let outer = outer.display();
        return Err(refuse(format!(
            "it is or lies in {outer}, which holds a log or a backup itself; name a folder outside \
             of it"
        )));
    }
    if dir.exists() && !dir.is_dir() {
        return Err(refuse("it is a file; name a folder".to_owned()));
    }
    std::fs::create_dir_all(dir)
        .map_err(|error| refuse(format!("it cannot be made ({error}); name another folder")))?;
    let probe = dir.join(".tidemill-may-write");
    let written = std::fs::write(&probe, "").and_then(|()| std::fs::remove_file(&probe));
    written.map_err(|error| {
        refuse(format!(
            "it cannot be written to ({error}); let this user write there, or name another folder"
        ))
    })
}

/// The failure of a folder that has no log.
fn no_log(dir: &Path) -> Failure {
    if lacks_superblocks(dir) {
        return named(
            dir,
            "both superblocks are missing, but other files of a log are here; restore the folder \
             from a backup, and begin no new log in it",
        );
    }
    let why = match of_a_demo(dir) {
        Some(bus) => format!("there is no log in this folder; {bus}"),
        None => "there is no log in this folder; name a data folder, or begin one with `tidemill \
                 serve`, or with `tidemill publish` or `tidemill topic create` and --data"
            .to_owned(),
    };
    named(dir, why)
}

/// The failure of a folder that the broker does not open.
pub(crate) fn refused(dir: &Path, error: &OpenError) -> Failure {
    match (error, of_a_demo(dir)) {
        (OpenError::Occupied(_), Some(bus)) => {
            named(dir, format!("there is no log in this folder; {bus}"))
        }
        _ => named(dir, error),
    }
}

/// Where the log of this folder is, when the folder is one of `tidemill demo`.
pub(crate) fn of_a_demo(dir: &Path) -> Option<String> {
    let bus = demo_bus(dir);
    let words = ["--data".to_owned(), bus.display().to_string()];
    let give = || {
        format!(
            "the one of a demo is below it: give {}",
            shell::line(&words)
        )
    };
    holds_log(&bus).then(give)
}

/// Where a demo keeps its log.
pub(crate) fn demo_bus(dir: &Path) -> PathBuf {
    dir.join("bus")
}

/// The flag belongs to the message: it is what to change.
pub(crate) fn named(dir: &Path, why: impl Display) -> Failure {
    Failure::new(format!("--data {}: {why}", dir.display()))
}
