//! The pattern that makes a service safe against `kill -9`: a handler changes its database and
//! records its input's id with its outputs in one transaction. A redelivered input changes
//! nothing and gives the recorded outputs again; the handler's caller derives their ids from the
//! input's, so they are the same too.
//!
//! An input that was *published* a second time (same id, another place in the log) gives its
//! answer again but no events: the first one's delivery takes care of those.
//!
//! When a group is deleted, or sent back, a new one reads every event again from the beginning.
//! Its inputs are redelivered ones, so nothing changes and their outputs are in the log again under
//! the same ids. The inbox remembers that this happened: [`Inbox::read_again`].

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::database::{Database, DatabaseError, Place, WorkError};
use crate::limits::INBOX_ROWS_MAX;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS inbox (
        seq INTEGER PRIMARY KEY,
        source TEXT NOT NULL,
        id TEXT NOT NULL,
        place TEXT NOT NULL,
        outputs TEXT NOT NULL,
        UNIQUE (source, id)
    );
    CREATE TABLE IF NOT EXISTS read_again (place TEXT PRIMARY KEY);";

/// How the place of the first event of a partition ends.
const FIRST: &str = "@0";

/// What identifies one delivered event: `source` and `id` say which event, `place` which copy of
/// it in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The event's `source`.
    pub source: String,
    /// The event's `id`.
    pub id: String,
    /// Topic, partition and offset.
    pub place: String,
}

/// The outputs of an input, and whether they were recorded for another copy of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<O> {
    /// What the handler gave when it saw the input first.
    pub outputs: O,
    /// The input was handled before.
    pub again: bool,
    /// The event was published twice and this is its second copy.
    pub second_copy: bool,
}

/// A service's database with its inbox. Clones share it.
#[derive(Clone)]
pub struct Inbox {
    database: Database,
}

impl Inbox {
    /// Opens the database `name` with the tables of `schema`. Blocks on the disk.
    ///
    /// # Errors
    /// [`DatabaseError::Open`].
    pub fn open(place: &Place, name: &str, schema: &str) -> Result<Self, DatabaseError> {
        let database = Database::open(place, name, &format!("{SCHEMA}{schema}"))?;
        Ok(Self { database })
    }

    /// Handles `input` once: the first time `work` decides and its outputs are recorded with its
    /// changes; every later time the recorded outputs come back and nothing changes.
    ///
    /// # Errors
    /// See [`DatabaseError`]; nothing was recorded or the caller may not know, so the input must
    /// be given again.
    pub async fn once<O, F>(&self, input: Input, work: F) -> Result<Given<O>, DatabaseError>
    where
        O: Serialize + DeserializeOwned + Send + 'static,
        F: FnOnce(&Connection) -> Result<O, WorkError> + Send + 'static,
    {
        let recorded = move |on: &Connection| match recall(on, &input)? {
            Some(given) => Ok(given),
            None => {
                let outputs = work(on)?;
                record(on, &input, &outputs)?;
                Ok(Given {
                    outputs,
                    again: false,
                    second_copy: false,
                })
            }
        };
        self.database.write(recorded).await
    }

    /// Whether the first event of a topic was given again after it had been handled. A group that
    /// goes on where it was does that only if the process was killed before that very event was
    /// settled; otherwise it began anew.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn read_again(&self) -> Result<bool, DatabaseError> {
        let any = "SELECT EXISTS (SELECT 1 FROM read_again)";
        self.read(move |on| Ok(on.query_row(any, [], |row| row.get(0))?))
            .await
    }

    /// See [`Database::close`].
    pub async fn close(self) {
        self.database.close().await;
    }

    /// Reads; sees all that was answered before.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn read<T, F>(&self, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, WorkError> + Send + 'static,
    {
        self.database.write(work).await
    }
}

fn recall<O: DeserializeOwned>(
    on: &Connection,
    input: &Input,
) -> Result<Option<Given<O>>, WorkError> {
    let mut find =
        on.prepare_cached("SELECT outputs, place FROM inbox WHERE source = ?1 AND id = ?2")?;
    let row: Option<(String, String)> = find
        .query_row([&input.source, &input.id], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((outputs, place)) = row else {
        return Ok(None);
    };
    let second_copy = place != input.place;
    if !second_copy && place.ends_with(FIRST) {
        on.prepare_cached("INSERT OR IGNORE INTO read_again VALUES (?1)")?
            .execute([place])?;
    }
    Ok(Some(Given {
        outputs: serde_json::from_str(&outputs)?,
        again: true,
        second_copy,
    }))
}

fn record<O: Serialize>(on: &Connection, input: &Input, outputs: &O) -> Result<(), WorkError> {
    let mut insert = on
        .prepare_cached("INSERT INTO inbox (source, id, place, outputs) VALUES (?1, ?2, ?3, ?4)")?;
    let outputs = serde_json::to_string(outputs)?;
    insert.execute(params![input.source, input.id, input.place, outputs])?;
    let oldest = on.last_insert_rowid() - INBOX_ROWS_MAX;
    on.prepare_cached("DELETE FROM inbox WHERE seq <= ?1")?
        .execute([oldest])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(id: &str, place: &str) -> Input {
        Input {
            source: "/test".into(),
            id: id.into(),
            place: place.into(),
        }
    }

    async fn add(inbox: &Inbox, input: Input) -> Given<i64> {
        let add = |on: &Connection| {
            on.execute("INSERT INTO t DEFAULT VALUES", [])?;
            Ok(on.last_insert_rowid())
        };
        inbox.once(input, add).await.unwrap()
    }

    #[tokio::test]
    async fn a_redelivered_input_gives_its_outputs_again_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Folder(folder.path().to_owned());
        let schema = "CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY AUTOINCREMENT)";
        let inbox = Inbox::open(&place, "t", schema).unwrap();
        let first = add(&inbox, input("a", "t/0@0")).await;
        assert_eq!(add(&inbox, input("b", "t/0@10")).await.outputs, 2);
        assert!(add(&inbox, input("b", "t/0@10")).await.again);
        assert!(!inbox.read_again().await.unwrap());
        let again = add(&inbox, input("a", "t/0@0")).await;
        assert!(inbox.read_again().await.unwrap());
        assert_eq!((again.outputs, again.again), (first.outputs, true));
        assert!(!again.second_copy);
        let copy = add(&inbox, input("a", "t/0@9")).await;
        assert_eq!((copy.outputs, copy.second_copy), (first.outputs, true));
        let rows = |on: &Connection| Ok(on.query_row("SELECT count(*) FROM t", [], |r| r.get(0))?);
        assert_eq!(inbox.read::<i64, _>(rows).await.unwrap(), 2);
    }
}
