//! Takes a backup of a pinned moment.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::manifest::{Entry, MANIFEST, Manifest};
use super::{BackupError, Pinned, begin, copy, is_outside, root};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::inspect::Progress;
use crate::inspect::journal::files as journal_files;
use crate::inspect::snapshot::{self, Chunk};
use crate::journal::commit::CommitHeader;
use crate::journal::entry::{Part, decode};
use crate::journal::rewrite::Rewriter;
use crate::journal::scan::{Scan, read_payload};
use crate::journal::writer::{JOURNAL_DIR, journal_path};
use crate::limits::BLOCK_BYTES;
use crate::machine::{Lsn, PartitionId};
use crate::recovery::shown;
use crate::segment::sidecar::LINE_BYTES;
use crate::segment::{Kept, Segment, TOPICS_DIR, partition_dir, topic_dir};
use crate::snapshot::{SNAPSHOTS_DIR, TableEntry, snapshot_path};
use crate::superblock::Superblock;

/// The only journal file of a backup.
const JOURNAL_FILE: u32 = 1;

/// How a backup is taken.
pub struct Taking<'a> {
    /// When it is taken; its manifest says so.
    pub taken: Timestamp,
    /// Names the journal of the backup: must never be used again.
    pub seed: Uuid,
    /// Whether files that never change again may share their bytes with the log's
    /// ([`Disk::link_from`]), where the disks can do that.
    pub link: bool,
    /// Is told how far it is.
    pub watch: &'a mut dyn FnMut(Progress<'_>),
}

/// A backup that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// Files, the manifest not counted.
    pub files: u64,
    /// How many of them share their bytes with the log's.
    pub linked_files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// The last entry of the journal that is in it.
    pub through: Lsn,
}

/// Takes a backup of a moment of the log on `from` into the empty disk `to`. `loosen` is called
/// once the log's head may move again: from then on the files of segments alone are needed.
///
/// # Errors
/// [`BackupError`]; what is in `to` then is refused by [`super::restore()`] and by an opening.
pub fn take(
    from: &dyn Disk,
    pinned: &Pinned,
    to: &dyn Disk,
    how: Taking<'_>,
    loosen: &mut dyn FnMut(),
) -> Result<BackedUp, BackupError> {
    is_outside(to, from)?;
    let _lock = begin(to)?;
    let mut backup = Backup {
        from,
        to,
        pinned,
        how,
        entries: Vec::new(),
        swaps: Vec::new(),
        copied: BTreeSet::new(),
        linked_files: 0,
        done_bytes: 0,
        total_bytes: 0,
    };
    let table = backup.snapshot()?;
    let superblock = backup.journal()?;
    loosen();
    backup.segments(&table)?;
    backup.end(superblock)
}

/// One backup while it is taken.
struct Backup<'a, 'w> {
    from: &'a dyn Disk,
    to: &'a dyn Disk,
    pinned: &'a Pinned,
    how: Taking<'w>,
    entries: Vec<Entry>,
    /// Segments that compactions have written since the snapshot.
    swaps: Vec<(PartitionId, Kept)>,
    /// Files of segments that are in the backup.
    copied: BTreeSet<Arc<str>>,
    linked_files: u64,
    done_bytes: u64,
    total_bytes: u64,
}

impl Backup<'_, '_> {
    fn copied(&mut self, path: &str, bytes: u64) {
        self.done_bytes += bytes;
        self.total_bytes = self.total_bytes.max(self.done_bytes);
        (self.how.watch)(Progress {
            file: path,
            done_bytes: self.done_bytes,
            total_bytes: self.total_bytes,
        });
    }

    /// A folder of the target for people.
    fn named(&self, dir: &str) -> String {
        match dir {
            "" => shown(self.to, dir),
            _ => format!("{dir}/ of the target"),
        }
    }

    fn sync_dir(&self, dir: &str) -> Result<(), BackupError> {
        let what = format!("make the names in {} durable", self.named(dir));
        self.to.sync_dir(dir).map_err(BackupError::io(what))
    }

