//! `POST /v1/groups/{group}/settle`: how attempts ended, each with its effects as one commit, and
//! leases that are to last longer.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidemill_broker::limits::LEASE_MAX;
use tidemill_core::{
    Commit, Effects, Event, Failure, GroupName, Offset, Outcome, Partition, Position, SettleError,
    TopicName, json,
};
use tokio::time::Instant;

use super::instant;
use super::leases::{About, Begun};
use super::members::Pullers;
use super::token::Token;
use crate::app::App;
use crate::http::answer;
use crate::http::body::{Object, decode_any, is_for_json};
use crate::http::path::Named;
use crate::http::problem::{Kind, Problem};
use crate::http::query::Query;
use crate::limits::SETTLE_MAX;
use crate::own_groups;

/// What a settlement may meet.
pub(super) const PROBLEMS: &[Kind] = &[
    Kind::InvalidJson,
    Kind::InvalidSettlement,
    Kind::InvalidEvent,
    Kind::InvalidName,
    Kind::Limit,
    Kind::StaleLease,
    Kind::GroupConflict,
    Kind::AlreadySettled,
    Kind::UnknownTopic,
    Kind::Mismatch,
    Kind::TooLarge,
    Kind::Indeterminate,
];

/// One settlement as it is sent; anything else in it is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Asked<'a> {
    token: String,
    #[serde(default)]
    outcome: Word,
    /// With `retry`: not before so many milliseconds.
    after_ms: Option<u64>,
    /// With `extend`: so many milliseconds from now.
    lease_ms: Option<u64>,
    /// With `dead_letter`: the class of the failure, and its text.
    reason: Option<String>,
    error: Option<String>,
    /// With `ack`: what is published with it.
    #[serde(borrow, default)]
    events: Vec<Object<Staged<'a>>>,
    /// With `ack`: the answer to a request.
    #[serde(borrow)]
    reply: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Staged<'a> {
    topic: TopicName,
    #[serde(borrow)]
    event: &'a RawValue,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    #[default]
    Ack,
    Retry,
    DeadLetter,
    Extend,
}

/// What is to be done with one token.
enum Ask {
    Ack(Effects),
    Retry(Duration),
    DeadLetter { reason: String, error: String },
    Extend(Duration),
}

impl Ask {
    /// What a delivery is that this was done to.
    fn done(&self) -> &'static str {
        match self {
            Self::Ack(_) => "settled",
            Self::Retry(_) => "retried",
            Self::DeadLetter { .. } => "dead_lettered",
            Self::Extend(_) => "extended",
        }
    }

    fn commit(self, about: &About) -> Commit {
        let (outcome, effects) = match self {
            Self::Ack(effects) => (Outcome::Ack, effects),
            Self::Retry(after) => (Outcome::Retry { after }, Effects::default()),
            Self::DeadLetter { reason, error } => {
                let failure = Failure {
                    reason,
                    error,
                    attempts: about.attempt.0,
                    first: (about.attempt.0 == 1).then_some(about.given),
                    last: Some(jiff::Timestamp::now()),
                    ..Failure::default()
                };
                let failure = Box::new(failure);
                (Outcome::DeadLetter { failure }, Effects::default())
            }
            // Never committed.
            Self::Extend(after) => (Outcome::Retry { after }, Effects::default()),
        };
        Commit { outcome, effects }
    }
}

/// What became of one token.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SettlementResult")]
struct Done {
    token: String,
    status: &'static str,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Placed>")]
    positions: Vec<Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    lease_until: Option<jiff::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<serde_json::Value>,
}

/// Where an event is kept that was published with a settlement.
#[derive(JsonSchema)]
#[schemars(rename = "Position")]
#[allow(dead_code, reason = "only its schema is used")]
struct Placed {
    topic: String,
    partition: Partition,
    offset: Offset,
}

/// What became of all.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SettlementResults")]
pub(super) struct Settled {
    status: &'static str,
    results: Vec<Done>,
}

