//! The account of the journal's files: where the next commit goes, which files are ready, which
//! wait for the head to pass, and where every commit since the head begins.
//!
//! It says what is to be written; it never writes.

use std::collections::VecDeque;
use std::sync::Arc;

use uuid::Uuid;

use super::commit::CommitHeader;
use crate::limits::{BLOCK_BYTES, JOURNAL_OWN_RESERVE_BYTES, JOURNAL_RESERVE_BYTES};
use crate::machine::Lsn;
use crate::options::Options;

/// The folder of journal files.
pub(crate) const JOURNAL_DIR: &str = "journal";

/// The path of a journal file.
pub(crate) fn journal_path(number: u32) -> Arc<str> {
    format!("{JOURNAL_DIR}/{number:010}.journal").into()
}

/// The number of the journal file with this name.
pub(crate) fn journal_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".journal")?;
    (digits.len() == 10).then(|| digits.parse().ok()).flatten()
}

/// A journal file whose bytes were all written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalFile {
    pub(crate) number: u32,
    pub(crate) size_bytes: u64,
}

/// Where scanning begins: a commit, or the place for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: u32,
    pub(crate) lap: u64,
    pub(crate) offset: u64,
    /// The number of the first entry there.
    pub(crate) first: Lsn,
    /// The checksum of the commit before.
    pub(crate) previous_crc: u32,
}

/// A new journal file while it is filled with zeros.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Making {
    pub(crate) file: JournalFile,
    pub(crate) zeroed_bytes: u64,
}

impl Making {
    /// Bytes that are still to be filled.
    pub(crate) fn left_bytes(&self) -> u64 {
        self.file.size_bytes.saturating_sub(self.zeroed_bytes)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct JournalWriter {
    pub(crate) id: Uuid,
    pub(crate) epoch: u64,
    current: JournalFile,
    lap: u64,
    /// The number of this lap's first entry.
    pub(crate) lap_first: Lsn,
    /// The current file's bytes when this lap began.
    lap_bytes: u64,
    position: u64,
    previous_crc: u32,
    /// The last file may hold commits that were not synced.
    pub(crate) unsynced: bool,
    spares: VecDeque<JournalFile>,
    /// Full files that the head has not passed, by lap.
    passed: VecDeque<(u64, JournalFile)>,
    pub(crate) making: Option<Making>,
    /// Files that are to be removed.
    pub(crate) shed: Vec<Arc<str>>,
    next_number: u32,
    next_size_bytes: u64,
    /// Every commit from the head on.
    index: VecDeque<Place>,
    /// Bytes of all files, the one being made included.
    total_bytes: u64,
    /// Bytes of commits from the head on.
    pub(crate) used_bytes: u64,
    /// Bytes of commits since the log was opened.
    pub(crate) written_bytes: u64,
    file_max_bytes: u64,
    max_bytes: u64,
}

/// What recovery hands over.
#[derive(Debug)]
pub(crate) struct JournalStart {
    pub(crate) id: Uuid,
    pub(crate) epoch: u64,
    pub(crate) current: JournalFile,
    pub(crate) lap: u64,
    pub(crate) position: u64,
    pub(crate) previous_crc: u32,
    pub(crate) index: VecDeque<Place>,
    pub(crate) spares: Vec<JournalFile>,
    pub(crate) next_number: u32,
}

/// What to do with a commit that was placed.
#[derive(Debug)]
pub(crate) struct Placed {
    /// The header, without the group's own fields.
    pub(crate) header: CommitHeader,
    pub(crate) path: Arc<str>,
    /// A file that must be synced before.
    pub(crate) sync_first: Option<Arc<str>>,
}

/// Whose commit asks for room: each leaves a reserve to those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// An operation with records.
    Records,
    /// An operation without: settlements live on when publishes are refused.
    Operation,
    /// The log itself: without its new segments nothing leaves the journal.
    Own,
}

impl Asker {
    fn reserve_bytes(self) -> u64 {
        match self {
            Self::Records => JOURNAL_RESERVE_BYTES,
            Self::Operation => JOURNAL_OWN_RESERVE_BYTES,
            Self::Own => 0,
        }
    }
}

/// What waits for a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The commit's bytes, padded.
    pub(crate) bytes: u64,
    /// Whose it is.
    pub(crate) asker: Asker,
}

