//! A folder of the operating system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, fadvise};

use super::direct::{Direct, Gather, divide};
use super::nested;
use crate::disk::{Disk, DiskFile, DiskLock, LockGuard};
use crate::inspect::InspectError;

/// Pieces that one call of the operating system takes (`IOV_MAX` of Linux).
const PIECES_MAX: usize = 1024;

/// A folder. It is made when it is first needed.
///
/// Whole blocks and large writes go past the page cache where the file system can do that
/// (`O_DIRECT`), unless [`FileDisk::buffered`] says otherwise.
#[derive(Clone, Debug)]
pub struct FileDisk {
    root: PathBuf,
    /// Every write goes through the page cache.
    buffered: bool,
    /// Nothing may be changed.
    read_only: bool,
    /// The first path that this process may not use; clones share it.
    denied: Arc<OnceLock<PathBuf>>,
}

impl FileDisk {
    /// The folder at this path.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            root: path.as_ref().to_owned(),
            buffered: false,
            read_only: false,
            denied: Arc::default(),
        }
    }

    /// The same folder, but every write goes through the page cache.
    #[must_use]
    pub fn buffered(self) -> Self {
        Self {
            buffered: true,
            ..self
        }
    }

    /// The folder at this path, to be looked at: nothing in it is changed, the lock's file
    /// included, and many may look at once. Where there is no lock's file nobody has it open.
    #[must_use]
    pub fn read_only(path: impl AsRef<Path>) -> Self {
        Self {
            read_only: true,
            ..Self::new(path)
        }
    }

    /// Whether this process had permission for every file and folder that was asked for so far:
    /// what could not be read for want of one is neither missing nor damaged.
    ///
    /// # Errors
    /// [`InspectError::Denied`], which names the first that was refused.
    pub fn permitted(&self) -> Result<(), InspectError> {
        let Some(path) = self.denied.get() else {
            return Ok(());
        };
        // Who may not look at a file either is told to be its folder's owner.
        let found = path.ancestors().find_map(|path| fs::metadata(path).ok());
        let owner = found.map(|found| format!("its owner, the user with id {}", found.uid()));
        Err(InspectError::Denied {
            path: path.display().to_string(),
            owner: owner.unwrap_or_else(|| "its owner".to_owned()),
        })
    }

    /// Notes a missing permission.
    fn noted<T>(&self, path: &str, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() == ErrorKind::PermissionDenied
        {
            // The first one is the one that is told.
            let _ = self.denied.set(self.path(path));
        }
        result
    }

    fn path(&self, path: &str) -> PathBuf {
        match path {
            "" => self.root.clone(),
            _ => self.root.join(path),
        }
    }

    fn open_with(&self, path: &str, new: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        if new {
            self.may_change()?;
        }
        if !self.read_only {
            options.write(true).create_new(new);
        }
        let full_path = self.path(path);
        let file = self.noted(path, options.open(&full_path))?;
        if self.read_only && file.metadata()?.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let direct = (!self.buffered).then(Direct::default);
        Ok(Arc::new(RealFile {
            file,
            path: full_path,
            direct,
        }))
    }
}

impl FileDisk {
    fn may_change(&self) -> io::Result<()> {
        match self.read_only {
            true => Err(ErrorKind::ReadOnlyFilesystem.into()),
            false => Ok(()),
        }
    }

