//! What the server's API says, in the words of `docs/HTTP.md`, and what listings print.
//!
//! Members that are not known here are passed over, so that an older command line understands a
//! newer server.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidemill::broker::{AlterTopic, TopicSettings};

/// `GET /v1/topics`.
#[derive(Deserialize)]
pub(crate) struct Topics {
    pub(crate) topics: Vec<Topic>,
}

/// `GET /v1/topics/{topic}`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Topic {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// After how long events are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retention_ms: Option<u64>,
    /// Beyond how many bytes of a partition its old events are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retention_bytes: Option<u64>,
    /// Whether only the latest event of each key stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) compact: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) compression: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) segment_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) segment_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) compact_after_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) compact_within_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tombstone_retention_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) append_time: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) batch_max_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) time_before_max_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) time_after_max_ms: Option<u64>,
    pub(crate) partitions: Vec<PartitionOf>,
}

/// One ordered part of a topic.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct PartitionOf {
    pub(crate) partition: u32,
    /// The oldest offset that is kept.
    pub(crate) earliest: u64,
    /// Where what can be read ends: before the oldest transaction that is open.
    pub(crate) end: u64,
    /// The offset that the next event gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) high_watermark: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size_bytes: Option<u64>,
}

/// The end of a partition for people: the offset that the next event gets, and, where what can be
/// read ends before, that.
pub(crate) fn ends(readable: u64, high_watermark: Option<u64>) -> (u64, Option<u64>) {
    let end = high_watermark.unwrap_or(readable);
    (end, (readable < end).then_some(readable))
}

/// `POST /v1/topics`.
#[derive(Serialize)]
pub(crate) struct NewTopic<'a> {
    pub(crate) name: &'a str,
    pub(crate) partitions: u32,
    #[serde(flatten)]
    pub(crate) settings: TopicSettings,
}

/// `PATCH /v1/topics/{topic}`: what is not named stays.
#[derive(Serialize)]
pub(crate) struct TopicChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partitions: Option<u32>,
    /// `Some(None)` is `null`, and lifts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retention_ms: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retention_bytes: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compact: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compression: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) segment_ms: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) segment_bytes: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compact_after_ms: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compact_within_ms: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tombstone_retention_ms: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) append_time: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batch_max_bytes: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_before_max_ms: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_after_max_ms: Option<Option<u64>>,
}

impl From<AlterTopic> for TopicChange {
    fn from(change: AlterTopic) -> Self {
        Self {
            partitions: change.partitions,
            retention_ms: change.retention_ms,
            retention_bytes: change.retention_bytes,
            compact: change.compact,
            compression: change.compression.map(|how| how.to_string()),
            segment_ms: change.segment_ms,
            segment_bytes: change.segment_bytes,
            compact_after_ms: change.compact_after_ms,
            compact_within_ms: change.compact_within_ms,
            tombstone_retention_ms: change.tombstone_retention_ms,
            append_time: change.append_time,
            batch_max_bytes: change.batch_max_bytes,
            time_before_max_ms: change.time_before_max_ms,
            time_after_max_ms: change.time_after_max_ms,
        }
    }
}

/// `DELETE /v1/topics/{topic}/events`.
#[derive(Deserialize)]
pub(crate) struct Trimmed {
    pub(crate) earliest: u64,
}

/// `GET /v1/groups`.
#[derive(Deserialize)]
pub(crate) struct Groups {
    pub(crate) groups: Vec<Group>,
}

/// `GET /v1/groups/{group}`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Group {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) topics: Vec<String>,
    /// The order it keeps, while it has members.
    #[serde(default)]
    pub(crate) order: Option<String>,
    #[serde(default)]
    pub(crate) generation: u64,
    #[serde(default)]
    pub(crate) members: Vec<Member>,
    #[serde(default)]
    pub(crate) partitions: Vec<GroupPartition>,
    /// What sort of members it has.
    #[serde(default)]
    pub(crate) kind: String,
    /// Its members that share the partitions among themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) classic: Option<Classic>,
    /// Its members among which the broker shares the partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) consumer: Option<Consumer>,
}