/// Whether there is room in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Now.
    Yes,
    /// Once a file was made, or the head has moved.
    Later,
    /// Not under the journal's bound.
    Never,
}

impl JournalWriter {
    pub(crate) fn new(start: JournalStart, options: &Options) -> Self {
        let spare_bytes: u64 = start.spares.iter().map(|file| file.size_bytes).sum();
        Self {
            id: start.id,
            epoch: start.epoch,
            current: start.current,
            lap: start.lap,
            lap_first: start.index.front().map_or(Lsn(0), |place| place.first),
            lap_bytes: start.current.size_bytes,
            position: start.position,
            previous_crc: start.previous_crc,
            unsynced: false,
            spares: start.spares.into(),
            passed: VecDeque::new(),
            making: None,
            shed: Vec::new(),
            next_number: start.next_number,
            next_size_bytes: options.journal_file_first_bytes,
            index: start.index,
            total_bytes: spare_bytes + start.current.size_bytes,
            used_bytes: start.position,
            written_bytes: 0,
            file_max_bytes: options.journal_file_max_bytes,
            max_bytes: options.journal_max_bytes,
        }
    }

    /// Whether a commit of `bytes` (padded) has room that nothing else can take. Such a commit
    /// lies in one file, and what is left of a file that it does not fit in is lost.
    pub(crate) fn room(&self, bytes: u64, asker: Asker) -> Room {
        let reserve = asker.reserve_bytes();
        let left = self.current.size_bytes.saturating_sub(self.position);
        let spare: u64 = self.spares.iter().map(|file| file.size_bytes).sum();
        let after = if bytes <= left {
            Some(left - bytes + spare)
        } else if self.spares.iter().any(|file| bytes <= file.size_bytes) {
            Some(spare - bytes)
        } else {
            None
        };
        if after.is_some_and(|after| after >= reserve) {
            Room::Yes
        } else if asker != Asker::Own && bytes + reserve > self.max_bytes {
            Room::Never
        } else {
            Room::Later
        }
    }

    /// The file that is being made. Begins one where something waits for room, or where the
    /// current file is half full and none is ready, and its bound and `budget_bytes`, what the
    /// disk has to spare, allow it.
    ///
    /// What waits goes beyond the bound in two cases, where waiting would never end: the log's
    /// own commits, and a large operation while the current file is the only one. The budget
    /// holds for all but the log's own: for others, the head has to move.
    pub(crate) fn make(&mut self, wanted: Option<Wanted>, budget_bytes: u64) -> Option<Making> {
        if self.making.is_some() {
            return self.making;
        }
        let size_bytes = match wanted {
            None => {
                let soon = self.spares.is_empty() && 2 * self.position > self.current.size_bytes;
                let allowed = self.total_bytes + self.next_size_bytes <= self.max_bytes;
                let allowed = allowed && self.next_size_bytes <= budget_bytes;
                (soon && allowed).then_some(self.next_size_bytes)?
            }
            Some(wanted) => {
                let least = wanted.bytes + JOURNAL_RESERVE_BYTES;
                let least = least.next_multiple_of(BLOCK_BYTES as u64);
                self.size_for(least, wanted.asker, budget_bytes)?
            }
        };
        self.total_bytes += size_bytes;
        let file = JournalFile {
            number: self.next_number,
            size_bytes,
        };
        self.next_number += 1;
        self.next_size_bytes = (2 * self.next_size_bytes).min(self.file_max_bytes);
        self.making = Some(Making {
            file,
            zeroed_bytes: 0,
        });
        self.making
    }

    /// The size of a file of at least `least` bytes that something waits for, if one may be
    /// made now. Ready files that are too small give way.
    fn size_for(&mut self, least: u64, asker: Asker, budget_bytes: u64) -> Option<u64> {
        if asker != Asker::Own && least > budget_bytes {
            return None;
        }
        let usual = self.next_size_bytes.max(least);
        while self.total_bytes + usual > self.max_bytes
            && let Some(file) = self.spares.pop_front_if(|file| file.size_bytes < least)
        {
            self.total_bytes -= file.size_bytes;
            self.shed.push(journal_path(file.number));
        }
        let alone = self.passed.is_empty() && self.spares.is_empty();
        if self.total_bytes + usual <= self.max_bytes && usual <= budget_bytes {
            Some(usual)
        } else if self.total_bytes + least <= self.max_bytes || alone || asker == Asker::Own {
            Some(least)
        } else {
            None
        }
    }

