//! One SQLite database on a thread of its own: work is sent to it, several works share one
//! commit, and each is answered only when that commit is on the disk. Knows no events.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Savepoint, TransactionBehavior};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::limits::{INBOX_COMMIT_MAX, INBOX_QUEUE_MAX};

/// The version of the tables, kept in each file.
const VERSION: i64 = 2;

/// How long an opener waits for another process to let go of a database.
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// Where a shop keeps its databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: gone with the process.
    Memory,
    /// One file a service in this folder.
    Folder(PathBuf),
}

/// Why a database did not do its work. Nothing of the work is kept then, except after
/// [`DatabaseError::Commit`], where it may be.
#[derive(Clone, Debug, Error)]
pub enum DatabaseError {
    /// It cannot be opened.
    #[error("the database {name} cannot be opened: {why}")]
    Open {
        /// Which one.
        name: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The work failed and was undone.
    #[error("the work on the database failed and was undone: {0}")]
    Work(String),
    /// The work refused what was asked, and was undone; it would again.
    #[error("{0}")]
    Refused(String),
    /// The work cannot be done yet, and was undone.
    #[error("{0}")]
    Early(String),
    /// The commit failed.
    #[error("the database could not commit ({0}); the event is given again")]
    Commit(String),
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
}

/// What fails inside of a work.
#[derive(Debug, Error)]
pub enum WorkError {
    /// SQLite said no.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// A value could not be written as JSON, or read from it.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// What the database holds makes no sense.
    #[error("the database holds {0}; restore it from a backup")]
    Broken(String),
    /// What is asked makes no sense, or comes too late. Nothing is recorded of it, so that it may
    /// be tried again by hand.
    #[error("{0}")]
    Refused(String),
    /// What is asked may make sense once others were heard. Nothing is recorded of it.
    #[error("{0}")]
    Early(String),
}

impl From<WorkError> for DatabaseError {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::Refused(why) => Self::Refused(why),
            WorkError::Early(why) => Self::Early(why),
            other => Self::Work(other.to_string()),
        }
    }
}

type Done = Box<dyn FnOnce(Result<(), DatabaseError>) + Send>;
type Job = Box<dyn FnOnce(&mut Savepoint<'_>) -> (bool, Done) + Send>;

/// A handle on a database; clones share it. It closes when the last one is dropped.
#[derive(Clone)]
pub struct Database {
    jobs: mpsc::Sender<Job>,
    /// Errs once the thread ended and the file is free.
    open: watch::Receiver<()>,
}

impl Database {
    /// Opens the database `name`, makes its tables by `schema` (which must be repeatable) and
    /// starts its thread. Blocks on the disk.
    ///
    /// # Errors
    /// [`DatabaseError::Open`], also when another process has it open.
    pub fn open(place: &Place, name: &str, schema: &str) -> Result<Self, DatabaseError> {
        let failed = |why: String| DatabaseError::Open {
            name: name.to_owned(),
            why,
        };
        let connection = connect(place, name).map_err(|error| failed(explain(&error)))?;
        let version = prepare(&connection, schema).map_err(|error| failed(explain(&error)))?;
        if version > VERSION {
            return Err(failed(format!(
                "it is of version {version} and this shop knows {VERSION}; use the newer shop"
            )));
        }
        if (1..VERSION).contains(&version) {
            return Err(failed(format!(
                "it is of version {version} and this shop knows {VERSION} alone; begin in another \
                 data folder"
            )));
        }
        let (jobs, queue) = mpsc::channel(INBOX_QUEUE_MAX);
        let (alive, open) = watch::channel(());
        std::thread::Builder::new()
            .name(format!("shop-{name}"))
            .spawn(move || {
                work_off(connection, queue);
                drop(alive);
            })
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { jobs, open })
    }

    /// Lets go of this handle and waits until the last other one is gone too and the file is
    /// closed.
    pub async fn close(self) {
        let Self { jobs, mut open } = self;
        drop(jobs);
        while open.changed().await.is_ok() {}
    }

    /// Does `work` in a savepoint of its own inside of a shared transaction and answers when the
    /// transaction is on the disk. When it fails, nothing of it is kept.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn write<T, F>(&self, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, WorkError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |savepoint| {
            let result = work(savepoint);
            let keep = result.is_ok();
            let done: Done = Box::new(move |committed| {
                let result = result.map_err(DatabaseError::from);
                // Nobody waits when the asking future was dropped; the work is kept all the same.
                let _ = answer.send(committed.and(result));
            });
            (keep, done)
        });
        self.jobs
            .send(job)
            .await
            .map_err(|_| DatabaseError::Closed)?;
        answered.await.map_err(|_| DatabaseError::Closed)?
    }
}

