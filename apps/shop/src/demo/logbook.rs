//! What the event log says of the orders, read from its beginning: the account that the
//! databases are held against. Knows the shop's events and nothing of its tables.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{Hash, Hasher};

use serde::Serialize;
use tidemill::core::FetchError;
use tidemill::{Bus, Event, Message, TopicName};

use crate::events::{
    CartChanged, CreateOrder, OrderConfirmed, OrderCreated, OrderStatus, PaymentRequested,
    ReturnOrder, ShipmentCreated, StockReserved, UserLoggedIn,
};
use crate::http::heard;
use crate::orders::audit::OrdersAccount;
use crate::shop::SERVICES;
use crate::tail::read_all;

/// Most complaints that are kept.
const COMPLAINTS_MAX: usize = 20;

/// What the log says.
#[derive(Debug, Default)]
pub(super) struct Logbook {
    /// Orders and credit notes that were asked for under an id of their own.
    requested: BTreeSet<i64>,
    /// Orders by how many events told of their creation.
    created: BTreeMap<i64, u32>,
    /// Orders by how many events told that they are confirmed, and that their shipment is ready.
    confirmed: BTreeMap<i64, u32>,
    shipments: BTreeMap<i64, u32>,
    /// Orders by how many events told of an end, and the last one.
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
    /// Events among them that were there before, under the same id.
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
            ShipmentCreated::TOPIC,
            CartChanged::TOPIC,
            UserLoggedIn::TOPIC,
        ] {
            read_all(bus, &topic(name), |event| book.fact(event)).await?;
        }
        for group in SERVICES {
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

    /// The orders that were told of and are not in the database, which keeps each before it is
    /// told of.
    pub(super) fn unknown(&self, account: &OrdersAccount) -> BTreeSet<i64> {
        let told = self.created.keys().chain(self.ended.keys()).copied();
        told.filter(|id| !account.orders.contains_key(id)).collect()
    }

    /// All that was accepted.
    pub(super) fn into_requested(self) -> BTreeSet<i64> {
        self.requested
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
            // The same event once more is for its readers what a redelivered one is.
            self.summary.doubled += 1;
            return;
        }
        if event.ty().as_str() == OrderCreated::TYPE
            && let Some(facts) = heard::facts(event)
        {
            *self.created.entry(facts.order_id).or_default() += 1;
        }
        if event.ty().as_str() == OrderConfirmed::TYPE
            && let Some(facts) = heard::facts(event)
        {
            *self.confirmed.entry(facts.order_id).or_default() += 1;
        }
        let data = event.data().map(AsRef::as_ref).unwrap_or_default();
        if event.ty().as_str() == ShipmentCreated::TYPE
            && let Ok(shipment) = ShipmentCreated::decode(data)
        {
            *self.shipments.entry(shipment.order_id).or_default() += 1;
        }
        if let Some((order_id, status)) = heard::end(event) {
            let entry = self.ended.entry(order_id).or_insert((0, status));
            // What was delivered may be sent back, which is another end.
            let before = match (entry.1, status) {
                (OrderStatus::Delivered, OrderStatus::Returned) => 0,
                _ => entry.0,
            };
            *entry = (before + 1, status);
        }
    }

    /// Holds the orders of the database against the log. Where a group was `read_again` from its
    /// beginning, its events are in the log again.
    pub(super) fn check(&self, account: &OrdersAccount, read_again: bool) -> Vec<String> {
        let mut complaints = Vec::new();
        for id in &self.requested {
            if !account.orders.contains_key(id) {
                complaints.push(format!("order {id} was accepted and is lost"));
            }
        }
        for (id, order) in &account.orders {
            complaints.extend(self.check_end(*id, order.status));
            complaints.extend(self.check_steps(*id, order.status));
        }
        for id in self.unknown(account) {
            complaints.push(format!("order {id} was told of and nobody knows it"));
        }
        let LogSummary {
            doubled,
            dead_letters,
            ..
        } = self.summary;
        if doubled > 0 && !read_again {
            complaints.push(format!(
                "{doubled} events are in the log again under the same ids, although no group was \
                 read again from its beginning"
            ));
        }
        if dead_letters > 0 {
            complaints.push(format!(
                "{dead_letters} events were given up and are dead letters"
            ));
        }
        complaints.truncate(COMPLAINTS_MAX);
        complaints
    }

    /// No step is told twice, and of what was sold the confirmation and the shipment are told.
    fn check_steps(&self, id: i64, status: OrderStatus) -> Option<String> {
        let times = |of: &BTreeMap<i64, u32>| of.get(&id).copied().unwrap_or(0);
        let steps = [
            ("created", times(&self.created), 0),
            (
                "confirmed",
                times(&self.confirmed),
                u32::from(status.is_sold()),
            ),
            (
                "sent off",
                times(&self.shipments),
                u32::from(status.is_sold()),
            ),
        ];
        let mut wrong = steps
            .into_iter()
            .filter(|(_, times, least)| times > &1 || times < least);
        wrong.next().map(|(step, times, _)| {
            let stands = status.as_str();
            format!("order {id} is {stands} and was told {times} times to be {step}")
        })
    }

    /// An order's end is told once, as the database has it.
    fn check_end(&self, id: i64, status: OrderStatus) -> Option<String> {
        let told = self.ended.get(&id).copied();
        let stands = status.as_str();
        match told {
            None if status.is_final() => {
                Some(format!("order {id} is {stands} and its end was never told"))
            }
            Some((_, last)) if last != status => Some(format!(
                "order {id} is {stands} and was told to be {}",
                last.as_str()
            )),
            Some((times, _)) if times > 1 => Some(format!(
                "the end of order {id} was told by {times} different events"
            )),
            _ => None,
        }
    }
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name.to_owned()).expect("the shop's topics have legal names")
}
