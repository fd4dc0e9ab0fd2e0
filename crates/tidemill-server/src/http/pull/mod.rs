//! Members of groups over plain HTTP: `POST /v1/groups/{group}/pull` gives deliveries under leases,
//! `POST /v1/groups/{group}/settle` settles them, together with what follows from them.
//!
//! ```text
//! members.rs   one member for all that pull alike      leases.rs   who has what
//! settle.rs    the ends of attempts, their effects     token.rs    how a delivery is named
//! ```

mod leases;
mod members;
mod settle;
mod token;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use serde::Serialize;
use tidemill_broker::limits::{LEASE_DEFAULT, LEASE_MAX, SUBSCRIPTION_TOPICS_MAX};
use tidemill_core::budget::Class;
use tidemill_core::{GroupName, Offset, Order, Start, TopicName, json as events};
use tokio::time::Instant;

pub(crate) use self::members::Pullers;
use self::members::{Given, Key, Pull, left_ms};
use super::answer::{counted_json, json};
use super::doors::{Doors, Methods};
use super::openapi::{Operation, Parameter, types};
use super::path::Named;
use super::problem::{Kind, Problem};
use super::query::Query;
use crate::app::App;
use crate::limits;
use crate::memory;
use crate::own_groups;

/// The paths of members without a connection.
pub(crate) fn doors(doors: Doors) -> Doors {
    let pulled = Operation::new("pull", "Takes events of a group, each under a lease")
        .described(
            "All that pull the same topics for a group share one member of it. Not before an \
             event of a key is settled is the next one of that key given to anybody.",
        )
        .query(QUERY)
        .answers::<types::Deliveries>(200, "The events, perhaps none")
        .problems(&[
            Kind::InvalidQuery,
            Kind::InvalidName,
            Kind::UnknownTopic,
            Kind::UnknownGroup,
            Kind::Mismatch,
            Kind::GroupConflict,
            Kind::OffsetOutOfRange,
            Kind::Damaged,
        ]);
    let settled = Operation::new(
        "settle",
        "Settles pulled events, with what follows from them",
    )
    .described(
        "Each is done by itself, in the order of the list, and is one commit with its \
             events. Where one is not done, the answer is its problem, and `results` says what \
             became of each.",
    )
    .takes::<Vec<types::Settlement>>()
    .answers::<settle::Settled>(200, "All of them are done")
    .problems(settle::PROBLEMS);
    doors
        .door("/v1/groups/{group}/pull", Methods::new().post(pull, pulled))
        .door(
            "/v1/groups/{group}/settle",
            Methods::new().post(settle::settle, settled),
        )
}

const QUERY: &[Parameter] = &[
    Parameter::text("topic", "What to pull; several with commas between them").required(),
    Parameter::number("max", "Most events", (1, limits::PULL_MAX as u64))
        .or(limits::PULL_DEFAULT as u64),
    Parameter::number(
        "wait_ms",
        "Where there is no event: how long to wait for one",
        (0, limits::FETCH_WAIT_MAX.as_millis() as u64),
    )
    .or(0),
    Parameter::number(
        "lease_ms",
        "How long the events are the puller's",
        (1, LEASE_MAX.as_millis() as u64),
    )
    .or(LEASE_DEFAULT.as_millis() as u64),
    Parameter::text("order", "per_key (else), per_partition or none"),
    Parameter::text(
        "from",
        "Where a new group begins: beginning (else), end or an offset",
    ),
];

const KNOWN: [&str; 6] = ["topic", "max", "wait_ms", "lease_ms", "order", "from"];

async fn pull(
    State(app): State<Arc<App>>,
    Named(group): Named,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    drop(app.bodies.read(&parts.headers, body).await?);
    let query = Query::parse(query.as_deref(), &KNOWN)?;
    let group = GroupName::new(group)?;
    own_groups::of_others(&group)?;
    let pull = asked(group, &query)?;
    let given = tokio::select! {
        biased;
        // As a long poll: with nothing, and the client pulls elsewhere.
        () = app.closed() => return Ok(json(&NONE)),
        given = app.pullers.pull(pull) => given?,
    };
    let cost: usize = given
        .leased
        .iter()
        .map(|one| {
            limits::ANSWER_COST * one.delivery.event.size_bytes() + limits::ANSWER_EVENT_BYTES
        })
        .sum();
    // Where none comes free they are given back.
    let until = Instant::now() + limits::MEMORY_WAIT;
    let share = memory::take(&app.memory, Class::Answers, cost, until).await?;
    let text = deliveries(&given);
    given.keep();
    Ok(counted_json(text, share))
}