fn connect(place: &Place, name: &str) -> rusqlite::Result<Connection> {
    let connection = match place {
        Place::Memory => Connection::open_in_memory()?,
        Place::Folder(folder) => Connection::open(file(folder, name))?,
    };
    connection.busy_timeout(BUSY_WAIT)?;
    // One opener: a second shop on the same folder is refused at its start, not found out later.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Makes the tables of a database that is new or of this version; gives the version it had.
fn prepare(connection: &Connection, schema: &str) -> rusqlite::Result<i64> {
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if [0, VERSION].contains(&version) {
        connection.execute_batch(schema)?;
        connection.pragma_update(None, "user_version", VERSION)?;
    }
    Ok(version)
}

fn file(folder: &Path, name: &str) -> PathBuf {
    // A folder that cannot be made shows in the error of the open that follows.
    let _ = fs::create_dir_all(folder);
    folder.join(format!("{name}.sqlite"))
}

fn explain(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            "another process has it open; stop that one or choose another data folder".into()
        }
        Some(rusqlite::ErrorCode::NotADatabase) => {
            "the file is not an SQLite database; restore the folder from a backup".into()
        }
        _ => format!("{error}; check the data folder and its rights"),
    }
}

/// The thread: takes what waits, commits it as one, answers, until every handle is gone.
fn work_off(mut connection: Connection, mut queue: mpsc::Receiver<Job>) {
    let mut batch = Vec::with_capacity(INBOX_COMMIT_MAX);
    while let Some(first) = queue.blocking_recv() {
        batch.push(first);
        while batch.len() < INBOX_COMMIT_MAX {
            match queue.try_recv() {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        let mut done = Vec::with_capacity(batch.len());
        let committed = commit(&mut connection, &mut batch, &mut done)
            .map_err(|error| DatabaseError::Commit(error.to_string()));
        // Jobs left in the batch were never begun: dropped, they answer `Closed`.
        batch.clear();
        for answer in done {
            answer(committed.clone());
        }
    }
}

fn commit(
    connection: &mut Connection,
    batch: &mut Vec<Job>,
    done: &mut Vec<Done>,
) -> rusqlite::Result<()> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for job in batch.drain(..) {
        let mut savepoint = transaction.savepoint()?;
        // A work that panics is undone alone: its answer is dropped with it.
        let Ok((keep, answer)) = catch_unwind(AssertUnwindSafe(|| job(&mut savepoint))) else {
            savepoint.finish()?;
            continue;
        };
        done.push(answer);
        if keep {
            savepoint.commit()?;
        } else {
            savepoint.finish()?;
        }
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY)";

    async fn insert(database: &Database, n: i64, fail: bool) -> Result<(), DatabaseError> {
        database
            .write(move |on| {
                on.execute("INSERT INTO t VALUES (?1)", [n])?;
                match fail {
                    true => Err(WorkError::Broken("nothing".into())),
                    false => Ok(()),
                }
            })
            .await
    }

    async fn count(database: &Database) -> i64 {
        let all = |on: &Connection| Ok(on.query_row("SELECT count(*) FROM t", [], |r| r.get(0))?);
        database.write(all).await.unwrap()
    }

    #[tokio::test]
    async fn a_failed_or_panicking_work_undoes_itself_alone() {
        let database = Database::open(&Place::Memory, "t", SCHEMA).unwrap();
        let panics = database.write(|on| -> Result<(), WorkError> {
            on.execute("INSERT INTO t VALUES (3)", [])?;
            panic!("in a work")
        });
        let (good, bad, panicked, other) = tokio::join!(
            insert(&database, 1, false),
            insert(&database, 2, true),
            panics,
            insert(&database, 4, false),
        );
        assert!(good.is_ok() && other.is_ok());
        assert!(matches!(bad, Err(DatabaseError::Work(_))));
        assert!(matches!(panicked, Err(DatabaseError::Closed)));
        assert_eq!(count(&database).await, 2);
    }

    #[tokio::test]
    async fn what_was_answered_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Folder(folder.path().join("deep"));
        let database = Database::open(&place, "t", SCHEMA).unwrap();
        for n in 0..10 {
            insert(&database, n, false).await.unwrap();
        }
        let second = Database::open(&place, "t", SCHEMA).err().unwrap();
        assert!(second.to_string().contains("another process"), "{second}");
        database.close().await;
        let again = Database::open(&place, "t", SCHEMA).unwrap();
        assert_eq!(count(&again).await, 10);
    }

    #[tokio::test]
    async fn a_database_of_another_version_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Folder(folder.path().to_owned());
        for (name, other, said) in [
            ("newer", VERSION + 1, "use the newer shop"),
            ("older", VERSION - 1, "begin in another data folder"),
        ] {
            let database = Database::open(&place, name, SCHEMA).unwrap();
            let change =
                move |on: &Connection| Ok(on.pragma_update(None, "user_version", other)?);
            database.write(change).await.unwrap();
            database.close().await;
            for _ in 0..2 {
                let error = Database::open(&place, name, SCHEMA).err().unwrap();
                assert!(error.to_string().contains(said), "{error}");
            }
        }
    }

    #[test]
    fn a_file_that_is_no_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("t.sqlite"), "x".repeat(5000)).unwrap();
        let place = Place::Folder(folder.path().to_owned());
        let error = Database::open(&place, "t", SCHEMA).err().unwrap();
        assert!(
            error.to_string().contains("not an SQLite database"),
            "{error}"
        );
    }
}
