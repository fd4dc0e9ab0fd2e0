//! Shows that every fault of the simulated disk happens, and that what was synced is safe.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_log::{Disk, DiskFile};
use tidemill_testkit::sim::{Faults, SECTOR_BYTES, SimDisk};

const SEEDS: u64 = 200;

fn read(file: &Arc<dyn DiskFile>) -> Vec<u8> {
    let mut buf = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_at(0, &mut buf).unwrap(), buf.len());
    buf
}

fn put(file: &Arc<dyn DiskFile>, position: u64, bytes: Vec<u8>) {
    file.write_at(position, &[Bytes::from(bytes)]).unwrap();
}

/// A durable file of four sectors of ones.
fn synced(disk: &SimDisk) -> Arc<dyn DiskFile> {
    let file = disk.create("f").unwrap();
    put(&file, 0, vec![1; 4 * SECTOR_BYTES]);
    file.sync_data().unwrap();
    disk.sync_dir("").unwrap();
    file
}

#[test]
fn what_was_synced_survives_and_nothing_else_must() {
    let (mut survived, mut vanished, mut torn, mut shorter) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        let file = synced(&disk);
        put(&file, SECTOR_BYTES as u64, vec![2; 4 * SECTOR_BYTES]);
        assert_eq!(read(&file)[SECTOR_BYTES], 2, "reads show the cache");
        let disk = disk.lose_power();
        let bytes = read(&disk.open("f").unwrap());
        assert!(bytes[..SECTOR_BYTES].iter().all(|b| *b == 1), "seed {seed}");
        shorter += u64::from(bytes.len() == 4 * SECTOR_BYTES);
        for sector in bytes[SECTOR_BYTES..].chunks(SECTOR_BYTES) {
            let new = sector.iter().filter(|b| **b == 2).count();
            match new {
                SECTOR_BYTES => survived += 1,
                0 => vanished += 1,
                _ => torn += 1,
            }
        }
        let fate = disk.counts().fate;
        assert_eq!(fate.survived + fate.vanished + fate.torn, 4);
    }
    assert!(survived > 50 && vanished > 50 && torn > 10 && shorter > 20);
}

#[test]
fn sectors_reach_the_media_in_any_order() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        let file = synced(&disk);
        put(&file, 0, vec![2; 2 * SECTOR_BYTES]);
        let bytes = read(&disk.lose_power().open("f").unwrap());
        seen.insert((bytes[0], bytes[SECTOR_BYTES]));
    }
    assert!(seen.contains(&(1, 2)) && seen.contains(&(2, 1)), "{seen:?}");
}

#[test]
fn an_overwritten_version_may_be_what_is_left() {
    let seen = (0..SEEDS).any(|seed| {
        let disk = SimDisk::new(seed);
        let file = synced(&disk);
        put(&file, 0, vec![2; SECTOR_BYTES]);
        put(&file, 0, vec![3; SECTOR_BYTES]);
        let bytes = read(&disk.lose_power().open("f").unwrap());
        bytes[..SECTOR_BYTES].contains(&2)
    });
    assert!(seen);
}

#[test]
fn a_failed_sync_cleans_the_pages_and_loses_them() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        let file = synced(&disk);
        put(&file, 0, vec![2; 4 * SECTOR_BYTES]);
        disk.set_faults(Faults {
            sync_failure: 1_000_000,
            ..Faults::default()
        });
        file.sync_data().unwrap_err();
        disk.set_faults(Faults::default());
        assert!(read(&file).iter().all(|b| *b == 2), "the cache shows it on");
        file.sync_data().expect("a later sync succeeds");
        let bytes = read(&disk.lose_power().open("f").unwrap());
        lost += bytes.chunks(SECTOR_BYTES).filter(|s| s[0] == 1).count() as u64;
        assert_eq!(disk.counts().syncs_failed, 1);
    }
    assert!(lost > SEEDS, "{lost} of {} sectors were lost", 4 * SEEDS);
}

#[test]
fn a_killed_process_leaves_the_cache_and_the_power_takes_it() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        let file = synced(&disk);
        put(&file, 0, vec![2; SECTOR_BYTES]);
        let disk = disk.kill();
        file.len().expect_err("a handle from before the crash");
        let again = disk.open("f").unwrap();
        assert_eq!(read(&again)[0], 2);
        lost += u64::from(read(&disk.lose_power().open("f").unwrap())[0] == 1);
    }
    assert!(lost > 20, "{lost}");
}

#[test]
fn names_are_durable_after_a_sync_of_their_folder_alone() {
    let (mut gone, mut back, mut unmoved) = (0, 0, 0);
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        disk.make_dir("a/b").unwrap();
        for folder in ["", "a"] {
            disk.sync_dir(folder).unwrap();
        }
        for name in ["a/b/kept", "a/b/removed", "a/b/old"] {
            disk.create(name).unwrap().sync_data().unwrap();
        }
        disk.sync_dir("a/b").unwrap();
        disk.create("a/b/new").unwrap().sync_data().unwrap();
        disk.remove("a/b/removed").unwrap();
        disk.rename("a/b/old", "a/b/moved").unwrap();
        assert_eq!(disk.list("a/b").unwrap(), ["kept", "moved", "new"]);
        let disk = disk.lose_power();
        let names = disk.list("a/b").unwrap();
        let has = |name: &str| names.iter().any(|n| n == name);
        assert!(has("kept") && has("old") != has("moved"), "{names:?}");
        gone += u64::from(!has("new"));
        back += u64::from(has("removed"));
        unmoved += u64::from(has("old"));
    }
    assert!(gone > 20 && back > 20 && unmoved > 20);
    assert!(gone < SEEDS && back < SEEDS && unmoved < SEEDS);
}

