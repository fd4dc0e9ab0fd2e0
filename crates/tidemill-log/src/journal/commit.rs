//! The header of a commit, and how a commit is put together and checked. Layout: `FORMAT.md`.

use bytes::{Buf, BufMut, Bytes};
use uuid::Uuid;

use super::group::Group;
use crate::limits::{BLOCK_BYTES, COMMIT_MAX_BYTES};
use crate::machine::Lsn;

/// Bytes before a commit's entries.
pub(crate) const COMMIT_HEADER_BYTES: usize = 96;
const MAGIC: [u8; 4] = *b"TMJC";
const VERSION: u16 = 0;
/// The checksum covers everything after itself.
const CRC_COVERS_FROM: usize = 8;

/// The fields of a commit's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommitHeader {
    /// The journal since the last opening; commits of older ones are never mistaken.
    pub(crate) journal: Uuid,
    /// Counts the uses of journal files, ascending by one.
    pub(crate) lap: u64,
    /// The file's number, which is its name.
    pub(crate) file: u32,
    /// Where in the file the commit begins, in bytes.
    pub(crate) offset: u64,
    /// The first entry's number.
    pub(crate) first: Lsn,
    /// How many entries there are.
    pub(crate) count: u32,
    /// Every entry up to this one was synced when this commit was written.
    pub(crate) synced_through: Lsn,
    /// The checksum of the commit before, 0 for a journal's first.
    pub(crate) previous_crc: u32,
    /// The incarnation that wrote it.
    pub(crate) epoch: u64,
    /// Bytes that the file had, durably, when its first commit was written.
    pub(crate) file_bytes: u64,
    /// Bytes of entries after the header.
    pub(crate) length: u32,
}

impl CommitHeader {
    /// The number of the entry after this commit.
    pub(crate) fn next(&self) -> Lsn {
        Lsn(self.first.0 + u64::from(self.count))
    }

    /// Header, entries and padding, in bytes.
    pub(crate) fn padded_bytes(&self) -> u64 {
        padded(self.length as usize) as u64
    }

    /// The header's bytes and the whole commit's checksum.
    fn encode(&self, payload: &[Bytes]) -> (Vec<u8>, u32) {
        let mut out = Vec::with_capacity(COMMIT_HEADER_BYTES);
        out.put_slice(&MAGIC);
        out.put_u32_le(0);
        out.put_u16_le(VERSION);
        out.put_u16_le(0);
        out.put_u32_le(self.length);
        out.put_slice(self.journal.as_bytes());
        out.put_u64_le(self.lap);
        out.put_u32_le(self.file);
        out.put_u32_le(self.count);
        out.put_u64_le(self.offset);
        out.put_u64_le(self.first.0);
        out.put_u64_le(self.synced_through.0);
        out.put_u32_le(self.previous_crc);
        out.put_u32_le(0);
        out.put_u64_le(self.epoch);
        out.put_u64_le(self.file_bytes);
        let mut crc = crc32c::crc32c(out.get(CRC_COVERS_FROM..).unwrap_or_default());
        for piece in payload {
            crc = crc32c::crc32c_append(crc, piece);
        }
        for (to, byte) in out.iter_mut().skip(4).zip(crc.to_le_bytes()) {
            *to = byte;
        }
        (out, crc)
    }

