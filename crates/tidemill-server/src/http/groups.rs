//! `/v1/groups`: lists, shows and deletes consumer groups, and sets their positions.

use std::fmt;
use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytestring::ByteString;
use schemars::JsonSchema;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};
use tidemill_broker::{
    Broker, ClassicDescription, ClassicState, ConsumerDescription, ConsumerState,
    ConsumerTopicParts, GroupError, GroupInfo, GroupKind, SeekTo,
};
use tidemill_core::{GroupName, Offset, Partition, TopicName};

use super::answer::json;
use super::body::{decode, is_for_json};
use super::doors::{Doors, Methods};
use super::openapi::{Operation, Parameter};
use super::path::Named;
use super::problem::{Kind, Problem};
use super::query::Query;
use crate::app::App;
use crate::protocol::kafka::consumer;
use crate::webhooks;

/// The paths of groups.
pub(crate) fn doors(doors: Doors) -> Doors {
    const QUERY: &[Parameter] = &[Parameter::flag(
        "force",
        "Also one with members, which lose their deliveries",
    )];
    let list_all =
        Operation::new("list_groups", "Lists the groups").answers::<Groups>(200, "All groups");
    let one = Operation::new("show_group", "Shows a group, its members and its positions")
        .answers::<Group>(200, "The group")
        .problems(&[Kind::InvalidName, Kind::UnknownGroup]);
    let remove = Operation::new("delete_group", "Deletes a group and its positions")
        .query(QUERY)
        .answers_nothing(204, "It is gone")
        .problems(&[
            Kind::InvalidQuery,
            Kind::InvalidName,
            Kind::UnknownGroup,
            Kind::GroupInUse,
            Kind::Mismatch,
        ]);
    let seek_to = Operation::new("seek_group", "Sets where a group goes on in a topic")
        .described("Everything before it is settled, nothing else. Refused while it has members.")
        .takes::<NewPlace>()
        .answers::<Sought>(200, "Where it is now")
        .problems(&[
            Kind::InvalidJson,
            Kind::InvalidSeek,
            Kind::InvalidName,
            Kind::UnknownGroup,
            Kind::UnknownTopic,
            Kind::UnknownPartition,
            Kind::OffsetOutOfRange,
            Kind::GroupInUse,
            Kind::Mismatch,
            Kind::Indeterminate,
        ]);
    doors
        .door(
            "/v1/groups/{group}/seek",
            Methods::new().post(seek, seek_to),
        )
        .door("/v1/groups", Methods::new().get(list, list_all))
        .door(
            "/v1/groups/{group}",
            Methods::new().get(show, one).delete(delete, remove),
        )
}

#[derive(Serialize, JsonSchema)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Serialize, JsonSchema)]
struct Group {
    /// Durable events that are not settled, over all partitions.
    lag: u64,
    #[serde(flatten)]
    info: GroupInfo,
    /// Its members that share the partitions among themselves, where it has had some since the
    /// broker was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    classic: Option<Classic>,
    /// Its members among which the broker shares the partitions, where it is a group of these, or a
    /// share group.
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<Consumer>,
}

/// A consumer group of Kafka's newer protocol, or a share group.
#[derive(Serialize, JsonSchema)]
struct Consumer {
    /// How far it is.
    state: ConsumerState,
    /// Rises with what its members have and read, since the broker was opened.
    epoch: i32,
    /// The epoch for which the partitions are shared.
    assignment_epoch: i32,
    /// How they are shared.
    assignor: &'static str,
    members: Vec<ConsumerMember>,
}

/// A member of such a group.
#[derive(Serialize, JsonSchema)]
struct ConsumerMember {
    /// Its id.
    id: String,
    /// The name that it keeps over its restarts.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    /// The epoch that it is in.
    epoch: i32,
    /// What the client calls itself.
    client_id: String,
    /// Where it is.
    client_host: String,
    /// The topics that it reads by their names.
    topics: Vec<TopicName>,
    /// It reads topics whose whole name matches, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<String>,
    /// Its partitions, as in "orders 0,2; payments 1".
    assignment: String,
    /// What it will have, in the same way.
    target: String,
    /// How many records it has and has not settled; for a share group.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<usize>,
}