fn asked(group: GroupName, query: &Query) -> Result<Pull, Problem> {
    let wait_max = limits::FETCH_WAIT_MAX.as_millis() as u64;
    let wait = query.number("wait_ms", 0..=wait_max)?;
    let lease = query.number("lease_ms", 1..=LEASE_MAX.as_millis() as u64)?;
    let max = query.number("max", 1..=limits::PULL_MAX)?;
    let order = match query.text("order") {
        None | Some("per_key") => Order::PerKey,
        Some("per_partition") => Order::PerPartition,
        Some("none") => Order::None,
        Some(_) => {
            return Err(Problem::query("order is per_key, per_partition or none"));
        }
    };
    let start = match query.text("from") {
        None | Some("beginning") => Start::Beginning,
        Some("end") => Start::End,
        Some(offset) => {
            let offset = offset.parse().map_err(|_| {
                Problem::query("from is beginning, end or an offset, for a group that is new")
            })?;
            Start::At(Offset(offset))
        }
    };
    Ok(Pull {
        key: Key {
            group,
            topics: topics(query)?,
            order,
        },
        start,
        max: max.unwrap_or(limits::PULL_DEFAULT),
        wait: Duration::from_millis(wait.unwrap_or(0)),
        lease: lease.map_or(LEASE_DEFAULT, Duration::from_millis),
    })
}

/// The topics that are named, sorted, each once.
fn topics(query: &Query) -> Result<Vec<TopicName>, Problem> {
    let named = query.text("topic").unwrap_or("");
    let topics = named.split(',').filter(|name| !name.is_empty());
    let topics: Result<Vec<TopicName>, _> = topics.map(TopicName::new).collect();
    let mut topics = topics?;
    topics.sort_unstable();
    topics.dedup();
    if topics.is_empty() || topics.len() > SUBSCRIPTION_TOPICS_MAX {
        return Err(Problem::query(format!(
            "topic names what to pull: 1 to {SUBSCRIPTION_TOPICS_MAX} topics, with commas between \
             them"
        )));
    }
    Ok(topics)
}

/// The answer without deliveries.
#[derive(Serialize)]
struct Nothing {
    deliveries: [(); 0],
}

const NONE: Nothing = Nothing { deliveries: [] };

/// `{"deliveries":[{"token","topic","partition","offset","attempt","lease_ms","event"}]}`
fn deliveries(given: &Given) -> Vec<u8> {
    let lease_ms = left_ms(given.until);
    let lease_until = instant(lease_ms);
    let mut out = b"{\"deliveries\":[".to_vec();
    for (n, one) in given.leased.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        let at = &one.delivery.position;
        // A topic's name has no character that JSON would escape.
        let head = format!(
            "{comma}{{\"token\":\"{}\",\"topic\":\"{}\",\"partition\":{},\"offset\":{},\
             \"attempt\":{},\"lease_ms\":{lease_ms},\"lease_until\":\"{lease_until}\",\"event\":",
            one.token, at.topic, at.partition, at.offset, one.delivery.attempt,
        );
        out.extend_from_slice(head.as_bytes());
        events::encode(&one.delivery.event, &mut out);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    out
}

/// The time in so many milliseconds, as people and programs write it.
fn instant(in_ms: u64) -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    let ahead = i64::try_from(in_ms).unwrap_or(i64::MAX);
    let then = now.checked_add(jiff::SignedDuration::from_millis(ahead));
    let then = then.unwrap_or(jiff::Timestamp::MAX);
    then.round(jiff::Unit::Millisecond).unwrap_or(then)
}
