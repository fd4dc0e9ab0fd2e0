//! A bounded disk in memory: everything is as durable as the process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;

use crate::disk::{Disk, DiskFile, DiskLock};

/// Bytes that a file grows by.
const PIECE_BYTES: usize = 16 * 1024;

/// A disk in memory. Clones share it, so what was written is found again after a reopening.
#[derive(Clone)]
pub struct MemoryDisk(Arc<Inner>);

struct Inner {
    max_bytes: u64,
    used_bytes: Arc<AtomicU64>,
    /// Files and folders by path; held for look-ups only.
    entries: Mutex<Entries>,
    locked: Arc<AtomicBool>,
}

#[derive(Default)]
struct Entries {
    files: BTreeMap<String, Arc<MemoryFile>>,
    dirs: BTreeSet<String>,
}

impl MemoryDisk {
    /// An empty disk that refuses writes beyond `max_bytes`, counted in pieces of 16 KiB.
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        Self(Arc::new(Inner {
            max_bytes,
            used_bytes: Arc::default(),
            entries: Mutex::default(),
            locked: Arc::default(),
        }))
    }

    /// Bytes in use.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.0.used_bytes.load(Ordering::Relaxed)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // The maps are whole between any two statements that change them.
        self.0
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_found(path: &str) -> io::Error {
    io::Error::new(ErrorKind::NotFound, format!("there is no {path}"))
}

impl Disk for MemoryDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut entries = self.entries();
        if entries.files.contains_key(path) {
            return Err(io::Error::new(
                ErrorKind::AlreadyExists,
                format!("{path} is there"),
            ));
        }
        if let Some((dir, _)) = path.rsplit_once('/')
            && !entries.dirs.contains(dir)
        {
            return Err(not_found(dir));
        }
        let file = Arc::new(MemoryFile {
            max_bytes: self.0.max_bytes,
            used_bytes: self.0.used_bytes.clone(),
            content: RwLock::default(),
        });
        entries.files.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.entries().files.get(path).cloned();
        file.map(|file| file as Arc<dyn DiskFile>)
            .ok_or_else(|| not_found(path))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = self.entries();
        if !dir.is_empty() && !entries.dirs.contains(dir) {
            return Err(not_found(dir));
        }
        let prefix = if dir.is_empty() {
            String::new()
        } else {
            format!("{dir}/")
        };
        let paths = entries.files.keys().chain(&entries.dirs);
        let names = paths.filter_map(|path| path.strip_prefix(&prefix));
        Ok(names
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect())
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        let mut entries = self.entries();
        for (at, _) in dir.match_indices('/') {
            entries.dirs.extend(dir.get(..at).map(str::to_owned));
        }
        entries.dirs.insert(dir.to_owned());
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut entries = self.entries();
        let inside = format!("{from}/");
        let renamed = |path: &String| {
            let rest = path.strip_prefix(from)?;
            (path == from || path.starts_with(&inside)).then(|| format!("{to}{rest}"))
        };
        let dirs: Vec<_> = entries
            .dirs
            .iter()
            .filter_map(|dir| Some((dir.clone(), renamed(dir)?)))
            .collect();
        let files: Vec<_> = entries
            .files
            .keys()
            .filter_map(|path| Some((path.clone(), renamed(path)?)))
            .collect();
        if dirs.is_empty() && files.is_empty() {
            return Err(not_found(from));
        }
        for (old, new) in dirs {
            entries.dirs.remove(&old);
            entries.dirs.insert(new);
        }
        for (old, new) in files {
            if let Some(file) = entries.files.remove(&old) {
                entries.files.insert(new, file);
            }
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut entries = self.entries();
        if entries.files.remove(path).is_some() {
            return Ok(());
        }
        let inside = format!("{path}/");
        let within = |other: &String| other.starts_with(&inside);
        if entries.files.keys().chain(&entries.dirs).any(within) {
            let why = format!("{path} is not empty");
            return Err(io::Error::new(ErrorKind::DirectoryNotEmpty, why));
        }
        if entries.dirs.remove(path) {
            return Ok(());
        }
        Err(not_found(path))
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn available_bytes(&self) -> Option<u64> {
        Some(self.0.max_bytes.saturating_sub(self.used_bytes()))
    }

    fn lock(&self) -> io::Result<DiskLock> {
        if self.0.locked.swap(true, Ordering::AcqRel) {
            return Err(io::Error::new(
                ErrorKind::WouldBlock,
                "it is open in this process already",
            ));
        }
        Ok(DiskLock::new(Unlock(self.0.locked.clone())))
    }
}

