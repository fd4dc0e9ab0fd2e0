//! `/v1/deadletters`: what groups and queues gave up, and why; gives it back, or forgets it.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill_broker::{
    DeadLetterError, DeadLettersInfo, ParkedLetter, ParkedLetters, RecordHeader,
};
use tidemill_core::budget::Class;
use tidemill_core::{GroupName, Offset, Partition, Position, TopicName, json as events};
use tokio::time::Instant;

use super::answer::{counted_json, json};
use super::body::{decode, is_for_json};
use super::doors::{Doors, Methods};
use super::openapi::{Operation, Parameter, types};
use super::path::Named;
use super::problem::{Kind, Problem};
use super::query::Query;
use crate::app::App;
use crate::{limits, memory};

const LIST_QUERY: &[Parameter] = &[
    Parameter::text("from", "Where to read on: the `next` of the answer before"),
    Parameter::number("max", "Most letters", (1, limits::DEAD_LETTERS_MAX as u64))
        .or(limits::DEAD_LETTERS_DEFAULT as u64),
];

const REDRIVE_QUERY: &[Parameter] = &[
    Parameter::text("topic", "Where to; else where each came from"),
    Parameter::number("max", "Most letters", (1, limits::DEAD_LETTERS_MAX as u64))
        .or(limits::DEAD_LETTERS_DEFAULT as u64),
];

const OF_GROUP: &[Kind] = &[
    Kind::InvalidQuery,
    Kind::InvalidName,
    Kind::UnknownDeadLetter,
    Kind::Damaged,
];

const OF_REDRIVE: &[Kind] = &[
    Kind::InvalidQuery,
    Kind::InvalidName,
    Kind::InvalidJson,
    Kind::InvalidLetters,
    Kind::UnknownDeadLetter,
    Kind::UnknownTopic,
    Kind::Mismatch,
    Kind::Limit,
    Kind::Damaged,
    Kind::Indeterminate,
];

/// The paths of dead letters.
pub(crate) fn doors(doors: Doors) -> Doors {
    let groups = Operation::new("list_dead_letter_groups", "Lists who has dead letters")
        .answers::<Groups>(200, "Groups and queues that have some");
    let listed = Operation::new("list_dead_letters", "Lists the dead letters of a group")
        .query(LIST_QUERY)
        .answers::<types::DeadLetters>(200, "The letters, the oldest first")
        .problems(OF_GROUP);
    let shown = Operation::new("show_dead_letter", "Shows a dead letter")
        .answers::<types::DeadLetter>(200, "The letter")
        .problems(OF_GROUP);
    let deleted = Operation::new("delete_dead_letter", "Forgets a dead letter")
        .answers_nothing(204, "It is gone")
        .problems(OF_GROUP);
    let given = Operation::new("redrive_dead_letters", "Publishes dead letters again")
        .described(
            "Those that the body lists, or without a body the oldest ones. Each is published as \
             it was and is gone, both or nothing.",
        )
        .query(REDRIVE_QUERY)
        .takes::<Letters>()
        .answers::<Redriven>(200, "Where they are now")
        .problems(OF_REDRIVE);
    doors
        .door("/v1/deadletters", Methods::new().get(list, groups))
        .door(
            "/v1/deadletters/{group}",
            Methods::new().get(of_group, listed),
        )
        .door(
            "/v1/deadletters/{group}/redrive",
            Methods::new().post(redrive, given),
        )
        .door(
            "/v1/deadletters/{group}/letters/{letter}",
            Methods::new().get(show, shown).delete(delete, deleted),
        )
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeadLetterGroups")]
struct Groups {
    groups: Vec<DeadLettersInfo>,
}

async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let groups = app.broker()?.dead_letter_groups();
    Ok(json(&Groups { groups }))
}

/// The place of a letter, `PARTITION:OFFSET`.
fn place(text: &str) -> Option<(Partition, Offset)> {
    let (partition, offset) = text.split_once(':')?;
    Some((
        Partition(partition.parse().ok()?),
        Offset(offset.parse().ok()?),
    ))
}

