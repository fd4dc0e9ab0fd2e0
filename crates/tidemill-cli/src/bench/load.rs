//! The publishers of a bench run.
//!
//! Each key belongs to one publisher, which has one call under way at a time: so the order in
//! which a key's events are accepted is the order of their numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use tidemill::core::error::Unavailable;
use tidemill::core::{PublishError, json};
use tidemill::{Bus, Event, EventId, EventType, Key, Source, TopicName};
use tokio::time::Instant;

use super::ledger::Ledger;
use super::meter::Meter;
use super::pace::Pace;
use super::payload::Stamp;
use crate::client::{CallError, Client, path};
use crate::limits::{BENCH_SILENCE, CALL_TIMEOUT};

/// The type of all events of a run.
pub(crate) const TYPE: &str = "bench";

/// Where a run publishes to.
#[derive(Clone)]
pub(crate) enum Door {
    Bus(Bus),
    Server(Client),
}

/// What all tasks of a run share.
pub(crate) struct Shared {
    pub(crate) topic: TopicName,
    pub(crate) begun: Instant,
    pub(crate) ledger: Ledger,
    /// From when an event was to be sent until it was accepted.
    pub(crate) acks: Meter,
    /// From when an event was to be sent until it was handled.
    pub(crate) handled: Meter,
    /// Calls that were turned away for the moment and tried again.
    pub(crate) pushed_back: AtomicU64,
    /// Publishing is over.
    pub(crate) stop: AtomicBool,
    /// The bus had no more space: publishing is over, and nothing is wrong.
    pub(crate) full: AtomicBool,
}

impl Shared {
    /// Counts a delivery that was handled now.
    pub(crate) fn handle(&self, data: &[u8]) {
        match Stamp::from_json(data) {
            Some(stamp) => {
                let now_us = self.begun.elapsed().as_micros() as u64;
                self.handled.record(now_us.saturating_sub(stamp.sent_us), 1);
                self.ledger.deliver(stamp.key, stamp.number);
            }
            None => self.ledger.deliver(u32::MAX, 0),
        }
    }
}

/// One publisher.
pub(crate) struct Load {
    pub(crate) shared: Arc<Shared>,
    pub(crate) door: Door,
    /// Its keys, and the number of the next event of each.
    pub(crate) keys: Vec<(u32, u64)>,
    pub(crate) pace: Pace,
    pub(crate) size_bytes: usize,
}

/// How a call ended that was not accepted.
enum Refusal {
    /// Another try may succeed.
    Later(String),
    /// The bus has no more space.
    Full,
    /// The run is over, and failed.
    Broken(String),
}

impl Load {
    /// Publishes until it is told to stop.
    ///
    /// # Errors
    /// What kept it from going on.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        let mut turn = 0;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            let next = self.pace.next(now);
            if next > now {
                // Short, so that the end of the run is not overslept at a low rate.
                tokio::time::sleep_until(next.min(now + Duration::from_millis(50))).await;
                continue;
            }
            let due = self.pace.take(now);
            let sent_us = (due.since - self.shared.begun).as_micros() as u64;
            let events = self.events(due.count, sent_us, &mut turn)?;
            if !self.publish(events).await? {
                return Ok(());
            }
            let ack_us = due.since.elapsed().as_micros() as u64;
            self.shared.acks.record(ack_us, due.count);
            self.shared.ledger.accept(due.count);
        }
        Ok(())
    }

    /// The next `count` events, the keys taking turns.
    fn events(&mut self, count: u64, sent_us: u64, turn: &mut usize) -> Result<Vec<Event>, String> {
        let mut events = Vec::with_capacity(count as usize);
        let keys = self.keys.len().max(1);
        for _ in 0..count {
            let Some((key, number)) = self.keys.get_mut(*turn % keys) else {
                return Err("a publisher has no keys".to_owned());
            };
            *turn += 1;
            let stamp = Stamp {
                key: *key,
                number: *number,
                sent_us,
            };
            *number += 1;
            let made = event(stamp, self.size_bytes);
            events.push(made.map_err(|e| format!("cannot make an event: {e}"))?);
        }
        Ok(events)
    }

    /// Publishes all of `events`, trying again when turned away for the moment; `false` when
    /// there is no more space.
    async fn publish(&self, events: Vec<Event>) -> Result<bool, String> {
        let since = Instant::now();
        loop {
            let call = tokio::time::timeout(CALL_TIMEOUT, self.call(events.clone()));
            let Ok(answered) = call.await else {
                let seconds = CALL_TIMEOUT.as_secs();
                return Err(format!(
                    "a publishing call was not answered within {seconds} s"
                ));
            };
            match answered {
                Ok(()) => return Ok(true),
                Err(Refusal::Full) => {
                    self.shared.full.store(true, Ordering::Relaxed);
                    self.shared.stop.store(true, Ordering::Relaxed);
                    return Ok(false);
                }
                Err(Refusal::Later(why)) => {
                    self.shared.pushed_back.fetch_add(1, Ordering::Relaxed);
                    if since.elapsed() > BENCH_SILENCE {
                        return Err(format!("turned away for too long: {why}"));
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(Refusal::Broken(why)) => return Err(why),
            }
        }
    }

    async fn call(&self, events: Vec<Event>) -> Result<(), Refusal> {
        let topic = &self.shared.topic;
        match &self.door {
            Door::Bus(bus) => match bus.publish(topic.clone(), events).await {
                Ok(_) => Ok(()),
                Err(PublishError::Unavailable(Unavailable::Full(_))) => Err(Refusal::Full),
                Err(e) if e.is_retriable() => Err(Refusal::Later(e.to_string())),
                Err(e) => Err(Refusal::Broken(e.to_string())),
            },
            Door::Server(client) => {
                let at = path(&["v1", "topics", topic.as_str(), "events"]);
                let body = json::batch_to_bytes(&events);
                let answer = client.post(&at, json::BATCH_CONTENT_TYPE, body).await;
                answer
                    .map(|_: serde::de::IgnoredAny| ())
                    .map_err(|error| match error {
                        CallError::Refused(refusal)
                            if refusal.status == StatusCode::SERVICE_UNAVAILABLE =>
                        {
                            Refusal::Later(refusal.detail().to_owned())
                        }
                        error => Refusal::Broken(error.to_string()),
                    })
            }
        }
    }
}

fn event(stamp: Stamp, size_bytes: usize) -> Result<Event, Box<dyn std::error::Error>> {
    let id = EventId::new(format!("{}-{}", stamp.key, stamp.number))?;
    let key = Key::new(format!("k{}", stamp.key))?;
    let event = Event::builder(id, Source::new("/tidemill/bench")?, EventType::new(TYPE)?);
    Ok(event
        .key(&key)
        .data("application/json", stamp.to_json(size_bytes))
        .build()?)
}
