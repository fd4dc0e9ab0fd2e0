//! The connected clients: hands events to those that want them, in order, and gives up those
//! that do not read. Knows neither the log nor the Socket.IO library.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use serde_json::value::RawValue;
use tidemill_core::budget::{Budget, Class};

use super::outbox::{NotSent, Outbox, Parcel, Payload};
use super::rooms::{ClientId, RoomRefused, Rooms};
use crate::metrics::Metrics;

/// What reaches one client.
#[derive(Debug)]
pub(crate) struct Client {
    /// What waits for it.
    pub(crate) outbox: Outbox,
    /// Whether it was given up because it reads too slowly.
    slow: AtomicBool,
}

impl Client {
    /// Whether it was given up because it reads too slowly.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }
}

/// All connected clients.
pub(crate) struct Clients {
    /// Who is in which room. Held only for the time of a look-up and of pushes that never wait.
    rooms: Mutex<Rooms<Arc<Client>>>,
    /// Where what waits for them has its memory.
    memory: Budget,
    metrics: Arc<Metrics>,
}

/// Whom an event is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Audience<'a> {
    /// Every client.
    Everyone,
    /// The clients with a room that matches one of these names.
    Rooms([&'a str; 2]),
}

impl Clients {
    pub(crate) fn new(metrics: Arc<Metrics>, memory: Budget) -> Self {
        Self {
            rooms: Mutex::default(),
            memory,
            metrics,
        }
    }

    /// Where what waits has its memory.
    pub(crate) fn memory(&self) -> &Budget {
        &self.memory
    }

    /// Nothing panics while the lock is held, so a poisoned one still holds a whole state.
    fn lock(&self) -> MutexGuard<'_, Rooms<Arc<Client>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client came. Events are kept for it from now on.
    pub(crate) fn add(&self) -> (ClientId, Arc<Client>) {
        let client = Arc::new(Client {
            outbox: Outbox::new(),
            slow: AtomicBool::new(false),
        });
        self.metrics.clients.inc();
        (self.lock().add(Arc::clone(&client)), client)
    }

    /// A client went. A second time changes nothing.
    pub(crate) fn remove(&self, id: ClientId) {
        let removed = self.lock().remove(id);
        if let Some(client) = removed {
            self.metrics.clients.dec();
            client.outbox.close();
        }
    }

    /// Whether nobody is connected.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().len() == 0
    }

    /// A client enters a room; `confirm` is put into its outbox before any event of that room.
    pub(crate) fn enter(
        &self,
        id: ClientId,
        room: &str,
        confirm: &[Parcel],
    ) -> Result<(), RoomRefused> {
        let mut rooms = self.lock();
        rooms.enter(id, room)?;
        let client = rooms.get(id).cloned();
        if let Some(client) = client {
            self.send_all(id, &client, confirm, &mut rooms);
        }
        Ok(())
    }

    /// A client leaves a room; no event of that room is put into its outbox after `confirm`,
    /// unless another of its rooms matches.
    pub(crate) fn leave(&self, id: ClientId, room: &str, confirm: &[Parcel]) {
        let mut rooms = self.lock();
        rooms.leave(id, room);
        let client = rooms.get(id).cloned();
        if let Some(client) = client {
            self.send_all(id, &client, confirm, &mut rooms);
        }
    }

    /// Tells a client something.
    pub(crate) fn tell(&self, id: ClientId, parcel: Parcel) {
        let mut rooms = self.lock();
        let client = rooms.get(id).cloned();
        if let Some(client) = client {
            self.send_all(id, &client, &[parcel], &mut rooms);
        }
    }

    fn send_all(
        &self,
        id: ClientId,
        client: &Arc<Client>,
        parcels: &[Parcel],
        rooms: &mut Rooms<Arc<Client>>,
    ) {
        for parcel in parcels {
            if client.outbox.push(parcel) == Err(NotSent::Full) {
                self.give_up(id, client, rooms);
                return;
            }
        }
    }

    /// The text of an event, ready to be sent. Where there is no memory for it, the clients for
    /// whom the most waits are given up until there is.
    pub(crate) fn payload(&self, json: Box<RawValue>) -> Arc<Payload> {
        let bytes = json.get().len();
        let mut share = self.memory.empty(Class::Outboxes);
        while !share.grow(bytes) {
            if !self.give_up_most() {
                // Nothing waits: it is more than the bound by itself.
                share.grow_anyway(bytes);
                break;
            }
        }
        Payload::new(json, share)
    }

    /// Hands an event to each client of the audience, once. Waits a bounded time for those that
    /// have no room for it; who has none even then is given up.
    pub(crate) async fn deliver(&self, audience: Audience<'_>, json: Box<RawValue>) {
        let parcel = Parcel::Event(self.payload(json));
        let full = self.push(audience, &parcel);
        if !full.is_empty() {
            let parcel = &parcel;
            let waits = full.iter().map(|(id, client)| async move {
                let sent = client.outbox.push_patiently(parcel).await;
                (*id, client, sent)
            });
            for (id, client, sent) in join_all(waits).await {
                match sent {
                    Ok(()) => self.pushed(),
                    Err(NotSent::Full) => self.give_up(id, client, &mut self.lock()),
                    Err(NotSent::Closed) => {}
                }
            }
        }
        drop(parcel);
        let waiting = self.memory.used(Class::Outboxes);
        let shown = i64::try_from(waiting).unwrap_or(i64::MAX);
        self.metrics.waiting_bytes.set(shown);
    }

    /// Pushes without waiting; tells who has no room.
    fn push(&self, audience: Audience<'_>, parcel: &Parcel) -> Vec<(ClientId, Arc<Client>)> {
        let rooms = self.lock();
        let found: Vec<_> = match audience {
            Audience::Everyone => rooms.everyone().collect(),
            Audience::Rooms(names) => rooms.matching(names),
        };
        let mut full = Vec::new();
        for (id, client) in found {
            match client.outbox.push(parcel) {
                Ok(()) => self.pushed(),
                Err(NotSent::Full) => full.push((id, Arc::clone(client))),
                Err(NotSent::Closed) => {}
            }
        }
        full
    }

    fn pushed(&self) {
        self.metrics.pushed.inc();
    }

    fn give_up(&self, id: ClientId, client: &Client, rooms: &mut Rooms<Arc<Client>>) {
        if rooms.remove(id).is_some() {
            self.metrics.clients.dec();
            self.metrics.clients_slow.inc();
            client.slow.store(true, Ordering::Relaxed);
            client.outbox.close();
        }
    }

    /// Gives up the client for whom the most waits; answers whether something waited for it.
    fn give_up_most(&self) -> bool {
        let mut rooms = self.lock();
        let most = rooms
            .everyone()
            .map(|(id, client)| (client.outbox.bytes(), id, Arc::clone(client)))
            .max_by_key(|(bytes, id, _)| (*bytes, *id));
        match most {
            Some((1.., id, client)) => {
                self.give_up(id, &client, &mut rooms);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{OUTBOX_MAX_BYTES, OUTBOX_MAX_EVENTS};

    fn raw(json: String) -> Box<RawValue> {
        RawValue::from_string(json).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_given_up_and_the_others_get_everything() {
        let metrics = Arc::new(Metrics::new());
        let clients = Clients::new(Arc::clone(&metrics), Budget::default());
        let clients = Arc::new(clients);
        let (_, stuck) = clients.add();
        let (_, reader) = clients.add();
        let events = OUTBOX_MAX_EVENTS * 2;
        let read = tokio::spawn(async move {
            for n in 0..events {
                let parcel = reader.outbox.next().await.unwrap();
                assert_eq!(parcel.payload().json().get(), n.to_string());
            }
        });
        for n in 0..events {
            clients
                .deliver(Audience::Everyone, raw(n.to_string()))
                .await;
        }
        read.await.unwrap();
        assert!(stuck.is_slow());
        assert!(stuck.outbox.next().await.is_none());
        assert_eq!(metrics.clients_slow.get(), 1);
        assert_eq!(metrics.clients.get(), 1);
    }

    #[tokio::test]
    async fn all_outboxes_together_are_bounded() {
        let metrics = Arc::new(Metrics::new());
        let memory = Budget::new(64 * 1024 * 1024);
        let clients = Clients::new(Arc::clone(&metrics), memory.clone());
        let share = OUTBOX_MAX_BYTES - 2;
        let holders = memory.max(Class::Outboxes) / share + 2;
        let all: Vec<_> = (0..holders).map(|_| clients.add()).collect();
        for (n, (id, _)) in all.iter().enumerate() {
            let room = format!("room{n}");
            clients.enter(*id, &room, &[]).unwrap();
            let text = raw(format!("\"{}\"", "x".repeat(share - 2)));
            clients.deliver(Audience::Rooms([&room, "-"]), text).await;
        }
        assert!(memory.used(Class::Outboxes) >= share);
        assert_eq!(memory.over(), 0);
        assert!(metrics.clients_slow.get() >= 1);
    }
}
