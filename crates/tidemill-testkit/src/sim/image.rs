//! The files of a disk as bytes, to be kept, changed and put on a disk in memory again. May not
//! know: what the files mean.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_log::Disk;
use tidemill_log::driver::MemoryDisk;

/// Bytes that a disk made of an image may have.
const DISK_MAX_BYTES: u64 = 1 << 30;

/// All files and folders of a disk. Clones share the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Image {
    /// The files by path.
    pub files: BTreeMap<String, Bytes>,
    /// The folders.
    pub folders: BTreeSet<String>,
}

impl Image {
    /// What is on a disk.
    ///
    /// # Errors
    /// As the disk has them.
    pub fn of(disk: &dyn Disk) -> io::Result<Self> {
        let mut image = Self::default();
        image.take(disk, "")?;
        Ok(image)
    }

    fn take(&mut self, disk: &dyn Disk, folder: &str) -> io::Result<()> {
        for name in disk.list(folder)? {
            let path = match folder {
                "" => name,
                _ => format!("{folder}/{name}"),
            };
            if disk.list(&path).is_ok() {
                self.take(disk, &path)?;
                self.folders.insert(path);
                continue;
            }
            let file = disk.open(&path)?;
            let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
            let read = file.read_at(0, &mut bytes)?;
            bytes.truncate(read);
            self.files.insert(path, Bytes::from(bytes));
        }
        Ok(())
    }

    /// A disk in memory that holds this.
    ///
    /// # Errors
    /// When it is more than such a disk may have.
    pub fn disk(&self) -> io::Result<Arc<dyn Disk>> {
        let disk = MemoryDisk::new(DISK_MAX_BYTES);
        for folder in &self.folders {
            disk.make_dir(folder)?;
        }
        for (path, bytes) in &self.files {
            disk.create(path)?
                .write_at(0, std::slice::from_ref(bytes))?;
        }
        Ok(Arc::new(disk))
    }

    /// The same with other bytes in one file.
    #[must_use]
    pub fn with(&self, path: &str, bytes: Vec<u8>) -> Self {
        let mut other = self.clone();
        other.files.insert(path.to_owned(), Bytes::from(bytes));
        other
    }
}
