//! What doors take and answer without a Rust type of its own: events in their JSON form, lists
//! that are written as text, problem documents. Only their schemas are here.
//!
//! This room may not know how any of it is written or read.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use tidemill_core::{Offset, Partition};

/// An event in the JSON form of CloudEvents 1.0.2.
pub(crate) struct CloudEvent;

impl JsonSchema for CloudEvent {
    fn schema_name() -> Cow<'static, str> {
        "CloudEvent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "An event in the JSON form of CloudEvents 1.0.2. Other members are \
                            extension attributes: names of lower-case letters and digits, values \
                            that are texts, booleans or 32-bit numbers.",
            "required": ["specversion", "id", "source", "type"],
            "properties": {
                "specversion": { "const": "1.0" },
                "id": { "type": "string", "minLength": 1 },
                "source": { "type": "string", "minLength": 1, "format": "uri-reference" },
                "type": { "type": "string", "minLength": 1 },
                "subject": { "type": "string", "minLength": 1 },
                "time": { "type": "string", "format": "date-time" },
                "datacontenttype": { "type": "string" },
                "dataschema": { "type": "string", "format": "uri" },
                "partitionkey": { "type": "string", "minLength": 1 },
                "data": true,
                "data_base64": { "type": "string", "contentEncoding": "base64" },
            },
            "additionalProperties": { "type": ["string", "boolean", "integer", "null"] },
        })
    }
}

/// Any JSON value.
pub(crate) struct AnyJson;

impl JsonSchema for AnyJson {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AnyJson".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "Any JSON value" })
    }
}

/// Bytes of any kind.
pub(crate) struct AnyBytes;

impl JsonSchema for AnyBytes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AnyBytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "The data, as it is" })
    }
}

/// A text that is not JSON.
pub(crate) struct AnyText;

impl JsonSchema for AnyText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AnyText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// What a fetch answers.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct Fetched {
    /// In each partition in the order of offsets.
    events: Vec<FetchedEvent>,
    /// Where to read on in each partition.
    next: BTreeMap<Partition, Offset>,
}

/// An event and where it lies.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct FetchedEvent {
    partition: Partition,
    offset: Offset,
    event: CloudEvent,
}

/// What a dequeue answers.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct DequeuedMessages {
    messages: Vec<DequeuedMessage>,
}

/// A message, and for how long it is whose.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct DequeuedMessage {
    offset: Offset,
    /// How often it was given out, this time included.
    deliveries: u32,
    /// What acknowledges it; null where it is removed already.
    lease: Option<String>,
    /// For how many milliseconds it is the taker's.
    lease_ms: u64,
    event: CloudEvent,
}

/// Dead letters of a group.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct DeadLetters {
    letters: Vec<DeadLetter>,
    /// What `from` is to be for those that follow; null where there are none.
    next: Option<String>,
}

/// An event that was given up.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct DeadLetter {
    /// Its name, `PARTITION:OFFSET` in the topic that keeps it.
    letter: String,
    group: String,
    origin: DeadLetterOrigin,
    /// The class of the failure in a word.
    reason: String,
    error: String,
    attempts: u32,
    /// When it was first tried, where that is known.
    first: Option<String>,
    /// When it was last tried, where that is known.
    last: Option<String>,
    handler: Option<String>,
    version: Option<String>,
    event: CloudEvent,
    /// Those of the record that failed, where a client of Kafka wrote it; only of one letter that
    /// is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Vec<RecordHeader>>,
}

/// A header of a record; its value is null where neither member is there.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct RecordHeader {
    name: String,
    /// Where it is text.
    value: Option<String>,
    /// Where it is not.
    value_base64: Option<String>,
}

/// Where it came from.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct DeadLetterOrigin {
    topic: String,
    partition: Partition,
    offset: Offset,
}

/// What a pull answers.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct Deliveries {
    deliveries: Vec<PulledEvent>,
}

