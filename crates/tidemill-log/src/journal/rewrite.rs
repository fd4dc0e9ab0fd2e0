//! Writes commits anew, one after the other into one file of another journal. Entries keep their
//! numbers.
//!
//! It says what is to be written; it never writes.

use bytes::Bytes;
use uuid::Uuid;

use super::commit::{Commit, CommitHeader, padded};
use super::writer::Place;
use crate::machine::Lsn;

/// See the module.
#[derive(Debug)]
pub(crate) struct Rewriter {
    journal: Uuid,
    head: Place,
    end: Place,
    file_bytes: u64,
}

impl Rewriter {
    /// Begins a file with entry `first`; it will have at least `file_bytes`.
    pub(crate) fn new(journal: Uuid, file: u32, lap: u64, first: Lsn, file_bytes: u64) -> Self {
        let head = Place {
            file,
            lap,
            offset: 0,
            first,
            previous_crc: 0,
        };
        Self {
            journal,
            head,
            end: head,
            file_bytes,
        }
    }

    /// A commit that is there already; answers where it goes and its bytes.
    pub(crate) fn commit(&mut self, old: &CommitHeader, payload: &[Bytes]) -> (Place, Vec<Bytes>) {
        self.entries(old.count, old.epoch, payload)
    }

    /// The next `count` entries, of an incarnation; answers where they go and their bytes.
    pub(crate) fn entries(
        &mut self,
        count: u32,
        epoch: u64,
        payload: &[Bytes],
    ) -> (Place, Vec<Bytes>) {
        let place = self.end;
        let length: usize = payload.iter().map(Bytes::len).sum();
        let header = CommitHeader {
            journal: self.journal,
            lap: place.lap,
            file: place.file,
            offset: place.offset,
            first: place.first,
            count,
            // Nothing of it is durable before all of it is; then the superblock says so.
            synced_through: Lsn(self.head.first.0 - 1),
            previous_crc: place.previous_crc,
            epoch,
            file_bytes: self.file_bytes,
            length: u32::try_from(length).expect("commits are bounded"),
        };
        let commit = Commit::new(&header, payload);
        self.end = Place {
            offset: place.offset + padded(length) as u64,
            first: header.next(),
            previous_crc: commit.crc,
            ..place
        };
        (place, commit.pieces)
    }

    /// Where the file begins.
    pub(crate) fn head(&self) -> Place {
        self.head
    }

    /// The place behind the last commit.
    pub(crate) fn end(&self) -> Place {
        self.end
    }
}
