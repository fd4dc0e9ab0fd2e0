//! A small log with something in every kind of file, for tests that look into one, copy it or
//! damage it. Knows none of them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use tidemill_log::driver::MemoryDisk;
use tidemill_log::{Disk, Options, PartitionId};

use super::faulty::{Image, image};
use super::{ByHand, Operation, partition};

pub(crate) fn options() -> Options {
    let mut options = Options::default();
    options.journal_file_first_bytes = 64 * 1024;
    options.segment_max_bytes = 20_000;
    options
}

pub(crate) fn ids() -> [PartitionId; 2] {
    [partition(1, 0), partition(2, 7)]
}

/// A log that was closed, opened again, written to and killed: 20 records of one partition in
/// segments, 5 of each of two in the journal.
pub(crate) fn written() -> Image {
    written_and(|_| {})
}

/// As [`written`], with something more before it was killed.
pub(crate) fn written_and(more: impl FnOnce(&mut ByHand)) -> Image {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30));
    let mut log = ByHand::open(&disk, &options()).unwrap();
    log.run(Operation::Create(partition(1, 0))).unwrap();
    for number in 0..20 {
        log.publish(partition(1, 0), &[number; 4200]);
    }
    log.run(Operation::Set(3, 4)).unwrap();
    log.log.close();
    log.settle();
    let mut log = ByHand::open(&disk, &options()).unwrap();
    log.run(Operation::Create(partition(2, 7))).unwrap();
    for number in 0..5 {
        log.publish(partition(1, 0), &[number; 60]);
        log.publish(partition(2, 7), &[number; 60]);
    }
    more(&mut log);
    image(disk.as_ref(), "")
}

/// Where commits begin in the journal's file that is in use: number of the first entry and
/// place, ascending.
pub(crate) fn commits(image: &Image) -> (String, Vec<(u64, usize)>) {
    let files = image
        .iter()
        .filter(|(path, _)| path.starts_with("journal/"));
    let newest = files.max_by_key(|(_, bytes)| bytes[32..40].to_vec());
    let (path, bytes) = newest.unwrap();
    let uuid = &bytes[16..32];
    let blocks = bytes.chunks(4096).enumerate();
    let ours = blocks.filter(|(_, block)| block.starts_with(b"TMJC") && &block[16..32] == uuid);
    let lsn = |block: &[u8]| u64::from_le_bytes(block[56..64].try_into().unwrap());
    let places = ours.map(|(at, block)| (lsn(block), at * 4096)).collect();
    (path.clone(), places)
}
