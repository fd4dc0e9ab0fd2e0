//! Opens a log: superblock, snapshot, journal, segments, in this order.
//!
//! It trusts no cached page: what the journal's surviving tail holds is copied into a fresh
//! journal file, synced and named in the superblock before anything is served, and segments
//! are cut to what was synced of them. Its cost follows the tail, not the size of the log.

mod folder;
mod fresh;
mod replay;

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::disk::{Disk, read_exact_at};
use crate::error::OpenError;
use crate::inspect::journal;
use crate::io::{Action, Files, run_all};
use crate::journal::scan::{Found, Scan, Scanned, holds_entries};
use crate::journal::writer::{JOURNAL_DIR, JournalWriter, journal_number, journal_path};
use crate::log::{AgeClock, Log, Recovered, Store};
use crate::machine::{Lsn, Machine, Now};
use crate::options::{Fault, Options};
use crate::segment::TOPICS_DIR;
use crate::snapshot::{self, Housekeeping, SNAPSHOTS_DIR, Snapshot, snapshot_path};
use crate::superblock::{self, Superblock};

pub use folder::PRIVATE_DIR;
pub(crate) use folder::{ASIDE_DIR, LOCK_FILE, is_ours, is_vacant};

use folder::Folder;
use fresh::{FreshJournal, Needed};
use replay::Replay;

impl<M: Machine, T> Log<M, T> {
    /// Opens the log that is on a disk, or makes one there. Whoever calls holds the disk's
    /// lock. `seed` must differ each time: it names this opening's journal.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong and what to do.
    pub fn recover(
        files: &Files,
        options: Options,
        machine: M,
        now: Now,
        seed: Uuid,
    ) -> Result<Self, OpenError> {
        options.check()?;
        let opening = Opening {
            files,
            options,
            now,
            seed,
        };
        match superblock::read(files.disk().as_ref())? {
            None => opening.create(machine),
            Some(superblock) => opening.reopen(machine, superblock),
        }
    }
}

struct Opening<'a> {
    files: &'a Files,
    options: Options,
    now: Now,
    seed: Uuid,
}