struct Unlock(Arc<AtomicBool>);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A file in pieces, so that it never moves when it grows.
struct MemoryFile {
    max_bytes: u64,
    used_bytes: Arc<AtomicU64>,
    /// Readers wait for a writer of the same file for as long as a copy takes.
    content: RwLock<Content>,
}

#[derive(Default)]
struct Content {
    pieces: Vec<Box<[u8]>>,
    len: u64,
}

impl MemoryFile {
    fn reserve(&self, content: &mut Content, len: u64) -> io::Result<()> {
        let pieces = usize::try_from(len.div_ceil(PIECE_BYTES as u64)).unwrap_or(usize::MAX);
        let more = pieces.saturating_sub(content.pieces.len());
        if more == 0 {
            return Ok(());
        }
        let more_bytes = more as u64 * PIECE_BYTES as u64;
        let taken = self
            .used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                Some(used + more_bytes).filter(|used| *used <= self.max_bytes)
            });
        if taken.is_err() {
            let why = format!(
                "the memory disk is full at its bound of {} bytes",
                self.max_bytes
            );
            return Err(io::Error::new(ErrorKind::StorageFull, why));
        }
        content
            .pieces
            .resize_with(pieces, || vec![0; PIECE_BYTES].into());
        Ok(())
    }

    fn release(&self, content: &mut Content, pieces: usize) {
        let less = content.pieces.len().saturating_sub(pieces);
        content.pieces.truncate(pieces);
        self.used_bytes
            .fetch_sub(less as u64 * PIECE_BYTES as u64, Ordering::Relaxed);
    }
}

impl Content {
    /// The rest of the piece at a position.
    fn at(&mut self, position: u64) -> &mut [u8] {
        let piece = (position / PIECE_BYTES as u64) as usize;
        let within = (position % PIECE_BYTES as u64) as usize;
        let piece = self.pieces.get_mut(piece).map(|piece| &mut **piece);
        piece
            .and_then(|piece| piece.get_mut(within..))
            .unwrap_or_default()
    }
}

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self
            .content
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len)
    }

    fn read_at(&self, position: u64, buf: &mut [u8]) -> io::Result<usize> {
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        let left = content.len.saturating_sub(position).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < left {
            let at = position + done as u64;
            let piece = content.pieces.get((at / PIECE_BYTES as u64) as usize);
            let within = (at % PIECE_BYTES as u64) as usize;
            let from = piece
                .and_then(|piece| piece.get(within..))
                .unwrap_or_default();
            let to = buf.get_mut(done..left).unwrap_or_default();
            let count = from.len().min(to.len());
            if let (Some(to), Some(from)) = (to.get_mut(..count), from.get(..count)) {
                to.copy_from_slice(from);
            }
            done += count;
        }
        Ok(done)
    }

    fn write_at(&self, position: u64, pieces: &[Bytes]) -> io::Result<()> {
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        let length: usize = pieces.iter().map(Bytes::len).sum();
        self.reserve(&mut content, position + length as u64)?;
        let mut at = position;
        for piece in pieces {
            let mut rest = piece.as_ref();
            while !rest.is_empty() {
                let to = content.at(at);
                let count = to.len().min(rest.len());
                let (now, later) = rest.split_at(count);
                if let Some(to) = to.get_mut(..count) {
                    to.copy_from_slice(now);
                }
                at += count as u64;
                rest = later;
            }
        }
        content.len = content.len.max(at);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        if len > content.len {
            self.reserve(&mut content, len)?;
        } else {
            let pieces = usize::try_from(len.div_ceil(PIECE_BYTES as u64)).unwrap_or(usize::MAX);
            self.release(&mut content, pieces);
            if !len.is_multiple_of(PIECE_BYTES as u64) {
                content.at(len).fill(0);
            }
        }
        content.len = len;
        Ok(())
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut content = std::mem::take(
            self.content
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.release(&mut content, 0);
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk")
            .field("max_bytes", &self.0.max_bytes)
            .field("used_bytes", &self.used_bytes())
            .finish_non_exhaustive()
    }
}
