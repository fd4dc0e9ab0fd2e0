//! A sync that fails: the broker says so at every door, and goes on serving what is durable.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::gate::Gate;
use support::{events, ids, join, settle, take, topic};
use tidemill_broker::{Broker, Health};
use tidemill_core::error::Unavailable;
use tidemill_core::{Commit, Fetch, Offset, Order, Partition, PublishError, SettleError};
use tidemill_log::driver::MemoryDisk;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_is_told_at_every_door_and_reads_go_on() {
    let disk = MemoryDisk::new(64 << 20);
    let (gate, failing) = Gate::before(disk.clone());
    let broker = Broker::builder().disk(failing).open().await.unwrap();
    broker
        .bus()
        .publish(topic("t"), events(0, 4))
        .await
        .unwrap();
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    assert_eq!(settle(&mut *member, 1).await, ["0"]);
    let mut held = take(&mut *member, 2).await;

    gate.fail();
    let unsure = broker
        .bus()
        .publish(topic("t"), events(9, 1))
        .await
        .unwrap_err();
    assert!(matches!(unsure, PublishError::Indeterminate(_)), "{unsure}");
    let refused = broker
        .bus()
        .publish(topic("t"), events(10, 1))
        .await
        .unwrap_err();
    let failed = |why: &Unavailable| matches!(why, Unavailable::SyncFailed(_));
    assert!(
        matches!(&refused, PublishError::Unavailable(why) if failed(why)),
        "{refused}"
    );
    assert!(!refused.is_retriable());
    let (_, settlement) = held.remove(0);
    let refused = settlement.settle(Commit::ack()).await.unwrap_err();
    assert!(
        matches!(&refused, SettleError::Unavailable(why) if failed(why)),
        "{refused}"
    );
    assert!(
        matches!(broker.health(), Health::ReadOnly(_)),
        "{:?}",
        broker.health()
    );

    // What was refused was given back; the rest was not asked for yet.
    assert_eq!(ids(&take(&mut *member, 2).await), ["1", "3"]);
    let fetch = Fetch {
        topic: topic("t"),
        partition: Partition(0),
        offset: Offset(0),
        max_events: 10,
        max_bytes: 1 << 20,
        wait: Duration::ZERO,
    };
    assert_eq!(broker.bus().fetch(fetch).await.unwrap().events.len(), 4);
    drop((held, member));
    broker.close().await;

    // A restart helps, and has everything that was acknowledged.
    let broker = Broker::builder().disk(Arc::new(disk)).open().await.unwrap();
    assert_eq!(broker.health(), Health::Ready);
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    assert_eq!(settle(&mut *member, 3).await, ["1", "2", "3"]);
    broker.close().await;
}
