//! Reads both superblocks and says what each of them is.

use std::io::ErrorKind;

use crate::disk::Disk;
use crate::error::OpenError;
use crate::limits::BLOCK_BYTES;
use crate::superblock::{PATHS, Refused, Superblock, path_of};

/// What one of the two files is.
#[derive(Debug)]
pub(crate) enum Root {
    Missing,
    Unreadable(String),
    /// It is of a version that this program does not read.
    Refused(OpenError),
    Good(Superblock),
}

/// Both files with their paths.
pub(crate) fn roots(disk: &dyn Disk) -> [(&'static str, Root); 2] {
    PATHS.map(|path| (path, root(disk, path)))
}

/// The one that counts.
pub(crate) fn newest(roots: &[(&'static str, Root); 2]) -> Option<Superblock> {
    let good = roots.iter().filter_map(|(_, root)| match root {
        Root::Good(block) => Some(*block),
        _ => None,
    });
    good.max_by_key(|block| block.sequence)
}

fn root(disk: &dyn Disk, path: &str) -> Root {
    let mut bytes = vec![0; BLOCK_BYTES];
    let read = disk.open(path).and_then(|file| file.read_at(0, &mut bytes));
    match read {
        Ok(read) => bytes.truncate(read),
        Err(error) if error.kind() == ErrorKind::NotFound => return Root::Missing,
        Err(error) => return Root::Unreadable(error.to_string()),
    }
    match Superblock::decode(&bytes) {
        Ok(block) if path_of(block.sequence) == path => Root::Good(block),
        Ok(_) => Root::Unreadable("it belongs into the other file".to_owned()),
        Err(Refused::Unreadable) => Root::Unreadable("its checksum does not hold".to_owned()),
        Err(refused) => match refused.refusal() {
            Some(refusal) => Root::Refused(refusal),
            None => Root::Unreadable("its checksum does not hold".to_owned()),
        },
    }
}