    /// The file being made is given up, for want of space; answers its path, if one was begun.
    pub(crate) fn give_up_making(&mut self) -> Option<Arc<str>> {
        let making = self.making.take()?;
        self.total_bytes -= making.file.size_bytes;
        Some(journal_path(making.file.number))
    }

    /// The file being made has `bytes` more; answers whether it is done.
    pub(crate) fn made(&mut self, bytes: u64) {
        if let Some(making) = &mut self.making {
            making.zeroed_bytes += bytes;
            if making.zeroed_bytes >= making.file.size_bytes {
                self.spares.push_back(making.file);
                self.making = None;
            }
        }
    }

    /// Takes the place for a commit of `bytes` (padded) whose first entry is `first`.
    pub(crate) fn place(&mut self, bytes: u64, first: Lsn, synced_through: Lsn) -> Placed {
        let mut sync_first = None;
        if self.position + bytes > self.current.size_bytes
            && let Some(at) = self.spares.iter().position(|file| bytes <= file.size_bytes)
            && let Some(next) = self.spares.remove(at)
        {
            if self.unsynced {
                sync_first = Some(journal_path(self.current.number));
            }
            self.passed.push_back((self.lap, self.current));
            self.current = next;
            self.lap += 1;
            self.lap_first = first;
            self.lap_bytes = next.size_bytes;
            self.position = 0;
        }
        let place = Place {
            file: self.current.number,
            lap: self.lap,
            offset: self.position,
            first,
            previous_crc: self.previous_crc,
        };
        self.index.push_back(place);
        Placed {
            header: CommitHeader {
                journal: self.id,
                lap: self.lap,
                file: self.current.number,
                offset: self.position,
                first,
                count: 0,
                synced_through,
                previous_crc: self.previous_crc,
                epoch: self.epoch,
                file_bytes: self.lap_bytes,
                length: 0,
            },
            path: self.current_path(),
            sync_first,
        }
    }

    /// The commit that was placed has this length and checksum.
    pub(crate) fn advance(&mut self, bytes: u64, crc: u32) {
        self.position += bytes;
        self.used_bytes += bytes;
        self.written_bytes += bytes;
        self.previous_crc = crc;
        self.unsynced = true;
        let grown = self.position.saturating_sub(self.current.size_bytes);
        self.current.size_bytes += grown;
        self.total_bytes += grown;
    }

    /// The path of the file that commits go to.
    pub(crate) fn current_path(&self) -> Arc<str> {
        journal_path(self.current.number)
    }

    /// Bytes that the file of a lap has durably, from the head's on; 0 for an earlier one.
    pub(crate) fn lap_bytes_of(&self, lap: u64) -> u64 {
        let passed = self.passed.iter().find(|(passed, _)| *passed == lap);
        match passed {
            _ if lap == self.lap => self.lap_bytes,
            Some((_, file)) => file.size_bytes,
            None => 0,
        }
    }

    /// The place from which recovery must read so that it sees entry `lsn`, the next one to be
    /// sealed included.
    pub(crate) fn place_of(&self, lsn: Lsn, next: Lsn) -> Place {
        if lsn < next {
            let after = self.index.partition_point(|place| place.first <= lsn);
            if let Some(place) = after.checked_sub(1).and_then(|at| self.index.get(at)) {
                return *place;
            }
        }
        Place {
            file: self.current.number,
            lap: self.lap,
            offset: self.position,
            first: next,
            previous_crc: self.previous_crc,
        }
    }

