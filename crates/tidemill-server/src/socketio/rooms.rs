//! Which client is in which rooms, and who gets an event. Knows neither sockets nor the log.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use thiserror::Error;
use tidemill_core::{InvalidPattern, Pattern};

use crate::limits::ROOMS_PER_CLIENT_MAX;

/// Names one connected client; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientId(pub(crate) u64);

/// Why a room was not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum RoomRefused {
    /// The room is no pattern.
    #[error(transparent)]
    Pattern(#[from] InvalidPattern),
    /// The client is in as many rooms as it may be.
    #[error("a client is in at most {ROOMS_PER_CLIENT_MAX} rooms; unsubscribe from one first")]
    TooMany,
    /// The client has gone.
    #[error("the client is no longer connected")]
    Gone,
}

/// All clients and their rooms. `H` is what reaches a client.
pub(crate) struct Rooms<H> {
    clients: HashMap<ClientId, Client<H>>,
    /// Rooms without stars, found by name.
    literal: HashMap<Arc<str>, HashSet<ClientId>>,
    /// Rooms with stars, tried one by one.
    patterns: HashMap<Arc<str>, (Pattern, HashSet<ClientId>)>,
    next: u64,
}

struct Client<H> {
    handle: H,
    rooms: HashSet<Arc<str>>,
}

impl<H> Default for Rooms<H> {
    fn default() -> Self {
        Self {
            clients: HashMap::new(),
            literal: HashMap::new(),
            patterns: HashMap::new(),
            next: 0,
        }
    }
}

impl<H> Rooms<H> {
    /// A client came; it is in no room yet.
    pub(crate) fn add(&mut self, handle: H) -> ClientId {
        let id = ClientId(self.next);
        self.next += 1;
        let rooms = HashSet::new();
        self.clients.insert(id, Client { handle, rooms });
        id
    }

    /// A client went; gives back what reached it, once.
    pub(crate) fn remove(&mut self, id: ClientId) -> Option<H> {
        let client = self.clients.remove(&id)?;
        for room in &client.rooms {
            self.forget(id, room);
        }
        Some(client.handle)
    }

    /// How many clients there are.
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// What reaches this client.
    pub(crate) fn get(&self, id: ClientId) -> Option<&H> {
        Some(&self.clients.get(&id)?.handle)
    }

    /// Enters a room; a second time changes nothing.
    pub(crate) fn enter(&mut self, id: ClientId, room: &str) -> Result<(), RoomRefused> {
        let pattern = Pattern::new(room)?;
        let client = self.clients.get_mut(&id).ok_or(RoomRefused::Gone)?;
        if client.rooms.contains(room) {
            return Ok(());
        }
        if client.rooms.len() >= ROOMS_PER_CLIENT_MAX {
            return Err(RoomRefused::TooMany);
        }
        let name: Arc<str> = room.into();
        client.rooms.insert(Arc::clone(&name));
        if pattern.is_literal() {
            self.literal.entry(name).or_default().insert(id);
        } else {
            let entry = self.patterns.entry(name);
            entry
                .or_insert_with(|| (pattern, HashSet::new()))
                .1
                .insert(id);
        }
        Ok(())
    }

    /// Leaves a room; one that the client is not in changes nothing.
    pub(crate) fn leave(&mut self, id: ClientId, room: &str) {
        if let Some(client) = self.clients.get_mut(&id)
            && client.rooms.remove(room)
        {
            self.forget(id, room);
        }
    }

    fn forget(&mut self, id: ClientId, room: &str) {
        if let Some(members) = self.literal.get_mut(room) {
            members.remove(&id);
            if members.is_empty() {
                self.literal.remove(room);
            }
        }
        if let Some((_, members)) = self.patterns.get_mut(room) {
            members.remove(&id);
            if members.is_empty() {
                self.patterns.remove(room);
            }
        }
    }

    /// All clients.
    pub(crate) fn everyone(&self) -> impl Iterator<Item = (ClientId, &H)> {
        self.clients
            .iter()
            .map(|(id, client)| (*id, &client.handle))
    }

    /// The clients with a room that matches one of `names`, each once.
    pub(crate) fn matching(&self, names: [&str; 2]) -> Vec<(ClientId, &H)> {
        let mut found = HashSet::new();
        for name in names {
            found.extend(self.literal.get(name).into_iter().flatten().copied());
        }
        for (pattern, members) in self.patterns.values() {
            if names.iter().any(|name| pattern.matches(name)) {
                found.extend(members.iter().copied());
            }
        }
        let reached = |id| Some((id, self.get(id)?));
        found.into_iter().filter_map(reached).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(found: Vec<(ClientId, &())>) -> Vec<ClientId> {
        let mut ids: Vec<_> = found.into_iter().map(|(id, ())| id).collect();
        ids.sort();
        ids
    }

    #[test]
    fn each_client_is_found_once_whatever_matches() {
        let mut rooms = Rooms::default();
        let [a, b, c] = [rooms.add(()), rooms.add(()), rooms.add(())];
        for room in ["orders", "order_*", "**", "order_paid"] {
            rooms.enter(a, room).unwrap();
            rooms.enter(a, room).unwrap();
        }
        rooms.enter(b, "order_*").unwrap();
        rooms.enter(c, "stock").unwrap();
        assert_eq!(ids(rooms.matching(["orders", "order_paid"])), [a, b]);
        assert_eq!(ids(rooms.matching(["stock", "x"])), [a, c]);
        assert_eq!(rooms.everyone().count(), 3);
    }

    #[test]
    fn left_rooms_and_gone_clients_leave_nothing_behind() {
        let mut rooms = Rooms::default();
        let [a, b] = [rooms.add(()), rooms.add(())];
        for id in [a, b] {
            rooms.enter(id, "x").unwrap();
            rooms.enter(id, "y*").unwrap();
        }
        rooms.leave(a, "x");
        rooms.leave(a, "never entered");
        assert_eq!(ids(rooms.matching(["x", "-"])), [b]);
        assert!(rooms.remove(b).is_some());
        assert!(rooms.remove(b).is_none());
        rooms.leave(a, "y*");
        assert!(rooms.literal.is_empty() && rooms.patterns.is_empty());
        assert_eq!(rooms.enter(b, "x"), Err(RoomRefused::Gone));
    }

    #[test]
    fn rooms_are_bounded() {
        let mut rooms = Rooms::default();
        let id = rooms.add(());
        for n in 0..ROOMS_PER_CLIENT_MAX {
            rooms.enter(id, &format!("room{n}")).unwrap();
        }
        assert_eq!(rooms.enter(id, "one more"), Err(RoomRefused::TooMany));
        assert_eq!(rooms.enter(id, "room0"), Ok(()), "it is in there already");
    }
}
