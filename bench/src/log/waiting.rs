//! Publishers that wait for each 1 KiB: one thread on the log, one task on a broker, 64 tasks on
//! a broker, beside raw syncs of 4 and of 64 KiB.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use tidemill::broker::Broker;
use tidemill::{Bytes, Event, EventId, EventType, Source, TopicName};
use tidemill_log::Options;
use uuid::Uuid;

use crate::machine::{Operation, ask, batch, open, partition};
use crate::overwrite::{Raw, Way};
use crate::report::{RAW_BYTES, Run, median};

const TURNS: usize = 5;
const TURN: Duration = Duration::from_secs(1);
/// Leaves room for headers, so that one such publish is a commit of 4 KiB.
const VALUE_BYTES: usize = 1024;

pub(crate) fn run(dir: &Path) -> Result<(), Box<dyn Error>> {
    let mut cached = Raw::new(dir, RAW_BYTES, Way::Cached)?;
    let mut direct = Raw::new(dir, RAW_BYTES, Way::Direct)?;
    let log = open(&dir.join("log"), &Options::default())?;
    let id = partition(1);
    ask(&log, Operation::Create(vec![id]))?;
    let value = batch(1, VALUE_BYTES);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let broker = runtime.block_on(Broker::open(dir.join("broker")))?;

    let mut turns: [Vec<Run>; 7] = Default::default();
    for _ in 0..TURNS {
        let [small, small_direct, large, large_direct, thread, one, many] = &mut turns;
        small.push(cached.run(4096, TURN)?);
        small_direct.push(direct.run(4096, TURN)?);
        let begun = Instant::now();
        let mut run = Run::default();
        while begun.elapsed() < TURN {
            let start = Instant::now();
            ask(&log, Operation::Append(id, value.clone()))?;
            run.took.push(start.elapsed());
        }
        run.whole = begun.elapsed();
        thread.push(run);
        one.push(runtime.block_on(tasks(&broker, 1))?);
        large.push(cached.run(64 * 1024, TURN)?);
        large_direct.push(direct.run(64 * 1024, TURN)?);
        many.push(runtime.block_on(tasks(&broker, 64))?);
    }
    log.close();
    runtime.block_on(broker.close());

    println!("| what | per second | p50 ms | p99 ms | p99.9 ms |\n|---|---|---|---|---|");
    let names = [
        "raw overwrite and fdatasync, 4 KiB",
        "the same past the page cache",
        "raw overwrite and fdatasync, 64 KiB",
        "the same past the page cache",
        "log, one thread that waits, 1 KiB",
        "broker, one task that waits, 1 KiB",
        "broker, 64 tasks that wait, 1 KiB",
    ];
    let mut middle = Vec::new();
    for (name, runs) in names.iter().zip(&mut turns) {
        let of = |runs: &mut Vec<Run>, share| {
            median(runs.iter_mut().map(|run| run.permille(share)).collect())
        };
        let rate = median(runs.iter().map(Run::per_second).collect());
        let (p50, p99, p999) = (of(runs, 500), of(runs, 990), of(runs, 999));
        println!("| {name} | {rate:.0} | {p50:.3} | {p99:.3} | {p999:.3} |");
        middle.push((rate, p50, p99));
    }
    if let [small, _, large, _, thread, one, many] = middle.as_slice() {
        println!();
        println!(
            "one thread on the log / raw 4 KiB, medians of latency: {:.2}",
            thread.1 / small.1
        );
        println!("one task on the broker / raw 4 KiB: {:.2}", one.1 / small.1);
        println!("64 tasks / one task, rates: {:.1}", many.0 / one.0);
        println!(
            "p99 of 64 tasks / p99 of raw 64 KiB: {:.2}",
            many.2 / large.2
        );
    }
    Ok(())
}

/// An event of 1 KiB.
pub(crate) fn event(value: &Bytes) -> Result<Event, tidemill::InvalidEvent> {
    let id = EventId::new(Uuid::now_v7().to_string()).expect("a valid id");
    let source = Source::new("/bench").expect("a valid source");
    let ty = EventType::new("bench").expect("a valid type");
    let event = Event::builder(id, source, ty);
    event.untyped_data(value.clone()).build()
}

/// This many tasks publish and wait, again and again.
async fn tasks(broker: &Broker, count: usize) -> Result<Run, Box<dyn Error>> {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let broker = broker.clone();
            tokio::spawn(async move {
                let topic = TopicName::new("bench").expect("a valid name");
                let bus = broker.bus();
                let value = Bytes::from(vec![7; VALUE_BYTES]);
                let mut took = Vec::new();
                while begun.elapsed() < TURN {
                    let event = event(&value)?;
                    let start = Instant::now();
                    bus.publish(topic.clone(), vec![event]).await?;
                    took.push(start.elapsed());
                }
                Ok::<_, Box<dyn Error + Send + Sync>>(took)
            })
        })
        .collect();
    let mut run = Run::default();
    for task in tasks {
        run.took
            .extend(task.await?.map_err(|error| error.to_string())?);
    }
    run.whole = begun.elapsed();
    Ok(run)
}