async fn of_group(
    State(app): State<Arc<App>>,
    Named(group): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["from", "max"])?;
    let max = query.number("max", 1..=limits::DEAD_LETTERS_MAX)?;
    let from = query.text("from").map(|text| {
        let wrong = "from is PARTITION:OFFSET, as an answer has it in next";
        place(text).ok_or_else(|| Problem::query(wrong))
    });
    let from = from.transpose()?;
    let group = GroupName::new(group)?;
    let max = max.unwrap_or(limits::DEAD_LETTERS_DEFAULT);
    let found = app.broker()?.dead_letters(&group, from, max).await?;
    let mut text = b"{\"letters\":[".to_vec();
    for (n, parked) in found.letters.iter().enumerate() {
        if n > 0 {
            text.push(b',');
        }
        encode(parked, &[], &mut text);
    }
    let next = next_of(&found);
    text.extend_from_slice(format!("],\"next\":{next}}}").as_bytes());
    answered(&app, text).await
}

fn next_of(found: &ParkedLetters) -> String {
    let next = found.next;
    let next = next.map(|(partition, offset)| format!("\"{partition}:{offset}\""));
    next.unwrap_or_else(|| "null".to_owned())
}

/// An answer that has its memory.
async fn answered(app: &App, text: Vec<u8>) -> Result<Response, Problem> {
    let until = Instant::now() + limits::MEMORY_WAIT;
    let share = memory::take(&app.memory, Class::Answers, text.len(), until).await?;
    Ok(counted_json(text, share))
}

/// What is known of a failure.
#[derive(Serialize)]
struct Head<'a> {
    letter: String,
    group: &'a GroupName,
    origin: &'a Position,
    reason: &'a str,
    error: &'a str,
    attempts: u32,
    first: Option<jiff::Timestamp>,
    last: Option<jiff::Timestamp>,
    handler: Option<&'a str>,
    version: Option<&'a str>,
}

fn encode(parked: &ParkedLetter, headers: &[RecordHeader], out: &mut Vec<u8>) {
    let failure = &parked.letter.failure;
    let head = Head {
        letter: format!("{}:{}", parked.partition, parked.offset),
        group: &parked.letter.group,
        origin: &parked.letter.origin,
        reason: &failure.reason,
        error: &failure.error,
        attempts: failure.attempts,
        first: failure.first,
        last: failure.last,
        handler: failure.handler.as_deref(),
        version: failure.version.as_deref(),
    };
    let head = serde_json::to_vec(&head).expect("texts and numbers are always JSON");
    // Without the brace that closes it.
    out.extend_from_slice(head.strip_suffix(b"}").unwrap_or(&head));
    out.extend_from_slice(b",\"event\":");
    events::encode(&parked.letter.event, out);
    if !headers.is_empty() {
        out.extend_from_slice(b",\"headers\":");
        let headers = serde_json::to_vec(headers).expect("texts are always JSON");
        out.extend_from_slice(&headers);
    }
    out.push(b'}');
}

/// The two names of a path, as they are.
struct OfPath(String, String);

impl OfPath {
    /// The group, and the place of the letter.
    fn read(self) -> Result<(GroupName, (Partition, Offset)), Problem> {
        let place = place(&self.1).ok_or_else(|| {
            let detail = "a dead letter is named PARTITION:OFFSET, as the list has it";
            Problem::new(Kind::InvalidName, detail)
        })?;
        Ok((GroupName::new(self.0)?, place))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OfPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((group, letter)) = path.map_err(|error| {
            let detail = format!("the names in the path cannot be read: {error}");
            Problem::new(Kind::InvalidName, detail)
        })?;
        Ok(Self(group, letter))
    }
}

async fn show(
    State(app): State<Arc<App>>,
    names: OfPath,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let (group, (partition, offset)) = names.read()?;
    let broker = app.broker()?;
    let parked = broker.dead_letter(&group, partition, offset).await?;
    let headers = broker.dead_letter_headers(&group, partition, offset);
    let headers = headers.await?;
    let mut text = Vec::new();
    encode(&parked, &headers, &mut text);
    answered(&app, text).await
}

async fn delete(
    State(app): State<Arc<App>>,
    names: OfPath,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let (group, (partition, offset)) = names.read()?;
    let broker = app.broker()?;
    broker.delete_dead_letter(&group, partition, offset).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Which letters a call is about; anything else in it is refused.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schemars(rename = "DeadLetterNames")]