    /// Reads a header, without its checksum; `None` where these bytes are none.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<(Self, u32)> {
        if bytes.len() < COMMIT_HEADER_BYTES || !bytes.starts_with(&MAGIC) {
            return None;
        }
        bytes.advance(MAGIC.len());
        let crc = bytes.get_u32_le();
        let version = bytes.get_u16_le();
        let _flags = bytes.get_u16_le();
        let length = bytes.get_u32_le();
        let mut journal = [0; 16];
        bytes.copy_to_slice(&mut journal);
        let lap = bytes.get_u64_le();
        let file = bytes.get_u32_le();
        let count = bytes.get_u32_le();
        let offset = bytes.get_u64_le();
        let first = Lsn(bytes.get_u64_le());
        let synced_through = Lsn(bytes.get_u64_le());
        let previous_crc = bytes.get_u32_le();
        bytes.advance(4);
        let epoch = bytes.get_u64_le();
        let file_bytes = bytes.get_u64_le();
        let sane = version == VERSION
            && length as usize <= COMMIT_MAX_BYTES
            && first.0.checked_add(u64::from(count)).is_some();
        let header = Self {
            journal: Uuid::from_bytes(journal),
            lap,
            file,
            offset,
            first,
            count,
            synced_through,
            previous_crc,
            epoch,
            file_bytes,
            length,
        };
        sane.then_some((header, crc))
    }
}

/// Whether `bytes`, header and entries without padding, are what `crc` was made of.
pub(crate) fn crc_matches(bytes: &[u8], crc: u32) -> bool {
    bytes
        .get(CRC_COVERS_FROM..)
        .is_some_and(|covered| crc32c::crc32c(covered) == crc)
}

/// The bytes that a commit with a payload of `length` takes in the file.
pub(crate) fn padded(length: usize) -> usize {
    (COMMIT_HEADER_BYTES + length).next_multiple_of(BLOCK_BYTES)
}

/// A commit that is ready to be written.
#[derive(Debug)]
pub(crate) struct Commit {
    /// Header, entries, padding.
    pub(crate) pieces: Vec<Bytes>,
    /// Its length in the file.
    pub(crate) padded_bytes: u64,
    /// Its checksum, for the one that follows.
    pub(crate) crc: u32,
}

impl Commit {
    /// Puts a group into a commit. `header` comes without the group's own fields.
    pub(crate) fn of_group(header: CommitHeader, group: &Group) -> Self {
        let length: usize = group.pieces.iter().map(Bytes::len).sum();
        let header = CommitHeader {
            first: group.first,
            count: group.count,
            length: u32::try_from(length).expect("a group is bounded"),
            ..header
        };
        Self::new(&header, &group.pieces)
    }

    /// Puts entries under a header.
    pub(crate) fn new(header: &CommitHeader, payload: &[Bytes]) -> Self {
        static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
        let (bytes, crc) = header.encode(payload);
        let length = header.length as usize;
        let padding = padded(length) - COMMIT_HEADER_BYTES - length;
        let mut pieces = Vec::with_capacity(payload.len() + 2);
        pieces.push(Bytes::from(bytes));
        pieces.extend_from_slice(payload);
        if padding > 0 {
            pieces.push(Bytes::from_static(&ZEROS).slice(..padding));
        }
        Self {
            pieces,
            padded_bytes: header.padded_bytes(),
            crc,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_as_it_was_written() {
        let header = CommitHeader {
            journal: Uuid::from_u128(7),
            lap: 3,
            file: 9,
            offset: 8192,
            first: Lsn(11),
            count: 2,
            synced_through: Lsn(10),
            previous_crc: 77,
            epoch: 4,
            file_bytes: 65_536,
            length: 5,
        };
        let commit = Commit::new(&header, &[Bytes::from_static(b"abcde")]);
        let bytes: Vec<u8> = commit.pieces.concat();
        assert_eq!(bytes.len(), BLOCK_BYTES);
        assert_eq!(commit.padded_bytes, BLOCK_BYTES as u64);
        let (read, crc) = CommitHeader::decode(&bytes).unwrap();
        assert_eq!(read, header);
        assert_eq!(crc, commit.crc);
        let covered = &bytes[..COMMIT_HEADER_BYTES + 5];
        assert!(crc_matches(covered, crc));
        for at in (0..covered.len()).filter(|at| !(4..8).contains(at)) {
            let mut flipped = covered.to_vec();
            flipped[at] ^= 1;
            let refused = at < 4 || !crc_matches(&flipped, crc);
            assert!(refused, "a flip at byte {at} was not seen");
        }
    }
}
