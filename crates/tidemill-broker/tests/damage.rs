//! Data that cannot be read: what is damaged is named and passed, what is of a newer version is
//! refused.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use support::{Folder, event, group, id, join, settle, topic};
use tidemill_broker::OpenError;
use tidemill_core::{Commit, Event, Fetch, FetchError, Offset, Order, Partition};
use tidemill_log::driver::{self, FileDisk};
use tidemill_log::{Demand, Draft, Dump, Effect, LoadError, Lsn, Machine, Now, Options};

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// The folder's files as they are now: what a killed process leaves.
fn copy_of(folder: &Folder) -> Folder {
    let copy = Folder::new();
    let mut found = Vec::new();
    files(folder.path(), &mut found);
    for file in found {
        let to = copy.path().join(file.strip_prefix(folder.path()).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(&file, to).unwrap();
    }
    copy
}

fn large(n: usize) -> Event {
    let builder = event(n, None).to_builder();
    builder.untyped_data(vec![b'7'; 10_000]).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_batch_is_passed_and_named() {
    const COUNT: usize = 30;
    let folder = Folder::new();
    let broker = folder.open().await;
    for n in 0..COUNT {
        broker
            .bus()
            .publish(topic("t"), vec![large(n)])
            .await
            .unwrap();
    }
    broker.close().await;
    let mut found = Vec::new();
    files(folder.path(), &mut found);
    let segment = found
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "log"));
    let segment = segment.expect("closing has written the segment");
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    let broker = folder.open().await;
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&COUNT) {
        if seen.last() == Some(&(COUNT - 1)) {
            broker
                .bus()
                .publish(topic("t"), vec![large(COUNT)])
                .await
                .unwrap();
        }
        for (delivery, settlement) in member.pull(100).await.unwrap() {
            seen.push(id(&delivery).parse::<usize>().unwrap());
            settlement.settle(Commit::ack()).await.unwrap();
        }
    }
    assert!(
        (COUNT / 2..=COUNT).contains(&seen.len()),
        "some are missing: {seen:?}"
    );
    assert!(seen.is_sorted());
    let info = broker.group(&group("g")).unwrap();
    let named = info.partitions[0].damage.as_deref().unwrap();
    assert!(named.contains("damaged"), "{named}");
    assert_eq!((info.lag(), info.partitions[0].settled_above), (0, 0));
    assert!(broker.metrics().damaged_reads > 0);

    let lost = (0..COUNT).find(|n| !seen.contains(n)).unwrap() as u64;
    let fetch = Fetch {
        topic: topic("t"),
        partition: Partition(0),
        offset: Offset(lost),
        max_events: 10,
        max_bytes: 1 << 20,
        wait: Duration::ZERO,
    };
    let error = broker.bus().fetch(fetch.clone()).await.unwrap_err();
    let FetchError::Damaged { resume, .. } = error else {
        panic!("{error}");
    };
    let offset = resume;
    let after = broker.bus().fetch(Fetch { offset, ..fetch }).await.unwrap();
    assert_eq!(after.events[0].0, resume);
    broker.close().await;
}

/// A machine of a later version, as far as the log can tell.
struct Later;

impl Machine for Later {
    type Operation = ();
    type Receipt = ();
    type Refusal = ();

    fn demand(_: &()) -> Demand {
        Demand {
            bytes: 1000,
            ..Demand::default()
        }
    }

    fn seal(&mut self, (): (), _: Now, draft: &mut Draft<'_>) -> Result<(), ()> {
        draft.effect(0x7777, b"what nobody knows");
        Ok(())
    }

    fn apply(&mut self, _: Lsn, _: Effect<'_>) {}

    fn dump(&self) -> Dump {
        Box::new(std::iter::empty())
    }

    fn load(&mut self, _: &[u8]) -> Result<(), LoadError> {
        Ok(())
    }

    fn recovered(&mut self) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_of_a_newer_version_refuses_the_opening() {
    let folder = Folder::new();
    let disk = Arc::new(FileDisk::new(folder.path()));
    let handle = driver::open(disk, Options::default(), Later, Arc::new(())).unwrap();
    let (sender, answer) = mpsc::channel();
    handle.submit((), move |answer| sender.send(answer.is_ok()).unwrap());
    assert!(answer.recv().unwrap());
    // Without the snapshot that closing makes.
    let crashed = copy_of(&folder);
    for _ in 0..2 {
        let refused = crashed.builder().open().await.err().unwrap();
        assert!(matches!(refused, OpenError::Entry { .. }), "{refused}");
        assert!(refused.to_string().contains("0x7777"), "{refused}");
    }
    handle.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_was_not_closed_comes_back() {
    let folder = Folder::new();
    let broker = folder.open().await;
    broker
        .bus()
        .publish(topic("t"), vec![large(0), large(1)])
        .await
        .unwrap();
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    settle(&mut *member, 1).await;
    let copy = copy_of(&folder);
    let again = copy.open().await;
    let mut member = join(&again, "g", "t", Order::PerKey).await;
    assert_eq!(settle(&mut *member, 1).await, ["1"]);
    again.close().await;
    broker.close().await;
}
