//! Small files that the server keeps for itself in its data folder, such as users: only its own
//! account may read them, a change is there whole or not at all, and whoever changes one does so
//! alone, whether it is the server or a command beside it.
//!
//! A file is a few kilobytes and is read whole. What is in one, this room may not know. Every call
//! waits for the disk: asynchronous callers use a thread for it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::limits::{PRIVATE_FILE_LOCK_LOOK_EVERY, PRIVATE_FILE_LOCK_TIMEOUT};

/// One such file. It need not be there.
#[derive(Clone, Debug)]
pub(crate) struct PrivateFile {
    folder: PathBuf,
    name: &'static str,
    max_bytes: usize,
}

/// Tells one state of a file from the next, as every change makes a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl PrivateFile {
    /// The file `name` in this folder, `private` of a data folder, with at most so many bytes.
    pub(crate) fn new(folder: impl Into<PathBuf>, name: &'static str, max_bytes: usize) -> Self {
        Self {
            folder: folder.into(),
            name,
            max_bytes,
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join(self.name)
    }

    /// What tells its state from others; `None` where it is not there.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn stamp(&self) -> io::Result<Option<Stamp>> {
        let there = fs::metadata(self.path()).map(|found| Stamp {
            inode: found.ino(),
            bytes: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        });
        if_there(there)
    }

    /// What is in it; `None` where it is not there.
    ///
    /// # Errors
    /// What the system says, and a file that is larger than it may be.
    pub(crate) fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = if_there(File::open(self.path()))? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(self.max_bytes as u64 + 1)
            .read_to_end(&mut bytes)?;
        self.fits(&bytes)?;
        Ok(Some(bytes))
    }

    /// Changes it: `change` gets what is there and gives what is to be there, or `None` to leave
    /// everything as it is. Nobody else changes it meanwhile. What is answered is durable.
    ///
    /// # Errors
    /// What `change` says, what the system says, and where somebody else does not end changing it
    /// within [`PRIVATE_FILE_LOCK_TIMEOUT`]. Then the old state is there.
    pub(crate) fn change<T, E: From<io::Error>>(
        &self,
        change: impl FnOnce(Option<Vec<u8>>) -> Result<(Option<Vec<u8>>, T), E>,
    ) -> Result<T, E> {
        self.make_folder()?;
        let _lock = self.lock(PRIVATE_FILE_LOCK_TIMEOUT)?;
        let (bytes, answer) = change(self.read()?)?;
        if let Some(bytes) = bytes {
            self.fits(&bytes)?;
            self.write(&bytes)?;
        }
        Ok(answer)
    }

    fn fits(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() <= self.max_bytes {
            return Ok(());
        }
        let path = self.path();
        let why = format!("{} has more than {} bytes", path.display(), self.max_bytes);
        Err(io::Error::new(ErrorKind::FileTooLarge, why))
    }

    fn make_folder(&self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Ok(()) => sync_folder(self.folder.parent().unwrap_or(Path::new("."))),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The lock is a file of its own, which stays: what it guards is another file each time.
    fn lock(&self, patience: Duration) -> io::Result<File> {
        let path = self.beside(".lock");
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(&path)?;
        let until = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                    let why = format!(
                        "another program has been changing {} for {} s; try again when it has \
                         ended",
                        self.path().display(),
                        patience.as_secs()
                    );
                    return Err(io::Error::new(ErrorKind::TimedOut, why));
                }
                Err(TryLockError::WouldBlock) => {
                    std::thread::sleep(PRIVATE_FILE_LOCK_LOOK_EVERY);
                }
            }
        }
    }

    /// Writes a new file and gives it the name, each durable before the next.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let new = self.beside(".new");
        // One that was left behind may have another mode.
        if_there(fs::remove_file(&new))?;
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.path())?;
        sync_folder(&self.folder)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = OsString::from(self.name);
        name.push(ending);
        self.folder.join(name)
    }
}

fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(folder: &tempfile::TempDir) -> PrivateFile {
        PrivateFile::new(folder.path().join("private"), "things.json", 16)
    }

    fn put(file: &PrivateFile, text: &str) -> io::Result<()> {
        file.change(|_| Ok((Some(text.into()), ())))
    }

    fn mode(path: impl AsRef<Path>) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_was_put_is_read_and_nobody_else_may() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        assert_eq!(file.read().unwrap(), None);
        assert_eq!(file.stamp().unwrap(), None);
        put(&file, "one").unwrap();
        let first = file.stamp().unwrap();
        assert_eq!(file.read().unwrap().unwrap(), b"one");
        put(&file, "two").unwrap();
        assert_eq!(file.read().unwrap().unwrap(), b"two");
        assert_ne!(file.stamp().unwrap(), first);
        assert_eq!(mode(file.path()), 0o600);
        assert_eq!(mode(folder.path().join("private")), 0o700);
        assert_eq!(mode(file.beside(".lock")), 0o600);
    }

    #[test]
    fn a_change_that_fails_or_is_too_large_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        put(&file, "one").unwrap();
        let failed: io::Result<()> = file.change(|_| Err(io::Error::other("no")));
        assert!(failed.is_err());
        assert!(put(&file, "far more than fits into it").is_err());
        assert!(file.change(|_| Ok::<_, io::Error>((None, ()))).is_ok());
        assert_eq!(file.read().unwrap().unwrap(), b"one");
        fs::write(file.path(), [b'x'; 17]).unwrap();
        assert!(file.read().is_err());
    }

    #[test]
    fn what_a_dead_writer_left_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        put(&file, "one").unwrap();
        fs::write(file.beside(".new"), "half").unwrap();
        put(&file, "two").unwrap();
        assert_eq!(file.read().unwrap().unwrap(), b"two");
        assert_eq!(mode(file.path()), 0o600);
    }

    #[test]
    fn only_one_at_a_time_changes_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        put(&file, "").unwrap();
        let one_more = |bytes: Option<Vec<u8>>| {
            let mut bytes = bytes.unwrap_or_default();
            bytes.push(b'x');
            Ok::<_, io::Error>((Some(bytes), ()))
        };
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| file.change(one_more).unwrap());
            }
        });
        assert_eq!(file.read().unwrap().unwrap(), b"xxxxxxxx");
        let _held = file.lock(Duration::ZERO).unwrap();
        let refused = file.lock(Duration::ZERO).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TimedOut);
    }
}