impl Group {
    /// How many members of any sort it has.
    pub(crate) fn member_count(&self) -> usize {
        let classic = self.classic.as_ref().map_or(0, |of| of.members.len());
        let consumer = self.consumer.as_ref().map_or(0, |of| of.members.len());
        self.members.len() + classic + consumer
    }
}

/// A group as its classic members see it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Classic {
    pub(crate) state: String,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) generation: i32,
    #[serde(default)]
    pub(crate) members: Vec<ClassicMember>,
}

/// A member that shares the partitions with the others.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct ClassicMember {
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) assignment: Option<String>,
}

/// A consumer group of Kafka's newer protocol.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Consumer {
    pub(crate) state: String,
    pub(crate) epoch: i32,
    pub(crate) assignment_epoch: i32,
    pub(crate) assignor: String,
    #[serde(default)]
    pub(crate) members: Vec<ConsumerMember>,
}

/// A member of such a group.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct ConsumerMember {
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<String>,
    pub(crate) epoch: i32,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    #[serde(default)]
    pub(crate) topics: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pattern: Option<String>,
    pub(crate) assignment: String,
    pub(crate) target: String,
    /// Records that it holds and has not settled; of a share group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) in_flight: Option<u64>,
}

/// One member of a group.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Member {
    pub(crate) id: u64,
    /// How many of the group's key slots are its own.
    pub(crate) slots: u32,
    /// Events that it holds and has not settled.
    pub(crate) in_flight: u64,
    #[serde(default)]
    pub(crate) topics: Vec<String>,
}

/// Where a group stands in one partition.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct GroupPartition {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    /// All offsets below it are settled.
    pub(crate) position: u64,
    /// How many offsets above the position are settled already.
    #[serde(default)]
    pub(crate) settled_above: u64,
    /// Where what can be read ends: before the oldest transaction that is open.
    pub(crate) end: u64,
    /// The offset that the next event gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) high_watermark: Option<u64>,
    /// Events that can be read and are not settled yet.
    pub(crate) lag: u64,
    #[serde(default)]
    pub(crate) in_flight: u64,
    /// Why it reads no further, when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) paused: Option<String>,
    /// What is damaged where it stands, when something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) damage: Option<String>,
}

/// `POST /v1/topics/{topic}/events` with a batch.
#[derive(Deserialize)]
pub(crate) struct AcceptedBatch {
    pub(crate) events: Vec<Accepted>,
}

/// One event that is durable now.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Accepted {
    pub(crate) id: String,
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
}

/// `GET /v1/topics/{topic}/events`.
#[derive(Deserialize)]
pub(crate) struct Page {
    pub(crate) events: Vec<PageEvent>,
    /// Where to read on, by partition.
    pub(crate) next: BTreeMap<String, u64>,
}

/// One event of a page; the event itself stays the text it is.
#[derive(Deserialize)]
pub(crate) struct PageEvent {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) event: Box<RawValue>,
}

/// `GET /v1/queues`.
#[derive(Deserialize)]
pub(crate) struct Queues {
    pub(crate) queues: Vec<QueueOf>,
}

/// `GET /v1/queues/{queue}`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct QueueOf {
    pub(crate) name: String,
    /// Whether it is in memory alone.
    #[serde(default)]
    pub(crate) transient: bool,
    #[serde(default)]
    pub(crate) lease_ms: u64,
    #[serde(default)]
    pub(crate) max_deliveries: Option<u32>,
    /// How long a message is good for.
    #[serde(default)]
    pub(crate) ttl_ms: Option<u64>,
    /// Messages that have expired since the broker was opened.
    #[serde(default)]
    pub(crate) expired: u64,
    /// Messages that are not settled.
    pub(crate) length: u64,
    /// How many of them somebody has.
    #[serde(default)]
    pub(crate) in_flight: u64,
    #[serde(default)]
    pub(crate) oldest_age_ms: Option<u64>,
    #[serde(default)]
    pub(crate) size_bytes: u64,
    #[serde(default)]
    pub(crate) dead_letters: String,
    /// Why nothing more is given out, when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) paused: Option<String>,
    /// What is damaged, when something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) damage: Option<String>,
}

