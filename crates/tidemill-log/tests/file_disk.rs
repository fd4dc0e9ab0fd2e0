//! Files of the operating system: what was written is there, whichever way it went.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;

use bytes::Bytes;
use proptest::prelude::*;
use tidemill_log::Disk;
use tidemill_log::driver::FileDisk;
use tidemill_log::limits::{BLOCK_BYTES, DIRECT_PIECE_BYTES, DIRECT_WRITE_FROM_BYTES};

/// Sizes around the places where a write is divided.
fn sizes() -> impl Strategy<Value = usize> {
    let block = BLOCK_BYTES;
    prop_oneof![
        3 => 0..3 * block,
        2 => (1_usize..40).prop_map(move |blocks| blocks * block),
        2 => DIRECT_WRITE_FROM_BYTES - 2 * block..DIRECT_WRITE_FROM_BYTES + 2 * block,
        1 => DIRECT_PIECE_BYTES - block..DIRECT_PIECE_BYTES + 3 * block,
    ]
}

/// A write: where it begins, its size, and into how many pieces it is cut.
fn writes() -> impl Strategy<Value = Vec<(usize, usize, usize)>> {
    let at = prop_oneof![
        0_usize..200 * 1024,
        (0_usize..50).prop_map(|n| n * BLOCK_BYTES)
    ];
    prop::collection::vec((at, sizes(), 1_usize..5), 1..8)
}

fn bytes(length: usize, seed: usize) -> Bytes {
    (0..length)
        .map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ seed.wrapping_mul(97)) as u8)
        .collect()
}

fn pieces(whole: &Bytes, count: usize) -> Vec<Bytes> {
    let length = (whole.len() / count).max(1);
    whole.chunks(length).map(Bytes::copy_from_slice).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_written_where_it_is_read_back(writes in writes(), append in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        for disk in [FileDisk::new(folder.path()), FileDisk::new(folder.path()).buffered()] {
            let file = disk.create("file").unwrap();
            let readers = disk.open("file").unwrap();
            let mut model: Vec<u8> = Vec::new();
            for (number, (at, length, count)) in writes.iter().enumerate() {
                let at = if append { model.len() } else { *at };
                let whole = bytes(*length, number);
                file.write_at(at as u64, &pieces(&whole, *count)).unwrap();
                let reach = if whole.is_empty() { 0 } else { at + length };
                model.resize(model.len().max(reach), 0);
                if !whole.is_empty() {
                    model[at..at + length].copy_from_slice(&whole);
                }
                file.write_out(at as u64..reach as u64);
                // Another descriptor, through the page cache, sees every write at once.
                let mut read = vec![1; model.len() + 1];
                let there = readers.read_at(0, &mut read).unwrap();
                prop_assert!(read[..there] == model, "after write {number}");
            }
            file.sync_data().unwrap();
            prop_assert_eq!(file.len().unwrap(), model.len() as u64);
            prop_assert!(fs::read(folder.path().join("file")).unwrap() == model);
            disk.remove("file").unwrap();
        }
    }
}

#[test]
fn a_write_goes_to_the_file_that_was_opened_whatever_has_its_name_by_then() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FileDisk::new(folder.path());
    let first = disk.create("file").unwrap();
    disk.rename("file", "other").unwrap();
    let second = disk.create("file").unwrap();
    let whole = bytes(4 * BLOCK_BYTES, 1);
    first.write_at(0, std::slice::from_ref(&whole)).unwrap();
    assert_eq!(second.len().unwrap(), 0);
    assert_eq!(fs::read(folder.path().join("other")).unwrap(), whole);
    assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"");
}
