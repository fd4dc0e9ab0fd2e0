//! The fresh journal file of an opening: a copy of the surviving tail under a new journal id,
//! then the entry of the opening. Never in place: that could tear what was acknowledged.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::Opening;
use crate::disk::DiskFile;
use crate::error::OpenError;
use crate::io::Action;
use crate::journal::commit::CommitHeader;
use crate::journal::group::GroupBuilder;
use crate::journal::rewrite::Rewriter;
use crate::journal::scan::{Found, read_payload};
use crate::journal::writer::{JOURNAL_DIR, JournalFile, JournalStart, Place, journal_path};
use crate::limits::BLOCK_BYTES;
use crate::machine::{Lsn, Now};
use crate::options::Fault;

/// Room that a fresh file has behind the tail, so that the first commits need no other.
const ROOM_BYTES: u64 = 16 * BLOCK_BYTES as u64;

/// What an old journal's tail needs.
#[derive(Debug, Default)]
pub(super) struct Needed {
    /// The files that it lies in.
    pub(super) files: HashSet<u32>,
    /// The bytes that a copy takes.
    pub(super) bytes: u64,
}

impl Needed {
    /// What the commits found from the head on take; the head's file is kept even without one.
    pub(super) fn by(head_file: u32, commits: &[CommitHeader]) -> Self {
        let files = commits.iter().map(|commit| commit.file);
        Self {
            files: files.chain([head_file]).collect(),
            bytes: commits.iter().map(CommitHeader::padded_bytes).sum(),
        }
    }
}

/// See the module.
pub(super) struct FreshJournal<'a> {
    opening: &'a Opening<'a>,
    found: &'a Found,
    file: Arc<dyn DiskFile>,
    number: u32,
    size_bytes: u64,
    is_new: bool,
    /// The number of the next file to be made.
    next_number: u32,
    /// Bytes of the file that were written at some time.
    filled_bytes: u64,
    rewriter: Option<Rewriter>,
    lap: u64,
    epoch: u64,
    index: VecDeque<Place>,
}

impl<'a> FreshJournal<'a> {
    /// Begins in a file that the old journal does not need, or in a new one.
    pub(super) fn begin(
        opening: &'a Opening<'a>,
        found: &'a Found,
        needed: &Needed,
        lap: u64,
        epoch: u64,
    ) -> Result<Self, OpenError> {
        let least = needed.bytes + ROOM_BYTES;
        let free = found
            .iter()
            .filter(|(number, _)| !needed.files.contains(number));
        let large = free.filter(|(_, (_, size))| least <= *size);
        let again = large.min_by_key(|(_, (_, size))| *size);
        let next_number = found.keys().next_back().map_or(1, |last| last + 1);
        let number = again.map_or(next_number, |(number, _)| *number);
        let path = journal_path(number);
        let size_bytes = match again {
            Some((_, (_, size))) => size - size % BLOCK_BYTES as u64,
            None => {
                opening.run(&format!("make {path}"), &[Action::Create(path.clone())])?;
                least.max(opening.options.journal_file_first_bytes)
            }
        };
        let file = opening
            .files
            .get(&path)
            .map_err(OpenError::io(format!("open {path}")))?;
        Ok(Self {
            opening,
            found,
            file,
            number,
            size_bytes,
            is_new: again.is_none(),
            next_number: next_number.max(number + 1),
            filled_bytes: 0,
            rewriter: None,
            lap,
            epoch,
            index: VecDeque::new(),
        })
    }

    fn what(&self) -> String {
        format!("write {}", journal_path(self.number))
    }

    /// Copies a commit of the old journal; answers its entries.
    pub(super) fn copy(&mut self, old: &CommitHeader) -> Result<Bytes, OpenError> {
        let payload = read_payload(self.found, old)
            .map_err(OpenError::io(format!("read {}", journal_path(old.file))))?;
        self.write(
            old.first,
            old.count,
            old.epoch,
            std::slice::from_ref(&payload),
        )?;
        Ok(payload)
    }

    /// Writes the entry of this opening, with the number `lsn`.
    pub(super) fn epoch(&mut self, lsn: Lsn, now: Now) -> Result<(), OpenError> {
        let mut group = GroupBuilder::new(lsn);
        group.begin();
        group.epoch(self.epoch, now.wall.as_millisecond());
        group.keep();
        self.write(lsn, 1, self.epoch, &group.finish().pieces)
    }

    fn write(
        &mut self,
        first: Lsn,
        count: u32,
        epoch: u64,
        payload: &[Bytes],
    ) -> Result<(), OpenError> {
        let (seed, number, lap) = (self.opening.seed, self.number, self.lap);
        let size_bytes = self.size_bytes;
        let rewriter = self
            .rewriter
            .get_or_insert_with(|| Rewriter::new(seed, number, lap, first, size_bytes));
        let (place, pieces) = rewriter.entries(count, epoch, payload);
        self.filled_bytes = rewriter.end().offset;
        self.file
            .write_at(place.offset, &pieces)
            .map_err(OpenError::io(self.what()))?;
        self.index.push_back(place);
        Ok(())
    }

    /// Fills the rest with zeros and makes the file durable.
    pub(super) fn finish(self) -> Result<JournalStart, OpenError> {
        let zeros = Bytes::from(vec![0; 16 * BLOCK_BYTES]);
        let mut at = self.filled_bytes;
        let zero = |at: u64| -> io::Result<u64> {
            let length = (self.size_bytes - at).min(zeros.len() as u64);
            self.file.write_at(at, &[zeros.slice(..length as usize)])?;
            Ok(at + length)
        };
        while self.is_new && at < self.size_bytes {
            at = zero(at).map_err(OpenError::io(self.what()))?;
        }
        if !self.opening.options.has(Fault::TrustPageCache) {
            self.file.sync_data().map_err(OpenError::io(self.what()))?;
        }
        let sync = Action::SyncDir(JOURNAL_DIR.into());
        if !self.opening.options.has(Fault::SkipFreshName) {
            self.opening.run(&self.what(), &[sync])?;
        }
        let rewriter = self.rewriter.expect("the epoch's entry was written");
        // Their lengths too: the first commit in one of them says how long it is.
        for (number, (file, _)) in self.found {
            let what = format!("sync {}", journal_path(*number));
            file.sync_data().map_err(OpenError::io(what))?;
        }
        let others = self
            .found
            .iter()
            .filter(|(number, _)| **number != self.number);
        let spares = others.filter(|(_, (_, size))| *size >= ROOM_BYTES);
        let spares = spares.map(|(number, (_, size))| JournalFile {
            number: *number,
            size_bytes: size - size % BLOCK_BYTES as u64,
        });
        Ok(JournalStart {
            id: self.opening.seed,
            epoch: self.epoch,
            current: JournalFile {
                number: self.number,
                size_bytes: self.size_bytes.max(self.filled_bytes),
            },
            lap: self.lap,
            position: self.filled_bytes,
            previous_crc: rewriter.end().previous_crc,
            index: self.index,
            spares: spares.collect(),
            next_number: self.next_number,
        })
    }
}
