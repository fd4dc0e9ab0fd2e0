//! What waits for one Socket.IO client: bounded in events and bytes, the text of an event shared
//! by all clients that get it. Knows nothing of sockets.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tidemill_core::budget::Share;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits::{OUTBOX_MAX_BYTES, OUTBOX_MAX_EVENTS, OUTBOX_PATIENCE};

/// The JSON text of an event. It has its memory until the last client has it.
#[derive(Debug)]
pub(crate) struct Payload {
    json: Box<RawValue>,
    _share: Share,
}

impl Payload {
    pub(crate) fn new(json: Box<RawValue>, share: Share) -> Arc<Self> {
        Arc::new(Self {
            json,
            _share: share,
        })
    }

    /// The text, byte for byte as it was published.
    pub(crate) fn json(&self) -> &RawValue {
        &self.json
    }

    fn len(&self) -> usize {
        self.json.get().len()
    }
}

/// Something for a client.
#[derive(Clone, Debug)]
pub(crate) enum Parcel {
    /// The event `event` with this payload.
    Event(Arc<Payload>),
    /// The acknowledgement number `id` with this payload.
    Ack(i64, Arc<Payload>),
}

impl Parcel {
    /// What it carries.
    pub(crate) fn payload(&self) -> &Arc<Payload> {
        match self {
            Self::Event(payload) | Self::Ack(_, payload) => payload,
        }
    }
}

/// Why something was not put into an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// There is no room now.
    Full,
    /// The client is gone or was given up.
    Closed,
}

/// What waits for one client.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Told when something was put in, or the outbox was closed.
    filled: Notify,
    /// Told when something was taken out, or the outbox was closed.
    emptied: Notify,
}

#[derive(Debug)]
struct State {
    parcels: VecDeque<Parcel>,
    bytes: usize,
    closed: bool,
    /// How long others will still wait for this client; whole again once half is read.
    patience: Duration,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                parcels: VecDeque::new(),
                bytes: 0,
                closed: false,
                patience: OUTBOX_PATIENCE,
            }),
            filled: Notify::new(),
            emptied: Notify::new(),
        }
    }

    /// Nothing panics while the lock is held, so a poisoned one still holds a whole state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something in, if there is room now.
    pub(crate) fn push(&self, parcel: &Parcel) -> Result<(), NotSent> {
        let mut state = self.lock();
        if state.closed {
            return Err(NotSent::Closed);
        }
        let bytes = parcel.payload().len();
        let full = state.parcels.len() >= OUTBOX_MAX_EVENTS
            || (!state.parcels.is_empty() && state.bytes + bytes > OUTBOX_MAX_BYTES);
        if full {
            return Err(NotSent::Full);
        }
        state.bytes += bytes;
        state.parcels.push_back(parcel.clone());
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Puts something in, waiting for room as long as this client deserves it.
    pub(crate) async fn push_patiently(&self, parcel: &Parcel) -> Result<(), NotSent> {
        loop {
            let emptied = self.emptied.notified();
            match self.push(parcel) {
                Err(NotSent::Full) => {}
                done => return done,
            }
            let patience = self.lock().patience;
            let began = Instant::now();
            let waited = tokio::time::timeout(patience, emptied).await;
            let mut state = self.lock();
            state.patience = state.patience.saturating_sub(began.elapsed());
            if waited.is_err() || state.patience.is_zero() {
                return Err(NotSent::Full);
            }
        }
    }

    /// Waits for the next thing; `None` once the outbox is closed.
    pub(crate) async fn next(&self) -> Option<Parcel> {
        loop {
            let filled = self.filled.notified();
            {
                let mut state = self.lock();
                if state.closed {
                    return None;
                }
                if let Some(parcel) = state.parcels.pop_front() {
                    state.bytes -= parcel.payload().len();
                    if state.parcels.len() <= OUTBOX_MAX_EVENTS / 2
                        && state.bytes <= OUTBOX_MAX_BYTES / 2
                    {
                        state.patience = OUTBOX_PATIENCE;
                    }
                    drop(state);
                    self.emptied.notify_one();
                    return Some(parcel);
                }
            }
            filled.await;
        }
    }

    /// Drops what waits; nothing goes in or out any more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.parcels = VecDeque::new();
        state.bytes = 0;
        drop(state);
        self.filled.notify_one();
        self.emptied.notify_one();
    }

    /// Looks at each thing that waits.
    pub(crate) fn each(&self, look: impl FnMut(&Arc<Payload>)) {
        let state = self.lock();
        state.parcels.iter().map(Parcel::payload).for_each(look);
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::budget::{Budget, Class};

    use super::*;

    fn parcel(memory: &Budget, bytes: usize) -> Parcel {
        let json = RawValue::from_string(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap();
        let share = memory.take(Class::Outboxes, bytes).unwrap();
        Parcel::Event(Payload::new(json, share))
    }

    #[tokio::test]
    async fn an_outbox_is_bounded_in_events_and_bytes() {
        let memory = Budget::default();
        let outbox = Outbox::new();
        let small = parcel(&memory, 10);
        for _ in 0..OUTBOX_MAX_EVENTS {
            outbox.push(&small).unwrap();
        }
        assert_eq!(outbox.push(&small), Err(NotSent::Full));

        let outbox = Outbox::new();
        let large = parcel(&memory, OUTBOX_MAX_BYTES + 1);
        outbox.push(&large).expect("one event always goes in");
        assert_eq!(outbox.push(&small), Err(NotSent::Full));
        assert!(outbox.next().await.is_some());
        outbox.push(&small).expect("there is room again");
    }

    #[tokio::test]
    async fn shared_text_is_counted_once_and_given_back() {
        let memory = Budget::default();
        let boxes = [Outbox::new(), Outbox::new()];
        let event = parcel(&memory, 1000);
        for outbox in &boxes {
            outbox.push(&event).unwrap();
        }
        drop(event);
        assert_eq!(memory.used(Class::Outboxes), 1000);
        boxes[0].next().await.unwrap();
        boxes[1].close();
        assert_eq!(memory.used(Class::Outboxes), 0);
        assert!(boxes[1].next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn others_wait_for_a_full_outbox_only_so_long() {
        let memory = Budget::default();
        let outbox = Outbox::new();
        let small = parcel(&memory, 10);
        while outbox.push(&small).is_ok() {}
        let began = Instant::now();
        assert_eq!(outbox.push_patiently(&small).await, Err(NotSent::Full));
        assert_eq!(began.elapsed(), OUTBOX_PATIENCE);
        outbox.next().await.unwrap();
        outbox.push(&small).unwrap();
        let again = Instant::now();
        assert_eq!(outbox.push_patiently(&small).await, Err(NotSent::Full));
        assert_eq!(
            again.elapsed(),
            Duration::ZERO,
            "patience is over until half is read"
        );
        for _ in 0..OUTBOX_MAX_EVENTS / 2 {
            outbox.next().await.unwrap();
        }
        assert_eq!(outbox.push_patiently(&small).await, Ok(()));
    }
}
