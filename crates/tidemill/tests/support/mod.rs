//! Events and deliveries for tests that call an app without a bus.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::Arc;

use tidemill::{
    App, Attempt, Delivery, Event, EventId, EventType, GroupName, Offset, Partition, Position,
    Source, TopicName, Verdict,
};

pub(crate) fn event(ty: &str, data: &str) -> Event {
    Event::builder(
        EventId::new("e1").unwrap(),
        Source::new("/test").unwrap(),
        EventType::new(ty.to_owned()).unwrap(),
    )
    .data("application/json", data.to_owned())
    .build()
    .unwrap()
}

pub(crate) fn delivery(event: Event) -> Delivery {
    Delivery {
        event: Arc::new(event),
        position: Position {
            topic: TopicName::new("orders").unwrap(),
            partition: Partition(0),
            offset: Offset(7),
        },
        attempt: Attempt(1),
        group: GroupName::new("billing").unwrap(),
    }
}

pub(crate) async fn call(app: &App, ty: &str, data: &str) -> Verdict {
    app.call(delivery(event(ty, data))).await
}