    /// Copies the snapshot, and reads its table.
    fn snapshot(&mut self) -> Result<Vec<TableEntry>, BackupError> {
        let number = self.pinned.superblock.snapshot;
        let mut table = Vec::new();
        if number > 0 {
            let path = snapshot_path(number);
            let entry = copy::copy(self.from, self.to, &path, u64::MAX, |_| {})
                .map_err(BackupError::io(format!("copy {path}")))?;
            // What was copied is what is read.
            let read = snapshot::read(self.to, number, |_, chunk| {
                if let Chunk::Table(entries) = chunk {
                    table.extend(entries);
                }
                true
            });
            read.map_err(|(_, why)| BackupError::Damaged {
                file: path.to_string(),
                why: format!("{why}; restore the log from an older backup"),
            })?;
            self.total_bytes = entry.size_bytes + segment_bytes(&table);
            self.copied(&path, entry.size_bytes);
            self.entries.push(entry);
        }
        self.sync_dir(SNAPSHOTS_DIR)?;
        Ok(table)
    }

    /// Writes the journal's commits anew, into one file; answers what the superblocks are to
    /// say.
    fn journal(&mut self) -> Result<Superblock, BackupError> {
        let old = self.pinned.superblock;
        let through = self.pinned.through;
        let found = journal_files(self.from)?;
        let scan = Scan {
            files: &found,
            journal: old.journal,
        };
        let mut commits = scan.walk(old.head)?.commits;
        commits.retain(|commit| commit.next() <= through.next());
        let size_bytes: u64 = commits.iter().map(|commit| commit.padded_bytes()).sum();
        self.total_bytes += size_bytes;
        let reached = commits.last().map_or(old.head.first, |last| last.next());
        if reached != through.next() {
            return Err(BackupError::Damaged {
                file: journal_path(old.head.file).to_string(),
                why: format!("entries from {reached} to {through} are not readable"),
            });
        }
        let path = journal_path(JOURNAL_FILE);
        let wrong = || BackupError::io(format!("write {path} of the target"));
        let file = self.to.create(&path).map_err(wrong())?;
        let first = commits.first().map_or(reached, |commit| commit.first);
        let mut rewriter = Rewriter::new(self.how.seed, JOURNAL_FILE, 1, first, size_bytes);
        let mut crc = 0;
        let mut write = |at: u64, pieces: &[Bytes]| -> io::Result<()> {
            for piece in pieces {
                crc = crc32c::crc32c_append(crc, piece);
            }
            file.write_at(at, pieces)
        };
        for header in &commits {
            let payload = read_payload(&found, header).map_err(BackupError::io(format!(
                "read {}",
                journal_path(header.file)
            )))?;
            self.learn(header, payload.clone())?;
            let payload = [payload];
            let (place, pieces) = rewriter.commit(header, &payload);
            write(place.offset, &pieces).map_err(wrong())?;
            self.copied(&path, header.padded_bytes());
        }
        let mut end = rewriter.end().offset;
        if end == 0 {
            // A file without a block would be none.
            write(0, &[Bytes::from(vec![0; BLOCK_BYTES])]).map_err(wrong())?;
            end = BLOCK_BYTES as u64;
        }
        file.sync_data().map_err(wrong())?;
        self.sync_dir(JOURNAL_DIR)?;
        self.entries.push(Entry {
            path: path.to_string(),
            size_bytes: end,
            crc,
        });
        Ok(Superblock {
            journal: self.how.seed,
            head: rewriter.head(),
            durable_through: through,
            head_bytes: end,
            ..old
        })
    }

    /// Notes the segments that a commit names beside those of the snapshot.
    fn learn(&mut self, header: &CommitHeader, payload: Bytes) -> Result<(), BackupError> {
        let swaps = &mut self.swaps;
        let read = decode(payload, header.count, header.first, |_, parts| {
            for part in parts {
                if let Part::SegmentSwap { id, swap } = part {
                    swaps.extend(swap.new.map(|new| (id, new)));
                }
            }
            Ok(())
        });
        read.map_err(|(lsn, why)| OpenError::Entry { lsn, why }.into())
    }

