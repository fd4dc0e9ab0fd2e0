//! What the door heard of orders, so that an answer can wait for what a request led to. Bounded:
//! the newest news of so many orders.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill::{Bus, Event, Message, TopicName};
use tokio::sync::Notify;

use crate::events::{
    ASKING, OrderCancelled, OrderCreated, OrderFacts, OrderPaid, OrderReturned, OrderStatus,
    OrderUpdated,
};
use crate::limits::{HEARD_EVENTS_MAX, HEARD_MAX};
use crate::tail::Tail;

/// The newest news of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) status: OrderStatus,
    pub(super) revision: i64,
    pub(super) reason: Option<String>,
}

impl News {
    /// The stock has not said yet whether it has what is new in an order.
    pub(super) fn is_asking(&self) -> bool {
        self.reason.as_deref() == Some(ASKING)
    }
}

#[derive(Default)]
struct Memory {
    news: HashMap<i64, News>,
    /// The orders of `news`, the one heard of first in front.
    order: VecDeque<i64>,
}

/// Clones share the memory.
#[derive(Clone, Default)]
pub(super) struct Heard {
    memory: Arc<Mutex<Memory>>,
    /// Woken at all news: those who wait look for theirs.
    changed: Arc<Notify>,
}

impl Heard {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to the topic of orders until the bus closes; the caller drops it earlier.
    pub(super) async fn listen(self, mut tail: Tail) {
        while let Ok(events) = tail.next().await {
            for event in events {
                self.hear(&event);
            }
            self.changed.notify_waiters();
        }
    }

    fn hear(&self, event: &Event) {
        // A new order is no news: what is waited for is what the services make of it.
        if event.ty().as_str() == OrderCreated::TYPE || event.ty().as_str() == OrderPaid::TYPE {
            return;
        }
        let Some((order_id, news)) = news(event) else {
            return;
        };
        let mut memory = self.memory();
        if memory.news.insert(order_id, news).is_none() {
            memory.order.push_back(order_id);
        }
        if memory.order.len() > HEARD_MAX
            && let Some(oldest) = memory.order.pop_front()
        {
            memory.news.remove(&oldest);
        }
    }

    /// Waits for news of an order that `wanted` accepts, at most so long.
    pub(super) async fn wait(
        &self,
        order_id: i64,
        wanted: impl Fn(&News) -> bool,
        at_most: Duration,
    ) -> Option<News> {
        let heard = async {
            loop {
                // Registered before looking: news in between is not missed.
                let changed = self.changed.notified();
                let news = self.memory().news.get(&order_id).cloned();
                if let Some(news) = news.filter(|news| wanted(news)) {
                    return news;
                }
                changed.await;
            }
        };
        tokio::time::timeout(at_most, heard).await.ok()
    }
}

/// What an event says of an order.
fn news(event: &Event) -> Option<(i64, News)> {
    let facts = facts(event)?;
    let news = News {
        status: facts.status,
        revision: facts.revision,
        reason: facts.reason,
    };
    Some((facts.order_id, news))
}

/// What an event of the topic `orders` says, whichever it is.
pub(crate) fn facts(event: &Event) -> Option<OrderFacts> {
    serde_json::from_slice(event.data()?).ok()
}

/// The end of an order, if the event tells of one.
pub(crate) fn end(event: &Event) -> Option<(i64, OrderStatus)> {
    let ends = [
        OrderUpdated::TYPE,
        OrderCancelled::TYPE,
        OrderReturned::TYPE,
    ];
    if !ends.contains(&event.ty().as_str()) {
        return None;
    }
    let facts = facts(event).filter(|facts| facts.status.is_final())?;
    Some((facts.order_id, facts.status))
}

/// The topic of everything that happens to orders.
pub(crate) fn topic() -> TopicName {
    TopicName::new(OrderCreated::TOPIC).expect("the topic's name is a legal one")
}

/// A tail of that topic that begins with what is remembered of it: a door that was started again
/// knows what the one before it heard.
pub(super) async fn remembered(bus: &Bus) -> Result<Tail, tidemill::core::FetchError> {
    Tail::before_end(bus, topic(), HEARD_EVENTS_MAX).await
}

/// A tail of that topic.
pub(crate) async fn tail(bus: &Bus) -> Result<Tail, tidemill::core::FetchError> {
    Tail::at_end(bus, topic()).await
}
