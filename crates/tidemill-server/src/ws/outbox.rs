//! What waits to be sent to one WebSocket client: bounded in frames and bytes, and counted in the
//! budget that all share. Who sends waits for room, so a client that reads slowly slows down what
//! is done for it, and nobody else. Knows no frames.

use std::sync::Arc;

use tidemill_core::budget::{Budget, Class, Share};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::limits::{MEMORY_LOOK_EVERY, WS_OUTBOX_BYTES, WS_OUTBOX_FRAMES};

/// The connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// What the writer takes.
pub(crate) enum Parcel {
    /// A frame, with its room and its memory.
    Frame(String, OwnedSemaphorePermit, Share),
    /// The end of the connection: a last frame, if there is one, close code and reason.
    Close(Option<String>, u16, &'static str),
}

/// The way to one client.
#[derive(Clone)]
pub(crate) struct Outbox {
    parcels: mpsc::Sender<Parcel>,
    room: Arc<Semaphore>,
    /// Turns true when nothing more is to be sent this way.
    cut: Arc<watch::Sender<bool>>,
    memory: Budget,
}

impl Outbox {
    pub(crate) fn new(memory: Budget) -> (Self, mpsc::Receiver<Parcel>) {
        let (parcels, receiver) = mpsc::channel(WS_OUTBOX_FRAMES);
        let room = Arc::new(Semaphore::new(WS_OUTBOX_BYTES));
        let outbox = Self {
            parcels,
            room,
            cut: Arc::new(watch::Sender::new(false)),
            memory,
        };
        (outbox, receiver)
    }

    /// Waits until there is room for a frame, and hands it over.
    pub(crate) async fn send(&self, text: String) -> Result<(), Gone> {
        if *self.cut.borrow() {
            return Err(Gone);
        }
        tokio::select! {
            sent = self.send_now(text) => sent,
            () = self.parcels.closed() => Err(Gone),
            () = self.is_cut() => Err(Gone),
        }
    }

    /// Takes no frames any longer: who waits for room is told at once. Another connection has taken
    /// over what this one was for.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }

    async fn is_cut(&self) {
        // An error is its end, too.
        let _ = self.cut.subscribe().wait_for(|cut| *cut).await;
    }

    async fn send_now(&self, text: String) -> Result<(), Gone> {
        let bytes = text.len();
        // One that is larger than the room is sent alone.
        let most = u32::try_from(bytes.clamp(1, WS_OUTBOX_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(most).await;
        let room = room.map_err(|_| Gone)?;
        let share = loop {
            if let Some(share) = self.memory.take(Class::Outboxes, bytes) {
                break share;
            }
            if bytes > self.memory.max(Class::Outboxes) && self.memory.over() == 0 {
                let mut share = self.memory.empty(Class::Outboxes);
                share.grow_anyway(bytes);
                break share;
            }
            tokio::time::sleep(MEMORY_LOOK_EVERY).await;
        };
        let parcel = Parcel::Frame(text, room, share);
        self.parcels.send(parcel).await.map_err(|_| Gone)
    }

    /// Ends the connection once everything before was sent, with a last frame if there is one.
    pub(crate) async fn close(&self, last: Option<String>, code: u16, reason: &'static str) {
        let close = Parcel::Close(last, code, reason);
        let _ = self.parcels.send(close).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_client_that_does_not_read_bounds_what_waits_for_it() {
        let memory = Budget::default();
        let (outbox, mut parcels) = Outbox::new(memory.clone());
        let text = "x".repeat(WS_OUTBOX_BYTES / 4);
        for _ in 0..4 {
            assert_eq!(outbox.send(text.clone()).now_or_never(), Some(Ok(())));
        }
        assert_eq!(memory.used(Class::Outboxes), WS_OUTBOX_BYTES);
        assert_eq!(outbox.send(text.clone()).now_or_never(), None);
        assert!(matches!(parcels.recv().await, Some(Parcel::Frame(..))));
        assert_eq!(outbox.send(text.clone()).now_or_never(), Some(Ok(())));
        drop(parcels);
        assert_eq!(outbox.send(text).await, Err(Gone));
        assert_eq!(memory.used(Class::Outboxes), 0);
    }

    #[tokio::test]
    async fn who_waits_for_a_client_that_does_not_read_is_told_when_it_is_given_up() {
        let (outbox, _parcels) = Outbox::new(Budget::default());
        let text = "x".repeat(WS_OUTBOX_BYTES);
        assert_eq!(outbox.send(text.clone()).now_or_never(), Some(Ok(())));
        let mut waiting = Box::pin(outbox.send(text.clone()));
        assert_eq!((&mut waiting).now_or_never(), None);
        outbox.cut();
        assert_eq!(waiting.now_or_never(), Some(Err(Gone)));
        assert_eq!(outbox.send(text).now_or_never(), Some(Err(Gone)));
    }
}
