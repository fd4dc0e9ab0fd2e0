//! `/v1/topics`: lists, creates, shows, changes and deletes topics, and deletes events up to an
//! offset.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill_broker::limits::TOPIC_PARTITIONS_MAX;
use tidemill_broker::{AlterTopic, CompressionType, CreateTopic, TopicInfo, TopicSettings};
use tidemill_core::{FetchError, Offset, Partition, TopicBounds, TopicName};

use super::answer::{json, json_with};
use super::body::{decode, is_for_json};
use super::doors::{Doors, Methods};
use super::openapi::{Operation, Parameter};
use super::patched::Patched;
use super::path::Named;
use super::problem::{Kind, Problem};
use super::query::Query;
use super::{fetch, publish, stream};
use crate::app::App;

/// The paths of topics.
pub(crate) fn doors(doors: Doors) -> Doors {
    let list_all =
        Operation::new("list_topics", "Lists the topics").answers::<Topics>(200, "All topics");
    let make = Operation::new("create_topic", "Creates a topic")
        .takes::<NewTopic>()
        .answers::<Topic>(201, "The topic is there, durably")
        .problems(&[
            Kind::InvalidJson,
            Kind::InvalidTopic,
            Kind::InvalidName,
            Kind::Conflict,
            Kind::Limit,
            Kind::NotSupported,
        ]);
    let one = Operation::new("show_topic", "Shows a topic and its partitions")
        .answers::<Topic>(200, "The topic")
        .problems(&[Kind::InvalidName, Kind::UnknownTopic, Kind::Mismatch]);
    let change = Operation::new("alter_topic", "Changes a topic")
        .described(
            "What is not named stays; `null` brings back what a new topic has. Partitions become \
             only more.",
        )
        .takes::<Changes>()
        .answers::<Topic>(200, "The topic as it is from now on, durably")
        .problems(&[
            Kind::InvalidJson,
            Kind::InvalidTopic,
            Kind::InvalidName,
            Kind::UnknownTopic,
            Kind::Mismatch,
            Kind::Limit,
            Kind::NotSupported,
        ]);
    let remove = Operation::new("delete_topic", "Deletes a topic and all its events")
        .answers_nothing(204, "It is gone")
        .problems(&[Kind::InvalidName, Kind::UnknownTopic, Kind::Mismatch]);
    let events = Methods::new()
        .get(fetch::fetch, fetch::operation())
        .post(publish::publish, publish::operation())
        .delete(trim, trim_operation());
    doors
        .door(
            "/v1/topics",
            Methods::new().get(list, list_all).post(create, make),
        )
        .door(
            "/v1/topics/{topic}",
            Methods::new()
                .get(show, one)
                .patch(alter, change)
                .delete(delete, remove),
        )
        .door("/v1/topics/{topic}/events", events)
        .door(
            "/v1/topics/{topic}/stream",
            Methods::new().get(stream::stream, stream::operation()),
        )
}

fn trim_operation() -> Operation {
    const QUERY: &[Parameter] = &[
        Parameter::number("partition", "Of this partition", (0, u32::MAX as u64)).required(),
        Parameter::number("before", "Below this offset", (0, u64::MAX)).required(),
    ];
    Operation::new(
        "trim_topic",
        "Deletes the events of a partition below an offset",
    )
    .query(QUERY)
    .answers::<Trimmed>(200, "Where the partition begins now")
    .problems(&[
        Kind::InvalidQuery,
        Kind::InvalidName,
        Kind::UnknownTopic,
        Kind::UnknownPartition,
        Kind::OffsetOutOfRange,
        Kind::Mismatch,
    ])
}

#[derive(Serialize, JsonSchema)]
struct Topics {
    topics: Vec<Topic>,
}

/// A topic, with as much as is known of it: a broker knows more than a bus.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Topic {
    Broker(TopicInfo),
    Bus {
        name: TopicName,
        partitions: Vec<PartitionOf>,
    },
}

#[derive(Serialize, JsonSchema)]
struct PartitionOf {
    partition: Partition,
    earliest: Offset,
    end: Offset,
}

