//! The list of a backup's files with their sizes and checksums. Layout: `FORMAT.md`.

use std::fmt::Write as _;

use jiff::Timestamp;
use uuid::Uuid;

use super::BackupError;
use crate::machine::Lsn;

/// The manifest's path in the backup.
pub const MANIFEST: &str = "backup.manifest";

/// The first line.
const HEAD: &str = "tidemill backup 1";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) log: Uuid,
    pub(super) epoch: u64,
    /// The last entry of the journal that is in it.
    pub(super) through: Lsn,
    pub(super) taken: Timestamp,
    pub(super) entries: Vec<Entry>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) size_bytes: u64,
    pub(super) crc: u32,
}

impl Manifest {
    pub(super) fn encode(&self) -> String {
        let mut text = format!(
            "{HEAD}\nlog {}\nepoch {}\nthrough {}\ntaken_ms {}\n",
            self.log,
            self.epoch,
            self.through,
            self.taken.as_millisecond()
        );
        for Entry {
            path,
            size_bytes,
            crc,
        } in &self.entries
        {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "file {size_bytes} {crc:08x} {path}");
        }
        let crc = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "end {} {crc:08x}", self.entries.len());
        text
    }

    /// Reads a manifest back.
    ///
    /// # Errors
    /// [`BackupError::NotWhole`] says what is wrong with it.
    pub(super) fn decode(text: &str) -> Result<Self, BackupError> {
        let wrong = |why: &str| BackupError::NotWhole(format!("{MANIFEST} {why}"));
        let end = text.strip_suffix('\n').and_then(|text| text.rfind('\n'));
        let (covered, end) = match end {
            Some(at) => text.split_at(at + 1),
            None => return Err(wrong("is cut off")),
        };
        let mut words = end.split_whitespace();
        let (word, count, crc) = (words.next(), words.next(), words.next());
        let crc = crc.and_then(|crc| u32::from_str_radix(crc, 16).ok());
        if word != Some("end") || crc.is_none() {
            return Err(wrong("is cut off"));
        }
        if crc != Some(crc32c::crc32c(covered.as_bytes())) {
            return Err(wrong("is damaged: its checksum does not hold"));
        }
        let mut lines = covered.lines();
        if lines.next() != Some(HEAD) {
            return Err(wrong(
                "is of another version; use the program's newer version",
            ));
        }
        let unknown = || wrong("has a line that this program does not know");
        let mut field = |name: &str| {
            let value = lines.next().and_then(|line| line.strip_prefix(name));
            value
                .and_then(|value| value.strip_prefix(' '))
                .ok_or_else(unknown)
        };
        let log = field("log")?.parse().map_err(|_| unknown())?;
        let epoch = field("epoch")?.parse().map_err(|_| unknown())?;
        let through = field("through")?.parse().map(Lsn).map_err(|_| unknown())?;
        let taken_ms = field("taken_ms")?.parse().map_err(|_| unknown())?;
        let taken = Timestamp::from_millisecond(taken_ms).map_err(|_| unknown())?;
        let entries: Option<Vec<_>> = lines.map(entry).collect();
        let entries = entries.ok_or_else(unknown)?;
        if count.and_then(|count| count.parse().ok()) != Some(entries.len()) {
            return Err(wrong("counts other files"));
        }
        Ok(Self {
            log,
            epoch,
            through,
            taken,
            entries,
        })
    }
}

fn entry(line: &str) -> Option<Entry> {
    let mut words = line.strip_prefix("file ")?.splitn(3, ' ');
    let size_bytes = words.next()?.parse().ok()?;
    let crc = u32::from_str_radix(words.next()?, 16).ok()?;
    let path = words.next()?.to_owned();
    // It must not lead out of the folder.
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.split('/').all(plain).then_some(Entry {
        path,
        size_bytes,
        crc,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let entry = |path: &str| Entry {
            path: path.to_owned(),
            size_bytes: 4096,
            crc: 0x00ab_cdef,
        };
        Manifest {
            log: Uuid::from_u128(7),
            epoch: 3,
            through: Lsn(99),
            taken: Timestamp::from_millisecond(1_700_000_000_123).unwrap(),
            entries: vec![entry("superblock.0"), entry("topics/a/0/7.log")],
        }
    }

    #[test]
    fn a_manifest_comes_back_as_it_was_written() {
        let text = manifest().encode();
        assert_eq!(Manifest::decode(&text).unwrap(), manifest());
        let none = Manifest {
            entries: Vec::new(),
            ..manifest()
        };
        assert_eq!(Manifest::decode(&none.encode()).unwrap(), none);
    }

    #[test]
    fn every_cut_and_every_changed_byte_of_a_manifest_is_seen() {
        let text = manifest().encode();
        for at in 0..text.len() {
            assert!(Manifest::decode(&text[..at]).is_err(), "a cut at {at}");
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Manifest::decode(&changed).is_err(), "a change at {at}");
        }
    }

    #[test]
    fn a_path_that_leads_out_of_the_folder_is_refused() {
        for path in ["../a", "/a", "a//b", "a/../b", "a/."] {
            let mut manifest = manifest();
            manifest.entries[0].path = path.to_owned();
            assert!(Manifest::decode(&manifest.encode()).is_err(), "{path}");
        }
    }
}
