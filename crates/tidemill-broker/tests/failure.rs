//! A sync that fails: the broker says so at every door, and goes on serving what is durable.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use support::{events, ids, join, settle, take, topic};
use tidemill_broker::{Broker, Health};
use tidemill_core::error::Unavailable;
use tidemill_core::{Commit, Fetch, Offset, Order, Partition, PublishError, SettleError};
use tidemill_log::driver::MemoryDisk;
use tidemill_log::{Disk, DiskFile, DiskLock};

/// A disk in memory whose syncs fail from some time on.
struct Failing {
    disk: MemoryDisk,
    fails: Arc<AtomicBool>,
}

struct FailingFile {
    file: Arc<dyn DiskFile>,
    fails: Arc<AtomicBool>,
}

impl Failing {
    fn wrap(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let fails = Arc::clone(&self.fails);
        Arc::new(FailingFile { file, fails })
    }
}

impl Disk for Failing {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.disk.create(path)?))
    }
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.disk.open(path)?))
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.make_dir(dir)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self) -> io::Result<DiskLock> {
        self.disk.lock()
    }
}

impl DiskFile for FailingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, position: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(position, buf)
    }
    fn write_at(&self, position: u64, pieces: &[Bytes]) -> io::Result<()> {
        self.file.write_at(position, pieces)
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the cable is loose"));
        }
        self.file.sync_data()
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_is_told_at_every_door_and_reads_go_on() {
    let disk = MemoryDisk::new(64 << 20);
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Failing {
        disk: disk.clone(),
        fails: Arc::clone(&fails),
    };
    let broker = Broker::builder()
        .disk(Arc::new(failing))
        .open()
        .await
        .unwrap();
    broker
        .bus()
        .publish(topic("t"), events(0, 4))
        .await
        .unwrap();
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    assert_eq!(settle(&mut *member, 1).await, ["0"]);
    let mut held = take(&mut *member, 2).await;

    fails.store(true, Ordering::SeqCst);
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