    /// The head is durably here: files before it are ready again. Answers those that are too
    /// many and are to be removed.
    pub(crate) fn moved_head(&mut self, head: Place) -> Vec<Arc<str>> {
        while self
            .index
            .front()
            .is_some_and(|place| place.first < head.first)
        {
            self.index.pop_front();
        }
        let mut removed = Vec::new();
        while let Some((_, file)) = self.passed.pop_front_if(|(lap, _)| *lap < head.lap) {
            if self.total_bytes > self.max_bytes {
                self.total_bytes -= file.size_bytes;
                removed.push(journal_path(file.number));
            } else {
                self.spares.push_back(file);
            }
        }
        let passed: u64 = self.passed.iter().map(|(_, file)| file.size_bytes).sum();
        let here: u64 = if head.lap == self.lap {
            self.position - head.offset
        } else {
            (passed + self.position).saturating_sub(head.offset)
        };
        self.used_bytes = here;
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = BLOCK_BYTES as u64;
    fn writer() -> JournalWriter {
        let mut options = Options::default();
        options.journal_file_first_bytes = 64 * BLOCK;
        options.journal_file_max_bytes = 128 * BLOCK;
        options.journal_max_bytes = 400 * BLOCK;
        let current = JournalFile {
            number: 1,
            size_bytes: 64 * BLOCK,
        };
        let start = JournalStart {
            id: Uuid::nil(),
            epoch: 1,
            current,
            lap: 1,
            position: 0,
            previous_crc: 0,
            index: VecDeque::new(),
            spares: Vec::new(),
            next_number: 2,
        };
        JournalWriter::new(start, &options)
    }

    fn commit(writer: &mut JournalWriter, blocks: u64, lsn: u64) -> Placed {
        let placed = writer.place(blocks * BLOCK, Lsn(lsn), Lsn(lsn - 1));
        writer.advance(blocks * BLOCK, lsn as u32);
        placed
    }

    fn records(bytes: u64) -> Option<Wanted> {
        let asker = Asker::Records;
        Some(Wanted { bytes, asker })
    }

    fn make_all(writer: &mut JournalWriter, wanted: Option<Wanted>) -> Option<JournalFile> {
        let making = writer.make(wanted, u64::MAX)?;
        writer.made(making.file.size_bytes);
        Some(making.file)
    }

    #[test]
    fn files_are_made_ahead_each_twice_as_large_and_used_again_when_the_head_has_passed() {
        let mut writer = writer();
        assert!(
            writer.make(None, u64::MAX).is_none(),
            "an empty file needs no other"
        );
        commit(&mut writer, 40, 1);
        let second = make_all(&mut writer, None).unwrap();
        assert_eq!((second.number, second.size_bytes), (2, 64 * BLOCK));
        commit(&mut writer, 20, 2);
        let placed = commit(&mut writer, 30, 3);
        assert_eq!(
            (placed.header.file, placed.header.lap, placed.header.offset),
            (2, 2, 0)
        );
        assert_eq!(placed.header.previous_crc, 2);
        let third = make_all(&mut writer, None);
        assert_eq!(third, None, "the second is not half full");
        commit(&mut writer, 10, 4);
        let third = make_all(&mut writer, None).unwrap();
        assert_eq!((third.number, third.size_bytes), (3, 128 * BLOCK));

        let head = writer.place_of(Lsn(4), Lsn(5));
        assert_eq!(
            (head.file, head.offset, head.first),
            (2, 30 * BLOCK, Lsn(4))
        );
        assert!(writer.moved_head(head).is_empty());
        assert_eq!(writer.used_bytes, 10 * BLOCK);
        let end = writer.place_of(Lsn(5), Lsn(5));
        assert_eq!((end.file, end.offset, end.first), (2, 40 * BLOCK, Lsn(5)));
        commit(&mut writer, 128, 5);
        let again = commit(&mut writer, 60, 6);
        assert_eq!(
            (again.header.file, again.header.lap),
            (1, 4),
            "the first one again"
        );
    }

    #[test]
    fn the_last_room_is_kept_for_operations_without_records() {
        let mut writer = writer();
        commit(&mut writer, 60, 1);
        assert_eq!(writer.room(4 * BLOCK, Asker::Own), Room::Yes);
        assert_eq!(writer.room(4 * BLOCK, Asker::Operation), Room::Later);
        assert_eq!(writer.room(5 * BLOCK, Asker::Own), Room::Later);
        assert_eq!(writer.room(401 * BLOCK, Asker::Operation), Room::Never);
    }

    #[test]
    fn a_large_operation_gets_a_file_that_holds_it_and_small_ready_ones_give_way() {
        let mut writer = writer();
        for _ in 0..3 {
            make_all(&mut writer, records(BLOCK)).unwrap();
        }
        assert_eq!(writer.room(200 * BLOCK, Asker::Records), Room::Later);
        let large = make_all(&mut writer, records(200 * BLOCK)).unwrap();
        assert!(large.size_bytes >= 200 * BLOCK);
        assert!(!writer.shed.is_empty());
        assert!(writer.total_bytes <= 400 * BLOCK);
        let placed = commit(&mut writer, 200, 1);
        assert_eq!(placed.header.file, large.number);
    }
}
