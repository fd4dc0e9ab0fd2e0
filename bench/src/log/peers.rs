//! 1 and 64 writers of 1 KiB that wait for their own, on the log and on redb, fjall and SQLite,
//! each of these behind one thread that writes whatever waits in one durable transaction. The disk
//! alone, behind that thread too, is what any engine can reach here.

use std::error::Error;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use fjall::{KeyspaceCreateOptions, PersistMode};
use redb::{ReadableDatabase as _, TableDefinition};
use rusqlite::Connection;
use tidemill_log::Options;
use tidemill_log::limits::BLOCK_BYTES;

use crate::machine::{Operation, ask, batch, open, partition};
use crate::overwrite::{Raw, Way};
use crate::report::{Run, median};

const TURNS: usize = 3;
const TURN: Duration = Duration::from_secs(2);
const VALUE_BYTES: usize = 1024;
/// Of the file that the disk alone is measured with.
const DISK_BYTES: u64 = 64 * 1024 * 1024;
const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Writes these values durably, numbered from the first number on.
type Commit = Box<dyn FnMut(u64, &[Vec<u8>]) -> Fallible<()> + Send>;

/// An engine's name, and what begins it in a folder.
type Maker = (&'static str, fn(&Path) -> Fallible<Commit>);

/// A value on its way, and where its writer waits.
type Waiting = (Vec<u8>, SyncSender<()>);

pub(crate) fn run(dir: &Path) -> Result<(), Box<dyn Error>> {
    let makers: [Maker; 4] = [
        ("redb", redb),
        ("fjall", fjall),
        ("SQLite, WAL, FULL", sqlite),
        ("the disk alone", disk),
    ];
    println!("| engine | writers | per second | p50 ms | p99 ms |\n|---|---|---|---|---|");
    for writers in [1, 64] {
        let mut rows: Vec<(&str, Vec<Run>)> = vec![("Tidemill's log", Vec::new())];
        rows.extend(makers.iter().map(|(name, _)| (*name, Vec::new())));
        for turn in 0..TURNS {
            for (name, runs) in &mut rows {
                let folder = crate::Folder::new(dir.join(format!("{turn}-{writers}")))?;
                let maker = makers.iter().find(|(known, _)| known == name);
                runs.push(
                    match maker {
                        Some((_, make)) => peer(make(&folder.0), writers),
                        None => ours(&folder.0, writers),
                    }
                    .map_err(|error| error.to_string())?,
                );
            }
        }
        for (name, mut runs) in rows {
            let rate = median(runs.iter().map(Run::per_second).collect());
            let mut of = |share| median(runs.iter_mut().map(|run| run.permille(share)).collect());
            println!(
                "| {name} | {writers} | {rate:.0} | {:.3} | {:.3} |",
                of(500),
                of(990)
            );
        }
    }
    Ok(())
}

/// Runs `writers` threads for a turn, each calling `write` again and again.
fn turn(writers: usize, write: impl Fn() -> Fallible<()> + Sync) -> Fallible<Run> {
    let begun = Instant::now();
    let mut run = Run::default();
    thread::scope(|scope| {
        let one = || {
            let mut took = Vec::new();
            while begun.elapsed() < TURN {
                let start = Instant::now();
                write()?;
                took.push(start.elapsed());
            }
            Fallible::Ok(took)
        };
        let threads: Vec<_> = (0..writers).map(|_| scope.spawn(one)).collect();
        for thread in threads {
            let took = thread.join().map_err(|_| "a writer has panicked")?;
            run.took.extend(took?);
        }
        run.whole = begun.elapsed();
        Ok(run)
    })
}

fn ours(dir: &Path, writers: usize) -> Fallible<Run> {
    let log = open(dir, &Options::default())?;
    let id = partition(1);
    ask(&log, Operation::Create(vec![id]))?;
    let value = batch(1, VALUE_BYTES);
    let run = turn(writers, || {
        Ok(ask(&log, Operation::Append(id, value.clone()))?)
    })?;
    log.close();
    Ok(run)
}

fn peer(commit: Fallible<Commit>, writers: usize) -> Fallible<Run> {
    let commit = commit?;
    let (sender, receiver) = mpsc::sync_channel::<Waiting>(1024);
    let committer = thread::spawn(move || committer(&receiver, commit));
    let run = turn(writers, || {
        let (done, ended) = mpsc::sync_channel(1);
        sender.send((vec![7; VALUE_BYTES], done))?;
        Ok(ended.recv()?)
    });
    drop(sender);
    committer
        .join()
        .map_err(|_| "the committer has panicked")??;
    run
}

/// Takes whatever waits, writes it as one, tells its writers.
fn committer(receiver: &Receiver<Waiting>, mut commit: Commit) -> Fallible<()> {
    let mut next = 0;
    while let Ok(first) = receiver.recv() {
        let (values, writers): (Vec<_>, Vec<_>) =
            std::iter::once(first).chain(receiver.try_iter()).unzip();
        commit(next, &values)?;
        next += values.len() as u64;
        for writer in writers {
            let _ = writer.send(());
        }
    }
    Ok(())
}

/// Overwrites whole blocks of a file that is there, past the page cache.
fn disk(dir: &Path) -> Fallible<Commit> {
    let mut raw = Raw::new(dir, DISK_BYTES, Way::Direct)?;
    Ok(Box::new(move |_, values| {
        let mut blocks = values.concat();
        blocks.resize(blocks.len().next_multiple_of(BLOCK_BYTES), 0);
        raw.one(&[blocks.into()])?;
        Ok(())
    }))
}

fn redb(dir: &Path) -> Fallible<Commit> {
    let database = redb::Database::create(dir.join("redb"))?;
    let write = database.begin_write()?;
    write.open_table(TABLE)?;
    write.commit()?;
    drop(database.begin_read()?);
    Ok(Box::new(move |first, values| {
        let write = database.begin_write()?;
        {
            let mut table = write.open_table(TABLE)?;
            for (number, value) in (first..).zip(values) {
                table.insert(number, value.as_slice())?;
            }
        }
        Ok(write.commit()?)
    }))
}

fn fjall(dir: &Path) -> Fallible<Commit> {
    let database = fjall::Database::builder(dir.join("fjall")).open()?;
    let events = database.keyspace("events", KeyspaceCreateOptions::default)?;
    Ok(Box::new(move |first, values| {
        let mut batch = database.batch().durability(Some(PersistMode::SyncData));
        for (number, value) in (first..).zip(values) {
            batch.insert(&events, number.to_be_bytes(), value.as_slice());
        }
        Ok(batch.commit()?)
    }))
}

fn sqlite(dir: &Path) -> Fallible<Commit> {
    let mut database = Connection::open(dir.join("sqlite"))?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.execute(
        "CREATE TABLE events (number INTEGER PRIMARY KEY, value BLOB)",
        [],
    )?;
    Ok(Box::new(move |first, values| {
        let write = database.transaction()?;
        {
            let mut insert = write.prepare_cached("INSERT INTO events VALUES (?1, ?2)")?;
            for (number, value) in (first..).zip(values) {
                insert.execute((number as i64, value.as_slice()))?;
            }
        }
        Ok(write.commit()?)
    }))
}
