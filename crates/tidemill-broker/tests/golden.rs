//! A data folder of today's format as a broker wrote it then, with every sort of effect: today's
//! code reads it to the very events and positions.
//!
//! `TIDEMILL_WRITE_GOLDEN=1 cargo test -p tidemill-broker --test golden` writes the folder anew.
//! That is for a change of the format alone: what is released is never written again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::{Folder, events, group, join, settle, take, topic};
use tidemill_broker::inspect::{Dump, Value, dump, verify};
use tidemill_broker::{Broker, CreateQueue, CreateTopic, Dequeue, QueueSettings, TransactionalId};
use tidemill_core::{Commit, Order};

/// The format's version, of which a folder is written today.
const VERSION: u32 = 1;

fn golden(version: u32) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    golden.join(format!("folder-{version}"))
}

/// Publishes, settles, creates and deletes, as often as it is told: the events of a life have
/// numbers from `from` on.
async fn live(broker: &Broker, from: usize) {
    let (t, gone) = (topic("t"), topic("gone"));
    let (g, old) = (group("g"), group("old"));
    broker
        .bus()
        .publish(t.clone(), events(from, 6))
        .await
        .unwrap();
    let mut producer = broker.producer().unwrap();
    producer.publish(&t, &events(from + 6, 2)).await.unwrap();
    let id = TransactionalId::new("tx").unwrap();
    let timeout = Duration::from_secs(600);
    let mut transaction = broker.transactional(id, timeout).await.unwrap();
    transaction.publish(&t, &events(from + 8, 1)).await.unwrap();
    transaction.commit().await.unwrap();
    transaction
        .publish(&t, &events(from + 90, 1))
        .await
        .unwrap();
    transaction.abort().await.unwrap();
    broker.bus().publish(t, events(from + 9, 1)).await.unwrap();

    let how = CreateTopic {
        partitions: 2,
        ..CreateTopic::default()
    };
    broker.create_topic(gone.clone(), how).await.unwrap();
    drop(join(broker, "old", "gone", Order::PerKey).await);
    broker.delete_group(&old).await.unwrap();
    broker.delete_topic(&gone).await.unwrap();
    // The third one of six stays unsettled, and those behind it are settled.
    let mut member = join(broker, g.as_str(), "t", Order::PerKey).await;
    let held = take(member.as_mut(), 6).await;
    for (number, (_, settlement)) in held.into_iter().enumerate() {
        if number != 2 {
            settlement.settle(Commit::ack()).await.unwrap();
        }
    }
}

/// A queue of five messages, of which the second one is acknowledged, and one that is deleted.
async fn queue(broker: &Broker, from: usize) {
    for name in ["jobs", "gone"] {
        let how = CreateQueue {
            settings: QueueSettings {
                lease: Duration::from_secs(60),
                max_deliveries: Some(3),
                ttl: None,
            },
            ..CreateQueue::default()
        };
        let name = topic(&format!("{name}-{from}"));
        broker.create_queue(name.clone(), how).await.unwrap();
        let queue = broker.queue(&name).unwrap();
        queue.enqueue(events(from, 5)).await.unwrap();
        let max = 3;
        let held = queue
            .dequeue(Dequeue {
                max,
                ..Dequeue::default()
            })
            .await
            .unwrap();
        queue.ack(&[held[1].lease.unwrap()]).await.unwrap();
    }
    let gone = topic(&format!("gone-{from}"));
    broker.delete_queue(&gone).await.unwrap();
}

async fn made(to: &Path) {
    let folder = Folder::new();
    let broker = folder.open().await;
    live(&broker, 0).await;
    queue(&broker, 0).await;
    broker.close().await;
    let broker = folder.open().await;
    live(&broker, 100).await;
    queue(&broker, 100).await;
    broker.backup(to).await.unwrap();
    broker.close().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(std::fs::copy(&path, to).unwrap()),
        }
    }
}

/// One that is made today, and the golden folders, of which the last is written anew where that
/// is asked for.
async fn folders(place: &Path) -> Vec<PathBuf> {
    let today = place.join("today");
    made(&today).await;
    for left in ["lock", "backup.manifest"] {
        std::fs::remove_file(today.join(left)).unwrap();
    }
    if std::env::var_os("TIDEMILL_WRITE_GOLDEN").is_some() {
        let _ = std::fs::remove_dir_all(golden(VERSION));
        copy(&today, &golden(VERSION));
    }
    let mut folders = vec![today];
    for version in 0..=VERSION {
        let kept = place.join(format!("kept-{version}"));
        copy(&golden(version), &kept);
        folders.push(kept);
    }
    folders
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_is_read_to_the_very_events_and_positions() {
    let place = tempfile::tempdir().unwrap();
    for data in folders(place.path()).await {
        let report = verify(&data, |_| {}).unwrap();
        assert!(report.clean, "{:?}", report.findings);
        let kinds = kinds(&data);
        for kind in [
            "topic created",
            "topic deleted",
            "group created",
            "group deleted",
            "cursor set",
            "settled",
            "next group",
            "queue set",
            "Producer",
            "Transaction",
        ] {
            assert!(kinds.contains(kind), "{kind} is not in {kinds:?}");
        }
        let broker = Broker::open(&data).await.unwrap();
        assert_eq!(broker.incarnation(), 3);
        let names: Vec<_> = broker.topics().into_iter().map(|of| of.name).collect();
        assert_eq!(names, [topic("t")]);
        let groups: Vec<_> = broker.groups().into_iter().map(|of| of.name).collect();
        assert_eq!(groups, [group("g")]);

        for from in [0, 100] {
            let queue = broker.queue(&topic(&format!("jobs-{from}"))).unwrap();
            let info = queue.info().await;
            assert_eq!(info.settings.max_deliveries, Some(3));
            assert_eq!(info.settings.lease, Duration::from_secs(60));
            let left: Vec<_> = queue.peek(9).await.unwrap();
            let left: Vec<_> = left.iter().map(|of| of.event.id().to_string()).collect();
            let kept = [from, from + 2, from + 3, from + 4].map(|n| n.to_string());
            assert_eq!((info.length, left), (4, kept.to_vec()));
        }
        assert_eq!(broker.queues().await.len(), 2);

        let all: Vec<_> = (0..10).chain(100..110).map(|n| n.to_string()).collect();
        let mut reader = join(&broker, "reader", "t", Order::PerKey).await;
        assert_eq!(settle(reader.as_mut(), all.len()).await, all);
        // Each life has taken the first six that were left, and settled all but the third.
        let settled = ["0", "1", "3", "4", "5", "2", "6", "8", "9", "100"];
        let left = all.iter().filter(|id| !settled.contains(&id.as_str()));
        let left: Vec<_> = left.cloned().collect();
        let mut member = join(&broker, "g", "t", Order::PerKey).await;
        assert_eq!(settle(member.as_mut(), left.len()).await, left);
        broker
            .bus()
            .publish(topic("t"), events(200, 1))
            .await
            .unwrap();
        assert_eq!(settle(member.as_mut(), 1).await, ["200"]);
        broker.close().await;
    }
}

/// What the effects in a folder are.
fn kinds(data: &Path) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    dump(data, &Dump::default(), |line| {
        for (name, value) in &line.fields {
            match (*name, value) {
                ("effect", Value::Text(text)) => kinds.insert(text.clone()),
                ("holds", Value::Text(text)) => {
                    kinds.insert(text.split('(').next().unwrap_or_default().to_owned())
                }
                _ => true,
            };
        }
        true
    })
    .unwrap();
    kinds
}