/// A group as its classic members see it.
#[derive(Serialize, JsonSchema)]
struct Classic {
    /// How far it is.
    state: ClassicState,
    /// What sort of group it is, as in "consumer".
    protocol_type: String,
    /// The way of sharing that was chosen; empty for none.
    protocol: String,
    /// How many generations it has had since the broker was opened.
    generation: i32,
    members: Vec<ClassicMember>,
}

/// A member that shares the partitions with the others.
#[derive(Serialize, JsonSchema)]
struct ClassicMember {
    /// Its id.
    id: String,
    /// The name that it keeps over its restarts.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    /// What the client calls itself.
    client_id: String,
    /// Where it is.
    client_host: String,
    /// Its partitions, as in "orders 0,2; payments 1", where it says them in the way of consumers.
    #[serde(skip_serializing_if = "Option::is_none")]
    assignment: Option<String>,
}

impl Group {
    fn new(broker: &Broker, info: GroupInfo) -> Self {
        let is_classic = info.kind == GroupKind::Classic;
        let classic = is_classic.then(|| broker.classic_groups().describe(&info.name));
        let seen = |of: &ClassicDescription| !of.protocol_type.is_empty();
        Self {
            lag: info.lag(),
            consumer: Consumer::of(broker, &info.name),
            info,
            classic: classic.flatten().filter(seen).map(Classic::from),
        }
    }
}

impl From<ClassicDescription> for Classic {
    fn from(of: ClassicDescription) -> Self {
        let members = of.members.iter().map(|member| ClassicMember {
            id: member.member.to_string(),
            instance: member.instance.as_ref().map(ToString::to_string),
            client_id: member.client_id.to_string(),
            client_host: member.client_host.to_string(),
            assignment: assigned(&of.protocol_type, &member.assignment),
        });
        Self {
            state: of.state,
            members: members.collect(),
            protocol_type: of.protocol_type.to_string(),
            protocol: of.protocol.to_string(),
            generation: of.generation,
        }
    }
}

impl Consumer {
    /// A group of Kafka's newer protocol, or a share group.
    fn of(broker: &Broker, name: &GroupName) -> Option<Self> {
        if let Some(of) = broker.consumer_groups().describe(name) {
            return Some(Self::new(of, |_| None));
        }
        let groups = broker.share_groups();
        let of = groups.describe(name)?;
        Some(Self::new(of, |member| Some(groups.held_by(name, member))))
    }

    fn new(of: ConsumerDescription, in_flight: impl Fn(&ByteString) -> Option<usize>) -> Self {
        let members = of.members.into_iter().map(|member| ConsumerMember {
            in_flight: in_flight(&member.member),
            id: member.member.to_string(),
            instance: member.instance.as_ref().map(ToString::to_string),
            epoch: member.epoch,
            client_id: member.client_id.to_string(),
            client_host: member.client_host.to_string(),
            pattern: member.pattern.as_ref().map(ToString::to_string),
            topics: member.topics,
            assignment: parts(&member.assigned),
            target: parts(&member.target),
        });
        Self {
            state: of.state,
            epoch: of.epoch,
            assignment_epoch: of.assignment_epoch,
            assignor: of.assignor,
            members: members.collect(),
        }
    }
}

/// Partitions as text.
fn parts(topics: &[ConsumerTopicParts]) -> String {
    let one = |topic: &ConsumerTopicParts| numbered(&topic.name, &topic.partitions);
    topics.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// A topic and the numbers of its partitions.
fn numbered(topic: impl fmt::Display, partitions: &[impl ToString]) -> String {
    let numbers = partitions.iter().map(ToString::to_string);
    format!("{topic} {}", numbers.collect::<Vec<_>>().join(","))
}

/// A member's partitions as text.
fn assigned(protocol_type: &str, bytes: &[u8]) -> Option<String> {
    let topics = consumer::assignment(protocol_type, bytes)?;
    let one = |(topic, partitions): (String, Vec<i32>)| numbered(topic, &partitions);
    let all: Vec<_> = topics.into_iter().map(one).collect();
    Some(all.join("; "))
}

/// All groups.
async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let broker = app.broker()?;
    let groups = broker.groups().into_iter();
    let groups = groups.map(|info| Group::new(broker, info)).collect();
    Ok(json(&Groups { groups }))
}

