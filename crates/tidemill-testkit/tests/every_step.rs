//! Cuts the power, or fails a sync, at the first step of the disk, at the second, and so on until
//! everything runs through; in a life of the log, in the recovery after it, and in the recovery
//! after that one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::time::Duration;

use common::World;
use tidemill_log::{FlushPolicy, Health, OpenError, Step};
use tidemill_testkit::sim::checker::{Checker, Death};
use tidemill_testkit::sim::disk::Faults;

/// The power goes after every number of steps of a life, then of the recovery after it.
#[test]
fn a_power_cut_at_any_step_loses_nothing_acknowledged() {
    let mut whole = false;
    for cut in 0.. {
        let mut world = World::new(cut);
        world.disk.fail_after(Some(cut));
        if let Ok(mut opened) = world.open() {
            world.work(&mut opened, 24);
            whole = opened.0.health() == Health::Ready;
        }
        world.disk = world.disk.lose_power();
        world.disk.fail_after(Some(cut % 61));
        let reopened = world.open().is_ok();
        world.disk = world.disk.lose_power();
        let mut opened = world.open_and_check(Death::PowerLost);
        world.work(&mut opened, 3);
        if whole && reopened {
            println!("{cut} steps");
            break;
        }
    }
    assert!(whole);
}

/// A sync fails in a recovery, the process starts again and trusts nothing that it sees, and the
/// power goes at any step of that.
///
/// Once a superblock whose sync had failed was taken for durable, and the journal that the other
/// one names was overwritten.
#[test]
fn a_superblock_whose_sync_failed_is_written_again_before_its_elder_is_given_up() {
    for failing in 0..8 {
        for cut in 0..30 {
            let mut world = World::new(failing * 1000 + cut);
            // Large enough to be used again by the next recovery.
            world.options.journal_file_first_bytes = 256 * 1024;
            world.options.journal_file_max_bytes = 256 * 1024;
            world.options.checkpoint_after_bytes = 128 * 1024;
            let mut opened = world.open().unwrap();
            world.work(&mut opened, 6);
            drop(opened);
            world.disk = world.disk.kill();
            world.disk.fail_sync_after(failing);
            let failed = world.open().is_err();
            world.disk = world.disk.kill();
            world.disk.fail_after(Some(cut));
            drop(world.open());
            world.disk = world.disk.lose_power();
            let mut opened = world.open_and_check(Death::PowerLost);
            world.work(&mut opened, 2);
            assert!(
                failed || failing > 4,
                "sync {failing} is one of a recovery's"
            );
        }
    }
}

/// A recovery that needs more space finds none, or more and more of it: it says so and changes
/// nothing that counts, and with enough it opens.
#[test]
fn a_disk_that_is_full_at_any_step_of_a_recovery_loses_nothing() {
    let mut whole = false;
    let mut refused = 0;
    for step in 0.. {
        let mut world = World::new(step);
        // A tail that is longer than any file that could be used again.
        world.options.checkpoint_after_bytes = 4 * 1024 * 1024;
        world.options.journal_max_bytes = 4 * 1024 * 1024;
        let mut opened = world.open().unwrap();
        world.work(&mut opened, 100);
        drop(opened);
        world.disk = world.disk.kill();
        world.disk.set_faults(Faults {
            space_max_bytes: Some(world.disk.used_bytes() + step * 16 * 1024),
            ..Faults::default()
        });
        match world.open() {
            Ok(_) => whole = true,
            Err(OpenError::Full { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
        world.disk = world.disk.lose_power();
        world.disk.set_faults(Faults::default());
        let mut opened = world.open_and_check(Death::PowerLost);
        world.work(&mut opened, 3);
        if whole {
            break;
        }
    }
    assert!(refused >= 5, "{refused}");
}

/// A log that was closed has everything on the media, whatever its flush policy.
#[test]
fn a_power_cut_after_a_close_loses_nothing_under_any_policy() {
    let hour = Duration::from_secs(3600);
    for flush in [
        FlushPolicy::EveryCommit,
        FlushPolicy::Interval(hour),
        FlushPolicy::Os,
    ] {
        for seed in 0..10 {
            let mut world = World::new(seed);
            world.options.flush = flush;
            world.checker = Checker::new(world.shared.clone(), flush == FlushPolicy::EveryCommit);
            let mut opened = world.open().unwrap();
            world.work(&mut opened, 5 + 3 * seed);
            let (mut log, files) = opened;
            log.close();
            world.run(&mut log, &files);
            assert!(matches!(log.poll(), Step::Closed));
            drop(log);
            world.checker.synced(world.checker.promised());
            world.disk = world.disk.lose_power();
            world.open_and_check(Death::PowerLost);
        }
    }
}
