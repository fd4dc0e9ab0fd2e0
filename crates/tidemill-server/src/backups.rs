//! Backups of the broker behind this server: one at a time, each a folder of its own in the one
//! folder that whoever runs the server has named. Knows no wire format.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;
use tidemill_broker::Broker;
use tidemill_broker::backup::{self, Backup, BackupError};

use crate::limits::BACKUP_NAME_MAX_BYTES;

/// See the module.
#[derive(Debug)]
pub(crate) struct Backups {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The one that is being taken.
    running: Option<String>,
    /// What became of the one before, as this process knows it.
    ended: Option<(String, Result<Backup, Failed>)>,
}

/// Why one was not taken.
#[derive(Clone, Debug)]
struct Failed {
    detail: String,
    /// Everything was copied, but could not be read again.
    copied: bool,
}

/// How a backup stands.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum Standing {
    /// It is being taken.
    Running,
    /// It is whole.
    Done {
        /// What it consists of, if this process took it last.
        #[serde(flatten)]
        taken: Option<Backup>,
    },
    /// Nothing can be restored from it, or nobody knows.
    Failed {
        /// Why, and what to do.
        detail: String,
        /// Everything was copied, but could not be verified.
        copied: bool,
    },
}

/// A backup and how it stands.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Backup")]
pub(crate) struct Named {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) standing: Standing,
}

/// Why no backup was begun.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotBegun {
    /// No name of a backup.
    Name(String),
    /// There is one of this name, or another one is being taken.
    Taken(String),
}

impl Backups {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one, which goes on whoever waits for it.
    pub(crate) fn begin(self: &Arc<Self>, broker: &Broker, name: &str) -> Result<(), NotBegun> {
        check(name).map_err(NotBegun::Name)?;
        let to = self.folder.join(name);
        {
            let mut state = self.state();
            if let Some(running) = &state.running {
                let why = format!("backup {running} is being taken; try again when it has ended");
                return Err(NotBegun::Taken(why));
            }
            // An empty folder is what a backup may go to.
            let there = std::fs::read_dir(&to).is_ok_and(|mut entries| entries.next().is_some());
            if there || to.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
                let why = format!("there is something called {name} already; choose another name");
                return Err(NotBegun::Taken(why));
            }
            state.running = Some(name.to_owned());
        }
        let (backups, broker) = (Arc::clone(self), broker.clone());
        let name = name.to_owned();
        tokio::spawn(async move {
            // In a task of its own, so that nothing keeps the next one from its turn.
            let taken = tokio::spawn(async move { broker.backup(to).await }).await;
            let taken = match taken {
                Ok(taken) => taken.map_err(|error| Failed {
                    copied: matches!(error, BackupError::Unverified(_)),
                    detail: error.to_string(),
                }),
                Err(error) => Err(Failed {
                    copied: false,
                    detail: format!("it was broken off: {error}"),
                }),
            };
            match &taken {
                Ok(taken) => tracing::info!(name, files = taken.files, "a backup was taken"),
                Err(failed) => tracing::warn!(name, error = failed.detail, "a backup failed"),
            }
            let mut state = backups.state();
            state.running = None;
            state.ended = Some((name, taken));
        });
        Ok(())
    }

    /// How the one of this name stands; `None` where there is none.
    pub(crate) fn show(&self, name: &str) -> Option<Standing> {
        let state = self.state();
        if state.running.as_deref() == Some(name) {
            return Some(Standing::Running);
        }
        if let Some((ended, taken)) = &state.ended
            && ended == name
        {
            return Some(match taken.clone() {
                Ok(taken) => Standing::Done { taken: Some(taken) },
                Err(Failed { detail, copied }) => Standing::Failed { detail, copied },
            });
        }
        drop(state);
        let whole = check(name).is_ok() && backup::is_backup(&self.folder.join(name));
        whole.then_some(Standing::Done { taken: None })
    }

    /// All there are, by their names. Folders that are no backups are left out.
    pub(crate) fn list(&self) -> std::io::Result<Vec<Named>> {
        let mut names = names(&self.folder)?;
        {
            let state = self.state();
            names.extend(state.running.clone());
            names.extend(state.ended.as_ref().map(|(name, _)| name.clone()));
        }
        names.sort_unstable();
        names.dedup();
        let named = names.into_iter().filter_map(|name| {
            let standing = self.show(&name)?;
            Some(Named { name, standing })
        });
        Ok(named.collect())
    }
}

fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
    names.filter_map(Result::transpose).collect()
}

/// A name is one part of a path, and hides from nobody.
fn check(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fits = (1..=BACKUP_NAME_MAX_BYTES).contains(&name.len());
    match fits && !name.starts_with('.') && name.bytes().all(plain) {
        true => Ok(()),
        false => Err(format!(
            "a backup's name has 1 to {BACKUP_NAME_MAX_BYTES} letters, digits, dashes, \
             underscores and dots, and no dot comes first"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leaves_the_folder() {
        for bad in [
            "", ".", "..", ".hidden", "a/b", "../a", "a\\b", "a\0", "ü", "a b",
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert!(check(&"a".repeat(BACKUP_NAME_MAX_BYTES + 1)).is_err());
        for good in ["monday", "2026-11-21T10.00", "a_b..c"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }
}
