//! Small files that the server keeps for itself in its data folder, such as users: only its own
//! account may read them, a change is there whole or not at all, and whoever changes one does so
//! alone, whether it is the server or a command beside it. All of them belong to whom the data
//! folder belongs to, also where root makes them; where the folder is root's, to who opened it.
//!
//! A file is a few kilobytes and is read whole. What is in one, this room may not know, but for the
//! version of its layout where it is JSON. Every call
//! waits for the disk: asynchronous callers use a thread for it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;

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
    /// What the system says, a file that is larger than it may be, and one that other accounts
    /// may read or change.
    pub(crate) fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = if_there(File::open(self.path()))? else {
            return Ok(None);
        };
        let mode = file.metadata()?.mode() & 0o777;
        if mode & 0o077 != 0 {
            let path = self.path();
            let path = path.display();
            let why = format!(
                "{path} is open to other accounts (mode {mode:04o}), and what is in it is secret; \
                 have it be its owner's alone with `chmod 600 {path}`"
            );
            return Err(io::Error::new(ErrorKind::PermissionDenied, why));
        }
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
    /// What `change` says, what the system says, where somebody else does not end changing it
    /// within [`PRIVATE_FILE_LOCK_TIMEOUT`], and where the data folder is another account's, which
    /// could not read what this one writes. Then the old state is there.
    pub(crate) fn change<T, E: From<io::Error>>(
        &self,
        change: impl FnOnce(Option<Vec<u8>>) -> Result<(Option<Vec<u8>>, T), E>,
    ) -> Result<T, E> {
        let owner = self.owner()?;
        let named = |error| owner.named(error);
        self.make_folder(&owner).map_err(named)?;
        let lock = self.lock(&owner, PRIVATE_FILE_LOCK_TIMEOUT);
        let _lock = lock.map_err(named)?;
        let (bytes, answer) = change(self.read()?)?;
        if let Some(bytes) = bytes {
            self.fits(&bytes)?;
            self.write(&owner, &bytes).map_err(named)?;
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

    /// Whose the files are: who has the data folder, or, where that is root, the account that
    /// opens it: its lock's file is made by the first server.
    fn owner(&self) -> io::Result<Owner> {
        let of = or_here(self.folder.parent().unwrap_or(Path::new(".")));
        let folder = fs::metadata(of)?;
        let lock = if_there(fs::symlink_metadata(of.join("lock")))?;
        let lock = lock.filter(|lock| lock.is_file() && folder.uid() == ROOT);
        let found = lock.unwrap_or(folder);
        Ok(Owner {
            of: of.to_owned(),
            user: found.uid(),
            group: found.gid(),
        })
    }

    fn make_folder(&self, owner: &Owner) -> io::Result<()> {
        let made = match DirBuilder::new().mode(0o700).create(&self.folder) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        // Where somebody put a link instead, what it leads to stays whose it is.
        if !fs::symlink_metadata(&self.folder)?.is_symlink() {
            let flags = flags(OFlags::DIRECTORY | OFlags::NOFOLLOW);
            let mut options = OpenOptions::new();
            let folder = options.read(true).custom_flags(flags).open(&self.folder)?;
            if let Err(error) = owner.takes(&folder) {
                // One of another account would be in its owner's way.
                if made {
                    fs::remove_dir(&self.folder)?;
                }
                return Err(error);
            }
        }
        match made {
            true => sync_folder(&owner.of),
            false => Ok(()),
        }
    }

    /// The lock is a file of its own, which stays: what it guards is another file each time.
    fn lock(&self, owner: &Owner, patience: Duration) -> io::Result<File> {
        let path = self.beside(".lock");
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let options = options.mode(0o600).custom_flags(flags(OFlags::NOFOLLOW));
        let file = options.open(&path)?;
        // By another name it may be a file of somebody else.
        if file.metadata()?.nlink() == 1 {
            owner.takes(&file)?;
        }
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
    fn write(&self, owner: &Owner, bytes: &[u8]) -> io::Result<()> {
        let new = self.beside(".new");
        // One that was left behind may have another mode.
        if_there(fs::remove_file(&new))?;
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        owner.takes(&file)?;
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

/// What such a file says as JSON, with the version of its layout.
pub(crate) trait Versioned: Serialize + DeserializeOwned {
    /// The layout that this program writes and reads.
    const VERSION: u32;

    /// The one that it has.
    fn version(&self) -> u32;

    /// The bytes of a file.
    ///
    /// # Errors
    /// It has keys that JSON has not.
    fn encode(&self) -> io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        text.push(b'\n');
        Ok(text)
    }

    /// What the bytes of a file say.
    ///
    /// # Errors
    /// What is wrong with them.
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let written: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match written.version() {
            version if version == Self::VERSION => Ok(written),
            other => Err(format!("version {other} is not known here")),
        }
    }
}

/// The account that has a data folder, and with it what is private in it.
#[derive(Debug)]
struct Owner {
    /// The data folder.
    of: PathBuf,
    user: u32,
    group: u32,
}

impl Owner {
    /// Gives it a file, or a folder. The group does not count: it may do nothing with them.
    fn takes(&self, file: &File) -> io::Result<()> {
        let found = file.metadata()?;
        let group = (found.gid() != self.group).then_some(self.group);
        if found.uid() == self.user {
            return match group.map_or(Ok(()), |_| fchown(file, None, group)) {
                Err(error) if error.kind() != ErrorKind::PermissionDenied => Err(error),
                _ => Ok(()),
            };
        }
        match fchown(file, Some(self.user), Some(self.group)) {
            // Root reads it whosever it is.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && self.user == ROOT => {
                Ok(())
            }
            given => given,
        }
    }

    /// Says who may, where the system says that this account may not.
    fn named(&self, error: io::Error) -> io::Error {
        if error.kind() != ErrorKind::PermissionDenied {
            return error;
        }
        let (folder, user) = (self.of.display(), self.user);
        let why = format!(
            "{folder} belongs to the account with the user id {user}, which alone may change and \
             read what is private in it ({error}); run the command as that account, as with \
             `sudo -u '#{user}'`"
        );
        io::Error::new(ErrorKind::PermissionDenied, why)
    }
}

const ROOT: u32 = 0;

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(or_here(folder))?.sync_all()
}

