//! What the event log says of the orders, read from its beginning: the account that the
//! databases are held against. Knows the shop's events and nothing of its tables.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{Hash, Hasher};

use serde::Serialize;
use tidemill::core::FetchError;
use tidemill::{Bus, Event, Message, TopicName};

use crate::events::{
    CreateOrder, OrderCreated, OrderStatus, PaymentRequested, ReturnOrder, StockReserved,
};
use crate::http::heard;
use crate::orders::audit::OrdersAccount;
use crate::tail::read_all;
use crate::{orders, payment, stock};

/// Most complaints that are kept.
const COMPLAINTS_MAX: usize = 20;

/// What the log says.
#[derive(Debug, Default)]
pub(super) struct Logbook {
    /// Orders and credit notes that were asked for under an id of their own.
    requested: BTreeSet<i64>,
    /// Orders by how often their creation was told.
    created: BTreeMap<i64, u32>,
    /// Orders by how often an end was told, and the last one.
    ended: BTreeMap<i64, (u32, OrderStatus)>,
    /// Hashes of source and id of every event of the services.
    seen: HashSet<u64>,
    summary: LogSummary,
}

/// The log in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogSummary {
    /// Orders and credit notes that were accepted: asked for under an id of their own.
    pub accepted: u64,
    /// Events of the services.
    pub events: u64,
    /// Events of the services that are there twice.
    pub doubled: u64,
    /// Events that a service gave up.
    pub dead_letters: u64,
}

impl Logbook {
    /// Reads the whole log. Its memory follows the number of events.
    pub(super) async fn read(bus: &Bus) -> Result<Self, FetchError> {
        let mut book = Self::default();
        let requests = topic(CreateOrder::TOPIC);
        read_all(bus, &requests, |event| book.request(event)).await?;
        for name in [
            OrderCreated::TOPIC,
            StockReserved::TOPIC,
            PaymentRequested::TOPIC,
        ] {
            read_all(bus, &topic(name), |event| book.fact(event)).await?;
        }
        for group in [orders::NAME, stock::NAME, payment::NAME] {
            let letters = topic(&format!("{group}.deadletter"));
            let count = |_: &Event| book.summary.dead_letters += 1;
            read_all(bus, &letters, count).await?;
        }
        book.summary.accepted = book.requested.len() as u64;
        Ok(book)
    }

    pub(super) fn summary(&self) -> LogSummary {
        self.summary
    }

    /// What was accepted and has not ended.
    pub(super) fn under_way(&self) -> impl Iterator<Item = i64> {
        let open = |id: &&i64| !self.ended.contains_key(*id);
        self.requested.iter().filter(open).copied()
    }

    pub(super) fn has_ended(&self, order_id: i64) -> bool {
        self.ended.contains_key(&order_id)
    }

    fn request(&mut self, event: &Event) {
        let data = event.data().map(AsRef::as_ref).unwrap_or_default();
        let id = if event.ty().as_str() == CreateOrder::TYPE {
            CreateOrder::decode(data).ok().and_then(|r| r.order_id)
        } else if event.ty().as_str() == ReturnOrder::TYPE {
            ReturnOrder::decode(data).ok().map(|r| r.order_id)
        } else {
            None
        };
        self.requested.extend(id);
    }

    fn fact(&mut self, event: &Event) {
        self.summary.events += 1;
        let mut hasher = DefaultHasher::new();
        (event.source().as_str(), event.id().as_str()).hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            self.summary.doubled += 1;
        }
        if event.ty().as_str() == OrderCreated::TYPE
            && let Some(facts) = heard::facts(event)
        {
            *self.created.entry(facts.order_id).or_default() += 1;
        }
        if let Some((order_id, status)) = heard::end(event) {
            let entry = self.ended.entry(order_id).or_insert((0, status));
            *entry = (entry.0 + 1, status);
        }
    }

    /// Holds the orders of the database against the log.
    pub(super) fn check(&self, account: &OrdersAccount) -> Vec<String> {
        let mut complaints = Vec::new();
        for id in &self.requested {
            if !account.orders.contains_key(id) {
                complaints.push(format!("order {id} was accepted and is lost"));
            }
        }
        for (id, order) in &account.orders {
            let told = self.ended.get(id).copied();
            let expected = order.status.is_final().then_some((1, order.status));
            if told != expected {
                complaints.push(format!(
                    "order {id} is {order:?}, its end was told as {told:?}"
                ));
            }
            if self.created.get(id).is_some_and(|times| *times != 1) {
                complaints.push(format!("order {id} was created more than once"));
            }
        }
        for id in self.created.keys().chain(self.ended.keys()) {
            if !account.orders.contains_key(id) {
                complaints.push(format!("order {id} was told of and nobody knows it"));
            }
        }
        if self.summary.doubled > 0 {
            complaints.push(format!("{} events are there twice", self.summary.doubled));
        }
        if self.summary.dead_letters > 0 {
            complaints.push(format!("{} dead letters", self.summary.dead_letters));
        }
        complaints.truncate(COMPLAINTS_MAX);
        complaints
    }
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name.to_owned()).expect("the shop's topics have legal names")
}
