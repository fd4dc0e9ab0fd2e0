//! A long run at a steady rate, with retention and compaction on: latencies, the longest stall,
//! and how many bytes reach the disk for each byte that is published.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use tidemill::broker::{Broker, CreateTopic, TopicSettings};
use tidemill::{Bytes, Key, TopicName};

use crate::report::memory_bytes;
use crate::waiting::event;

/// How long, unless `TIDEMILL_BENCH_SECONDS` says otherwise.
const SECONDS: u64 = 3600;
/// Who publishes, an event at a time.
const PUBLISHERS: u32 = 16;
/// Events of each publisher in a second.
const EACH_PER_SECOND: u32 = 150;
const VALUE_BYTES: usize = 1024;
/// Keys of the topic that is compacted.
const KEYS: u64 = 10_000;
/// What the topics that delete keep.
const KEEP_BYTES: u64 = 256 * 1024 * 1024;
const KEEP_MS: u64 = 60_000;

pub(crate) fn run(dir: &Path) -> Result<(), Box<dyn Error>> {
    let seconds = match std::env::var("TIDEMILL_BENCH_SECONDS") {
        Ok(text) => text.parse()?,
        Err(_) => SECONDS,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(steady(dir, Duration::from_secs(seconds)))
}

const NAMES: [&str; 3] = ["by-bytes", "by-age", "compacted"];

/// What each topic keeps.
fn settings() -> [TopicSettings; 3] {
    let by_bytes = TopicSettings {
        retention_bytes: Some(KEEP_BYTES),
        ..TopicSettings::default()
    };
    let by_age = TopicSettings {
        retention_ms: Some(KEEP_MS),
        ..TopicSettings::default()
    };
    let compacted = TopicSettings {
        compact: true,
        ..TopicSettings::default()
    };
    [by_bytes, by_age, compacted]
}

async fn steady(dir: &Path, time: Duration) -> Result<(), Box<dyn Error>> {
    let broker = Broker::open(dir.join("broker")).await?;
    for (name, settings) in NAMES.into_iter().zip(settings()) {
        let how = CreateTopic {
            settings,
            ..CreateTopic::default()
        };
        broker.create_topic(TopicName::new(name)?, how).await?;
    }
    let before = disk_bytes();
    let begun = Instant::now();
    let tasks: Vec<_> = (0..PUBLISHERS)
        .map(|number| tokio::spawn(publisher(broker.clone(), number, begun, time)))
        .collect();
    let mut took: Vec<u32> = Vec::new();
    for task in tasks {
        took.extend(task.await?.map_err(|error| error.to_string())?);
    }
    let whole = begun.elapsed();
    let metrics = broker.metrics();
    let memory = memory_bytes("VmRSS");
    broker.close().await;
    let written = disk_bytes().saturating_sub(before);

    took.sort_unstable();
    let count = took.len();
    let at = |share: usize| {
        let at = (count * share / 10_000).min(count.saturating_sub(1));
        took.get(at).map_or(0.0, |micros| f64::from(*micros) / 1e3)
    };
    let published = (count * VALUE_BYTES) as f64;
    println!(
        "{count} events of 1 KiB in {:.0} s, {:.0} a second; by {PUBLISHERS} publishers that wait \
         for each, to three topics: by bytes, by age, compacted",
        whole.as_secs_f64(),
        count as f64 / whole.as_secs_f64()
    );
    println!(
        "p50 {:.3} ms, p99 {:.3}, p99.9 {:.3}, longest stall {:.1}",
        at(5000),
        at(9900),
        at(9990),
        at(10_000)
    );
    println!(
        "bytes to the disk for a byte published: {:.2}; of the journal {:.2}, of segments {:.2}",
        written as f64 / published,
        metrics.journal_bytes as f64 / published,
        metrics.segment_bytes as f64 / published
    );
    println!(
        "{} checkpoints, {} segments expired, {} MB on the disk and {} MB of memory at the end",
        metrics.checkpoints,
        metrics.expired_segments,
        folder_bytes(dir)? / 1_000_000,
        memory / 1_000_000
    );
    Ok(())
}

type Sent<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Publishes at its rate and answers the microseconds that each publish took, counted from when
/// its turn was, so that those which a stall held up count too.
async fn publisher(broker: Broker, number: u32, begun: Instant, time: Duration) -> Sent<Vec<u32>> {
    let bus = broker.bus();
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    let every = Duration::from_secs(1) / EACH_PER_SECOND;
    let mut took = Vec::new();
    let mut turn = every * number / PUBLISHERS;
    while turn < time {
        tokio::time::sleep_until((begun + turn).into()).await;
        let count = took.len() as u64;
        let name = NAMES[count as usize % NAMES.len()];
        let key = Key::new(format!("{}", (count * 7919 + u64::from(number)) % KEYS))?;
        let event = event(&value)?.to_builder().key(&key).build()?;
        bus.publish(TopicName::new(name)?, vec![event]).await?;
        let micros = (begun.elapsed() - turn).as_micros();
        took.push(u32::try_from(micros).unwrap_or(u32::MAX));
        turn += every;
    }
    Ok(took)
}

/// Bytes that this process had written to the disk.
fn disk_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

fn folder_bytes(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => folder_bytes(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}
