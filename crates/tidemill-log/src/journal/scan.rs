//! Reads a journal from its head to its end, and tells a torn end from damage.
//!
//! A bad commit whose first entry is x is *damage* where a later valid commit has
//! `synced_through` >= x, or the superblock says that x was durable; else it is a *torn end*:
//! un-synced blocks reach the media in any order, so something valid behind proves nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::commit::{COMMIT_HEADER_BYTES, CommitHeader, crc_matches};
use super::writer::{Place, journal_path};
use crate::disk::{DiskFile, read_exact_at};
use crate::error::OpenError;
use crate::limits::BLOCK_BYTES;
use crate::machine::Lsn;
use crate::superblock::Superblock;

/// Bytes that are read at once where every block is looked at.
const SCAN_PIECE_BYTES: usize = 64 * BLOCK_BYTES;

/// The journal files that were found, by number.
pub(crate) type Found = BTreeMap<u32, (Arc<dyn DiskFile>, u64)>;

/// What a scan found.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// Every whole commit in order.
    pub(crate) commits: Vec<CommitHeader>,
    /// The number of the first entry that is not there.
    pub(crate) next: Lsn,
    /// The highest lap that a whole commit of the journal has.
    pub(crate) lap: u64,
}

/// How far the chain reaches.
#[derive(Debug)]
pub(crate) struct Walked {
    /// Every whole commit in order.
    pub(crate) commits: Vec<CommitHeader>,
    /// The first place that is not in the chain.
    pub(crate) end: Place,
}

/// Where nothing is said about what lies behind it.
impl From<Walked> for Scanned {
    fn from(walked: Walked) -> Self {
        Self {
            commits: walked.commits,
            next: walked.end.first,
            lap: walked.end.lap,
        }
    }
}

/// A journal's files, for one scan.
pub(crate) struct Scan<'a> {
    pub(crate) files: &'a Found,
    pub(crate) journal: Uuid,
}