impl Opening<'_> {
    fn disk(&self) -> &dyn Disk {
        self.files.disk().as_ref()
    }

    fn run(&self, what: &str, actions: &[Action]) -> Result<(), OpenError> {
        run_all(actions, self.files).map_err(|failure| OpenError::io(what)(failure.error))
    }

    fn create<M: Machine, T>(self, mut machine: M) -> Result<Log<M, T>, OpenError> {
        is_vacant(self.disk())?;
        if let Some(rootless) = rootless(self.disk())? {
            return Err(rootless);
        }
        let dirs = [JOURNAL_DIR, SNAPSHOTS_DIR, TOPICS_DIR];
        let mut actions: Vec<_> = dirs
            .iter()
            .map(|dir| Action::MakeDir((*dir).into()))
            .collect();
        actions.push(Action::SyncDir("".into()));
        self.run("make the data folder", &actions)?;
        let found = Found::new();
        let mut fresh = FreshJournal::begin(&self, &found, &Needed::default(), 1, 1)?;
        fresh.epoch(Lsn(1), self.now)?;
        let start = fresh.finish()?;
        let head = start.index.front().copied();
        let mut superblock = Superblock {
            sequence: 0,
            log: self.seed,
            journal: self.seed,
            epoch: 1,
            snapshot: 0,
            head: head.expect("the epoch's entry was written"),
            durable_through: Lsn(1),
            head_bytes: start.current.size_bytes,
        };
        self.run("write the superblocks", &superblock.create())?;
        machine.recovered();
        Ok(Log::new(Recovered {
            store: Store::new(&self.options, 1),
            journal: JournalWriter::new(start, &self.options),
            options: self.options,
            now: self.now,
            machine,
            superblock,
            next: Lsn(2),
            snapshot_lsn: Lsn(0),
            snapshot_bytes: 0,
            clock: AgeClock::new(self.now, None),
            stuck: Vec::new(),
        }))
    }

    fn reopen<M: Machine, T>(
        self,
        mut machine: M,
        old: Superblock,
    ) -> Result<Log<M, T>, OpenError> {
        self.settle_superblocks(&old)?;
        let snapshot = self.snapshot(old.snapshot)?;
        let snapshot_lsn = snapshot.lsn;
        let snapshot_bytes = snapshot.bytes;
        let mut store = Store::new(&self.options, old.epoch);
        for chunk in &snapshot.machine {
            machine.load(chunk)?;
        }
        store.load(&snapshot.table);
        let found = self.journal_files()?;
        let (files, journal) = (&found, old.journal);
        let scanned = self.scan(&Scan { files, journal }, &old)?;

        let needed = Needed::by(old.head.file, &scanned.commits);
        let epoch = scanned
            .commits
            .iter()
            .map(|commit| commit.epoch)
            .fold(old.epoch, u64::max)
            + 1;
        let mut fresh = FreshJournal::begin(&self, &found, &needed, scanned.lap + 1, epoch)?;
        let mut replay = Replay::new(&mut machine, &mut store, snapshot_lsn);
        replay.halves = self.options.has(Fault::HalfAnEntry);
        for header in &scanned.commits {
            let payload = fresh.copy(header)?;
            replay.commit(header, payload)?;
        }
        let mut replayed = replay.finish();
        replayed.gone.extend(snapshot.housekeeping.gone);
        let clock_ms = snapshot.housekeeping.clock_ms.or(replayed.opened_ms);
        fresh.epoch(scanned.next, self.now)?;
        let start = fresh.finish()?;

        let mut superblock = Superblock {
            journal: self.seed,
            epoch,
            head: start
                .index
                .front()
                .copied()
                .expect("the epoch's entry was written"),
            durable_through: scanned.next,
            head_bytes: start.current.size_bytes,
            ..old
        };
        self.run("write the superblocks", &superblock.write())?;
        let folder = Folder { opening: &self };
        let stuck = folder.tidy(&store, &replayed, superblock.snapshot, epoch)?;
        store.set_epoch(epoch);
        store.show();
        machine.recovered();
        Ok(Log::new(Recovered {
            store,
            journal: JournalWriter::new(start, &self.options),
            options: self.options,
            now: self.now,
            machine,
            superblock,
            next: scanned.next.next(),
            snapshot_lsn,
            snapshot_bytes,
            clock: AgeClock::new(self.now, clock_ms),
            stuck,
        }))
    }

    fn scan(&self, scan: &Scan<'_>, block: &Superblock) -> Result<Scanned, OpenError> {
        if self.options.has(Fault::IgnoreWitnesses) {
            return Ok(scan.walk(block.head)?.into());
        }
        scan.run(block)
    }

    fn snapshot(&self, number: u64) -> Result<Snapshot, OpenError> {
        if number == 0 {
            return Ok(Snapshot {
                lsn: Lsn(0),
                bytes: 0,
                machine: Vec::new(),
                table: Vec::new(),
                housekeeping: Housekeeping::default(),
            });
        }
        let path = snapshot_path(number);
        let damaged = |why: String| OpenError::Snapshot {
            path: path.to_string(),
            why,
        };
        let read = || -> std::io::Result<Bytes> {
            let file = self.disk().open(&path)?;
            let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
            read_exact_at(file.as_ref(), 0, length)
        };
        let bytes = read().map_err(|error| match error.kind() {
            ErrorKind::NotFound => damaged("it is missing".to_owned()),
            _ => OpenError::io(format!("read {path}"))(error),
        })?;
        snapshot::decode(bytes).map_err(damaged)
    }

    fn journal_files(&self) -> Result<Found, OpenError> {
        let mut found = Found::new();
        for number in list(self.disk(), JOURNAL_DIR)?
            .iter()
            .filter_map(|name| journal_number(name))
        {
            let path = journal_path(number);
            let file = self
                .disk()
                .open(&path)
                .map_err(OpenError::io(format!("open {path}")))?;
            let size = file.len().map_err(OpenError::io(format!("read {path}")))?;
            found.insert(number, (file, size));
        }
        Ok(found)
    }

    /// Makes the superblock that was read durable, before anything that an older one names is
    /// used again. A killed process may have left it in the page cache alone, and where its sync
    /// had failed, another sync would do nothing: it is written again, in its own place, where
    /// the same bytes cannot be torn.
    /// The second file may be missing, when the first opening ended early: the first must be
    /// durable before the second begins to be.
    fn settle_superblocks(&self, newest: &Superblock) -> Result<(), OpenError> {
        let what = "write the superblock again";
        self.run(what, &newest.rewrite())?;
        for path in superblock::PATHS {
            let path: Arc<str> = path.into();
            match self.disk().open(&path) {
                Ok(file) => file.sync_data().map_err(OpenError::io(what))?,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let sync = Action::SyncDir("".into());
                    self.run(what, &[sync.clone(), Action::Create(path), sync])?;
                }
                Err(error) => return Err(OpenError::io(what)(error)),
            }
        }
        Ok(())
    }
}

/// What is wrong with a disk that has no superblock, and data of a log all the same. What a making
/// that did not end leaves is none.
///
/// # Errors
/// What the disk says.
pub(crate) fn rootless(disk: &dyn Disk) -> Result<Option<OpenError>, OpenError> {
    for dir in [TOPICS_DIR, SNAPSHOTS_DIR, JOURNAL_DIR] {
        let has_data = match dir {
            JOURNAL_DIR => holds_entries(&journal::files(disk)?)?,
            _ => !list(disk, dir)?.is_empty(),
        };
        if has_data {
            let why = format!("both are missing, but {dir}/ has data");
            return Ok(Some(OpenError::Superblock(why)));
        }
    }
    Ok(None)
}

/// The names in a folder; none where there is no folder.
pub(crate) fn list(disk: &dyn Disk, dir: &str) -> Result<Vec<String>, OpenError> {
    match disk.list(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(OpenError::io(format!("list {}", shown(disk, dir)))),
    }
}

/// A folder of a disk for people, who know the top one by its path.
pub(crate) fn shown(disk: &dyn Disk, dir: &str) -> String {
    match (dir, disk.folder()) {
        ("", Some(path)) => path.display().to_string(),
        ("", None) => "the data folder".to_owned(),
        _ => format!("{dir}/"),
    }
}
