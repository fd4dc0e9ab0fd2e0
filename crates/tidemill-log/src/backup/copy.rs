//! Copies files from disk to disk, with their checksums.

use std::io;

use bytes::Bytes;

use super::manifest::Entry;
use crate::disk::Disk;
use crate::limits::COPY_PIECE_BYTES;

/// Copies the first `size_bytes` of a file, or all of it where it is shorter, and makes the copy
/// durable; its name is not yet.
pub(super) fn copy(
    from: &dyn Disk,
    to: &dyn Disk,
    path: &str,
    size_bytes: u64,
    mut each: impl FnMut(u64),
) -> io::Result<Entry> {
    let target = to.create(path)?;
    let mut at = 0;
    let entry = read(from, path, size_bytes, |piece| {
        let length = piece.len() as u64;
        target.write_at(at, &[piece])?;
        at += length;
        each(length);
        Ok(())
    })?;
    target.sync_data()?;
    Ok(entry)
}

/// Reads the first `size_bytes` of a file, or all of it where it is shorter.
pub(super) fn read(
    from: &dyn Disk,
    path: &str,
    size_bytes: u64,
    mut each: impl FnMut(Bytes) -> io::Result<()>,
) -> io::Result<Entry> {
    let source = from.open(path)?;
    let (mut at, mut crc) = (0, 0);
    while at < size_bytes {
        let length = (size_bytes - at).min(COPY_PIECE_BYTES as u64);
        let mut piece = vec![0; length as usize];
        let read = source.read_at(at, &mut piece)?;
        piece.truncate(read);
        if read == 0 {
            break;
        }
        crc = crc32c::crc32c_append(crc, &piece);
        at += read as u64;
        each(Bytes::from(piece))?;
    }
    Ok(Entry {
        path: path.to_owned(),
        size_bytes: at,
        crc,
    })
}