impl Scan<'_> {
    /// Reads from the head on that a superblock names.
    ///
    /// # Errors
    /// [`OpenError::JournalDamaged`], [`OpenError::JournalCut`], [`OpenError::JournalMissing`],
    /// and what the disk says.
    pub(crate) fn run(&self, block: &Superblock) -> Result<Scanned, OpenError> {
        let Walked { commits, end } = self.walk(block.head)?;
        let behind = self.behind(end)?;
        if let Some(short) = self.short(block, commits.iter().chain(&behind)) {
            return Err(short);
        }
        let synced = behind.iter().map(|commit| commit.synced_through).max();
        match synced.max(Some(block.durable_through)) {
            Some(durable) if durable >= end.first => Err(OpenError::JournalDamaged {
                lsn: end.first,
                durable,
                file: journal_path(end.file).to_string(),
                offset: end.offset,
            }),
            _ => Ok(Walked { commits, end }.into()),
        }
    }

    /// A file that has fewer bytes than its commits or the superblock say: it was cut, and nobody
    /// knows how much was in it.
    pub(crate) fn short<'a>(
        &self,
        block: &Superblock,
        commits: impl Iterator<Item = &'a CommitHeader>,
    ) -> Option<OpenError> {
        let lengths = commits.map(|commit| (commit.file, commit.file_bytes));
        let mut lengths = lengths.chain([(block.head.file, block.head_bytes)]);
        lengths.find_map(|(number, expected)| {
            let (_, found) = self.files.get(&number)?;
            (*found < expected).then(|| OpenError::JournalCut {
                file: journal_path(number).to_string(),
                found: *found,
                expected,
            })
        })
    }

    /// Follows the chain from `head` on.
    ///
    /// # Errors
    /// [`OpenError::JournalMissing`], and what the disk says.
    pub(crate) fn walk(&self, head: Place) -> Result<Walked, OpenError> {
        if !self.files.contains_key(&head.file) {
            return Err(OpenError::JournalMissing(
                journal_path(head.file).to_string(),
            ));
        }
        let mut commits = Vec::new();
        let mut end = head;
        loop {
            let found = match self.commit(end)? {
                Some(header) => Some(header),
                None => self.next_file(end)?,
            };
            let Some((header, crc)) = found else { break };
            end = Place {
                file: header.file,
                lap: header.lap,
                offset: header.offset + header.padded_bytes(),
                first: header.next(),
                previous_crc: crc,
            };
            commits.push(header);
        }
        Ok(Walked { commits, end })
    }

    /// The commit that continues in the file of the next lap.
    fn next_file(&self, at: Place) -> Result<Option<(CommitHeader, u32)>, OpenError> {
        for number in self.files.keys() {
            let place = Place {
                file: *number,
                lap: at.lap + 1,
                offset: 0,
                ..at
            };
            if let Some(found) = self.commit(place)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The whole, valid commit at exactly this place of the chain.
    fn commit(&self, at: Place) -> Result<Option<(CommitHeader, u32)>, OpenError> {
        let Some((file, size)) = self.files.get(&at.file) else {
            return Ok(None);
        };
        let found = self.valid_at(file.as_ref(), *size, at.file, at.offset)?;
        Ok(found.filter(|(header, _)| {
            header.lap == at.lap
                && header.first == at.first
                && header.previous_crc == at.previous_crc
        }))
    }

    /// Whether this header's commit lies whole where it says.
    pub(crate) fn is_whole(&self, header: &CommitHeader) -> Result<bool, OpenError> {
        let Some((file, size)) = self.files.get(&header.file) else {
            return Ok(false);
        };
        let found = self.valid_at(file.as_ref(), *size, header.file, header.offset)?;
        Ok(found.is_some_and(|(found, _)| found == *header))
    }

    /// The whole, valid commit of this journal at a place of a file, whatever its lap.
    fn valid_at(
        &self,
        file: &dyn DiskFile,
        size: u64,
        number: u32,
        offset: u64,
    ) -> Result<Option<(CommitHeader, u32)>, OpenError> {
        if offset + COMMIT_HEADER_BYTES as u64 > size {
            return Ok(None);
        }
        let read = |len| {
            read_exact_at(file, offset, len)
                .map_err(OpenError::io(format!("read {}", journal_path(number))))
        };
        let head = read(COMMIT_HEADER_BYTES)?;
        let Some((header, crc)) = CommitHeader::decode(&head) else {
            return Ok(None);
        };
        let length = COMMIT_HEADER_BYTES + header.length as usize;
        let here = header.journal == self.journal
            && header.file == number
            && header.offset == offset
            && offset + length as u64 <= size;
        Ok((here && crc_matches(&read(length)?, crc)).then_some((header, crc)))
    }

    /// The valid commits behind `at`, in no order: in the rest of its file, and in every other
    /// file that may have been begun after it.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn behind(&self, at: Place) -> Result<Vec<CommitHeader>, OpenError> {
        let mut found = Vec::new();
        for (number, (file, size)) in self.files {
            let here = *number == at.file;
            if here || self.may_be_behind(file.as_ref(), *size, *number, at.lap)? {
                let from = if here { at.offset } else { 0 };
                let valid = |commit: &CommitHeader| {
                    if commit.lap >= at.lap {
                        found.push(*commit);
                    }
                };
                self.valid_in(file.as_ref(), *size, *number, from, valid)?;
            }
        }
        Ok(found)
    }

    /// Whether a file may hold commits of a later lap. A file's first commit is written, and
    /// synced under the policy of every commit, before its second: so a first block of zeros,
    /// of another journal or of an earlier lap says that there are none.
    fn may_be_behind(
        &self,
        file: &dyn DiskFile,
        size: u64,
        number: u32,
        lap: u64,
    ) -> Result<bool, OpenError> {
        if size < BLOCK_BYTES as u64 {
            return Ok(false);
        }
        let block = read_exact_at(file, 0, BLOCK_BYTES)
            .map_err(OpenError::io(format!("read {}", journal_path(number))))?;
        let unused = match CommitHeader::decode(&block) {
            Some((header, _)) => header.journal != self.journal || header.lap < lap,
            None => block.iter().all(|byte| *byte == 0),
        };
        Ok(!unused)
    }

    /// Every valid commit of this journal that begins at a block of a file, from a place on.
    pub(crate) fn valid_in(
        &self,
        file: &dyn DiskFile,
        size: u64,
        number: u32,
        from: u64,
        mut each: impl FnMut(&CommitHeader),
    ) -> Result<(), OpenError> {
        let mut buf = vec![0; SCAN_PIECE_BYTES];
        let mut piece = from;
        while piece < size {
            let read = file
                .read_at(piece, &mut buf)
                .map_err(OpenError::io(format!("read {}", journal_path(number))))?;
            let whole = buf.get(..read).unwrap_or_default();
            for (offset, block) in (piece..)
                .step_by(BLOCK_BYTES)
                .zip(whole.chunks(BLOCK_BYTES))
            {
                let header = CommitHeader::decode(block);
                let ours = header.is_some_and(|(header, _)| header.journal == self.journal);
                if ours && let Some((header, _)) = self.valid_at(file, size, number, offset)? {
                    each(&header);
                }
            }
            piece += SCAN_PIECE_BYTES as u64;
        }
        Ok(())
    }
}

/// Whether the files hold more than what the making of a log writes before its first superblock:
/// a commit behind the first entry, of whatever journal.
///
/// # Errors
/// What the disk says.
pub(crate) fn holds_entries(files: &Found) -> Result<bool, OpenError> {
    let mut buf = vec![0; BLOCK_BYTES];
    for (number, (file, size)) in files {
        for offset in (0..*size).step_by(BLOCK_BYTES) {
            let read = file
                .read_at(offset, &mut buf)
                .map_err(OpenError::io(format!("read {}", journal_path(*number))))?;
            let block = buf.get(..read).unwrap_or_default();
            let Some((header, _)) = CommitHeader::decode(block) else {
                continue;
            };
            let journal = header.journal;
            let scan = Scan { files, journal };
            if header.next() > Lsn(2) && scan.is_whole(&header)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The entries of a commit that a scan has found, checked again.
pub(crate) fn read_payload(files: &Found, header: &CommitHeader) -> io::Result<Bytes> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "the file is gone");
    let (file, _) = files.get(&header.file).ok_or_else(missing)?;
    let length = COMMIT_HEADER_BYTES + header.length as usize;
    let bytes = read_exact_at(file.as_ref(), header.offset, length)?;
    match CommitHeader::decode(&bytes) {
        Some((again, crc)) if again == *header && crc_matches(&bytes, crc) => {
            Ok(bytes.slice(COMMIT_HEADER_BYTES..))
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the journal reads differently the second time",
        )),
    }
}
