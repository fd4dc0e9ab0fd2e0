//! A disk in memory that counts syncs, fails when told to, and can be copied as it is.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tidemill_log::driver::MemoryDisk;
use tidemill_log::{Disk, DiskFile, DiskLock, Step};

use super::ByHand;

/// The bytes of every file of a disk, by path.
pub(crate) type Image = HashMap<String, Vec<u8>>;

/// What the disk does and has done.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// Syncs of journal files so far.
    pub(crate) journal_syncs: AtomicU64,
    /// Syncs of segments and their sidecars so far.
    pub(crate) segment_syncs: AtomicU64,
    /// Writes to journal files so far.
    pub(crate) journal_writes: AtomicU64,
    /// Whether a commit was written beyond the end of its file.
    pub(crate) journal_grew: AtomicBool,
    /// Syncs of files whose path begins with one of these fail.
    fail_syncs: Mutex<Vec<String>>,
    /// Writes to such files find no space.
    full: Mutex<Vec<String>>,
    /// Whether anything failed so.
    pub(crate) was_hit: AtomicBool,
}

impl Control {
    pub(crate) fn fail_syncs(&self, prefix: &str) {
        self.fail_syncs.lock().unwrap().push(prefix.to_owned());
    }

    pub(crate) fn fill(&self, prefix: &str) {
        self.full.lock().unwrap().push(prefix.to_owned());
    }

    pub(crate) fn make_space(&self) {
        self.full.lock().unwrap().clear();
    }

    fn is_hit(&self, list: &Mutex<Vec<String>>, path: &str) -> bool {
        let hit = list
            .lock()
            .unwrap()
            .iter()
            .any(|prefix| path.starts_with(prefix));
        if hit {
            self.was_hit.store(true, Ordering::SeqCst);
        }
        hit
    }
}

#[derive(Clone)]
pub(crate) struct FaultyDisk {
    inner: MemoryDisk,
    pub(crate) control: Arc<Control>,
}

impl FaultyDisk {
    pub(crate) fn new() -> Self {
        Self {
            inner: MemoryDisk::new(1 << 30),
            control: Arc::default(),
        }
    }

    fn wrap(&self, path: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile {
            path: path.to_owned(),
            file,
            control: self.control.clone(),
        })
    }
}

/// All files of a disk below a folder, with their bytes.
pub(crate) fn image(disk: &dyn Disk, dir: &str) -> Image {
    let mut files = HashMap::new();
    for name in disk.list(dir).unwrap() {
        let path = if dir.is_empty() {
            name
        } else {
            format!("{dir}/{name}")
        };
        match disk.open(&path) {
            Ok(file) => {
                let mut bytes = vec![0; file.len().unwrap() as usize];
                assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
                files.insert(path, bytes);
            }
            Err(_) => files.extend(image(disk, &path)),
        }
    }
    files
}

/// A disk that holds these files.
pub(crate) fn disk_of(files: &Image) -> Arc<dyn Disk> {
    let disk = MemoryDisk::new(1 << 30);
    for (path, bytes) in files {
        if let Some((dir, _)) = path.rsplit_once('/') {
            disk.make_dir(dir).unwrap();
        }
        let file = disk.create(path).unwrap();
        file.write_at(0, &[Bytes::from(bytes.clone())]).unwrap();
    }
    Arc::new(disk)
}

impl Disk for FaultyDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(path, self.inner.create(path)?))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(path, self.inner.open(path)?))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.make_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn available_bytes(&self) -> Option<u64> {
        self.inner.available_bytes()
    }

    fn lock(&self) -> io::Result<DiskLock> {
        self.inner.lock()
    }
}

struct FaultyFile {
    path: String,
    file: Arc<dyn DiskFile>,
    control: Arc<Control>,
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, position: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(position, buf)
    }

    fn write_at(&self, position: u64, pieces: &[Bytes]) -> io::Result<()> {
        if self.path.starts_with("journal/") {
            self.control.journal_writes.fetch_add(1, Ordering::SeqCst);
            let length: usize = pieces.iter().map(Bytes::len).sum();
            let is_commit = pieces
                .first()
                .is_some_and(|piece| piece.starts_with(b"TMJC"));
            if is_commit && position + length as u64 > self.file.len()? {
                self.control.journal_grew.store(true, Ordering::SeqCst);
            }
        }
        if self.control.is_hit(&self.control.full, &self.path) {
            return Err(io::Error::new(
                ErrorKind::StorageFull,
                "no space, as planned",
            ));
        }
        self.file.write_at(position, pieces)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.control.is_hit(&self.control.fail_syncs, &self.path) {
            return Err(io::Error::other("failed, as planned"));
        }
        if self.path.starts_with("journal/") {
            self.control.journal_syncs.fetch_add(1, Ordering::SeqCst);
        }
        if self.path.starts_with("topics/") {
            self.control.segment_syncs.fetch_add(1, Ordering::SeqCst);
        }
        self.file.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}

/// The folder as each step of the disk leaves it.
pub(crate) fn every_image(log: &mut ByHand, disk: &Arc<dyn Disk>) -> Vec<Image> {
    let mut images = vec![image(disk.as_ref(), "")];
    loop {
        match log.log.poll() {
            Step::Io(io) => {
                let result = io.run(&log.files);
                images.push(image(disk.as_ref(), ""));
                log.log.finish(io.id, result);
            }
            Step::Idle { .. } | Step::Closed => return images,
            _ => {}
        }
    }
}
