//! The root of trust: two small files, written in turn, each of which alone says where
//! everything begins. Layout: `FORMAT.md`.

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use uuid::Uuid;

use crate::disk::Disk;
use crate::error::OpenError;
use crate::io::Action;
use crate::journal::writer::Place;
use crate::limits::BLOCK_BYTES;
use crate::machine::Lsn;

/// The format that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The formats that a program reads. All of them have the layout that is written today; one
/// with another layout gets its own arm in [`Superblock::decode`].
#[derive(Clone, Copy, Debug)]
struct Reads {
    oldest: u32,
    newest: u32,
}

/// Version 0 is what was written before the format was settled; its last state is version 1, and an
/// opening writes it as that.
const READS: Reads = Reads {
    oldest: 0,
    newest: FORMAT_VERSION,
};

const MAGIC: [u8; 8] = *b"TIDEMILL";
pub(crate) const PATHS: [&str; 2] = ["superblock.0", "superblock.1"];
/// Where the checksum lies; it covers everything before and after itself, in every version.
const CRC_AT: usize = 12;
const CRC_BYTES: usize = 4;

/// What a superblock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    /// Of two valid ones, the higher counts.
    pub(crate) sequence: u64,
    /// The log's identity, for good.
    pub(crate) log: Uuid,
    /// The journal since the last opening.
    pub(crate) journal: Uuid,
    /// The incarnation: counts the openings.
    pub(crate) epoch: u64,
    /// The newest snapshot; 0 for none.
    pub(crate) snapshot: u64,
    /// Where the journal's head is.
    pub(crate) head: Place,
    /// Every entry up to this one was synced when this was written.
    pub(crate) durable_through: Lsn,
    /// Bytes that the head's file has at least.
    pub(crate) head_bytes: u64,
}

impl Superblock {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(BLOCK_BYTES);
        out.put_slice(&MAGIC);
        out.put_u32_le(FORMAT_VERSION);
        out.put_u32_le(0);
        out.put_u64_le(self.sequence);
        out.put_slice(self.log.as_bytes());
        out.put_slice(self.journal.as_bytes());
        out.put_u64_le(self.epoch);
        out.put_u64_le(self.snapshot);
        out.put_u64_le(self.head.lap);
        out.put_u64_le(self.head.offset);
        out.put_u64_le(self.head.first.0);
        out.put_u32_le(self.head.file);
        out.put_u32_le(self.head.previous_crc);
        out.put_u64_le(self.durable_through.0);
        out.put_u64_le(self.head_bytes);
        out.resize(BLOCK_BYTES, 0);
        let crc = checksum(&out);
        for (to, byte) in out.iter_mut().skip(CRC_AT).zip(crc.to_le_bytes()) {
            *to = byte;
        }
        Bytes::from(out)
    }

    /// Reads a superblock's bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        Self::decode_as(bytes, READS)
    }

    fn decode_as(bytes: &[u8], reads: Reads) -> Result<Self, Refused> {
        let whole = bytes.len() == BLOCK_BYTES && bytes.starts_with(&MAGIC);
        let mut rest = bytes.get(MAGIC.len()..).unwrap_or_default();
        if !whole {
            return Err(Refused::Unreadable);
        }
        let version = rest.get_u32_le();
        if rest.get_u32_le() != checksum(bytes) {
            return Err(Refused::Unreadable);
        }
        if version > reads.newest {
            return Err(Refused::Newer(version));
        }
        if version < reads.oldest {
            return Err(Refused::Older(version));
        }
        let uuid = |rest: &mut &[u8]| {
            let mut bytes = [0; 16];
            rest.copy_to_slice(&mut bytes);
            Uuid::from_bytes(bytes)
        };
        let sequence = rest.get_u64_le();
        let log = uuid(&mut rest);
        let journal = uuid(&mut rest);
        let epoch = rest.get_u64_le();
        let snapshot = rest.get_u64_le();
        let lap = rest.get_u64_le();
        let offset = rest.get_u64_le();
        let first = Lsn(rest.get_u64_le());
        let file = rest.get_u32_le();
        let previous_crc = rest.get_u32_le();
        let durable_through = Lsn(rest.get_u64_le());
        let head_bytes = rest.get_u64_le();
        let head = Place {
            file,
            lap,
            offset,
            first,
            previous_crc,
        };
        Ok(Self {
            sequence,
            log,
            journal,
            epoch,
            snapshot,
            head,
            durable_through,
            head_bytes,
        })
    }

    /// What makes this the newest superblock, in both files: the next number in its own turn
    /// and the one after that in the other, so that one damaged file is never a loss. After
    /// the first of them is durable, nothing that only the older one names is needed.
    pub(crate) fn write(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for _ in PATHS {
            self.sequence += 1;
            let path: Arc<str> = path_of(self.sequence).into();
            actions.push(Action::Write {
                path: path.clone(),
                position: 0,
                pieces: vec![self.encode()],
            });
            actions.push(Action::Sync(path));
        }
        actions
    }

    /// What makes this superblock, which was read, durable in its own place.
    pub(crate) fn rewrite(&self) -> Vec<Action> {
        let path: Arc<str> = path_of(self.sequence).into();
        let write = Action::Write {
            path: path.clone(),
            position: 0,
            pieces: vec![self.encode()],
        };
        vec![write, Action::Sync(path), Action::SyncDir("".into())]
    }

    /// As [`Superblock::write`] for a new log, whose files are not there yet. The second one
    /// begins to be when the first is durable.
    pub(crate) fn create(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for action in self.write() {
            if let Action::Write { path, .. } = &action {
                actions.push(Action::Create(path.clone()));
            }
            let sync = action.is_sync();
            actions.push(action);
            if sync {
                actions.push(Action::SyncDir("".into()));
            }
        }
        actions
    }
}