async fn show(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let name = GroupName::new(name)?;
    let broker = app.broker()?;
    match broker.group(&name) {
        Some(info) => Ok(json(&Group::new(broker, info))),
        None => Err(GroupError::Unknown(name).into()),
    }
}

async fn delete(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["force"])?;
    let force = query.flag("force")?;
    let name = GroupName::new(name)?;
    let broker = app.broker()?;
    app.pullers.dismiss_idle(&name);
    match force {
        true => broker.delete_group(&name).await?,
        false => {
            let deleted = broker.delete_group_without_members(&name).await;
            deleted.map_err(|error| match &error {
                GroupError::InUse { .. } => {
                    let detail = format!("{error}, or delete it all the same with ?force=true");
                    Problem::new(Kind::GroupInUse, detail)
                }
                _ => error.into(),
            })?;
        }
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Where a group is to go on; anything else in it is refused.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schemars(rename = "SeekGroup")]
struct NewPlace {
    topic: String,
    /// `beginning`, `end`, an offset, or a time (RFC 3339): the first event published then or
    /// later.
    to: To,
    /// Only there; else in each partition.
    partition: Option<u32>,
}

#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged, rename = "SeekTo")]
enum To {
    Offset(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for To {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OffsetOrText;

        impl Visitor<'_> for OffsetOrText {
            type Value = To;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"beginning\", \"end\", an offset or a time")
            }

            fn visit_u64<E>(self, offset: u64) -> Result<To, E> {
                Ok(To::Offset(offset))
            }

            fn visit_str<E>(self, text: &str) -> Result<To, E> {
                Ok(To::Text(text.to_owned()))
            }
        }

        from.deserialize_any(OffsetOrText)
    }
}

/// The same, understood.
#[derive(Clone, Copy)]
enum Place {
    At(SeekTo),
    Since(jiff::Timestamp),
}

impl To {
    fn read(&self) -> Result<Place, Problem> {
        let text = match self {
            Self::Offset(offset) => return Ok(Place::At(SeekTo::Offset(Offset(*offset)))),
            Self::Text(text) => text,
        };
        match text.as_str() {
            "beginning" => Ok(Place::At(SeekTo::Beginning)),
            "end" => Ok(Place::At(SeekTo::End)),
            time => time.parse().map(Place::Since).map_err(|_| {
                let detail = "\"to\" is \"beginning\", \"end\", an offset, or a time such as \
                              \"2026-01-31T12:00:00Z\"";
                Problem::new(Kind::InvalidSeek, detail)
            }),
        }
    }
}

#[derive(Serialize, JsonSchema)]
struct Sought {
    group: GroupName,
    topic: String,
    partitions: Vec<SoughtPartition>,
}

#[derive(Serialize, JsonSchema)]
struct SoughtPartition {
    partition: Partition,
    position: Offset,
}

async fn seek(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let received = app.bodies.read(&parts.headers, body).await?;
    Query::parse(query.as_deref(), &[])?;
    is_for_json(&parts.headers)?;
    let shape = "{\"topic\": ..., \"to\": ...}";
    let asked: NewPlace = decode(&received.bytes, shape, Kind::InvalidSeek)?;
    let (name, topic) = (GroupName::new(name)?, TopicName::new(asked.topic.as_str())?);
    let place = asked.to.read()?;
    let broker = app.broker()?;
    let partitions = free_in(&app, broker, &name, &topic, asked.partition)?;
    let mut places = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let to = match place {
            Place::At(to) => to,
            Place::Since(time) => {
                SeekTo::Offset(broker.offset_since(&topic, partition, time).await?)
            }
        };
        places.push((partition, to));
    }
    let positions = broker.seek_each(&name, &topic, &places).await?;
    let sought = places.iter().zip(positions);
    let sought = sought.map(|((partition, _), position)| SoughtPartition {
        partition: *partition,
        position,
    });
    Ok(json(&Sought {
        group: name,
        topic: topic.to_string(),
        partitions: sought.collect(),
    }))
}