    /// Links or copies what the snapshot, and compactions since, name.
    fn segments(&mut self, table: &[TableEntry]) -> Result<(), BackupError> {
        let mut topics = BTreeSet::new();
        let swaps = std::mem::take(&mut self.swaps);
        for entry in table {
            let dir = partition_dir(entry.id);
            self.to
                .make_dir(&dir)
                .map_err(BackupError::io(format!("make {dir}/ in the target")))?;
            for (index, kept) in entry.segments.iter().enumerate() {
                let is_last = index + 1 == entry.segments.len();
                self.segment(&Segment::kept(entry.id, kept), is_last)?;
            }
            for (_, kept) in swaps.iter().filter(|(id, _)| *id == entry.id) {
                self.segment(&Segment::kept(entry.id, kept), false)?;
            }
            self.sync_dir(&dir)?;
            topics.insert(topic_dir(entry.id));
        }
        for dir in &topics {
            self.sync_dir(dir)?;
        }
        self.sync_dir(TOPICS_DIR)
    }

    fn segment(&mut self, segment: &Segment, is_last: bool) -> Result<(), BackupError> {
        let sum_bytes = u64::from(segment.synced.lines) * LINE_BYTES as u64;
        self.file(&segment.log_path, segment.synced.bytes, is_last)?;
        self.file(&segment.sum_path, sum_bytes, is_last)
    }

    /// Links or copies one file of a segment. The last segment of a partition is written to, so
    /// it is copied. A missing file was deleted by the journal's entries, or is damage that a
    /// verification of the backup names.
    fn file(&mut self, path: &Arc<str>, bytes: u64, is_last: bool) -> Result<(), BackupError> {
        if !self.copied.insert(path.clone()) {
            // The snapshot names it, and so does a swap in the journal before it.
            return Ok(());
        }
        let what = || BackupError::io(format!("copy {path}"));
        let whole = match self.from.open(path).and_then(|file| file.len()) {
            Ok(len) => len == bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(what()(error)),
        };
        let link = self.how.link && whole && !is_last;
        let entry = if link && self.to.link_from(path, self.from).is_ok() {
            self.linked_files += 1;
            copy::read(self.from, path, bytes, |_| Ok(())).map_err(what())?
        } else {
            copy::copy(self.from, self.to, path, bytes, |_| {}).map_err(what())?
        };
        self.copied(path, entry.size_bytes);
        self.entries.push(entry);
        Ok(())
    }

    /// The superblocks, and last of all the manifest.
    fn end(mut self, superblock: Superblock) -> Result<BackedUp, BackupError> {
        for (path, bytes) in root(self.to, superblock)? {
            self.entries.push(Entry {
                path: path.to_owned(),
                size_bytes: bytes.len() as u64,
                crc: crc32c::crc32c(&bytes),
            });
        }
        self.sync_dir("")?;
        let done = BackedUp {
            files: self.entries.len() as u64,
            linked_files: self.linked_files,
            bytes: self.entries.iter().map(|entry| entry.size_bytes).sum(),
            through: self.pinned.through,
        };
        let manifest = Manifest {
            log: superblock.log,
            epoch: superblock.epoch,
            through: self.pinned.through,
            taken: self.how.taken,
            entries: std::mem::take(&mut self.entries),
        };
        let text = Bytes::from(manifest.encode());
        let write = || -> io::Result<()> {
            let file = self.to.create(MANIFEST)?;
            file.write_at(0, &[text])?;
            file.sync_data()?;
            self.to.sync_dir("")
        };
        write().map_err(BackupError::io(format!("write {MANIFEST}")))?;
        Ok(done)
    }
}

fn segment_bytes(table: &[TableEntry]) -> u64 {
    let kept = table.iter().flat_map(|entry| &entry.segments);
    kept.map(|kept| kept.at.bytes + u64::from(kept.at.lines) * LINE_BYTES as u64)
        .sum()
}
