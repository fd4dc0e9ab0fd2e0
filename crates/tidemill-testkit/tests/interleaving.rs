//! Lets operations come while each single background step of the log is under way, then cuts the
//! power.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::time::Duration;

use common::World;
use tidemill_log::FlushPolicy;
use tidemill_testkit::sim::checker::{Checker, Death};
use tidemill_testkit::sim::ledger::Part;

const STEPS: u64 = 40;

fn publish(partition: u64) -> Part {
    Part::Publish {
        partition,
        count: 2,
        size: 600,
    }
}

/// For every background step: a world in which the first `parts` come during it, and the others
/// during the steps after it.
fn at_every_step(flush: FlushPolicy, parts: &[Vec<Part>], after: u64) {
    let mut reached = 0;
    for step in 1..=STEPS {
        let mut world = World::new(step);
        world.options.flush = flush;
        let every_commit = flush == FlushPolicy::EveryCommit;
        world.checker = Checker::new(world.shared.clone(), every_commit);
        world.during = (step..).zip(parts.iter().cloned()).collect();
        let mut opened = world.open().unwrap();
        while !world.during.is_empty() {
            world.work(&mut opened, 1);
        }
        reached = world.background.max(reached);
        world.work(&mut opened, after);
        drop(opened);
        world.disk = world.disk.lose_power();
        let mut opened = world.open_and_check(Death::PowerLost);
        world.work(&mut opened, 1);
    }
    assert!(reached >= STEPS);
}

#[test]
fn a_deletion_may_come_at_any_step() {
    for partition in 1..=2 {
        let before = vec![publish(partition)];
        let parts = [before, vec![publish(partition), Part::Delete(partition)]];
        at_every_step(FlushPolicy::EveryCommit, &parts, 6);
    }
}

#[test]
fn a_burst_of_publishes_may_come_at_any_step() {
    let parts: Vec<Part> = (0..9).map(|n| publish(1 + n % 3)).collect();
    at_every_step(FlushPolicy::EveryCommit, &[parts], 3);
}

/// Under a relaxed policy the power once went between the removal of a deleted partition's files
/// and the sync of the entry that deleted it.
#[test]
fn a_deleted_partition_keeps_its_files_until_its_deletion_is_durable() {
    let hour = Duration::from_secs(3600);
    for flush in [FlushPolicy::Os, FlushPolicy::Interval(hour)] {
        for partition in [1, 3] {
            at_every_step(flush, &[vec![Part::Delete(partition)]], 2);
        }
    }
}
