//! Offsets that clients commit, on the simulated disk, through lives that end when the power goes,
//! the process is killed, or a sync fails, at any step of the disk: what was acknowledged is there
//! with what was kept beside it; what had no answer is there whole, for all its partitions, or not
//! at all.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{group, topic};
use tidemill_broker::{Broker, ClassicCaller, ClassicCommit, CommitNote, CreateTopic};
use tidemill_core::{Offset, Partition};
use tidemill_testkit::sim::{Random, SimDisk};

const SEEDS: u64 = 20;
const LIVES: u64 = 4;
const PARTITIONS: u32 = 3;

/// Offset and metadata in each partition; they are committed together, and tell the same number.
type Positions = Option<u64>;

async fn open(disk: &SimDisk) -> Broker {
    let builder = Broker::builder().disk(Arc::new(disk.clone()));
    let opened = tokio::task::spawn_blocking(move || builder.open_blocking());
    opened.await.unwrap().unwrap()
}

/// Commits this number in every partition; whether it was acknowledged.
async fn commit(broker: &Broker, number: u64) -> bool {
    let one = |partition| ClassicCommit {
        topic: topic("t"),
        partition: Partition(partition),
        offset: Offset(number),
        note: CommitNote {
            leader_epoch: Some(7),
            metadata: format!("as far as {number}").into(),
        },
    };
    let nobody = ClassicCaller {
        generation: -1,
        ..ClassicCaller::default()
    };
    let commits = (0..PARTITIONS).map(one).collect();
    let groups = broker.classic_groups();
    let said = groups.commit(&group("g"), &nobody, commits).await;
    said.is_ok_and(|said| said.iter().all(Result::is_ok))
}

/// What is kept, which is the same in all partitions, and whole.
fn kept(broker: &Broker) -> Positions {
    let offsets = broker.classic_groups().offsets(&group("g"));
    let first = offsets.first()?.offset.unwrap().0;
    assert_eq!(offsets.len(), PARTITIONS as usize, "{offsets:?}");
    for one in &offsets {
        assert_eq!(one.offset, Some(Offset(first)), "{offsets:?}");
        assert_eq!(
            one.note.metadata,
            format!("as far as {first}"),
            "{offsets:?}"
        );
    }
    Some(first)
}

/// One of `may` is kept.
fn check(broker: &Broker, may: &[Positions]) -> Positions {
    let kept = kept(broker);
    assert!(may.contains(&kept), "{kept:?} is none of {may:?}");
    kept
}

/// Answers how many commits without an answer were kept, and how many were not.
async fn run(seed: u64) -> [u64; 2] {
    let mut random = Random::new(seed);
    let mut disk = SimDisk::new(seed);
    let mut broker = open(&disk).await;
    let how = CreateTopic {
        partitions: PARTITIONS,
        ..CreateTopic::default()
    };
    broker.create_topic(topic("t"), how).await.unwrap();
    let (mut known, mut met) = (None, [0, 0]);
    for life in 0..LIVES {
        match random.below(4) {
            0 => disk.fail_sync_after(random.below(10)),
            _ => disk.fail_after(Some(random.below(40))),
        }
        let mut unsure = None;
        for _ in 0..30 {
            // Forward and back.
            let number = life * 10_000 + random.below(10_000);
            if !commit(&broker, number).await {
                unsure = Some(number);
                break;
            }
            known = Some(number);
            check(&broker, &[known]);
        }
        disk = match random.below(3) {
            0 => disk.kill(),
            _ => disk.lose_power(),
        };
        drop(broker);
        broker = open(&disk).await;
        let found = check(&broker, &[known, unsure.or(known)]);
        if unsure.is_some() {
            met[usize::from(found == known)] += 1;
        }
        known = found;
    }
    broker.close().await;
    drop(broker);
    let broker = open(&disk).await;
    check(&broker, &[known]);
    broker.close().await;
    met
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_committed_is_there_whole_after_every_death() {
    let mut all = [0, 0];
    for seed in 1..=SEEDS {
        let met = tokio::time::timeout(Duration::from_secs(60), run(seed)).await;
        let met = met.unwrap_or_else(|_| panic!("seed {seed} does not go on"));
        all = [all[0] + met[0], all[1] + met[1]];
    }
    assert!(all[0] > 0 && all[1] > 0, "deaths met both: {all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[should_panic(expected = "is none of")]
async fn a_commit_that_is_forgotten_is_noticed() {
    let disk = SimDisk::new(1);
    let broker = open(&disk).await;
    let how = CreateTopic {
        partitions: PARTITIONS,
        ..CreateTopic::default()
    };
    broker.create_topic(topic("t"), how).await.unwrap();
    assert!(commit(&broker, 5).await);
    let forgotten = disk.copy(2);
    assert!(commit(&broker, 6).await);
    broker.close().await;
    let broker = open(&forgotten.lose_power()).await;
    check(&broker, &[Some(6)]);
}