/// The partitions of a topic in which a group without members has positions.
fn free_in(
    app: &App,
    broker: &Broker,
    name: &GroupName,
    topic: &TopicName,
    only: Option<u32>,
) -> Result<Vec<Partition>, Problem> {
    app.pullers.dismiss_idle(name);
    let unknown = || GroupError::Unknown(name.clone());
    let info = broker.group(name).ok_or_else(unknown)?;
    if info.kind == GroupKind::Queue {
        return Err(GroupError::OfQueue(name.clone()).into());
    }
    broker.partition(topic, Partition(only.unwrap_or(0)))?;
    if !info.members.is_empty() {
        let members = info.members.len();
        let detail = match webhooks::of_group(name) {
            Some(webhook) => format!(
                "group {name} is a webhook's, which is at work; pause it first with `tidemill \
                 webhook pause {webhook}`, and resume it afterwards"
            ),
            None => format!("group {name} has members ({members}); stop them first"),
        };
        return Err(Problem::new(Kind::GroupInUse, detail));
    }
    let there = info.partitions.iter().filter(|at| at.topic == *topic);
    let there = there.map(|at| at.partition);
    let partitions: Vec<Partition> = there
        .filter(|at| only.is_none_or(|only| at.0 == only))
        .collect();
    if partitions.is_empty() {
        let not_read = GroupError::NotRead {
            group: name.clone(),
            topic: topic.clone(),
            partition: Partition(only.unwrap_or(0)),
        };
        return Err(not_read.into());
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use serde_json::json;
    use tidemill_broker::{
        BatchBuilder, Begins, CreateTopic, Produce, ShareBounds, ShareHeartbeat, SharePart,
        ShareSettings,
    };

    use super::*;

    #[tokio::test]
    async fn members_of_share_groups_are_told_with_what_each_has_in_flight() {
        let (broker, topic) = (Broker::in_memory(), TopicName::new("t").unwrap());
        let create = broker.create_topic(topic.clone(), CreateTopic::default());
        let id = create.await.unwrap().id;
        let mut batch = BatchBuilder::new();
        for value in [b"0", b"1"] {
            let pushed = batch.push(1, None, Some(value), std::iter::empty());
            pushed.unwrap();
        }
        let produce = Produce {
            topic: topic.clone(),
            partition: Partition(0),
            batch: batch.finish().unwrap().try_into().unwrap(),
            begins: Begins::No,
        };
        broker.produce(produce).await.unwrap();
        let (name, groups) = (GroupName::new("g").unwrap(), broker.share_groups());
        let settings = ShareSettings {
            from_beginning: Some(true),
            ..ShareSettings::default()
        };
        groups.set(&name, settings).await.unwrap();
        for member in ["a", "b"] {
            let joins = ShareHeartbeat {
                member: member.into(),
                topics: Some(BTreeSet::from([topic.clone()])),
                ..ShareHeartbeat::default()
            };
            groups.heartbeat(&name, joins).await.unwrap();
        }
        let parts = [SharePart {
            topic: id,
            partition: Partition(0),
        }];
        let bounds = ShareBounds {
            records_max: 9,
            bytes_max: 1 << 20,
        };
        let (who, mut room) = ("b".into(), |_| true);
        let taking = groups.take(&name, &who, &parts, bounds, Duration::ZERO, &mut room);
        let _taken = taking.await.unwrap();
        let told = Group::new(&broker, broker.group(&name).unwrap());
        let told = serde_json::to_value(told).unwrap();
        let members = told["consumer"]["members"].as_array().unwrap().iter();
        let has = members.map(|member| member["in_flight"].clone());
        assert_eq!(has.collect::<Vec<_>>(), [json!(0), json!(2)]);
    }
}