/// `POST /v1/queues/{queue}/enqueue`.
#[derive(Deserialize, Serialize)]
pub(crate) struct Enqueued {
    pub(crate) id: String,
    pub(crate) queue: String,
    pub(crate) offset: u64,
}

/// `POST /v1/queues/{queue}/dequeue`, `GET /v1/queues/{queue}/peek`.
#[derive(Deserialize)]
pub(crate) struct QueueMessages {
    pub(crate) messages: Vec<QueueMessage>,
}

/// A message of a queue; the event itself stays the text it is.
#[derive(Deserialize, Serialize)]
pub(crate) struct QueueMessage {
    pub(crate) offset: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deliveries: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<String>,
    pub(crate) event: Box<RawValue>,
}

/// `GET /v1/clients`.
#[derive(Deserialize)]
pub(crate) struct Clients {
    pub(crate) clients: Vec<Client>,
}

/// A client that is connected.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) door: String,
    pub(crate) client_id: Option<String>,
    pub(crate) software_name: Option<String>,
    pub(crate) software_version: Option<String>,
    pub(crate) address: String,
    pub(crate) user: Option<String>,
    pub(crate) since: String,
    pub(crate) requests: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) produced: Passed,
    pub(crate) fetched: Passed,
    pub(crate) last_request: Option<LastRequest>,
    pub(crate) groups: Vec<String>,
}

impl Client {
    /// The program and its version, as far as they are known.
    pub(crate) fn software(&self) -> String {
        let parts = [&self.software_name, &self.software_version];
        let parts = parts.into_iter().flatten().map(String::as_str);
        parts.collect::<Vec<_>>().join(" ")
    }
}

/// Records that a client wrote or read.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Passed {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// A client's last request.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct LastRequest {
    pub(crate) name: String,
    pub(crate) at: String,
}

/// `GET /v1/handlers`.
#[derive(Deserialize)]
pub(crate) struct Handlers {
    pub(crate) handlers: Vec<Handler>,
}

/// A handler of a group.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Handler {
    pub(crate) group: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    pub(crate) topic: String,
    #[serde(rename = "type")]
    pub(crate) ty: String,
    #[serde(default)]
    pub(crate) pattern: bool,
    pub(crate) input: InputOf,
    #[serde(default)]
    pub(crate) outputs: Vec<OutputOf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) needs: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<RetryOf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) served_by: Vec<ServedBy>,
}

impl Handler {
    /// The events that it may publish, as topics and types.
    pub(crate) fn published(&self) -> Vec<String> {
        let events = self.outputs.iter().filter(|output| output.topic.is_some());
        events.map(OutputOf::shown).collect()
    }
}

/// What a handler takes.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct InputOf {
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub(crate) ty: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) schema: Option<Box<RawValue>>,
}

/// What a handler may publish or answer.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct OutputOf {
    pub(crate) kind: String,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub(crate) ty: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) schema: Option<Box<RawValue>>,
}

impl OutputOf {
    /// Its topic and type, as far as it has them.
    pub(crate) fn shown(&self) -> String {
        let parts = [self.topic.as_deref(), self.ty.as_deref()];
        let parts: Vec<&str> = parts.into_iter().flatten().collect();
        parts.join("/")
    }
}

/// How a handler is tried again.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct RetryOf {
    pub(crate) retries: u32,
    pub(crate) first_ms: u64,
    pub(crate) max_ms: u64,
}

/// A member of a group that has a handler.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ServedBy {
    pub(crate) member: u64,
    pub(crate) name: String,
    pub(crate) since: String,
}

/// `GET /v1/graph`.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<NodeOf>,
    pub(crate) edges: Vec<EdgeOf>,
    /// There is more than the server tells.
    #[serde(default)]
    pub(crate) truncated: bool,
}

/// A source, topic, queue or group.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct NodeOf {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) members: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) handlers: Vec<String>,
}

/// That something goes from one to the other.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct EdgeOf {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) types: Vec<String>,
    #[serde(default)]
    pub(crate) events: u64,
    #[serde(default)]
    pub(crate) declared: bool,
    #[serde(default)]
    pub(crate) seen: bool,
}