/// Settles what the body lists, each by itself and in its order.
pub(super) async fn settle(
    State(app): State<Arc<App>>,
    Named(group): Named,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let received = app.bodies.read(&parts.headers, body).await?;
    Query::parse(query.as_deref(), &[])?;
    is_for_json(&parts.headers)?;
    let group = GroupName::new(group)?;
    own_groups::of_others(&group)?;
    let asked = read(&received.bytes)?;
    let pullers = Arc::clone(&app.pullers);
    // Goes on when its client is gone: it is one commit with its effects, and has to end as one.
    let settling = tokio::spawn(async move {
        // All begin before the first has ended, so that they share a sync.
        let each = asked
            .into_iter()
            .map(|(token, ask)| one(&pullers, &group, token, ask));
        let done = join_all(each).await;
        drop(received);
        done
    });
    let done = settling.await.map_err(|error| {
        let detail = format!("the settlement broke off ({error}); pull again to see what is left");
        Problem::new(Kind::Internal, detail)
    })?;
    let mut first = None;
    let results = done.into_iter().map(|(token, done)| match done {
        Ok(result) => result,
        Err(problem) => {
            let status = problem.word();
            let document = problem.to_json();
            first.get_or_insert(problem);
            Done {
                token: token.to_string(),
                status,
                positions: Vec::new(),
                lease_until: None,
                problem: Some(document),
            }
        }
    });
    let results: Vec<Done> = results.collect();
    match first {
        None => Ok(answer::json(&Settled {
            status: "success",
            results,
        })),
        Some(problem) => {
            let results = serde_json::to_value(results);
            let results = results.expect("texts and numbers are always JSON");
            Err(problem.with("results", results))
        }
    }
}

async fn one(
    pullers: &Pullers,
    group: &GroupName,
    token: Token,
    ask: Ask,
) -> (Token, Result<Done, Problem>) {
    let (mut right, about) = match pullers.begin(group, token) {
        Begun::Right(right, about) => (right, about),
        Begun::UnderWay => {
            let detail = "another settlement with this token is under way; wait for its answer";
            return (token, Err(Problem::new(Kind::AlreadySettled, detail)));
        }
        Begun::Settled(how) => {
            let detail = format!("this delivery was {how} with this token before, and stays so");
            return (token, Err(Problem::new(Kind::AlreadySettled, detail)));
        }
        Begun::Stale => return (token, Err(stale())),
    };
    let mut result = Done {
        token: token.to_string(),
        status: ask.done(),
        positions: Vec::new(),
        lease_until: None,
        problem: None,
    };
    if let Ask::Extend(lease) = ask {
        pullers.extend(token, right, Instant::now() + lease);
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        result.lease_until = Some(instant(lease_ms));
        return (token, Ok(result));
    }
    if matches!(&ask, Ask::Ack(effects) if effects.reply.is_some()) && !about.asks {
        pullers.take_back(token, right);
        let detail = format!(
            "{} is no request, nobody waits for a reply to it; settle it without \"reply\"",
            about.position
        );
        return (token, Err(Problem::new(Kind::InvalidSettlement, detail)));
    }
    let settled = right.try_settle(ask.commit(&about)).await;
    match settled {
        Ok(positions) => {
            pullers.end(token, Some(result.status));
            result.positions = positions;
            (token, Ok(result))
        }
        Err(error) => {
            match &error {
                SettleError::Stale | SettleError::Indeterminate(_) => pullers.end(token, None),
                // It may be settled once more.
                _ => pullers.take_back(token, right),
            }
            let problem = match error {
                SettleError::Stale => stale(),
                error => error.into(),
            };
            let at = about.position;
            (token, Err(problem.about(&at.to_string())))
        }
    }
}

fn stale() -> Problem {
    let detail = "this token's lease is over: the delivery was given back, or the group's position \
                  was moved; nothing of this settlement is kept, pull again";
    Problem::new(Kind::StaleLease, detail)
}

/// What the body asks for, whole: nothing is done where something in it is wrong.
fn read(body: &Bytes) -> Result<Vec<(Token, Ask)>, Problem> {
    let shape = "[{\"token\": ..., \"outcome\": \"ack\", \"retry\", \"dead_letter\" or \
                 \"extend\"}, ...]";
    let asked: Vec<Object<Asked<'_>>> = decode_any(body, shape, Kind::InvalidSettlement)?;
    if asked.is_empty() || asked.len() > SETTLE_MAX {
        let detail = format!("settle 1 to {SETTLE_MAX} deliveries at once");
        return Err(Problem::new(Kind::Limit, detail));
    }
    let all: Vec<(Token, Ask)> = asked
        .into_iter()
        .map(|Object(asked)| parsed(body, asked))
        .collect::<Result<_, _>>()?;
    let mut seen = HashSet::with_capacity(all.len());
    if let Some((twice, _)) = all.iter().find(|(token, _)| !seen.insert(*token)) {
        let detail = format!("token {twice} is there twice; settle each delivery once");
        return Err(Problem::new(Kind::InvalidSettlement, detail));
    }
    Ok(all)
}

