//! One file of the simulated disk: what the page cache shows, what the media keeps, and what a
//! loss of power may leave of the difference. May not know: names, folders, threads.

use std::collections::BTreeMap;

use crate::sim::random::{Random, mix};

/// What the media writes at once, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// Most un-synced versions of one sector that are remembered; older ones count as overwritten.
const VERSIONS_MAX: usize = 4;

type Sector = [u8; SECTOR_BYTES];

/// How a file's length changed since its last sync, in order. Lengths reach the media in order.
#[derive(Clone, Copy, Debug)]
enum LengthChange {
    Grown(usize),
    Cut(usize),
}

/// A file's two faces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inode {
    /// What reads return.
    cache: Vec<u8>,
    /// What was synced.
    media: Vec<u8>,
    /// Sectors whose cached bytes are newer than the media's, with every version since.
    dirty: BTreeMap<usize, Vec<Sector>>,
    /// Changes of the length that the media does not know yet.
    lengths: Vec<LengthChange>,
}

/// What became of un-synced sectors when the power went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// Sectors whose newest version is on the media.
    pub survived: u64,
    /// Sectors that kept what was synced before.
    pub vanished: u64,
    /// Sectors that are partly old and partly new, or hold a version in between.
    pub torn: u64,
    /// Sectors that came out with a wrong bit.
    pub flipped: u64,
}

impl Fate {
    pub(crate) fn add(&mut self, other: Fate) {
        self.survived += other.survived;
        self.vanished += other.vanished;
        self.torn += other.torn;
        self.flipped += other.flipped;
    }
}

fn sector_of(bytes: &[u8], sector: usize) -> Sector {
    let mut copy = [0; SECTOR_BYTES];
    let from = (sector * SECTOR_BYTES).min(bytes.len());
    let to = (from + SECTOR_BYTES).min(bytes.len());
    let held = bytes.get(from..to).unwrap_or_default();
    copy.iter_mut().zip(held).for_each(|(c, h)| *c = *h);
    copy
}

/// Writes what of `sector` lies within the length of `bytes`.
fn put_sector(bytes: &mut [u8], sector: usize, content: &Sector) {
    let from = (sector * SECTOR_BYTES).min(bytes.len());
    let to = (from + SECTOR_BYTES).min(bytes.len());
    if let Some(place) = bytes.get_mut(from..to) {
        place.iter_mut().zip(content).for_each(|(p, c)| *p = *c);
    }
}

impl Inode {
    pub(crate) fn len(&self) -> usize {
        self.cache.len()
    }

    pub(crate) fn media(&self) -> &[u8] {
        &self.media
    }

    pub(crate) fn read(&self, position: usize, buf: &mut [u8]) -> usize {
        let held = self.cache.get(position..).unwrap_or_default();
        let count = held.len().min(buf.len());
        buf.iter_mut().zip(held).for_each(|(b, h)| *b = *h);
        count
    }

