//! What can be told about a handler without calling it.

use std::time::Duration;

use serde::{Serialize, Serializer};
use tidemill_core::Order;

use crate::extract::InputInfo;
use crate::handler::{Retry, in_milliseconds};
use crate::outcome::OutputInfo;

/// One handler, described.
#[derive(Clone, Debug, Serialize)]
pub struct HandlerInfo {
    /// Its id: stable, unique in its router.
    pub id: String,
    /// The path of its function.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The topic that it reads.
    pub topic: String,
    /// The event type that it is for, or a pattern over types.
    #[serde(rename = "type")]
    pub ty: String,
    /// Whether `ty` is a pattern.
    pub pattern: bool,
    /// What it takes.
    pub input: InputInfo,
    /// What it may publish or answer.
    pub outputs: Vec<OutputInfo>,
    /// The order it relies on.
    #[serde(
        serialize_with = "order_in_words",
        skip_serializing_if = "Option::is_none"
    )]
    pub needs: Option<Order>,
    /// How often and when it is tried again.
    pub retry: Retry,
    /// How long one call may take; written as `timeout_ms`.
    #[serde(
        rename = "timeout_ms",
        serialize_with = "maybe_in_milliseconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout: Option<Duration>,
}

fn maybe_in_milliseconds<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => in_milliseconds(time, to),
        None => to.serialize_none(),
    }
}

fn order_in_words<S: Serializer>(order: &Option<Order>, to: S) -> Result<S::Ok, S::Error> {
    order
        .map(|order| match order {
            Order::PerKey => "per_key",
            Order::PerPartition => "per_partition",
            Order::None => "none",
        })
        .serialize(to)
}