fn parsed(body: &Bytes, asked: Asked<'_>) -> Result<(Token, Ask), Problem> {
    let wrong = |detail: String| Problem::new(Kind::InvalidSettlement, detail);
    let token: Token = asked.token.parse().map_err(wrong)?;
    let strange = [
        ("after_ms", asked.after_ms.is_some(), Word::Retry),
        ("lease_ms", asked.lease_ms.is_some(), Word::Extend),
        ("reason", asked.reason.is_some(), Word::DeadLetter),
        ("error", asked.error.is_some(), Word::DeadLetter),
        ("events", !asked.events.is_empty(), Word::Ack),
        ("reply", asked.reply.is_some(), Word::Ack),
    ];
    let strange = strange
        .iter()
        .find(|(_, is_there, of)| *is_there && *of != asked.outcome);
    if let Some((name, ..)) = strange {
        let detail = format!("\"{name}\" does not go with the outcome of {token}; leave it out");
        return Err(wrong(detail));
    }
    let event = |raw: &RawValue| -> Result<Event, Problem> {
        Ok(json::decode(&body.slice_ref(raw.get().as_bytes()))?)
    };
    let ask = match asked.outcome {
        Word::Ack => {
            let staged = asked.events.iter();
            let staged = staged.map(|Object(one)| Ok((one.topic.clone(), event(one.event)?)));
            Ask::Ack(Effects {
                events: staged.collect::<Result<_, Problem>>()?,
                reply: asked.reply.map(event).transpose()?.map(Box::new),
            })
        }
        Word::Retry => Ask::Retry(Duration::from_millis(asked.after_ms.unwrap_or(0))),
        Word::DeadLetter => Ask::DeadLetter {
            reason: asked.reason.unwrap_or_else(|| "rejected".to_owned()),
            error: asked.error.unwrap_or_default(),
        },
        Word::Extend => {
            let most = u64::try_from(LEASE_MAX.as_millis()).unwrap_or(u64::MAX);
            let lease_ms = asked.lease_ms.filter(|lease| (1..=most).contains(lease));
            let lease_ms = lease_ms.ok_or_else(|| {
                wrong(format!(
                    "\"extend\" needs \"lease_ms\", a whole number from 1 to {most}"
                ))
            })?;
            Ask::Extend(Duration::from_millis(lease_ms))
        }
    };
    Ok((token, ask))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &'static str) -> (Kind, String) {
        match read(&Bytes::from_static(body.as_bytes())) {
            Ok(_) => panic!("taken: {body}"),
            Err(problem) => (problem.kind(), problem.document()),
        }
    }

    #[test]
    fn elements_have_names_and_not_places() {
        for body in [
            r#"[["0123456789abcdef-1","ack"]]"#,
            r#"[{"token":"0123456789abcdef-1","events":[["t",{}]]}]"#,
        ] {
            let (kind, document) = refused(body);
            assert_eq!(kind, Kind::InvalidSettlement, "{document}");
            assert!(document.contains("expected an object"), "{document}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        const T: &str = "0123456789abcdef-1";
        let event_with_retry = concat!(
            r#"[{"token":"0123456789abcdef-1","outcome":"retry","#,
            r#""events":[{"topic":"a","event":1}]}]"#
        );
        for (body, kind, named) in [
            ("", Kind::InvalidJson, "body"),
            ("{}", Kind::InvalidSettlement, "body"),
            ("[]", Kind::Limit, "1 to"),
            (r#"[{"outcome":"ack"}]"#, Kind::InvalidSettlement, "token"),
            (r#"[{"token":"x"}]"#, Kind::InvalidSettlement, "no token"),
            (
                r#"[{"token":"0123456789abcdef-1","outcome":"done"}]"#,
                Kind::InvalidSettlement,
                "done",
            ),
            (event_with_retry, Kind::InvalidSettlement, "events"),
            (
                r#"[{"token":"0123456789abcdef-1"},{"token":"0123456789abcdef-1"}]"#,
                Kind::InvalidSettlement,
                "twice",
            ),
            ("[7]", Kind::InvalidSettlement, "expected an object"),
            (
                r#"[{"token":"0123456789abcdef-1","after_ms":5}]"#,
                Kind::InvalidSettlement,
                "after_ms",
            ),
            (
                r#"[{"token":"0123456789abcdef-1","outcome":"extend"}]"#,
                Kind::InvalidSettlement,
                "lease_ms",
            ),
            (
                r#"[{"token":"0123456789abcdef-1","events":[{"topic":"a","event":{}}]}]"#,
                Kind::InvalidEvent,
                "specversion",
            ),
            (
                r#"[{"token":"0123456789abcdef-1","events":[{"topic":"a b","event":{}}]}]"#,
                Kind::InvalidSettlement,
                "a b",
            ),
        ] {
            let (found, text) = refused(body);
            assert_eq!(found, kind, "{body}: {text}");
            assert!(text.contains(named), "{body}: {text}");
        }
        let good = format!(r#"[{{"token":"{T}"}}]"#);
        assert!(read(&Bytes::from(good)).is_ok());
    }
}
