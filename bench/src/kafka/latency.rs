//! From a producer to a consumer at a steady rate, and what a producer waits.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Fallible;
use crate::wire::{Connection, batch_of, made_at};

/// Records a second, in batches of ten.
const RATE: u32 = 10_000;
const BATCH: u32 = 10;
const RECORD_BYTES: usize = 1024;
/// How long it goes, after what is not counted.
const TIME: Duration = Duration::from_secs(15);
const WARM_UP: Duration = Duration::from_secs(3);
const FETCH_BYTES: i32 = 1 << 20;

/// Times in milliseconds: the 50th, 99th and 99.9th percentile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

fn latency(times: &Histogram<u64>) -> Latency {
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e6;
    Latency {
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
    }
}

fn times() -> Fallible<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 600_000_000_000, 3)?)
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Produces to `topic` at the steady rate; answers how long acknowledgements took, from when each
/// batch was due.
pub(crate) fn produce(address: SocketAddr, topic: &str, begun: Instant) -> Fallible<Latency> {
    let mut connection = Connection::new(address)?;
    let mut answers = connection.twin()?;
    let (due, sent) = mpsc::channel::<u64>();
    let reader = std::thread::spawn(move || -> Fallible<Histogram<u64>> {
        let mut times = times()?;
        let counted = u64::try_from(WARM_UP.as_nanos())?;
        for due in sent {
            answers.produced()?;
            if due > counted {
                times.saturating_record(nanos(begun).saturating_sub(due));
            }
        }
        Ok(times)
    });
    let apart = Duration::from_secs(1) * BATCH / RATE;
    let mut next = Duration::ZERO;
    while next < WARM_UP + TIME {
        std::thread::sleep(next.saturating_sub(begun.elapsed()));
        let at = u64::try_from(next.as_nanos())?;
        connection.produce(topic, 0, &batch_of(BATCH as i32, RECORD_BYTES, at))?;
        due.send(at).map_err(|_| "the answers ended")?;
        next += apart;
    }
    drop(due);
    Ok(latency(&reader.join().map_err(|_| "the reader panicked")??))
}

/// The same with a consumer at the end of the topic; answers how long records took to it, and how
/// long acknowledgements did.
pub(crate) fn through(address: SocketAddr, topic: &str) -> Fallible<[Latency; 2]> {
    Connection::new(address)?.create_topic(topic, 1)?;
    let begun = Instant::now();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let consumer = scope.spawn(|| -> Fallible<Histogram<u64>> {
            let mut connection = Connection::new(address)?;
            let (mut times, mut offset, mut records) = (times()?, 0, Vec::new());
            let counted = u64::try_from(WARM_UP.as_nanos())?;
            while !ended.load(Ordering::Acquire) {
                connection.fetch(topic, offset, FETCH_BYTES)?;
                offset = connection.fetched(offset, &mut records)?;
                let now = nanos(begun);
                made_at(&records, |made| {
                    if made > counted {
                        times.saturating_record(now.saturating_sub(made));
                    }
                });
            }
            Ok(times)
        });
        let produced = produce(address, topic, begun);
        ended.store(true, Ordering::Release);
        let consumed = consumer.join().map_err(|_| "the consumer panicked")??;
        Ok([latency(&consumed), produced?])
    })
}