    /// A write into the page cache.
    pub(crate) fn write(&mut self, position: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = position + bytes.len();
        if end > self.cache.len() {
            self.cache.resize(end, 0);
            self.lengths.push(LengthChange::Grown(end));
        }
        if let Some(place) = self.cache.get_mut(position..end) {
            place.copy_from_slice(bytes);
        }
        for sector in position / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let versions = self.dirty.entry(sector).or_default();
            if versions.len() == VERSIONS_MAX {
                versions.remove(0);
            }
            versions.push(sector_of(&self.cache, sector));
        }
    }

    /// Changes the length in the page cache.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len >= self.cache.len() {
            if len > self.cache.len() {
                self.cache.resize(len, 0);
                self.lengths.push(LengthChange::Grown(len));
            }
            return;
        }
        self.cache.truncate(len);
        self.lengths.push(LengthChange::Cut(len));
        self.dirty.split_off(&len.div_ceil(SECTOR_BYTES));
        let last = len / SECTOR_BYTES;
        if let Some(versions) = self.dirty.get_mut(&last) {
            versions.push(sector_of(&self.cache, last));
        }
    }

    /// A sync that succeeds: dirty pages and the length go to the media.
    pub(crate) fn sync(&mut self) {
        let changes = std::mem::take(&mut self.lengths);
        apply_lengths(&mut self.media, &changes);
        for (sector, _) in std::mem::take(&mut self.dirty) {
            put_sector(&mut self.media, sector, &sector_of(&self.cache, sector));
        }
    }

    /// A sync that fails, as Linux does it: each dirty page may or may not have been written,
    /// and all of them count as clean from now on. Reads go on showing the cached bytes, later
    /// syncs succeed without writing them, and a loss of power takes them away.
    pub(crate) fn sync_fails(&mut self, random: &mut Random) {
        let changes = std::mem::take(&mut self.lengths);
        let known = random.index(changes.len() + 1);
        apply_lengths(&mut self.media, changes.get(..known).unwrap_or_default());
        // The length itself is metadata: the journal of the file system still writes it.
        self.lengths = changes.get(known..).unwrap_or_default().to_vec();
        for (sector, _) in std::mem::take(&mut self.dirty) {
            if random.chance(300_000) {
                put_sector(&mut self.media, sector, &sector_of(&self.cache, sector));
            }
        }
    }

    /// The power goes: what the media holds is all there is.
    pub(crate) fn lose_power(&mut self, random: &mut Random, flip_per_million: u32) -> Fate {
        let mut fate = Fate::default();
        let changes = std::mem::take(&mut self.lengths);
        let known = random.index(changes.len() + 1);
        apply_lengths(&mut self.media, changes.get(..known).unwrap_or_default());
        // A whole file's fate is drawn first, so that "all", "nothing" and "some" all happen.
        let (survive, tear) = match random.below(4) {
            0 => (1_000_000, 0),
            1 => (0, 0),
            2 => (500_000, 0),
            _ => (400_000, 300_000),
        };
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            let old = sector_of(&self.media, sector);
            let new = versions.last().copied().unwrap_or(old);
            let mut after = if random.chance(survive) {
                fate.survived += 1;
                new
            } else if random.chance(tear) {
                fate.torn += 1;
                tear_sector(&old, &versions, random)
            } else {
                fate.vanished += 1;
                continue;
            };
            if random.chance(flip_per_million) && flip_bit(&mut after, &old, random) {
                fate.flipped += 1;
            }
            put_sector(&mut self.media, sector, &after);
        }
        self.cache.clone_from(&self.media);
        fate
    }

    /// Flips one bit of what was synced, as decay at rest does. False for an empty file.
    pub(crate) fn decay(&mut self, position: usize, bit: u8) -> bool {
        let mask = 1u8 << (bit % 8);
        let Some(byte) = self.media.get_mut(position) else {
            return false;
        };
        *byte ^= mask;
        if let Some(byte) = self.cache.get_mut(position) {
            *byte ^= mask;
        }
        true
    }

    /// Folds what the media keeps into `hash`.
    pub(crate) fn hash_into(&self, hash: u64) -> u64 {
        let mut hash = mix(hash ^ self.media.len() as u64);
        for (index, word) in self.media.chunks(8).enumerate() {
            let word = word.iter().fold(0u64, |w, b| (w << 8) | u64::from(*b));
            if word != 0 {
                hash = mix(hash ^ word.wrapping_mul(0xff51_afd7_ed55_8ccd) ^ index as u64);
            }
        }
        hash
    }
}

fn apply_lengths(media: &mut Vec<u8>, changes: &[LengthChange]) {
    for change in changes {
        match *change {
            LengthChange::Grown(len) if len > media.len() => media.resize(len, 0),
            LengthChange::Grown(_) => {}
            LengthChange::Cut(len) => media.truncate(len),
        }
    }
}

/// Half new and half old, or a version that was overwritten before it was synced.
fn tear_sector(old: &Sector, versions: &[Sector], random: &mut Random) -> Sector {
    let picked = random.pick(versions).copied().unwrap_or(*old);
    let cut = random.index(SECTOR_BYTES);
    let mut torn = *old;
    let new_first = random.chance(500_000);
    for (index, (torn, new)) in torn.iter_mut().zip(picked).enumerate() {
        if (index < cut) == new_first {
            *torn = new;
        }
    }
    torn
}

/// Flips a bit of what was written since the last sync. False where the sector is as it was.
fn flip_bit(sector: &mut Sector, old: &Sector, random: &mut Random) -> bool {
    let changed = sector.iter_mut().zip(old).filter(|(new, old)| new != old);
    let mut changed: Vec<&mut u8> = changed.map(|(new, _)| new).collect();
    let at = random.index(changed.len());
    let Some(byte) = changed.get_mut(at) else {
        return false;
    };
    **byte ^= 1 << random.below(8);
    true
}
