//! The simulated disk: a [`Disk`] in memory that forgets what was not synced.
//!
//! # Fault model
//!
//! *Held apart.* Every file has a page cache, which reads show, and media, which outlives a loss
//! of power. Every folder has the names that a running program sees and the names that are
//! durable. `sync_data` moves a file's dirty sectors and its length to the media; it does not
//! make the file's name durable. `sync_dir` makes the creations, removals and renames in that
//! folder durable (a rename counts for the folder it leads to, and is atomic).
//!
//! *[`SimDisk::lose_power`].* Each un-synced sector (512 bytes) by itself survives, vanishes, or
//! tears (partly old, partly new, also from a version that was overwritten before it was
//! synced), in any order and across files. Lengths reach the media in order, up to any point;
//! a length that survives without its data reads as zeros. Each un-synced change of names by
//! itself survives or vanishes. A surviving un-synced sector may come out with a wrong bit among
//! the bytes that were new in it ([`Faults::flip_unsynced`]).
//!
//! *[`SimDisk::kill`].* The process dies and the machine goes on: the page cache stays, and with
//! it data that a later loss of power takes away.
//!
//! *While running.* A sync may fail ([`Faults::sync_failure`]): as on Linux, the dirty pages then
//! count as clean (a folder's changes stay pending): reads go on showing them, the next sync
//! succeeds without writing them, and a
//! loss of power takes away those that had not reached the media. A write may fail without
//! effect ([`Faults::write_failure`]) or after a part of it ([`Faults::short_write`]); a write
//! past [`Faults::space_max_bytes`] writes what fits and fails with `StorageFull`.
//!
//! *At rest.* [`SimDisk::decay`] flips a bit of what was synced.
//!
//! *Not in the model.* Sectors that move to another place (misdirected writes), a media that
//! answers a sync without doing it, reads that fail, and corruption of what is in the cache.
//!
//! Everything follows from the seed and the order of the calls. May not know: what the files
//! mean, the clock, the real file system.

mod device;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(doc)]
use tidemill_log::Disk;

pub use crate::sim::faults::{Counts, Faults};
use crate::sim::inode::Inode;
use crate::sim::names::{Names, Number};
use crate::sim::random::{Random, mix};

#[derive(Clone, Debug)]
struct World {
    names: Names,
    /// Clones of the world share what neither changes.
    files: BTreeMap<Number, Arc<Inode>>,
    faults: Faults,
    counts: Counts,
    random: Random,
    /// Counts the deaths of the simulated process; handles of an earlier life are refused.
    life: u64,
    locked_in: Option<u64>,
    /// Changes of the disk until its power goes, where that is set.
    changes_left: Option<u64>,
    /// Syncs until one fails, where that is set.
    syncs_left: Option<u64>,
}

/// The simulated disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
    life: u64,
}

struct SimFile {
    world: Arc<Mutex<World>>,
    life: u64,
    number: Number,
}

struct Unlock {
    world: Arc<Mutex<World>>,
    life: u64,
}

impl Drop for Unlock {
    fn drop(&mut self) {
        let mut world = enter_any(&self.world);
        if world.locked_in == Some(self.life) {
            world.locked_in = None;
        }
    }
}

fn enter_any(world: &Mutex<World>) -> MutexGuard<'_, World> {
    // A panic elsewhere ends the run anyhow; the state is plain data.
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

fn enter(world: &Mutex<World>, life: u64) -> io::Result<MutexGuard<'_, World>> {
    let world = enter_any(world);
    if world.life == life {
        Ok(world)
    } else {
        Err(io::Error::other("this handle is from before the crash"))
    }
}

fn injected(what: &'static str) -> io::Error {
    io::Error::other(what)
}

