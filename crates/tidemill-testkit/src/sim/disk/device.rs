//! The simulated disk as the log sees it: the calls of [`Disk`] and [`DiskFile`]. May not know:
//! what a crash leaves.

use std::io;
use std::sync::{Arc, MutexGuard};

use bytes::Bytes;
use tidemill_log::{Disk, DiskFile, DiskLock};

use super::{SimDisk, SimFile, Unlock, World, enter, injected};
use crate::sim::names::Number;

impl SimDisk {
    fn enter(&self) -> io::Result<MutexGuard<'_, World>> {
        enter(&self.world, self.life)
    }

    fn file(&self, number: Number) -> Arc<dyn DiskFile> {
        Arc::new(SimFile {
            world: Arc::clone(&self.world),
            life: self.life,
            number,
        })
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.enter()?;
        world.change()?;
        let number = world.names.create(path)?;
        world.files.insert(number, Arc::default());
        Ok(self.file(number))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let number = self.enter()?.names.open(path)?;
        Ok(self.file(number))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.enter()?.names.list(dir)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        let mut world = self.enter()?;
        world.change()?;
        world.names.make_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.enter()?;
        world.change()?;
        world.names.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut world = self.enter()?;
        world.change()?;
        world.names.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut world = self.enter()?;
        world.change()?;
        if world.sync_fails() {
            return Err(injected("injected: the sync of the folder failed"));
        }
        world.names.sync_dir(dir)
    }

    fn available_bytes(&self) -> Option<u64> {
        let world = self.enter().ok()?;
        let max = world.faults.space_max_bytes?;
        Some(max.saturating_sub(world.used_bytes()))
    }

    fn lock(&self) -> io::Result<DiskLock> {
        let mut world = self.enter()?;
        if world.locked_in.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        world.locked_in = Some(self.life);
        Ok(DiskLock::new(Unlock {
            world: Arc::clone(&self.world),
            life: self.life,
        }))
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let world = enter(&self.world, self.life)?;
        let inode = world.files.get(&self.number);
        Ok(inode.ok_or(io::ErrorKind::NotFound)?.len() as u64)
    }

    fn read_at(&self, position: u64, buf: &mut [u8]) -> io::Result<usize> {
        let world = enter(&self.world, self.life)?;
        let inode = world.files.get(&self.number);
        Ok(inode
            .ok_or(io::ErrorKind::NotFound)?
            .read(position as usize, buf))
    }

    fn write_at(&self, position: u64, pieces: &[Bytes]) -> io::Result<()> {
        let all = pieces.concat();
        enter(&self.world, self.life)?.write(self.number, position, &all)
    }

    fn sync_data(&self) -> io::Result<()> {
        enter(&self.world, self.life)?.sync(self.number)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut world = enter(&self.world, self.life)?;
        world.change()?;
        world.inode(self.number)?.truncate(len as usize);
        Ok(())
    }
}