fn or_here(folder: &Path) -> &Path {
    match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

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
        let owner = file.owner().unwrap();
        let _held = file.lock(&owner, Duration::ZERO).unwrap();
        let refused = file.lock(&owner, Duration::ZERO).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TimedOut);
    }

    /// Root gives what it makes to who has the data folder; anybody else keeps his own.
    #[test]
    fn what_is_made_belongs_to_who_has_the_data_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        let mine = fs::metadata(folder.path()).unwrap().uid();
        let whose = match mine == ROOT {
            true => 65_534,
            false => mine,
        };
        let group = (mine == ROOT).then_some(whose);
        // As root left it once: a folder and a lock of its own.
        put(&file, "one").unwrap();
        chown(folder.path(), Some(whose), group).unwrap();
        for text in ["two", "three"] {
            put(&file, text).unwrap();
            for path in [
                file.path(),
                file.beside(".lock"),
                folder.path().join("private"),
            ] {
                let found = fs::metadata(&path).unwrap();
                assert_eq!(found.uid(), whose, "{}", path.display());
                assert!(group.is_none_or(|group| found.gid() == group));
            }
        }
        assert_eq!(mode(file.path()), 0o600);
        assert_eq!(mode(folder.path().join("private")), 0o700);
    }

    /// A folder of root's that a server of another account has open.
    #[test]
    fn in_a_folder_of_roots_it_belongs_to_the_account_that_opened_that() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        put(&file, "one").unwrap();
        if fs::metadata(file.path()).unwrap().uid() != ROOT {
            return;
        }
        let server = 65_534;
        fs::write(folder.path().join("lock"), "").unwrap();
        chown(folder.path().join("lock"), Some(server), Some(server)).unwrap();
        put(&file, "two").unwrap();
        for path in [file.path(), folder.path().join("private")] {
            assert_eq!(fs::metadata(path).unwrap().uid(), server);
        }
        // A link in its place says nothing.
        fs::remove_file(folder.path().join("lock")).unwrap();
        symlink("/etc/hostname", folder.path().join("lock")).unwrap();
        put(&file, "three").unwrap();
        assert_eq!(fs::metadata(file.path()).unwrap().uid(), ROOT);
    }

    #[test]
    fn what_others_may_read_is_not_taken_for_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        put(&file, "one").unwrap();
        for mode in [0o644, 0o640, 0o602] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let refused = file.read().unwrap_err().to_string();
            assert!(refused.contains("chmod 600"), "{refused}");
            assert!(put(&file, "two").is_err());
        }
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(file.read().unwrap().unwrap(), b"one");
    }

    #[test]
    fn what_a_link_leads_to_is_neither_locked_nor_given_away() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        put(&file, "one").unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "of somebody else").unwrap();
        fs::remove_file(file.beside(".lock")).unwrap();
        symlink(&other, file.beside(".lock")).unwrap();
        assert!(put(&file, "two").is_err());
        assert_eq!(file.read().unwrap().unwrap(), b"one");
    }

    #[test]
    fn who_may_not_is_told_who_may() {
        let owner = Owner {
            of: "data".into(),
            user: 1234,
            group: 1234,
        };
        let told = owner.named(ErrorKind::PermissionDenied.into());
        assert_eq!(told.kind(), ErrorKind::PermissionDenied);
        assert!(told.to_string().contains("sudo -u '#1234'"), "{told}");
        let other = owner.named(ErrorKind::StorageFull.into());
        assert_eq!(other.kind(), ErrorKind::StorageFull);
    }
}
