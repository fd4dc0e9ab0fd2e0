//! Where a group goes on, set at a server or in a folder.

use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidemill::broker::SeekTo;
use tidemill::core::{Offset, Partition};
use tidemill::{GroupName, TopicName};

use super::Target;
use crate::client::path;
use crate::failure::Failure;

/// A place in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeekPlace {
    Beginning,
    End,
    Offset(u64),
    /// With what was published then or later.
    Since(Timestamp),
}

impl FromStr for SeekPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "beginning" => return Ok(Self::Beginning),
            "end" => return Ok(Self::End),
            _ => {}
        }
        if let Ok(offset) = text.parse() {
            return Ok(Self::Offset(offset));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            return Err(format!("an offset is at most {}", u64::MAX));
        }
        text.parse().map(Self::Since).map_err(|_| {
            "write it as beginning, end, an offset, or a time as in 2026-01-31T12:00:00Z".to_owned()
        })
    }
}

impl SeekPlace {
    fn json(self) -> serde_json::Value {
        match self {
            Self::Beginning => "beginning".into(),
            Self::End => "end".into(),
            Self::Offset(offset) => offset.into(),
            Self::Since(time) => time.to_string().into(),
        }
    }
}

/// Where a group is in a partition.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct SoughtPartition {
    pub(crate) partition: u32,
    pub(crate) position: u64,
}

#[derive(Deserialize)]
struct Sought {
    partitions: Vec<SoughtPartition>,
}

impl Target {
    /// Sets where a group without members goes on in a topic, in one partition or in all.
    pub(crate) async fn seek(
        &self,
        group: &GroupName,
        topic: &TopicName,
        only: Option<u32>,
        to: SeekPlace,
    ) -> Result<Vec<SoughtPartition>, Failure> {
        match self {
            Self::Server(client) => {
                let at = path(&["v1", "groups", group.as_str(), "seek"]);
                let mut body = serde_json::json!({ "topic": topic.as_str(), "to": to.json() });
                if let (Some(partition), Some(body)) = (only, body.as_object_mut()) {
                    body.insert("partition".to_owned(), partition.into());
                }
                let body = body.to_string();
                let sought: Sought = client.post(&at, "application/json", body.into()).await?;
                Ok(sought.partitions)
            }
            Self::Folder(broker) => {
                let info = broker.group(group);
                let info = info.ok_or_else(|| Failure::new(format!("unknown group {group}")))?;
                let there = info.partitions.iter().filter(|at| at.topic == *topic);
                let there = there.map(|at| at.partition);
                let there: Vec<Partition> = there
                    .filter(|at| only.is_none_or(|only| at.0 == only))
                    .collect();
                if there.is_empty() {
                    let asked = broker.partition(topic, Partition(only.unwrap_or(0)));
                    asked.map_err(Failure::new)?;
                    let text = format!("group {group} does not read that of {topic}");
                    return Err(Failure::new(text));
                }
                let mut places = Vec::new();
                for partition in there {
                    let to = match to {
                        SeekPlace::Beginning => SeekTo::Beginning,
                        SeekPlace::End => SeekTo::End,
                        SeekPlace::Offset(offset) => SeekTo::Offset(Offset(offset)),
                        SeekPlace::Since(time) => {
                            let offset = broker.offset_since(topic, partition, time).await;
                            SeekTo::Offset(offset.map_err(Failure::new)?)
                        }
                    };
                    places.push((partition, to));
                }
                let positions = broker.seek_each(group, topic, &places).await;
                let sought = places.iter().zip(positions.map_err(Failure::new)?);
                let sought = sought.map(|((partition, _), position)| SoughtPartition {
                    partition: partition.0,
                    position: position.0,
                });
                Ok(sought.collect())
            }
        }
    }
}
