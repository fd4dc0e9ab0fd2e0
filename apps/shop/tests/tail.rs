//! A tail goes on after errors of the bus: it waits for what passes, and passes over what stays.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::core::bus::{TopicBounds, Watch};
use tidemill::core::error::Unavailable;
use tidemill::core::{
    BoxFuture, Fetch, FetchError, Fetched, GroupMember, Guarantees, Offset, Position, PublishError,
    Publisher, RequestError, SubscribeError, Subscriber, Subscription,
};
use tidemill::{Bus, Event, EventId, EventType, Source, TopicName};
use tidemill_shop::tail::Tail;

/// A bus whose next fetches fail.
#[derive(Clone)]
struct Failing {
    bus: Bus,
    errors: Arc<Mutex<VecDeque<FetchError>>>,
}

impl Publisher for Failing {
    fn publish(
        &self,
        topic: TopicName,
        events: Vec<Event>,
    ) -> BoxFuture<'static, Result<Vec<Position>, PublishError>> {
        let bus = self.bus.clone();
        Box::pin(async move { bus.publish(topic, events).await })
    }

    fn request(
        &self,
        topic: TopicName,
        event: Event,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Event, RequestError>> {
        let bus = self.bus.clone();
        Box::pin(async move { bus.request(topic, event, timeout).await })
    }
}

impl Subscriber for Failing {
    fn guarantees(&self) -> Guarantees {
        self.bus.guarantees()
    }

    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'static, Result<Box<dyn GroupMember>, SubscribeError>> {
        let bus = self.bus.clone();
        Box::pin(async move { bus.subscribe(subscription).await })
    }

    fn fetch(&self, fetch: Fetch) -> BoxFuture<'static, Result<Fetched, FetchError>> {
        let (bus, error) = (self.bus.clone(), self.errors.lock().unwrap().pop_front());
        Box::pin(async move {
            match error {
                Some(error) => Err(error),
                None => bus.fetch(fetch).await,
            }
        })
    }

    fn topics(&self) -> BoxFuture<'static, Result<Vec<TopicBounds>, FetchError>> {
        let bus = self.bus.clone();
        Box::pin(async move { bus.topics().await })
    }

    fn watch(&self) -> Result<Box<dyn Watch>, FetchError> {
        self.bus.watch()
    }
}

fn events(count: usize) -> Vec<Event> {
    let event = |n: usize| {
        let id = EventId::new(n.to_string()).unwrap();
        let source = Source::new("/test").unwrap();
        Event::builder(id, source, EventType::new("made").unwrap())
            .build()
            .unwrap()
    };
    (0..count).map(event).collect()
}

#[tokio::test]
async fn a_tail_outlives_the_errors_of_its_bus() {
    let topic = TopicName::new("orders").unwrap();
    let failing = Failing {
        bus: tidemill::broker::Broker::in_memory().bus(),
        errors: Arc::default(),
    };
    let bus = Bus::new(failing.clone());
    let mut tail = Tail::at_end(&bus, topic.clone()).await.unwrap();
    for (error, first) in [
        (FetchError::Unavailable(Unavailable::Overloaded), "0"),
        (FetchError::Other("a loose cable".into()), "0"),
        (
            FetchError::Damaged {
                offset: Offset(4),
                resume: Offset(5),
                why: "a bit".into(),
            },
            "1",
        ),
    ] {
        let text = error.to_string();
        failing.errors.lock().unwrap().push_back(error);
        bus.publish(topic.clone(), events(2)).await.unwrap();
        let heard = tail.next().await.unwrap();
        assert_eq!(heard[0].id().as_str(), first, "{text}");
        assert_eq!(heard.last().unwrap().id().as_str(), "1", "{text}");
    }
    let closed = FetchError::Unavailable(Unavailable::Closed);
    failing.errors.lock().unwrap().push_back(closed.clone());
    bus.publish(topic, events(1)).await.unwrap();
    assert_eq!(tail.next().await.unwrap_err(), closed);
}
