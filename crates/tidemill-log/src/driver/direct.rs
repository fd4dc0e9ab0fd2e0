//! Writing past the page cache: which part of a write may go so, and memory for it. It knows
//! nothing of what is written.
//!
//! Such a write wants its position, its length and its memory at multiples of a block of the
//! device. What of a write is not at such a multiple goes through the page cache as usual; the
//! system keeps both views of a file one (open(2), `O_DIRECT`, in its notes, asks programs not to
//! mix them on the same bytes, and no block is written in both ways here before the file grows
//! beyond it).

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use rustix::fs::OFlags;

use crate::limits::{BLOCK_BYTES, DIRECT_PIECE_BYTES, DIRECT_WRITE_FROM_BYTES};

/// A file's second descriptor, for writes past the page cache.
#[derive(Debug, Default)]
pub(super) struct Direct {
    /// Opened by the first such write; `None` where the file system has no such thing.
    file: OnceLock<Option<File>>,
    /// The file system has refused such a write.
    refused: AtomicBool,
}

/// How a write of `length` bytes at `position` is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Bytes up to the first whole block.
    pub(super) head: usize,
    /// Bytes of whole blocks.
    pub(super) blocks: usize,
}

/// What of a write goes past the page cache: whole blocks alone, such as commits are, and the
/// inner part of a large write.
pub(super) fn divide(position: u64, length: usize) -> Option<Parts> {
    let beyond = (position % BLOCK_BYTES as u64) as usize;
    let head = (BLOCK_BYTES - beyond) % BLOCK_BYTES;
    let blocks = length.checked_sub(head)? / BLOCK_BYTES * BLOCK_BYTES;
    let whole = head == 0 && blocks == length;
    (blocks > 0 && (whole || length >= DIRECT_WRITE_FROM_BYTES)).then_some(Parts { head, blocks })
}

impl Direct {
    /// Writes `length` bytes, whole blocks, from `gather` to this place of `usual`, which was
    /// opened at `path`. Answers how many were written: fewer where the file system does not do
    /// that, and then the others are to be written in the usual way.
    pub(super) fn write(
        &self,
        usual: &File,
        path: &Path,
        mut position: u64,
        length: usize,
        gather: &mut Gather<'_>,
    ) -> io::Result<usize> {
        let Some(file) = self.file.get_or_init(|| open(usual, path)) else {
            return Ok(0);
        };
        let mut left = length;
        while left > 0 && !self.refused.load(Relaxed) {
            let count = left.min(DIRECT_PIECE_BYTES);
            let written = SCRATCH.with_borrow_mut(|scratch| {
                let piece = scratch.piece(count);
                let before = *gather;
                gather.fill(piece);
                let written = write_whole(file, piece, position);
                if !matches!(written, Ok(true)) {
                    *gather = before;
                }
                written
            });
            if !written? {
                self.refused.store(true, Relaxed);
                break;
            }
            left -= count;
            position += count as u64;
        }
        Ok(length - left)
    }
}

/// Opens the file again, unless another one has its name by now.
fn open(usual: &File, path: &Path) -> Option<File> {
    let direct = i32::try_from(OFlags::DIRECT.bits()).ok()?;
    let mut options = OpenOptions::new();
    let file = options.write(true).custom_flags(direct).open(path).ok()?;
    let (usual, again) = (usual.metadata().ok()?, file.metadata().ok()?);
    let same = usual.dev() == again.dev() && usual.ino() == again.ino();
    same.then_some(file)
}

/// Writes all of a piece; `false` where the file system refuses such writes. What came of a
/// piece that was not written whole is written again.
fn write_whole(file: &File, piece: &[u8], position: u64) -> io::Result<bool> {
    loop {
        match file.write_at(piece, position) {
            Ok(count) if count == piece.len() => return Ok(true),
            // The rest may not be at a block: written in the usual way, it tells what is wrong.
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if refuses(error.kind()) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

fn refuses(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidInput | ErrorKind::Unsupported)
}

/// The bytes of several pieces, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gather<'a> {
    pieces: &'a [Bytes],
    /// Bytes of the first piece that were taken.
    taken: usize,
}

impl<'a> Gather<'a> {
    pub(super) fn new(pieces: &'a [Bytes]) -> Self {
        Self { pieces, taken: 0 }
    }

    /// The next bytes that lie together, at most `most`.
    pub(super) fn next(&mut self, most: usize) -> &'a [u8] {
        while let [first, rest @ ..] = self.pieces {
            let left = first.get(self.taken..).unwrap_or_default();
            if left.is_empty() {
                self.pieces = rest;
                self.taken = 0;
                continue;
            }
            let run = left.get(..most).unwrap_or(left);
            self.taken += run.len();
            return run;
        }
        &[]
    }

    /// Copies the next bytes, as many as there is room for.
    fn fill(&mut self, mut to: &mut [u8]) {
        while !to.is_empty() {
            let run = self.next(to.len());
            let Some((now, rest)) = to
                .split_at_mut_checked(run.len())
                .filter(|_| !run.is_empty())
            else {
                break;
            };
            now.copy_from_slice(run);
            to = rest;
        }
    }
}

thread_local! {
    /// Two threads of a log write files; each has as much as its largest write wanted.
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch { bytes: Vec::new() }) };
}

/// Memory of which a part lies at a block.
#[derive(Debug)]
struct Scratch {
    bytes: Vec<u8>,
}

impl Scratch {
    fn piece(&mut self, length: usize) -> &mut [u8] {
        let wanted = length.next_power_of_two() + BLOCK_BYTES;
        if self.bytes.len() < wanted {
            self.bytes = vec![0; wanted];
        }
        let from = self.bytes.as_ptr().align_offset(BLOCK_BYTES);
        let piece = self.bytes.get_mut(from..from + length);
        piece.expect("there is a block more than what is wanted")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = BLOCK_BYTES;

    #[test]
    fn whole_blocks_and_the_inner_part_of_large_writes_go_past_the_cache() {
        let parts = |head, blocks| Some(Parts { head, blocks });
        assert_eq!(divide(0, BLOCK), parts(0, BLOCK));
        assert_eq!(divide(8 * BLOCK as u64, 3 * BLOCK), parts(0, 3 * BLOCK));
        assert_eq!(divide(0, BLOCK + 1), None);
        assert_eq!(divide(1, BLOCK), None);
        assert_eq!(divide(5, 0), None);
        let large = DIRECT_WRITE_FROM_BYTES;
        assert_eq!(divide(1, large), parts(BLOCK - 1, large - BLOCK));
        assert_eq!(divide(BLOCK as u64 - 1, large), parts(1, large - BLOCK));
        assert_eq!(divide(0, large + 7), parts(0, large));
    }

    #[test]
    fn gathered_bytes_are_those_of_the_pieces_in_order() {
        let pieces = [b"ab".as_slice(), b"", b"cdefg", b"h"].map(Bytes::from_static);
        let mut gather = Gather::new(&pieces);
        assert_eq!(gather.next(10), b"ab");
        assert_eq!(gather.next(2), b"cd");
        let mut rest = [b'-'; 5];
        gather.fill(&mut rest);
        assert_eq!(&rest, b"efgh-");
        assert_eq!(gather.next(1), b"");
    }

    #[test]
    fn the_memory_lies_at_a_block() {
        let mut scratch = Scratch { bytes: Vec::new() };
        for length in [BLOCK, 3 * BLOCK, BLOCK, 100 * BLOCK] {
            let piece = scratch.piece(length);
            assert_eq!(piece.len(), length);
            assert_eq!(piece.as_ptr().align_offset(BLOCK), 0);
        }
    }
}
