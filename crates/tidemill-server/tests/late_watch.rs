//! Socket.IO over a bus whose watch tells of an end late: when more was read already.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use support::socketio::SocketIo;
use support::{Running, broker};
use tidemill_core::bus::{Advanced, BoxFuture, TopicBounds, Watch};
use tidemill_core::{
    Bus, Event, Fetch, FetchError, Fetched, GroupMember, Guarantees, Offset, Position,
    PublishError, Publisher, RequestError, SubscribeError, Subscriber, Subscription, TopicName,
};
use tidemill_server::{Config, Server};

/// Passes everything on; only its watch is late.
struct Late(Bus);

impl Publisher for Late {
    fn publish(
        &self,
        topic: TopicName,
        events: Vec<Event>,
    ) -> BoxFuture<'static, Result<Vec<Position>, PublishError>> {
        let bus = self.0.clone();
        Box::pin(async move { bus.publish(topic, events).await })
    }

    fn request(
        &self,
        topic: TopicName,
        event: Event,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Event, RequestError>> {
        let bus = self.0.clone();
        Box::pin(async move { bus.request(topic, event, timeout).await })
    }
}

impl Subscriber for Late {
    fn guarantees(&self) -> Guarantees {
        self.0.guarantees()
    }

    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'static, Result<Box<dyn GroupMember>, SubscribeError>> {
        let bus = self.0.clone();
        Box::pin(async move { bus.subscribe(subscription).await })
    }

    fn fetch(&self, fetch: Fetch) -> BoxFuture<'static, Result<Fetched, FetchError>> {
        let bus = self.0.clone();
        Box::pin(async move { bus.fetch(fetch).await })
    }

    fn topics(&self) -> BoxFuture<'static, Result<Vec<TopicBounds>, FetchError>> {
        let bus = self.0.clone();
        Box::pin(async move { bus.topics().await })
    }

    fn watch(&self) -> Result<Box<dyn Watch>, FetchError> {
        let inner = self.0.watch()?;
        Ok(Box::new(LateWatch { inner, late: None }))
    }
}

/// Tells of each end, and then of the one before it.
struct LateWatch {
    inner: Box<dyn Watch>,
    late: Option<Vec<Advanced>>,
}

impl Watch for LateWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Advanced>, FetchError>> {
        Box::pin(async move {
            if let Some(late) = self.late.take() {
                return Ok(late);
            }
            let told = self.inner.next().await?;
            let mut late = told.clone();
            for advanced in &mut late {
                advanced.end = Offset(advanced.end.0.saturating_sub(1));
            }
            self.late = Some(late);
            Ok(told)
        })
    }
}

#[tokio::test]
async fn an_end_told_late_sends_no_event_twice() {
    let bus = Bus::new(Late(broker().await.bus()));
    let config = Config::at("127.0.0.1:0".parse().unwrap());
    let server = Server::bind_bus(bus, config).await.unwrap();
    let address = server.http_addr();
    let running = tokio::spawn(server.run(std::future::pending()));
    let client = support::http::Client::new(address);
    let mut reader = SocketIo::connect(address).await;
    for n in 0..20 {
        client.event(n.to_string()).await;
        assert_eq!(reader.event().await, n.to_string());
    }
    running.abort();
}

#[tokio::test]
async fn a_topic_created_again_is_read_from_its_beginning() {
    let server = Running::start().await;
    let client = server.client();
    let mut reader = SocketIo::connect(server.address).await;
    for n in 0..3 {
        client.event(n.to_string()).await;
        assert_eq!(reader.event().await, n.to_string());
    }
    let topic = TopicName::new("events").unwrap();
    server.broker.delete_topic(&topic).await.unwrap();
    client.event("\"again\"").await;
    assert_eq!(reader.event().await, "\"again\"");
}

#[tokio::test]
async fn a_topic_created_again_with_as_many_events_loses_none_of_them() {
    let server = Running::start().await;
    let client = server.client();
    let mut reader = SocketIo::connect(server.address).await;
    let topic = TopicName::new("events").unwrap();
    let path = "/v1/topics/events/events";
    let batch = |texts: &[&str]| {
        let event = |text: &&str| {
            let head = r#""specversion":"1.0","source":"/s","type":"t""#;
            format!(r#"{{{head},"id":{text},"data":{text}}}"#)
        };
        let events: Vec<_> = texts.iter().map(event).collect();
        format!("[{}]", events.join(","))
    };
    // Fewer, as many and more than there were before; each batch comes in one piece.
    for round in [
        &["\"a\"", "\"b\"", "\"c\""][..],
        &["\"d\"", "\"e\"", "\"f\""],
        &["\"g\"", "\"h\"", "\"i\"", "\"j\""],
    ] {
        let body = batch(round);
        let answer = client.post(path, "application/cloudevents-batch+json", body);
        assert_eq!(answer.await.status, 200);
        for text in round {
            assert_eq!(reader.event().await, *text);
        }
        server.broker.delete_topic(&topic).await.unwrap();
    }
}
