//! One file of the simulated disk: what the page cache shows, what the media keeps, and what a
//! loss of power may leave of the difference. May not know: names, folders, threads.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::sim::pages::Pages;
use crate::sim::random::Random;

/// What the media writes at once, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// Most un-synced versions of one sector that are remembered beside the newest; older ones count as
/// overwritten.
const VERSIONS_MAX: usize = 3;

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
    cache: Pages,
    /// What was synced.
    media: Pages,
    /// A sync failed: the cache shows what the media may not have, and nothing is dirty.
    forgotten: bool,
    /// Sectors whose cached bytes are newer than the media's, with the versions between both.
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

fn sector_of(bytes: &Pages, sector: usize) -> Sector {
    let mut copy = [0; SECTOR_BYTES];
    bytes.read(sector * SECTOR_BYTES, &mut copy);
    copy
}

/// Writes what of `sector` lies within the length of `bytes`.
fn put_sector(bytes: &mut Pages, sector: usize, content: &Sector) {
    bytes.put(sector * SECTOR_BYTES, content);
}

impl Inode {
    pub(crate) fn len(&self) -> usize {
        self.cache.len()
    }

    /// Bytes that are durable.
    pub(crate) fn media_len(&self) -> usize {
        self.media.len()
    }

    /// Whether a loss of power may change anything.
    pub(crate) fn is_clean(&self) -> bool {
        self.dirty.is_empty() && self.lengths.is_empty() && !self.forgotten
    }

    /// Whether a sync has nothing to do.
    pub(crate) fn is_synced(&self) -> bool {
        self.dirty.is_empty() && self.lengths.is_empty()
    }

    pub(crate) fn read(&self, position: usize, buf: &mut [u8]) -> usize {
        self.cache.read(position, buf)
    }

    /// A write into the page cache.
    pub(crate) fn write(&mut self, position: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = position + bytes.len();
        for sector in position / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            match self.dirty.entry(sector) {
                Entry::Vacant(clean) => {
                    clean.insert(Vec::new());
                }
                Entry::Occupied(mut dirty) => {
                    let between = dirty.get_mut();
                    if between.len() == VERSIONS_MAX {
                        between.remove(0);
                    }
                    between.push(sector_of(&self.cache, sector));
                }
            }
        }
        if end > self.cache.len() {
            self.lengths.push(LengthChange::Grown(end));
        }
        self.cache.write(position, bytes);
    }

    /// Changes the length in the page cache.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len >= self.cache.len() {
            if len > self.cache.len() {
                self.cache.resize(len);
                self.lengths.push(LengthChange::Grown(len));
            }
            return;
        }
        self.cache.resize(len);
        self.lengths.push(LengthChange::Cut(len));
        self.dirty.split_off(&len.div_ceil(SECTOR_BYTES));
    }

    /// A sync that succeeds: dirty pages and the length go to the media.
    pub(crate) fn sync(&mut self) {
        let changes = std::mem::take(&mut self.lengths);
        let dirty = std::mem::take(&mut self.dirty);
        if !self.forgotten {
            self.media = self.cache.clone();
            return;
        }
        apply_lengths(&mut self.media, &changes);
        for sector in dirty.into_keys() {
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
        self.forgotten = true;
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
        for (sector, between) in std::mem::take(&mut self.dirty) {
            let old = sector_of(&self.media, sector);
            let new = sector_of(&self.cache, sector);
            let mut after = if random.chance(survive) {
                fate.survived += 1;
                new
            } else if random.chance(tear) {
                fate.torn += 1;
                tear_sector(&old, &new, &between, random)
            } else {
                fate.vanished += 1;
                continue;
            };
            if random.chance(flip_per_million) && flip_bit(&mut after, &old, random) {
                fate.flipped += 1;
            }
            put_sector(&mut self.media, sector, &after);
        }
        self.cache = self.media.clone();
        self.forgotten = false;
        fate
    }

    /// Flips one bit of what was synced, as decay at rest does. False for an empty file.
    pub(crate) fn decay(&mut self, position: usize, bit: u8) -> bool {
        let mask = 1u8 << (bit % 8);
        let flipped = self.media.flip(position, mask);
        if flipped {
            self.cache.flip(position, mask);
        }
        flipped
    }

    /// Holds what another one has durably.
    pub(crate) fn replace(&mut self, other: &Self) {
        self.media = other.media.clone();
        self.cache = self.media.clone();
        self.dirty.clear();
        self.lengths.clear();
        self.forgotten = false;
    }

    /// Folds what the media keeps into `hash`.
    pub(crate) fn hash_into(&self, hash: u64) -> u64 {
        self.media.hash_into(hash)
    }
}

fn apply_lengths(media: &mut Pages, changes: &[LengthChange]) {
    for change in changes {
        match *change {
            LengthChange::Grown(len) if len > media.len() => media.resize(len),
            LengthChange::Grown(_) => {}
            LengthChange::Cut(len) => media.resize(len.min(media.len())),
        }
    }
}

/// Half new and half old, or a version that was overwritten before it was synced.
fn tear_sector(old: &Sector, new: &Sector, between: &[Sector], random: &mut Random) -> Sector {
    let picked = between.get(random.index(between.len() + 1)).unwrap_or(new);
    let cut = random.index(SECTOR_BYTES);
    let mut torn = *old;
    let new_first = random.chance(500_000);
    for (index, (torn, new)) in torn.iter_mut().zip(picked).enumerate() {
        if (index < cut) == new_first {
            *torn = *new;
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
