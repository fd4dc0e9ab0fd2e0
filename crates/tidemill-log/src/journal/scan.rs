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

/// A journal's files, for one scan.
pub(crate) struct Scan<'a> {
    pub(crate) files: &'a Found,
    pub(crate) journal: Uuid,
}

impl Scan<'_> {
    /// Reads from `head` on. `durable_through` is what the superblock knows to be durable.
    ///
    /// # Errors
    /// [`OpenError::JournalDamaged`], [`OpenError::JournalMissing`], and what the disk says.
    pub(crate) fn run(&self, head: Place, durable_through: Lsn) -> Result<Scanned, OpenError> {
        if !self.files.contains_key(&head.file) {
            return Err(OpenError::JournalMissing(
                journal_path(head.file).to_string(),
            ));
        }
        let mut commits = Vec::new();
        let mut at = head;
        loop {
            let found = match self.commit(at)? {
                Some(header) => Some(header),
                None => self.next_file(at)?,
            };
            let Some((header, crc)) = found else { break };
            at = Place {
                file: header.file,
                lap: header.lap,
                offset: header.offset + header.padded_bytes(),
                first: header.next(),
                previous_crc: crc,
            };
            commits.push(header);
        }
        let behind = self.durable_behind(at)?.max(Some(durable_through));
        match behind {
            Some(durable) if durable >= at.first => Err(OpenError::JournalDamaged {
                lsn: at.first,
                durable,
                file: journal_path(at.file).to_string(),
                offset: at.offset,
            }),
            _ => Ok(Scanned {
                commits,
                next: at.first,
                lap: at.lap,
            }),
        }
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

    /// The highest `synced_through` of a valid commit behind `at`: in the rest of its file, and
    /// in every other file that may have been begun after it.
    fn durable_behind(&self, at: Place) -> Result<Option<Lsn>, OpenError> {
        let mut durable = None;
        for (number, (file, size)) in self.files {
            let here = *number == at.file;
            if here || self.may_be_behind(file.as_ref(), *size, *number, at.lap)? {
                let from = if here { at.offset } else { 0 };
                let found = self.durable_in(file.as_ref(), *size, *number, from, at.lap)?;
                durable = durable.max(found);
            }
        }
        Ok(durable)
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

    fn durable_in(
        &self,
        file: &dyn DiskFile,
        size: u64,
        number: u32,
        from: u64,
        lap: u64,
    ) -> Result<Option<Lsn>, OpenError> {
        let mut durable = None;
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
                if ours
                    && let Some((header, _)) = self.valid_at(file, size, number, offset)?
                    && header.lap >= lap
                {
                    durable = durable.max(Some(header.synced_through));
                }
            }
            piece += SCAN_PIECE_BYTES as u64;
        }
        Ok(durable)
    }
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