impl From<TopicBounds> for Topic {
    fn from(bounds: TopicBounds) -> Self {
        let partitions = bounds.partitions.into_iter().map(|bounds| PartitionOf {
            partition: bounds.partition,
            earliest: bounds.earliest,
            end: bounds.end,
        });
        Self::Bus {
            name: bounds.topic,
            partitions: partitions.collect(),
        }
    }
}

async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let topics = match &app.broker {
        Some(broker) => broker.topics().into_iter().map(Topic::Broker).collect(),
        None => app
            .bus
            .topics()
            .await?
            .into_iter()
            .map(Topic::from)
            .collect(),
    };
    Ok(json(&Topics { topics }))
}

async fn show(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let name = TopicName::new(name)?;
    let found = match &app.broker {
        Some(broker) if broker.is_queue(&name) => return Err(Problem::is_queue(&name)),
        Some(broker) => broker.topic(&name).map(Topic::Broker),
        None => {
            let mut topics = app.bus.topics().await?.into_iter();
            topics.find(|topic| topic.topic == name).map(Topic::from)
        }
    };
    match found {
        Some(topic) => Ok(json(&topic)),
        None => Err(FetchError::UnknownTopic(name).into()),
    }
}

/// What a topic is made of; anything else in it is refused.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct NewTopic {
    name: String,
    partitions: Option<u32>,
    retention_ms: Option<u64>,
    retention_bytes: Option<u64>,
    compact: Option<bool>,
    compression: Option<Packing>,
    segment_ms: Option<u64>,
    segment_bytes: Option<u64>,
    compact_after_ms: Option<u64>,
    compact_within_ms: Option<u64>,
    tombstone_retention_ms: Option<u64>,
    append_time: Option<bool>,
    batch_max_bytes: Option<u64>,
    time_before_max_ms: Option<u64>,
    time_after_max_ms: Option<u64>,
}

/// How events are packed, by its name.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
struct Packing(CompressionType);

