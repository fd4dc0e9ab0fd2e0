//! What is asked about queues, of a server or of a folder.
//!
//! This room may not know which command asks.

use std::time::Duration;

use serde::Serialize;
use tidemill::broker::{CreateQueue, Dequeue, LeaseId, QueueError, QueueMessage};
use tidemill::core::json;
use tidemill::{Bytes, Event, TopicName};

use super::{Target, TargetOptions, found, retold};
use crate::client::path;
use crate::failure::Failure;
use crate::wire;

const JSON: &str = "application/json";

/// `POST /v1/queues`.
#[derive(Serialize)]
struct NewQueue<'a> {
    name: &'a str,
    transient: bool,
    lease_ms: u64,
    max_deliveries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn body(value: &impl Serialize) -> Bytes {
    let bytes = serde_json::to_vec(value).expect("texts and numbers are JSON");
    bytes.into()
}

/// The path of one door of a queue.
fn door(name: &TopicName, door: &str) -> String {
    path(&["v1", "queues", name.as_str(), door])
}

/// A message in the form in which the server tells it.
fn told(message: &QueueMessage) -> Result<wire::QueueMessage, Failure> {
    let mut text = Vec::new();
    json::encode(&message.event, &mut text);
    let event = serde_json::from_slice(&text).map_err(Failure::new)?;
    Ok(wire::QueueMessage {
        offset: message.offset.0,
        deliveries: None,
        lease: None,
        event,
    })
}

impl Target {
    /// Every queue, by name.
    pub(crate) async fn queues(&self) -> Result<Vec<wire::QueueOf>, Failure> {
        match self {
            Self::Server(client) => {
                let answer: wire::Queues = client.get("/v1/queues", Duration::ZERO).await?;
                Ok(answer.queues)
            }
            Self::Folder(broker) => retold(broker.queues().await),
        }
    }

    /// One queue; `None` when there is none of that name.
    pub(crate) async fn queue(&self, name: &TopicName) -> Result<Option<wire::QueueOf>, Failure> {
        match self {
            Self::Server(client) => {
                let at = path(&["v1", "queues", name.as_str()]);
                found(client.get(&at, Duration::ZERO).await)
            }
            Self::Folder(broker) => match broker.queue_info(name).await {
                Err(QueueError::Unknown(_)) => Ok(None),
                info => retold(info.map_err(Failure::new)?).map(Some),
            },
        }
    }

    /// What to say of something that was not deleted, where a queue has its name.
    pub(crate) async fn is_of_queue(&self, options: &TargetOptions, name: &str) -> Option<Failure> {
        let queue = TopicName::new(name.to_owned()).ok()?;
        self.queue(&queue).await.ok()??;
        let command = options.command("queue delete", Some(name), &[]);
        Some(Failure::new(format!(
            "{name} is a queue, which goes with its group and its messages: delete it with \
             `{command}`"
        )))
    }

    /// Creates a queue.
    pub(crate) async fn create_queue(
        &self,
        name: &TopicName,
        how: CreateQueue,
    ) -> Result<wire::QueueOf, Failure> {
        match self {
            Self::Server(client) => {
                let new = NewQueue {
                    name: name.as_str(),
                    transient: how.transient,
                    lease_ms: millis(how.settings.lease),
                    max_deliveries: how.settings.max_deliveries,
                    ttl_ms: how.settings.ttl.map(millis),
                };
                Ok(client.post("/v1/queues", JSON, body(&new)).await?)
            }
            Self::Folder(broker) => {
                let created = broker.create_queue(name.clone(), how).await;
                retold(created.map_err(Failure::new)?)
            }
        }
    }

    /// Deletes a queue with all its messages; `false` when there is none of that name.
    pub(crate) async fn delete_queue(&self, name: &TopicName) -> Result<bool, Failure> {
        match self {
            Self::Server(client) => {
                let at = path(&["v1", "queues", name.as_str()]);
                Ok(found(client.delete(&at).await)?.is_some())
            }
            Self::Folder(broker) => match broker.delete_queue(name).await {
                Err(QueueError::Unknown(_)) => Ok(false),
                deleted => deleted.map(|()| true).map_err(Failure::new),
            },
        }
    }

    /// Puts a message in.
    pub(crate) async fn enqueue(
        &self,
        name: &TopicName,
        event: Event,
    ) -> Result<wire::Enqueued, Failure> {
        match self {
            Self::Server(client) => {
                let mut text = Vec::new();
                json::encode(&event, &mut text);
                let at = door(name, "enqueue");
                let enqueued = client.post(&at, json::EVENT_CONTENT_TYPE, text.into());
                Ok(enqueued.await?)
            }
            Self::Folder(broker) => {
                let id = event.id().to_string();
                let queue = broker.queue(name).map_err(Failure::new)?;
                let offsets = queue.enqueue(vec![event]).await.map_err(Failure::new)?;
                let offset = offsets.first().map_or(0, |offset| offset.0);
                Ok(wire::Enqueued {
                    id,
                    queue: name.to_string(),
                    offset,
                })
            }
        }
    }

    /// Takes messages.
    pub(crate) async fn dequeue(
        &self,
        name: &TopicName,
        how: Dequeue,
    ) -> Result<Vec<wire::QueueMessage>, Failure> {
        match self {
            Self::Server(client) => {
                let (max, wait_ms) = (how.max, millis(how.wait));
                let lease = how
                    .lease
                    .map(|lease| format!("&lease_ms={}", millis(lease)));
                let lease = lease.unwrap_or_default();
                let at = door(name, "dequeue");
                let at = format!("{at}?max={max}&wait_ms={wait_ms}{lease}");
                let page: wire::QueueMessages = client.ask(&at, how.wait).await?;
                Ok(page.messages)
            }
            Self::Folder(broker) => {
                let queue = broker.queue(name).map_err(Failure::new)?;
                let taken = queue.dequeue(how).await.map_err(Failure::new)?;
                let told = taken.iter().map(|one| {
                    let mut told = told(&one.message)?;
                    told.deliveries = Some(one.deliveries);
                    Ok(told)
                });
                told.collect()
            }
        }
    }

    /// Acknowledges messages, or gives them back: `how` is the door's name.
    pub(crate) async fn settle_leases(
        &self,
        name: &TopicName,
        how: &str,
        leases: &[LeaseId],
    ) -> Result<(), Failure> {
        match self {
            Self::Server(client) => {
                let leases = serde_json::json!({ "leases": leases });
                let at = door(name, how);
                let _: serde::de::IgnoredAny = client.post(&at, JSON, body(&leases)).await?;
                Ok(())
            }
            Self::Folder(_) => Err(Failure::usage(
                "leases end with the program that gave them: in a folder there are none; ask the \
                 server that gave this one",
            )),
        }
    }

    /// The oldest messages that nobody has.
    pub(crate) async fn peek(
        &self,
        name: &TopicName,
        max: usize,
    ) -> Result<Vec<wire::QueueMessage>, Failure> {
        match self {
            Self::Server(client) => {
                let at = format!("{}?max={max}", door(name, "peek"));
                let page: wire::QueueMessages = client.get(&at, Duration::ZERO).await?;
                Ok(page.messages)
            }
            Self::Folder(broker) => {
                let queue = broker.queue(name).map_err(Failure::new)?;
                let peeked = queue.peek(max).await.map_err(Failure::new)?;
                peeked.iter().map(told).collect()
            }
        }
    }
}
