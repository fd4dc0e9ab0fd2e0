//! The connected clients: hands events to those that want them, in order, and gives up those
//! that do not read. Knows neither the log nor the Socket.IO library.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use serde_json::value::RawValue;
use tidemill_core::budget::{Budget, Class, Share};

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

    /// The text of an answer, ready to be sent. Where there is no memory for it, the clients for
    /// whom the most waits are given up, if that makes room.
    pub(crate) fn payload(&self, json: Box<RawValue>) -> Arc<Payload> {
        let mut share = self.memory.empty(Class::Outboxes);
        let bytes = json.get().len();
        if !share.grow(bytes) {
            self.make_room(bytes, &mut share);
        }
        Payload::new(json, share)
    }

    /// Hands an event to each client of the audience, once. Waits a bounded time for those that
    /// have no room for it; who has none even then is given up. Where there is no memory for it
    /// at all, the clients for whom the most waits are given up, if that makes room: never for an
    /// event that nobody wants.
    pub(crate) async fn deliver(&self, audience: Audience<'_>, json: Box<RawValue>) {
        let mut share = self.memory.empty(Class::Outboxes);
        let bytes = json.get().len();
        if !share.grow(bytes) {
            if found(&self.lock(), audience).is_empty() {
                return;
            }
            self.make_room(bytes, &mut share);
        }
        let parcel = Parcel::Event(Payload::new(json, share));
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
    }

    /// Pushes without waiting; tells who has no room.
    fn push(&self, audience: Audience<'_>, parcel: &Parcel) -> Vec<(ClientId, Arc<Client>)> {
        let rooms = self.lock();
        let mut full = Vec::new();
        for (id, client) in found(&rooms, audience) {
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

    /// Has `share` take these bytes, which were not free. Gives up the clients for whom the most
    /// waits, and no more of them than it takes: what others wait for too is not freed with one of
    /// them. Where even all of them would not make room nobody is given up, and it is taken
    /// beyond the limit.
    fn make_room(&self, bytes: usize, share: &mut Share) {
        let missing = bytes.saturating_sub(self.memory.free(Class::Outboxes));
        let mut rooms = self.lock();
        let mut slowest: Vec<_> = rooms
            .everyone()
            .map(|(id, client)| (client.outbox.bytes(), id, Arc::clone(client)))
            .filter(|(bytes, ..)| *bytes > 0)
            .collect();
        slowest.sort_unstable_by_key(|(bytes, id, _)| Reverse((*bytes, *id)));
        let mut freed = Freed::default();
        let enough = slowest.iter().position(|(_, _, client)| {
            client.outbox.each(|payload| freed.let_go(payload));
            freed.bytes >= missing
        });
        if let Some(last) = enough {
            for (_, id, client) in slowest.iter().take(last + 1) {
                self.give_up(*id, client, &mut rooms);
            }
        }
        drop(rooms);
        share.grow_anyway(bytes);
    }
}

/// The clients of an audience, each once.
fn found<'a>(
    rooms: &'a Rooms<Arc<Client>>,
    audience: Audience<'_>,
) -> Vec<(ClientId, &'a Arc<Client>)> {
    match audience {
        Audience::Everyone => rooms.everyone().collect(),
        Audience::Rooms(names) => rooms.matching(names),
    }
}

/// What giving some clients up would free.
#[derive(Default)]
struct Freed {
    bytes: usize,
    /// How many of them have each text.
    holders: HashMap<*const Payload, usize>,
}

impl Freed {
    /// One of them lets go of this; it is free once nobody else has it.
    fn let_go(&mut self, payload: &Arc<Payload>) {
        let holders = self.holders.entry(Arc::as_ptr(payload)).or_default();
        *holders += 1;
        if *holders == Arc::strong_count(payload) {
            self.bytes += payload.json().get().len();
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

    /// Clients in rooms of their own for whom so many bytes wait.
    async fn waiting(clients: &Clients, sizes: &[usize]) -> Vec<Arc<Client>> {
        let mut all = Vec::new();
        for (n, size) in sizes.iter().enumerate() {
            let (id, client) = clients.add();
            let room = format!("room{n}");
            clients.enter(id, &room, &[]).unwrap();
            let text = raw(format!("\"{}\"", "x".repeat(size - 2)));
            clients.deliver(Audience::Rooms([&room, "-"]), text).await;
            all.push(client);
        }
        all
    }

    #[tokio::test]
    async fn an_event_for_nobody_costs_nobody_its_connection() {
        let memory = Budget::new(16 * 1024 * 1024);
        let clients = Clients::new(Arc::new(Metrics::new()), memory.clone());
        let all = waiting(&clients, &[1000, 1000, 100_000]).await;
        let _rest = memory.take(Class::Outboxes, memory.free(Class::Outboxes));
        let text = || raw(format!("\"{}\"", "x".repeat(50_000)));
        clients
            .deliver(Audience::Rooms(["nobody", "-"]), text())
            .await;
        assert!(all.iter().all(|client| !client.is_slow()));
        // For somebody, the one with the most is enough.
        clients
            .deliver(Audience::Rooms(["room0", "-"]), text())
            .await;
        let slow: Vec<_> = all.iter().map(|client| client.is_slow()).collect();
        assert_eq!(slow, [false, false, true]);
        assert_eq!((all[0].outbox.bytes(), memory.over()), (51_002, 0));
    }

    #[tokio::test]
    async fn nobody_is_given_up_where_that_makes_no_room() {
        let memory = Budget::new(16 * 1024 * 1024);
        let clients = Clients::new(Arc::new(Metrics::new()), memory.clone());
        let all = waiting(&clients, &[1000, 2000]).await;
        // Somebody else holds the rest, and one text of the second.
        let _held = all[1].outbox.next().await.unwrap();
        let _rest = memory.take(Class::Outboxes, memory.free(Class::Outboxes));
        let text = raw(format!("\"{}\"", "x".repeat(1500)));
        clients.deliver(Audience::Everyone, text).await;
        assert!(all.iter().all(|client| !client.is_slow()));
        assert_eq!(memory.over(), 1502);
        assert_eq!(all[1].outbox.bytes(), 1502);
    }

    #[tokio::test]
    async fn a_text_that_others_wait_for_too_is_not_counted_as_freed() {
        let memory = Budget::new(16 * 1024 * 1024);
        let clients = Clients::new(Arc::new(Metrics::new()), memory.clone());
        let all = waiting(&clients, &[500, 500, 500]).await;
        let shared = raw(format!("\"{}\"", "x".repeat(4000)));
        for (n, client) in all.iter().enumerate().skip(1) {
            clients.enter(ClientId(n as u64), "both", &[]).unwrap();
            assert_eq!(client.outbox.bytes(), 500);
        }
        clients
            .deliver(Audience::Rooms(["both", "-"]), shared)
            .await;
        let _rest = memory.take(Class::Outboxes, memory.free(Class::Outboxes));
        let text = raw(format!("\"{}\"", "x".repeat(3000)));
        clients.deliver(Audience::Rooms(["room0", "-"]), text).await;
        let slow: Vec<_> = all.iter().map(|client| client.is_slow()).collect();
        assert_eq!(
            slow,
            [false, true, true],
            "one of the two alone frees little"
        );
        assert_eq!(memory.over(), 0);
    }
}