impl SimDisk {
    /// An empty disk whose faults follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let world = World {
            names: Names::default(),
            files: BTreeMap::new(),
            faults: Faults::default(),
            counts: Counts::default(),
            random: Random::new(seed),
            life: 0,
            locked_in: None,
            changes_left: None,
            syncs_left: None,
        };
        Self {
            world: Arc::new(Mutex::new(world)),
            life: 0,
        }
    }

    /// Bytes of all files as a running program sees them.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        enter_any(&self.world).used_bytes()
    }

    /// Another disk that holds the same, whose faults follow from another seed.
    #[must_use]
    pub fn copy(&self, seed: u64) -> Self {
        let world = World {
            random: Random::new(seed),
            ..enter_any(&self.world).clone()
        };
        Self {
            world: Arc::new(Mutex::new(world)),
            life: self.life,
        }
    }

    /// Sets which faults are injected from now on.
    pub fn set_faults(&self, faults: Faults) {
        enter_any(&self.world).faults = faults;
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        enter_any(&self.world).counts
    }

    /// The machine loses its power. Returns the disk as the next start finds it; handles from
    /// before fail from now on.
    #[must_use]
    pub fn lose_power(&self) -> SimDisk {
        let mut guard = enter_any(&self.world);
        let world = &mut *guard;
        let flip = world.faults.flip_unsynced;
        let World {
            random,
            files,
            counts,
            names,
            ..
        } = world;
        for inode in files.values_mut().filter(|inode| !inode.is_clean()) {
            let fate = Arc::make_mut(inode).lose_power(random, flip);
            counts.fate.add(fate);
        }
        counts.names_vanished += names.lose_power(random);
        let named: BTreeSet<Number> = names.kept().map(|(_, number)| number).collect();
        files.retain(|number, _| named.contains(number));
        self.next_life(world)
    }

    /// The process is killed; the page cache stays. Returns the disk as the next start finds it.
    #[must_use]
    pub fn kill(&self) -> SimDisk {
        self.next_life(&mut enter_any(&self.world))
    }

    fn next_life(&self, world: &mut World) -> SimDisk {
        world.life += 1;
        world.locked_in = None;
        world.changes_left = None;
        world.syncs_left = None;
        SimDisk {
            world: Arc::clone(&self.world),
            life: world.life,
        }
    }

    /// Lets everything fail after so many changes of the disk (writes, syncs, names), as when
    /// the power goes in the middle of something that does not return: a recovery. `None`
    /// takes that back.
    pub fn fail_after(&self, changes: Option<u64>) {
        enter_any(&self.world).changes_left = changes;
    }

    /// Lets one sync, of a file or a folder, fail after `syncs` that succeed.
    pub fn fail_sync_after(&self, syncs: u64) {
        enter_any(&self.world).syncs_left = Some(syncs);
    }

    /// Flips one random bit of what is durable in the file `path`. False when there is none.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn decay(&self, path: &str) -> io::Result<bool> {
        let mut guard = enter(&self.world, self.life)?;
        let world = &mut *guard;
        let number = world.names.open(path)?;
        let (at, bit) = (world.random.bits(), world.random.below(8) as u8);
        let inode = world.inode(number)?;
        let len = inode.media_len();
        Ok(len > 0 && inode.decay(at as usize % len, bit))
    }

    /// The file `path` holds from now on what is durable in `other`, as when a lookup of the
    /// media leads astray.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn replace(&self, path: &str, other: &str) -> io::Result<()> {
        let mut world = enter(&self.world, self.life)?;
        let (number, other) = (world.names.open(path)?, world.names.open(other)?);
        let content = world.inode(other)?.clone();
        world.inode(number)?.replace(&content);
        Ok(())
    }

    /// The hash of what is durable: names, lengths and bytes. Two equal images are one crash
    /// state.
    #[must_use]
    pub fn image_hash(&self) -> u64 {
        let world = enter_any(&self.world);
        world.names.kept().fold(0, |hash, (path, number)| {
            let hash = path.bytes().fold(hash, |hash, b| mix(hash ^ u64::from(b)));
            let inode = world.files.get(&number);
            inode.map_or(hash, |inode| inode.hash_into(hash))
        })
    }

    /// The durable files with their durable lengths in bytes, by name.
    #[must_use]
    pub fn durable_files(&self) -> Vec<(String, u64)> {
        let world = enter_any(&self.world);
        let len = |number| {
            world
                .files
                .get(&number)
                .map_or(0, |inode| inode.media_len() as u64)
        };
        let kept = world.names.kept();
        kept.map(|(path, number)| (path.to_owned(), len(number)))
            .collect()
    }
}

impl World {
    fn used_bytes(&self) -> u64 {
        let seen = self.names.seen();
        seen.filter_map(|number| self.files.get(&number))
            .map(|inode| inode.len() as u64)
            .sum()
    }

    /// How many of `wanted` more bytes fit on the disk.
    fn room_for(&self, wanted: u64) -> u64 {
        let max = self.faults.space_max_bytes;
        max.map_or(wanted, |max| {
            max.saturating_sub(self.used_bytes()).min(wanted)
        })
    }

    /// A file, to be changed.
    fn inode(&mut self, number: Number) -> io::Result<&mut Inode> {
        let inode = self.files.get_mut(&number).map(Arc::make_mut);
        inode.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Counts one change.
    fn change(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            Some(0) => Err(injected("injected: the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether the sync that is asked for now fails.
    fn sync_fails(&mut self) -> bool {
        let chosen = self.syncs_left == Some(0);
        self.syncs_left = self.syncs_left.and_then(|left| left.checked_sub(1));
        let fails = chosen || self.random.chance(self.faults.sync_failure);
        self.counts.syncs_failed += u64::from(fails);
        fails
    }

    fn write(&mut self, number: Number, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.change()?;
        if self.random.chance(self.faults.write_failure) {
            self.counts.writes_failed += 1;
            return Err(injected("injected: the write failed"));
        }
        let mut fits = bytes.len();
        let mut error = None;
        let len = self.files.get(&number).map_or(0, |inode| inode.len()) as u64;
        let grows = (position + bytes.len() as u64).saturating_sub(len);
        let room = self.room_for(grows);
        if room < grows {
            fits = fits.saturating_sub((grows - room) as usize);
            self.counts.writes_full += 1;
            error = Some(io::Error::new(
                io::ErrorKind::StorageFull,
                "injected: disk full",
            ));
        } else if self.random.chance(self.faults.short_write) {
            fits = self.random.index(bytes.len());
            self.counts.writes_short += 1;
            error = Some(injected("injected: the write was cut short"));
        }
        let inode = self.inode(number)?;
        inode.write(position as usize, bytes.get(..fits).unwrap_or_default());
        error.map_or_else(
            || {
                self.counts.writes += 1;
                Ok(())
            },
            Err,
        )
    }

    fn sync(&mut self, number: Number) -> io::Result<()> {
        self.change()?;
        let fails = self.sync_fails();
        if fails {
            let mut random = self.random.fork();
            self.inode(number)?.sync_fails(&mut random);
            return Err(injected("injected: the sync failed"));
        }
        if self
            .files
            .get(&number)
            .is_none_or(|inode| !inode.is_synced())
        {
            self.inode(number)?.sync();
        }
        self.counts.syncs += 1;
        Ok(())
    }
}
