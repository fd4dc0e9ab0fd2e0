//! Small damage, all of it: every file of a small log cut at every byte, and with every single
//! bit flipped. Nothing may panic, nothing wrong may be served, and what is missing is named.
//! May not know: how the log mends itself.
//!
//! The one exception is the last synced commit while nothing follows it: it reads as a torn end.
//! It is bounded here: only damage that begins inside that commit's bytes may do it, and only
//! that commit's operation may be missing.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tidemill_log::driver::MemoryDisk;
use tidemill_log::limits::BLOCK_BYTES;
use tidemill_log::options::Fault;
use tidemill_log::{Disk, Options};

use crate::sim::by_hand::ByHand;
use crate::sim::image::Image;
use crate::sim::ledger::{Operation, Part};
use crate::sim::truth::{Found, Truth};

/// A small log at rest.
#[derive(Clone, Debug)]
pub struct Specimen {
    /// Its files.
    pub image: Image,
    truth: Truth,
    operations: usize,
    options: Options,
    /// Where the last commit lies, if nothing follows it.
    last: Option<(String, Range<usize>)>,
}

/// One change of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The file ends at this byte.
    Cut(usize),
    /// This bit of this byte is the other one.
    Flip(usize, u8),
}

/// What came of the cases tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often, by file's kind and outcome.
    pub ends: BTreeMap<(&'static str, &'static str), u64>,
}

impl Tally {
    /// How many cases in all.
    #[must_use]
    pub fn cases(&self) -> u64 {
        self.ends.values().sum()
    }

    /// How many cases of a kind of file ended so.
    #[must_use]
    pub fn of(&self, kind: &'static str, end: &'static str) -> u64 {
        self.ends.get(&(kind, end)).copied().unwrap_or(0)
    }