/// An event, and for how long it is whose.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct PulledEvent {
    /// What settles it.
    token: String,
    topic: String,
    partition: Partition,
    offset: Offset,
    /// How often it was given out, this time included.
    attempt: u32,
    /// For how many milliseconds it is the puller's.
    lease_ms: u64,
    /// Until when that is.
    lease_until: String,
    event: CloudEvent,
}

/// How an attempt ended.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct Settlement {
    token: String,
    #[schemars(extend("default" = "ack"))]
    outcome: Option<SettlementOutcome>,
    /// With `retry`: not before so many milliseconds.
    after_ms: Option<u64>,
    /// With `extend`: so many milliseconds from now.
    lease_ms: Option<u64>,
    /// With `dead_letter`: the class of the failure in a word.
    reason: Option<String>,
    /// With `dead_letter`: what went wrong.
    error: Option<String>,
    /// With `ack`: what is published in the same commit.
    events: Option<Vec<StagedEvent>>,
    /// With `ack`: the answer to a request.
    reply: Option<CloudEvent>,
}

/// What happens to the event.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) enum SettlementOutcome {
    Ack,
    Retry,
    DeadLetter,
    Extend,
}

/// An event that is published together with a settlement.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct StagedEvent {
    topic: String,
    event: CloudEvent,
}

/// What a peek answers.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct PeekedMessages {
    messages: Vec<PeekedMessage>,
}

/// A message that stays where it is.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct PeekedMessage {
    offset: Offset,
    event: CloudEvent,
}

/// What went wrong (RFC 9457).
#[derive(JsonSchema)]
#[schemars(rename = "Problem")]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct ProblemDocument {
    /// `urn:tidemill:problem:` and a name that programs compare.
    r#type: String,
    /// The same for every problem of a type.
    title: String,
    status: u16,
    /// What happened and what to do.
    detail: String,
    /// The request's, as in the header `x-request-id`.
    request_id: Option<String>,
    /// Of a list of settlements: what became of each.
    results: Option<Vec<AnyJson>>,
    /// Where the log is damaged: the partition.
    partition: Option<Partition>,
    /// Where reading may go on behind the damage.
    resume: Option<Offset>,
}

/// The answer of `/v1/handlers`.
pub(crate) struct HandlerList;

impl JsonSchema for HandlerList {
    fn schema_name() -> Cow<'static, str> {
        "Handlers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let data = json_schema!({ "description": "The JSON Schema of the data" });
        json_schema!({
            "type": "object",
            "required": ["handlers"],
            "properties": { "handlers": { "type": "array", "items": {
                "type": "object",
                "required": ["group", "id", "topic", "type", "input", "outputs", "served_by"],
                "properties": {
                    "group": { "type": "string" },
                    "id": { "type": "string" },
                    "name": { "type": "string" },
                    "version": { "type": "string" },
                    "source": { "type": "string" },
                    "topic": { "type": "string" },
                    "type": { "type": "string" },
                    "pattern": { "type": "boolean" },
                    "input": { "type": "object", "properties": {
                        "type": { "type": "string" }, "schema": data,
                    } },
                    "outputs": { "type": "array", "items": {
                        "type": "object",
                        "required": ["kind"],
                        "properties": {
                            "kind": { "enum": ["event", "reply"] },
                            "type": { "type": "string" },
                            "topic": { "type": "string" },
                            "schema": data,
                        },
                    } },
                    "needs": { "enum": ["per_key", "per_partition", "none"] },
                    "retry": { "type": "object" },
                    "timeout_ms": { "type": "integer", "minimum": 0 },
                    "served_by": { "type": "array", "items": {
                        "type": "object",
                        "required": ["member", "name", "since"],
                        "properties": {
                            "member": { "type": "integer", "minimum": 0 },
                            "name": { "type": "string" },
                            "since": { "type": "string", "format": "date-time" },
                        },
                    } },
                },
            } } },
        })
    }
}