#[test]
fn a_folder_that_vanishes_takes_what_is_in_it() {
    let mut gone = 0;
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        disk.make_dir("a").unwrap();
        disk.create("a/f").unwrap().sync_data().unwrap();
        disk.sync_dir("a").unwrap();
        let disk = disk.lose_power();
        gone += u64::from(disk.open("a/f").is_err());
        assert_eq!(disk.list("a").is_ok(), disk.open("a/f").is_ok());
    }
    assert!(gone > 20 && gone < SEEDS);
}

#[test]
fn a_folder_can_be_moved_and_an_empty_one_removed() {
    let disk = SimDisk::new(1);
    disk.make_dir("a/b").unwrap();
    disk.create("a/b/f").unwrap();
    disk.rename("a", "z").unwrap();
    assert!(disk.open("z/b/f").is_ok() && disk.open("a/b/f").is_err());
    assert_eq!(
        disk.remove("z/b").unwrap_err().kind(),
        ErrorKind::DirectoryNotEmpty
    );
    disk.remove("z/b/f").unwrap();
    disk.remove("z/b").unwrap();
    for folder in ["", "z"] {
        disk.sync_dir(folder).unwrap();
    }
    assert!(disk.lose_power().list("z").unwrap().is_empty());
}

#[test]
fn writes_fail_whole_or_in_part() {
    let disk = SimDisk::new(3);
    let file = synced(&disk);
    disk.set_faults(Faults {
        write_failure: 1_000_000,
        ..Faults::default()
    });
    let two = [Bytes::from(vec![2; SECTOR_BYTES])];
    file.write_at(0, &two).unwrap_err();
    assert!(read(&file).iter().all(|b| *b == 1));
    disk.set_faults(Faults {
        short_write: 1_000_000,
        ..Faults::default()
    });
    file.write_at(0, &two).unwrap_err();
    let new = read(&file).iter().filter(|b| **b == 2).count();
    assert!((1..SECTOR_BYTES).contains(&new), "{new}");
    assert_eq!(
        (disk.counts().writes_failed, disk.counts().writes_short),
        (1, 1)
    );
}

#[test]
fn a_full_disk_takes_what_fits_and_goes_on_with_space() {
    let disk = SimDisk::new(4);
    let file = synced(&disk);
    disk.set_faults(Faults {
        space_max_bytes: Some(5 * SECTOR_BYTES as u64),
        ..Faults::default()
    });
    let two = [Bytes::from(vec![2; 2 * SECTOR_BYTES])];
    let end = 4 * SECTOR_BYTES as u64;
    let error = file.write_at(end, &two).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 5 * SECTOR_BYTES as u64);
    file.write_at(0, &two).expect("overwriting needs no space");
    disk.create("other").unwrap();
    disk.set_faults(Faults::default());
    file.write_at(end, &two).unwrap();
}

#[test]
fn bits_flip_at_rest_and_in_what_was_not_synced() {
    let disk = SimDisk::new(5);
    let file = synced(&disk);
    assert!(disk.decay("f").unwrap());
    assert_eq!(read(&file).iter().filter(|b| **b != 1).count(), 1);

    let mut flipped = 0;
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        let file = synced(&disk);
        disk.set_faults(Faults {
            flip_unsynced: 1_000_000,
            ..Faults::default()
        });
        put(&file, 0, vec![2; SECTOR_BYTES]);
        flipped += disk.lose_power().counts().fate.flipped;
    }
    assert!(flipped > 50, "{flipped}");
}

#[test]
fn the_same_seed_gives_the_same_image_and_others_give_others() {
    let image = |seed| {
        let disk = SimDisk::new(seed);
        let file = synced(&disk);
        put(
            &file,
            0,
            (0..=255).cycle().take(64 * SECTOR_BYTES).collect(),
        );
        disk.lose_power().image_hash()
    };
    let images: std::collections::BTreeSet<u64> = (0..SEEDS).map(image).collect();
    assert!((0..SEEDS).all(|seed| images.contains(&image(seed))));
    assert!(images.len() > SEEDS as usize / 3, "{}", images.len());
}

#[test]
fn the_lock_keeps_others_out_until_it_is_dropped_or_its_holder_dies() {
    let disk = SimDisk::new(6);
    let lock = disk.lock().unwrap();
    assert_eq!(disk.lock().unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(lock);
    let held = disk.lock().unwrap();
    let disk = disk.kill();
    let again = disk.lock().unwrap();
    drop(held);
    assert!(
        disk.lock().is_err(),
        "a dead holder's drop releases nothing"
    );
    drop(again);
    disk.lock().unwrap();
}

#[test]
fn a_cut_file_may_come_back_until_it_is_synced() {
    let mut back = 0;
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        let file = synced(&disk);
        file.truncate(SECTOR_BYTES as u64).unwrap();
        let bytes = read(&disk.lose_power().open("f").unwrap());
        back += u64::from(bytes.len() == 4 * SECTOR_BYTES);
        let file = disk_with_cut(seed);
        assert_eq!(read(&file), [1; SECTOR_BYTES]);
    }
    assert!(back > 20 && back < SEEDS);
}

fn disk_with_cut(seed: u64) -> Arc<dyn DiskFile> {
    let disk = SimDisk::new(seed);
    let file = synced(&disk);
    file.truncate(SECTOR_BYTES as u64).unwrap();
    file.sync_data().unwrap();
    disk.lose_power().open("f").unwrap()
}