struct Letters {
    letters: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct Redriven {
    status: &'static str,
    /// What was published again, in that order.
    redriven: Vec<RedrivenLetter>,
    /// How many are left.
    left: u64,
}

#[derive(Serialize, JsonSchema)]
struct RedrivenLetter {
    letter: String,
    topic: String,
    partition: Partition,
    offset: Offset,
}

async fn redrive(
    State(app): State<Arc<App>>,
    Named(group): Named,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let received = app.bodies.read(&parts.headers, body).await?;
    let query = Query::parse(query.as_deref(), &["topic", "max"])?;
    let max = query.number("max", 1..=limits::DEAD_LETTERS_MAX)?;
    let to = query.text("topic").map(TopicName::new).transpose()?;
    let group = GroupName::new(group)?;
    let broker = app.broker()?.clone();
    let named_none = received.bytes.is_empty();
    let places = match named_none {
        true => {
            let max = max.unwrap_or(limits::DEAD_LETTERS_DEFAULT);
            let found = broker.dead_letters(&group, None, max).await?;
            let places = found.letters.iter().map(|one| (one.partition, one.offset));
            places.collect()
        }
        false => {
            is_for_json(&parts.headers)?;
            named(&received.bytes)?
        }
    };
    let mut redriven = Vec::with_capacity(places.len());
    for (partition, offset) in places {
        let letter = format!("{partition}:{offset}");
        match broker
            .redrive(&group, (partition, offset), to.clone())
            .await
        {
            Ok(at) => redriven.push(RedrivenLetter {
                letter,
                topic: at.topic.to_string(),
                partition: at.partition,
                offset: at.offset,
            }),
            // Somebody else gave it back meanwhile, and nobody asked for that one.
            Err(DeadLetterError::Unknown { .. }) if named_none => {}
            // What was done stays done, and is told.
            Err(error) => {
                let done = serde_json::to_value(&redriven).unwrap_or_default();
                return Err(Problem::from(error).about(&letter).with("redriven", done));
            }
        }
    }
    let groups = broker.dead_letter_groups();
    let left = groups.iter().find(|info| info.group == group);
    Ok(json(&Redriven {
        status: "success",
        redriven,
        left: left.map_or(0, |info| info.count),
    }))
}

fn named(body: &[u8]) -> Result<Vec<(Partition, Offset)>, Problem> {
    let shape = "{\"letters\": [\"0:17\", ...]}";
    let Letters { letters } = decode(body, shape, Kind::InvalidLetters)?;
    if letters.is_empty() || letters.len() > limits::DEAD_LETTERS_MAX {
        let detail = format!("name 1 to {} letters", limits::DEAD_LETTERS_MAX);
        return Err(Problem::new(Kind::Limit, detail));
    }
    let mut places = Vec::with_capacity(letters.len());
    let mut seen = HashSet::with_capacity(letters.len());
    for text in &letters {
        let place = place(text).ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            let detail = format!("{shown:?} is no letter; name it PARTITION:OFFSET");
            Problem::new(Kind::InvalidLetters, detail)
        })?;
        // One that is named twice is given back once.
        if seen.insert(place) {
            places.push(place);
        }
    }
    Ok(places)
}

impl From<DeadLetterError> for Problem {
    fn from(error: DeadLetterError) -> Self {
        let text = error.to_string();
        match error {
            DeadLetterError::None(_) | DeadLetterError::Unknown { .. } => {
                Self::new(Kind::UnknownDeadLetter, text)
            }
            DeadLetterError::UnknownTopic(topic) => {
                let detail = format!(
                    "unknown topic {topic}: a redrive goes to a topic that is there; create it \
                     with POST /v1/topics, or name another with ?topic="
                );
                Self::new(Kind::UnknownTopic, detail)
            }
            DeadLetterError::NotItsLetters { .. } => Self::new(Kind::Mismatch, text),
            DeadLetterError::Fetch(why) => why.into(),
            DeadLetterError::Publish(why) => why.into(),
            DeadLetterError::Queue(why) => why.into(),
            DeadLetterError::Other(_) => Self::new(Kind::Internal, text),
        }
    }
}