    /// Makes the folder and those above it, and makes their names durable.
    fn make_root(&self) -> io::Result<()> {
        let missing: Vec<_> = self
            .root
            .ancestors()
            .take_while(|dir| !is_there(dir))
            .collect();
        fs::create_dir_all(&self.root)?;
        for dir in missing {
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(())
    }

    /// Why the lock was not to be had: who holds it, as far as its file says.
    fn held(&self, file: &mut File, why: TryLockError) -> io::Error {
        if let TryLockError::Error(error) = why {
            return error;
        }
        let folder = self.root.display();
        // Who only looks leaves no name, and the one in the file is of somebody before.
        if file.try_lock_shared().is_ok() {
            let why = format!("{folder} is being looked into, as by `tidemill log`");
            return io::Error::new(ErrorKind::WouldBlock, why);
        }
        let mut holder = String::new();
        // Who holds it is a courtesy: without it the answer is the same.
        let _ = file.read_to_string(&mut holder);
        let why = match holder.trim() {
            "" => format!("{folder} is open in another process"),
            pid if pid == process::id().to_string() => {
                format!("{folder} is open in this process already (pid {pid})")
            }
            pid => format!("{folder} is open in the process with pid {pid}"),
        };
        io::Error::new(ErrorKind::WouldBlock, why)
    }

    /// Why there can be no lock's file.
    fn unusable(&self, error: &io::Error) -> String {
        let folder = self.root.display();
        let mut there = self.root.ancestors().filter(|dir| is_there(dir));
        match there.next() {
            Some(dir) if !dir.as_os_str().is_empty() && !dir.is_dir() => {
                format!("{} is a file; name a folder", dir.display())
            }
            Some(dir) if dir != self.root && error.kind() != ErrorKind::PermissionDenied => {
                format!("{folder} cannot be made ({error}); name another folder")
            }
            _ => format!("{folder} is not writable ({error}); make it so, or use another"),
        }
    }

    fn lock_file(&self) -> io::Result<File> {
        self.make_root()?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        options.open(self.path("lock"))
    }
}

impl Disk for FileDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open_with(path, true)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open_with(path, false)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.noted(dir, fs::read_dir(self.path(dir)))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.may_change()?;
        fs::create_dir_all(self.path(dir))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.may_change()?;
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.may_change()?;
        let path = self.path(path);
        match fs::symlink_metadata(&path)?.is_dir() {
            true => fs::remove_dir(path),
            false => fs::remove_file(path),
        }
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.path(dir))?.sync_all()
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.root)
    }

    fn is_held(&self, path: &str) -> bool {
        nested::is_held(&self.path(path))
    }

    fn link_from(&self, path: &str, source: &dyn Disk) -> io::Result<()> {
        self.may_change()?;
        let source = source.folder().ok_or(ErrorKind::Unsupported)?;
        fs::hard_link(source.join(path), self.path(path))
    }

    fn available_bytes(&self) -> Option<u64> {
        let found = rustix::fs::statvfs(&self.root).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn lock(&self) -> io::Result<DiskLock> {
        if self.read_only {
            return match self.noted("lock", File::open(self.path("lock"))) {
                Ok(mut file) => match file.try_lock_shared() {
                    Ok(()) => Ok(DiskLock::new(file)),
                    Err(why) => Err(self.held(&mut file, why)),
                },
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(DiskLock::new(())),
                Err(error) => Err(error),
            };
        }
        let mut file = self
            .lock_file()
            .map_err(|error| io::Error::new(error.kind(), self.unusable(&error)))?;
        file.try_lock().map_err(|why| self.held(&mut file, why))?;
        let mut held = Held {
            after_bad_end: file.metadata()?.len() > 0,
            file,
            ended_well: false,
        };
        held.file.set_len(0)?;
        writeln!(held.file, "{}", process::id())?;
        Ok(DiskLock::knowing(held))
    }
}

/// The lock's file while its text names this process. It is unlocked when it is closed.
struct Held {
    file: File,
    /// There was a name in it: its process did not take it out.
    after_bad_end: bool,
    ended_well: bool,
}

impl LockGuard for Held {
    fn after_bad_end(&self) -> bool {
        self.after_bad_end
    }

    fn ended_well(&mut self) {
        self.ended_well = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.ended_well || !self.after_bad_end {
            // Left over, the name is as that of a killed process, which the next holder replaces.
            let _ = self.file.set_len(0);
        }
    }
}

/// Whether a folder is there; the empty path is the current one.
fn is_there(dir: &Path) -> bool {
    dir.as_os_str().is_empty() || dir.exists()
}

/// An open file.
struct RealFile {
    file: File,
    path: PathBuf,
    /// For writes past the page cache; `None` where all go through it.
    direct: Option<Direct>,
}

impl RealFile {
    /// Writes `length` of the bytes through the page cache.
    fn write_buffered(
        &self,
        mut position: u64,
        mut length: usize,
        gather: &mut Gather<'_>,
    ) -> io::Result<()> {
        while length > 0 {
            let mut slices = Vec::new();
            while length > 0 && slices.len() < PIECES_MAX {
                let run = gather.next(length);
                if run.is_empty() {
                    length = 0;
                    break;
                }
                length -= run.len();
                slices.push(IoSlice::new(run));
            }
            let mut rest = slices.as_mut_slice();
            while !rest.is_empty() {
                match rustix::io::pwritev(&self.file, rest, position) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(count) => {
                        position += count as u64;
                        IoSlice::advance_slices(&mut rest, count);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, position: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, position + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn read(&self, position: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len);
        // What a vector has room for may be more than what was asked for: the rest is cut off.
        while bytes.len() < len {
            let at = position + bytes.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut bytes), at) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(len);
        Ok(bytes)
    }

    fn write_at(&self, mut position: u64, pieces: &[Bytes]) -> io::Result<()> {
        let mut length = pieces.iter().map(Bytes::len).sum();
        let mut gather = Gather::new(pieces);
        if let Some(direct) = &self.direct
            && let Some(parts) = divide(position, length)
        {
            self.write_buffered(position, parts.head, &mut gather)?;
            position += parts.head as u64;
            let written =
                direct.write(&self.file, &self.path, position, parts.blocks, &mut gather)?;
            position += written as u64;
            length -= parts.head + written;
        }
        self.write_buffered(position, length, &mut gather)
    }

    fn write_out(&self, range: Range<u64>) {
        let Some(length) = NonZeroU64::new(range.end.saturating_sub(range.start)) else {
            return;
        };
        // Linux begins with what is not written yet, and forgets whole pages that are: who reads at
        // the end has them in memory. Where it does neither, the sync does all.
        let _ = fadvise(&self.file, range.start, Some(length), Advice::DontNeed);
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}