impl TryFrom<String> for Packing {
    type Error = <CompressionType as std::str::FromStr>::Err;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

async fn create(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let received = app.bodies.read(&parts.headers, body).await?;
    Query::parse(query.as_deref(), &[])?;
    let broker = app.broker()?;
    is_for_json(&parts.headers)?;
    let shape = "{\"name\": ...}, with \"partitions\", \"retention_ms\", \"retention_bytes\", \
                 \"compact\", \"compression\" and the others of docs/HTTP.md where they are wanted";
    let new: NewTopic = decode(&received.bytes, shape, Kind::InvalidTopic)?;
    let name = TopicName::new(new.name)?;
    let usual = CreateTopic::default();
    let partitions = new.partitions.unwrap_or(usual.partitions);
    if !(1..=TOPIC_PARTITIONS_MAX).contains(&partitions) {
        let detail = format!("a topic has 1 to {TOPIC_PARTITIONS_MAX} partitions");
        return Err(Problem::new(Kind::Limit, detail));
    }
    keeps_something([new.retention_ms, new.retention_bytes])?;
    let how = CreateTopic {
        partitions,
        settings: TopicSettings {
            retention_ms: new.retention_ms,
            retention_bytes: new.retention_bytes,
            compact: new.compact.unwrap_or(usual.settings.compact),
            compression: new
                .compression
                .map_or(usual.settings.compression, |of| of.0),
            segment_ms: new.segment_ms,
            segment_bytes: new.segment_bytes,
            compact_after_ms: new.compact_after_ms,
            compact_within_ms: new.compact_within_ms,
            tombstone_retention_ms: new.tombstone_retention_ms,
            append_time: new.append_time.unwrap_or(usual.settings.append_time),
            batch_max_bytes: new.batch_max_bytes,
            time_before_max_ms: new.time_before_max_ms,
            time_after_max_ms: new.time_after_max_ms,
        },
    };
    let topic = broker.create_topic(name.clone(), how).await?;
    let mut response = json_with(StatusCode::CREATED, &topic);
    if let Ok(location) = HeaderValue::try_from(format!("/v1/topics/{name}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// Refuses a retention of nothing, which people mean to be one without a bound.
fn keeps_something(retentions: [Option<u64>; 2]) -> Result<(), Problem> {
    match retentions.contains(&Some(0)) {
        true => {
            let detail = "a retention is at least 1; delete the topic instead, or leave it out to \
                          keep everything";
            Err(Problem::new(Kind::Limit, detail))
        }
        false => Ok(()),
    }
}

/// What is to be changed of a topic; anything else in it is refused.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
struct Changes {
    partitions: Patched<u32>,
    retention_ms: Patched<u64>,
    retention_bytes: Patched<u64>,
    compact: Patched<bool>,
    compression: Patched<Packing>,
    segment_ms: Patched<u64>,
    segment_bytes: Patched<u64>,
    compact_after_ms: Patched<u64>,
    compact_within_ms: Patched<u64>,
    tombstone_retention_ms: Patched<u64>,
    append_time: Patched<bool>,
    batch_max_bytes: Patched<u64>,
    time_before_max_ms: Patched<u64>,
    time_after_max_ms: Patched<u64>,
}

async fn alter(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let received = app.bodies.read(&parts.headers, body).await?;
    Query::parse(query.as_deref(), &[])?;
    let name = TopicName::new(name)?;
    let broker = app.broker()?;
    is_for_json(&parts.headers)?;
    let shape = "{...} with what is to be changed: \"partitions\", \"retention_ms\", \
                 \"retention_bytes\", \"compact\", \"compression\" or others of docs/HTTP.md";
    let changes: Changes = decode(&received.bytes, shape, Kind::InvalidTopic)?;
    let fewer = "partitions cannot be null: a topic never gets fewer; leave it out";
    let usual = TopicSettings::default();
    let change = AlterTopic {
        partitions: changes.partitions.needed(Kind::InvalidTopic, fewer)?,
        retention_ms: changes.retention_ms.or_nothing(),
        retention_bytes: changes.retention_bytes.or_nothing(),
        compact: changes.compact.or(usual.compact),
        compression: changes
            .compression
            .or(Packing(usual.compression))
            .map(|packing| packing.0),
        segment_ms: changes.segment_ms.or_nothing(),
        segment_bytes: changes.segment_bytes.or_nothing(),
        compact_after_ms: changes.compact_after_ms.or_nothing(),
        compact_within_ms: changes.compact_within_ms.or_nothing(),
        tombstone_retention_ms: changes.tombstone_retention_ms.or_nothing(),
        append_time: changes.append_time.or(usual.append_time),
        batch_max_bytes: changes.batch_max_bytes.or_nothing(),
        time_before_max_ms: changes.time_before_max_ms.or_nothing(),
        time_after_max_ms: changes.time_after_max_ms.or_nothing(),
    };
    keeps_something([change.retention_ms, change.retention_bytes].map(Option::flatten))?;
    if change.is_empty() {
        let detail = "nothing is to be changed; name partitions, retention_ms, retention_bytes, \
                      compact, compression or others of docs/HTTP.md";
        return Err(Problem::new(Kind::InvalidTopic, detail));
    }
    Ok(json(&broker.alter_topic(&name, change).await?))
}

async fn delete(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let name = TopicName::new(name)?;
    app.broker()?.delete_topic(&name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Where a partition begins after a trim.
#[derive(Serialize, JsonSchema)]
struct Trimmed {
    partition: Partition,
    earliest: Offset,
}

/// `DELETE /v1/topics/{topic}/events`: deletes the events of a partition below an offset.
async fn trim(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["partition", "before"])?;
    let partition = query.number("partition", 0..=u32::MAX)?;
    let before = query.number("before", 0..=u64::MAX)?;
    let Some((partition, before)) = partition.zip(before) else {
        let detail = "say which: partition=0&before=17 deletes the events of partition 0 below \
                      offset 17, and without both nothing is deleted";
        return Err(Problem::query(detail));
    };
    let (name, partition) = (TopicName::new(name)?, Partition(partition));
    let broker = app.broker()?;
    let earliest = broker.trim_topic(&name, partition, Offset(before)).await?;
    Ok(json(&Trimmed {
        partition,
        earliest,
    }))
}
