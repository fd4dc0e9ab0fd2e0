//! Writing: publish, and requests that wait for their reply.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytestring::ByteString;
use tidemill_core::error::Unavailable;
use tidemill_core::event::{CORRELATION_ID, REPLY_TO};
use tidemill_core::{
    BoxFuture, Event, ExtensionValue, Position, PublishError, Publisher, RequestError, TopicName,
};
use tidemill_log::CommitError;

use crate::broker::{Broker, Inner};
use crate::encode::Sorted;
use crate::inbox::Answer;
use crate::limits::{PUBLISH_MAX_EVENTS, REROUTES_MAX};
use crate::machine::{Append, Client, Operation, Receipt, Refusal};
use crate::metrics::add;

impl Publisher for Broker {
    fn publish(
        &self,
        topic: TopicName,
        events: Vec<Event>,
    ) -> BoxFuture<'static, Result<Vec<Position>, PublishError>> {
        let inner = Arc::clone(&self.inner);
        let client = self.client;
        Box::pin(async move {
            let published = publish(&inner, client, topic.clone(), &events).await;
            let counters = &inner.counters;
            match &published {
                Ok(_) => {
                    add(&counters.published_events, events.len());
                    let bytes = events.iter().map(Event::size_bytes).sum();
                    add(&counters.published_bytes, bytes);
                    inner.seen.note(&topic, &events);
                }
                Err(_) => add(&counters.publish_errors, 1),
            }
            published
        })
    }

    fn request(
        &self,
        topic: TopicName,
        event: Event,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Event, RequestError>> {
        let broker = self.clone();
        Box::pin(async move { broker.request_now(topic, event, timeout).await })
    }
}

async fn publish(
    inner: &Inner,
    client: Client,
    topic: TopicName,
    events: &[Event],
) -> Result<Vec<Position>, PublishError> {
    if inner.closed.load(Ordering::Acquire) {
        return Err(Unavailable::Closed.into());
    }
    if events.is_empty() {
        return Ok(Vec::new());
    }
    if events.len() > PUBLISH_MAX_EVENTS {
        let count = events.len();
        let why = format!("{count} events are more than {PUBLISH_MAX_EVENTS}; send less at once");
        return Err(PublishError::Other(why));
    }
    for _ in 0..REROUTES_MAX {
        let create = inner.settings.auto_create_topics;
        let (append, places) = inner.encode(&topic, create, events)?;
        let append = Append { client, ..append };
        match inner.submit(Operation::Publish(append)).await {
            Ok(Receipt::Appended(bases)) => {
                let bases = bases.first().map(Vec::as_slice).unwrap_or_default();
                return Ok(Sorted::positions(&places, bases).collect());
            }
            Ok(_) => break,
            // The refusal came when what it is about was durable: the catalog knows it now.
            Err(CommitError::Refused(Refusal::Rerouted { .. })) => {}
            Err(CommitError::Refused(Refusal::UnknownTopic(_))) if create => {}
            Err(error) => return Err(publish_error(error)),
        }
    }
    let why = format!("the topic {topic} keeps changing; try again");
    Err(PublishError::Other(why))
}

pub(crate) fn publish_error(error: CommitError<Refusal>) -> PublishError {
    match error {
        CommitError::Unavailable(why) => PublishError::Unavailable(why),
        CommitError::Indeterminate(why) => PublishError::Indeterminate(why),
        CommitError::Refused(Refusal::UnknownTopic(topic)) => PublishError::UnknownTopic(topic),
        CommitError::Refused(Refusal::IsQueue(name)) => PublishError::IsQueue(name),
        CommitError::Refused(other) => PublishError::Other(other.to_string()),
    }
}

impl Broker {
    async fn request_now(
        &self,
        topic: TopicName,
        event: Event,
        timeout: Duration,
    ) -> Result<Event, RequestError> {
        add(&self.inner.counters.requests, 1);
        let (inbox, answer) = self.inner.inboxes.open().ok_or(RequestError::TooMany)?;
        let text = |text: &ByteString| ExtensionValue::String(text.clone());
        let mut builder = event.to_builder().extension(REPLY_TO, text(inbox.name()));
        if event.extension(CORRELATION_ID).is_none() {
            builder = builder.extension(CORRELATION_ID, text(event.id().as_byte_string()));
        }
        let request = builder.build().map_err(PublishError::Invalid)?;
        // Copied: a part would keep whatever buffer the event was read from while it waits.
        let correlation = request.extension(CORRELATION_ID).map(copied);
        drop(event);
        let answered = async {
            self.publish(topic, vec![request]).await?;
            Ok(answer.await)
        };
        match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(Ok(Answer::Reply(reply)))) => Ok(correlated(*reply, correlation)),
            Ok(Ok(Ok(Answer::DeadLettered(why)))) => Err(RequestError::DeadLettered(why)),
            Ok(Ok(Err(_))) => Err(PublishError::Unavailable(Unavailable::Closed).into()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(RequestError::Timeout(timeout)),
        }
    }
}

fn copied(value: &ExtensionValue) -> ExtensionValue {
    match value {
        ExtensionValue::String(text) => ExtensionValue::String(text.to_string().into()),
        other => other.clone(),
    }
}

/// The reply with the request's correlation, where the handler gave it none.
fn correlated(reply: Event, correlation: Option<ExtensionValue>) -> Event {
    match correlation {
        Some(value) if reply.extension(CORRELATION_ID).is_none() => {
            let with = reply.to_builder().extension(CORRELATION_ID, value);
            with.build().unwrap_or(reply)
        }
        _ => reply,
    }
}
