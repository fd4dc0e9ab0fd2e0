//! `/v1/topics`: lists, creates, shows and deletes topics.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use serde::Serialize;
use tidemill_core::{FetchError, Offset, Partition, TopicBounds, TopicName};

use super::answer::json;
use super::problem::Problem;
use super::query::Query;
use crate::app::App;

/// The methods of `/v1/topics`.
pub(crate) fn collection() -> MethodRouter<Arc<App>> {
    get(list)
}

/// The methods of `/v1/topics/{topic}`.
pub(crate) fn one() -> MethodRouter<Arc<App>> {
    get(show)
}

#[derive(Serialize)]
struct Topics {
    topics: Vec<Topic>,
}

#[derive(Serialize)]
struct Topic {
    name: TopicName,
    partitions: Vec<PartitionOf>,
}

#[derive(Serialize)]
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
        Self {
            name: bounds.topic,
            partitions: partitions.collect(),
        }
    }
}

async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let topics = app
        .bus
        .topics()
        .await?
        .into_iter()
        .map(Topic::from)
        .collect();
    Ok(json(&Topics { topics }))
}

async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let name = TopicName::new(name)?;
    let found = app
        .bus
        .topics()
        .await?
        .into_iter()
        .find(|topic| topic.topic == name);
    match found {
        Some(bounds) => Ok(json(&Topic::from(bounds))),
        None => Err(FetchError::UnknownTopic(name).into()),
    }
}