pub(crate) fn path_of(sequence: u64) -> &'static str {
    let [even, odd] = PATHS;
    // A new log's first number is 1, and its file is the first one.
    if sequence % 2 == 1 { even } else { odd }
}

fn checksum(bytes: &[u8]) -> u32 {
    let before = crc32c::crc32c(bytes.get(..CRC_AT).unwrap_or_default());
    crc32c::crc32c_append(before, bytes.get(CRC_AT + CRC_BYTES..).unwrap_or_default())
}

/// Why a superblock's bytes are of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// They are not those that were written.
    Unreadable,
    /// A newer version of the program wrote them.
    Newer(u32),
    /// An older version wrote them, whose format is no longer read.
    Older(u32),
}

impl Refused {
    /// The refusal of an opening; `None` where the other superblock may still do.
    pub(crate) fn refusal(self) -> Option<OpenError> {
        match self {
            Self::Unreadable => None,
            Self::Newer(found) => Some(OpenError::NewerFormat {
                found,
                supported: READS.newest,
            }),
            Self::Older(found) => Some(OpenError::OlderFormat {
                found,
                supported: READS.oldest,
            }),
        }
    }
}

/// Whether a file of the top folder is a superblock.
pub(crate) fn is_superblock(name: &str) -> bool {
    PATHS.contains(&name)
}

/// Whether there is a superblock, readable or not.
pub(crate) fn any(disk: &dyn Disk) -> bool {
    let missing = |path| {
        let opened = disk.open(path);
        opened.is_err_and(|e| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
    };
    !PATHS.into_iter().all(missing)
}

/// The error of a superblock that cannot be read for another reason than its bytes.
fn unusable(path: &str) -> impl FnOnce(std::io::Error) -> OpenError {
    move |error| {
        let error = match error.kind() {
            ErrorKind::IsADirectory => std::io::Error::other(
                "it is a folder; take it away where the other superblock is a file, and restore \
                 the data folder from a backup where none is",
            ),
            _ => error,
        };
        OpenError::io(format!("read {path}"))(error)
    }
}

/// The newest superblock; `None` where there never was one.
///
/// # Errors
/// [`OpenError::NewerFormat`] and [`OpenError::OlderFormat`] where one of them is of a version
/// that this program does not read, [`OpenError::Superblock`] where both are unreadable.
pub(crate) fn read(disk: &dyn Disk) -> Result<Option<Superblock>, OpenError> {
    let mut newest: Option<Superblock> = None;
    let mut found = 0;
    for path in PATHS {
        let file = match disk.open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(unusable(path))?,
        };
        found += 1;
        let mut bytes = vec![0; BLOCK_BYTES];
        let read = file.read_at(0, &mut bytes).map_err(unusable(path))?;
        bytes.truncate(read);
        match Superblock::decode(&bytes) {
            Ok(block) if newest.is_none_or(|other| other.sequence < block.sequence) => {
                newest = Some(block);
            }
            Ok(_) => {}
            Err(refused) => match refused.refusal() {
                Some(refusal) => return Err(refusal),
                None => {
                    tracing::warn!(path, "a superblock is unreadable, the other one is asked");
                }
            },
        }
    }
    // The second file begins to be once the first is durable: where only one is there and
    // unreadable, the log was never made to its end.
    match newest {
        None if found > 1 => Err(OpenError::Superblock(PATHS.join(" and "))),
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Superblock {
        Superblock {
            sequence: 9,
            log: Uuid::from_u128(1),
            journal: Uuid::from_u128(2),
            epoch: 3,
            snapshot: 4,
            head: Place {
                file: 5,
                lap: 6,
                offset: 7,
                first: Lsn(8),
                previous_crc: 9,
            },
            durable_through: Lsn(10),
            head_bytes: 11,
        }
    }

    /// The same with another version and the checksum that belongs to it.
    fn with_version(block: &Superblock, version: u32) -> Vec<u8> {
        let mut bytes = block.encode().to_vec();
        bytes[MAGIC.len()..CRC_AT].copy_from_slice(&version.to_le_bytes());
        let crc = checksum(&bytes).to_le_bytes();
        bytes[CRC_AT..CRC_AT + CRC_BYTES].copy_from_slice(&crc);
        bytes
    }

    #[test]
    fn every_flipped_byte_of_a_superblock_is_seen() {
        let block = block();
        let bytes = block.encode();
        assert_eq!(Superblock::decode(&bytes), Ok(block));
        for at in 0..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 0x40;
            assert_eq!(Superblock::decode(&flipped), Err(Refused::Unreadable));
        }
    }

    #[test]
    fn versions_that_are_not_read_are_refused_with_what_to_do() {
        let newer = with_version(&block(), FORMAT_VERSION + 1);
        let refused = Superblock::decode(&newer).unwrap_err();
        assert_eq!(refused, Refused::Newer(FORMAT_VERSION + 1));
        let text = refused.refusal().unwrap().to_string();
        assert!(text.contains("use the program's newer version"), "{text}");

        // As the program will see today's folders once it reads newer ones alone.
        let later = Reads {
            oldest: FORMAT_VERSION + 1,
            newest: FORMAT_VERSION + 2,
        };
        let old = with_version(&block(), FORMAT_VERSION);
        let refused = Superblock::decode_as(&old, later).unwrap_err();
        assert_eq!(refused, Refused::Older(FORMAT_VERSION));
        let text = refused.refusal().unwrap().to_string();
        assert!(text.contains("tidemill subscribe"), "{text}");
        for version in [later.oldest, later.newest] {
            let bytes = with_version(&block(), version);
            assert_eq!(Superblock::decode_as(&bytes, later), Ok(block()));
        }
    }
}
