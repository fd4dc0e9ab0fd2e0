//! A backup of an open broker, while it is used, and the broker that is restored of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::{Folder, events, group, join, settle, topic};
use tidemill_broker::backup::{self, BackupError};
use tidemill_broker::{Broker, Health};
use tidemill_core::Order;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_broker_goes_on_where_the_backup_was_taken() {
    let folder = Folder::new();
    let place = tempfile::tempdir().unwrap();
    let broker = folder.open().await;
    let publish = |broker: Broker, from, count| async move {
        for event in events(from, count) {
            broker.bus().publish(topic("t"), vec![event]).await.unwrap();
        }
    };
    publish(broker.clone(), 0, 40).await;
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    let settled = settle(member.as_mut(), 15).await;
    assert_eq!(settled.len(), 15);

    let more = tokio::spawn(publish(broker.clone(), 40, 40));
    let to = place.path().join("backup");
    let taken = broker.backup(&to).await.unwrap();
    more.await.unwrap();
    assert!(taken.report.clean, "{:?}", taken.report.findings);
    let again = broker.backup(&to).await;
    assert!(matches!(again, Err(BackupError::NotEmpty(_))), "{again:?}");
    assert_eq!(broker.health(), Health::Ready);
    drop(member);
    broker.close().await;

    let data = place.path().join("data");
    let restored = backup::restore(&to, &data, |_| {}).unwrap();
    assert_eq!(
        (restored.files, restored.through),
        (taken.files, taken.through)
    );
    let restored = Broker::open(&data).await.unwrap();
    assert!(restored.incarnation() > broker.incarnation() + 1000);
    let info = restored.topic(&topic("t")).unwrap();
    let kept = info.partitions[0].end.0 as usize;
    assert!((40..=80).contains(&kept), "{kept} events");
    let at = restored.group(&group("g")).unwrap();
    assert_eq!(at.lag(), kept as u64 - 15);
    let mut member = join(&restored, "g", "t", Order::PerKey).await;
    let rest = settle(member.as_mut(), kept - 15).await;
    let expected: Vec<_> = (15..kept).map(|n| n.to_string()).collect();
    assert_eq!(rest, expected);
    restored.close().await;
}

#[tokio::test]
async fn a_broker_in_memory_has_backups_too_and_a_closed_one_has_none() {
    let place = tempfile::tempdir().unwrap();
    let broker = Broker::in_memory();
    broker
        .bus()
        .publish(topic("t"), events(0, 7))
        .await
        .unwrap();
    let taken = broker.backup(place.path().join("a")).await.unwrap();
    assert_eq!(taken.linked_files, 0);
    broker.close().await;
    let closed = broker.backup(place.path().join("b")).await;
    assert!(matches!(closed, Err(BackupError::Closed)), "{closed:?}");
    let kept = Broker::open(place.path().join("a")).await.unwrap();
    assert_eq!(kept.topic(&topic("t")).unwrap().partitions[0].end.0, 7);
    kept.close().await;
    // Opened as a broker it is one, and no backup any more.
    let none = backup::restore(&place.path().join("a"), &place.path().join("c"), |_| {});
    assert!(matches!(none, Err(BackupError::NotWhole(_))), "{none:?}");
}