    fn add(&mut self, other: Self) {
        for (key, count) in other.ends {
            *self.ends.entry(key).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cases:", self.cases())?;
        let mut ends = self.ends.iter();
        ends.try_for_each(|((kind, end), count)| write!(f, " {kind} {end} {count},"))
    }
}

/// The options of a specimen: as small as they may be.
#[must_use]
pub fn options() -> Options {
    let mut options = Options::default();
    options.journal_file_first_bytes = 16 * 1024;
    options.journal_file_max_bytes = 16 * 1024;
    options.journal_max_bytes = 1024 * 1024;
    options.checkpoint_after_bytes = 24 * 1024;
    options.segment_max_bytes = 900;
    options.segment_write_after_bytes = 300;
    options
}

fn operation(number: u64) -> Operation {
    let publish = |partition, count, size| Part::Publish {
        partition,
        count,
        size,
    };
    let parts = match number {
        0 | 1 => vec![Part::Create(number)],
        _ if number % 4 == 3 => vec![
            publish(0, 2, 40),
            Part::Settle {
                partition: 0,
                from: 0,
                to: 1,
            },
            Part::Add { key: 3, by: number },
        ],
        _ => vec![publish(number % 2, 1, 100)],
    };
    Operation { number, parts }
}

impl Specimen {
    /// A log with both superblocks, segments, sidecars, a snapshot and a journal's tail over more
    /// than one file. `marked`: its last commit is a marker, so that damage to every operation
    /// has a witness.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(marked: bool) -> Result<Self, String> {
        let options = options();
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30));
        let mut log = ByHand::open(&disk, &options, 1).map_err(|e| e.to_string())?;
        let operations: Vec<Operation> = (0..16).map(operation).collect();
        for operation in &operations {
            match log.run(std::slice::from_ref(operation)).as_slice() {
                [(_, Ok(_))] => {}
                other => return Err(format!("{operation:?} ended with {other:?}")),
            }
        }
        if marked {
            log.pass(Duration::from_secs(5));
        }
        let image = Image::of(disk.as_ref()).map_err(|e| e.to_string())?;
        let last = if marked { None } else { last_commit(&image) };
        Ok(Self {
            image,
            truth: Truth::of(&operations),
            operations: operations.len(),
            options,
            last,
        })
    }

    /// The same, to be opened by a log with a planted fault.
    #[must_use]
    pub fn with_fault(self, fault: Fault) -> Self {
        Self {
            options: self.options.with_fault(fault),
            ..self
        }
    }

    /// Every damage of a file. Where `sparse`, of bytes that are zeros between zeros, and thus
    /// covered by the same checksum or by none, and of those before the journal's head, only
    /// some.
    #[must_use]
    pub fn damages(&self, path: &str, sparse: bool) -> Vec<Damage> {
        let bytes = self.image.files.get(path).map(|bytes| &bytes[..]);
        let bytes = bytes.unwrap_or_default();
        let mut damages = Vec::new();
        let is_zero = |at: usize| bytes.get(at).is_none_or(|byte| *byte == 0);
        let live = self.live_from(path);
        for at in 0..bytes.len() {
            let near = at.saturating_sub(8)..at + 8;
            let dull = at < live || near.clone().all(is_zero);
            let dull = dull && at % BLOCK_BYTES > 1;
            if sparse && dull && at % 509 != 0 {
                continue;
            }
            damages.push(Damage::Cut(at));
            let bits = if sparse && dull { 3..4 } else { 0..8u8 };
            damages.extend(bits.map(|bit| Damage::Flip(at, bit)));
        }
        damages
    }

    /// Where a journal file begins to be needed.
    fn live_from(&self, path: &str) -> usize {
        let Some(number) = path.strip_prefix("journal/") else {
            return 0;
        };
        let number: u32 = number.get(..10).and_then(|n| n.parse().ok()).unwrap_or(0);
        // FORMAT.md, section 2: the head's offset at 80, its file at 96.
        let block = self.image.files.get("superblock.1");
        let place = block.and_then(|block| {
            let offset = u64::from_le_bytes(block.get(80..88)?.try_into().ok()?);
            let file = u32::from_le_bytes(block.get(96..100)?.try_into().ok()?);
            Some((file, usize::try_from(offset).ok()?))
        });
        match place {
            Some((file, _)) if number < file => usize::MAX,
            Some((file, offset)) if number == file => offset,
            _ => 0,
        }
    }

    /// Does one damage, opens, reads, and says how it ended.
    ///
    /// # Errors
    /// What must not be, in words.
    pub fn end_of(&self, path: &str, damage: Damage) -> Result<&'static str, String> {
        let mut bytes = self.image.files.get(path).map(|bytes| bytes.to_vec());
        let bytes = bytes.take().unwrap_or_default();
        let changed = apply(bytes, damage);
        let disk = self.image.with(path, changed).disk();
        let disk = disk.map_err(|error| error.to_string())?;
        let wrong = |why: String| format!("{path} {damage:?}: {why}");
        let found = self.truth.look(&disk, &self.options).map_err(wrong)?;
        match found {
            Found::Refused(_) => Ok("refused"),
            Found::Open { operations, fenced } if operations == self.operations => {
                Ok(if fenced > 0 { "fenced" } else { "harmless" })
            }
            Found::Open { operations, .. } => {
                let at = match damage {
                    Damage::Cut(at) | Damage::Flip(at, _) => at,
                };
                let last = self.last.as_ref();
                let inside = last.is_some_and(|(file, place)| file == path && place.contains(&at));
                if inside && operations + 1 == self.operations {
                    return Ok("last commit torn");
                }
                let all = self.operations;
                Err(wrong(format!("{operations} of {all} operations are there")))
            }
        }
    }

    /// Tries every damage of every file whose path begins with `prefix`, on two threads.
    ///
    /// # Errors
    /// The first case that must not be.
    pub fn try_all(&self, prefix: &str, sparse: bool) -> Result<Tally, String> {
        let paths = self.image.files.keys();
        let cases: Vec<(&str, Damage)> = paths
            .filter(|path| path.starts_with(prefix))
            .flat_map(|path| {
                let damages = self.damages(path, sparse).into_iter();
                damages.map(move |damage| (path.as_str(), damage))
            })
            .collect();
        let (left, right) = cases.split_at(cases.len() / 2);
        let (left, right) = std::thread::scope(|scope| {
            let other = scope.spawn(|| self.try_these(left));
            let right = self.try_these(right);
            (other.join(), right)
        });
        let mut tally = left.map_err(|_| "a thread ended early".to_owned())??;
        tally.add(right?);
        Ok(tally)
    }

    fn try_these(&self, cases: &[(&str, Damage)]) -> Result<Tally, String> {
        let mut tally = Tally::default();
        for (path, damage) in cases {
            let end = self.end_of(path, *damage)?;
            *tally.ends.entry((kind_of(path), end)).or_default() += 1;
        }
        Ok(tally)
    }
}

fn apply(mut bytes: Vec<u8>, damage: Damage) -> Vec<u8> {
    match damage {
        Damage::Cut(at) => bytes.truncate(at),
        Damage::Flip(at, bit) => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
    }
    bytes
}

fn kind_of(path: &str) -> &'static str {
    match path {
        _ if path.starts_with("superblock") => "superblock",
        _ if path.starts_with("journal") => "journal",
        _ if path.starts_with("snapshots") => "snapshot",
        _ if path.ends_with(".sum") => "sidecar",
        _ if path.ends_with(".log") => "segment",
        _ => "other",
    }
}

/// Where the commit with the highest LSN lies, header and entries.
fn last_commit(image: &Image) -> Option<(String, Range<usize>)> {
    let journal = image.files.range("journal/".to_owned()..);
    let journal = journal.take_while(|(path, _)| path.starts_with("journal/"));
    let mut last: Option<(u64, String, Range<usize>)> = None;
    for (path, bytes) in journal {
        for (number, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if !block.starts_with(b"TMJC") {
                continue;
            }
            // FORMAT.md, section 3.1: 96 bytes of header, bytes of entries at 12, LSN at 56.
            let length = u32::from_le_bytes(block.get(12..16)?.try_into().ok()?);
            let lsn = u64::from_le_bytes(block.get(56..64)?.try_into().ok()?);
            let begin = number * BLOCK_BYTES;
            let place = begin..begin + 96 + length as usize;
            if last.as_ref().is_none_or(|(newest, ..)| *newest < lsn) {
                last = Some((lsn, path.clone(), place));
            }
        }
    }
    last.map(|(_, path, place)| (path, place))
}
