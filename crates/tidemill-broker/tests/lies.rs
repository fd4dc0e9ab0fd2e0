//! Batches in a segment that say what is not true, under right checksums: each is named with its
//! offsets, nothing of it is given out, and reading goes on behind it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use support::{Folder, event, group, id, join, topic};
use tidemill_core::{Commit, Event, Fetch, FetchError, Offset, Order, Partition};
use tidemill_log::Batch;

const COUNT: usize = 30;
const LINE_BYTES: usize = 32;

type Lie = fn(&mut [u8]);

/// Which batch lies, and how.
const LIES: [(usize, Lie); 8] = [
    // It is packed with gzip, snappy, lz4, zstd, but its body is not.
    (0, |batch| batch[22] |= 1),
    (3, |batch| batch[22] |= 2),
    (4, |batch| batch[22] |= 3),
    (9, |batch| batch[22] |= 4),
    // Its record is longer than there are bytes.
    (12, |batch| batch[62] |= 0x7f),
    // It holds no record, though there is one.
    (15, |batch| batch[57..61].fill(0)),
    // Its largest time is another.
    (20, |batch| batch[42] ^= 1),
    // It reaches into the ones behind it.
    (25, |batch| batch[26] = 3),
];

fn find(dir: &Path, extension: &str) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    entries.find_map(|path| match path.is_dir() {
        true => find(&path, extension),
        false => path
            .extension()
            .is_some_and(|e| e == extension)
            .then_some(path),
    })
}

/// Changes the batches of the only segment, and makes every checksum right again.
fn lie(folder: &Path) {
    let (log, sum) = (find(folder, "log").unwrap(), find(folder, "sum").unwrap());
    let mut bytes = std::fs::read(&log).unwrap();
    let mut lines = std::fs::read(&sum).unwrap();
    assert_eq!(lines.len(), COUNT * LINE_BYTES, "one batch an event");
    let (mut rest, mut at) = (Bytes::from(bytes.clone()), 0);
    for number in 0..COUNT {
        let (batch, behind) = Batch::parse(rest).unwrap();
        rest = behind;
        let end = at + batch.size_bytes();
        let own = &mut bytes[at..end];
        if let Some((_, change)) = LIES.iter().find(|(which, _)| *which == number) {
            change(own);
            let crc = crc32c::crc32c(&own[21..]);
            own[17..21].copy_from_slice(&crc.to_be_bytes());
            let line = &mut lines[number * LINE_BYTES..(number + 1) * LINE_BYTES];
            line[16..20].copy_from_slice(&crc32c::crc32c(&own[..21]).to_le_bytes());
            let crc = crc32c::crc32c(&line[..28]);
            line[28..].copy_from_slice(&crc.to_le_bytes());
        }
        at = end;
    }
    std::fs::write(&log, bytes).unwrap();
    std::fs::write(&sum, lines).unwrap();
}

fn large(n: usize) -> Event {
    let builder = event(n, None).to_builder();
    builder.untyped_data(vec![b'7'; 10_000]).build().unwrap()
}

async fn folder_of_liars() -> Folder {
    let folder = Folder::new();
    let broker = folder.open().await;
    for n in 0..COUNT {
        let published = broker.bus().publish(topic("t"), vec![large(n)]).await;
        published.unwrap();
    }
    broker.close().await;
    lie(folder.path());
    folder
}

fn is_lying(n: usize) -> bool {
    LIES.iter().any(|(which, _)| *which == n)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_names_each_lying_batch_and_goes_on_behind_it() {
    let folder = folder_of_liars().await;
    let broker = folder.open().await;
    for max_events in [1, 7, 100] {
        let (mut offset, mut seen, mut damaged) = (Offset(0), Vec::new(), Vec::new());
        while offset < Offset(COUNT as u64) {
            let fetch = Fetch {
                topic: topic("t"),
                partition: Partition(0),
                offset,
                max_events,
                max_bytes: 1 << 20,
                wait: Duration::ZERO,
            };
            match broker.bus().fetch(fetch).await {
                Ok(fetched) => {
                    for (at, event) in fetched.events {
                        assert_eq!(event.id().to_string(), at.0.to_string());
                        seen.push(at.0 as usize);
                    }
                    assert!(fetched.next > offset, "it goes on");
                    offset = fetched.next;
                }
                Err(FetchError::Damaged {
                    offset: from,
                    resume,
                    why,
                }) => {
                    assert_eq!((from, resume), (offset, offset.next()), "{why}");
                    damaged.push(from.0 as usize);
                    offset = resume;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(damaged, LIES.map(|(which, _)| which));
        let good: Vec<_> = (0..COUNT).filter(|n| !is_lying(*n)).collect();
        assert_eq!(seen, good);
    }
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_passes_lying_batches_and_names_them() {
    let folder = folder_of_liars().await;
    let broker = folder.open().await;
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&(COUNT - 1)) {
        for (delivery, settlement) in member.pull(100).await.unwrap() {
            seen.push(id(&delivery).parse::<usize>().unwrap());
            settlement.settle(Commit::ack()).await.unwrap();
        }
    }
    let good: Vec<_> = (0..COUNT).filter(|n| !is_lying(*n)).collect();
    assert_eq!(seen, good);
    assert!(broker.metrics().damaged_reads >= LIES.len() as u64);
    let info = broker.group(&group("g")).unwrap();
    assert!(info.partitions[0].damage.is_some());
    broker.close().await;
}
