//! `/v1/webhooks`: creates, lists, shows, changes, pauses, tests and deletes webhooks. May not
//! know how anything is sent.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use tidemill_core::{GroupName, Start, TopicName};

use super::answer::{json, json_with};
use super::body::{decode, is_for_json};
use super::doors::{Doors, Methods};
use super::openapi::Operation;
use super::patched::Patched;
use super::path::Named;
use super::problem::{Kind, Problem};
use super::query::Query;
use crate::app::App;
use crate::limits::{
    WEBHOOK_ATTEMPTS, WEBHOOK_CONCURRENCY, WEBHOOK_OVERLAP_MS, WEBHOOK_RETRY_FIRST_MS,
    WEBHOOK_RETRY_MAX_MS, WEBHOOK_TIMEOUT_MS,
};
use crate::webhooks::{Changes, Headers, Shown, Verdict};

/// What may be wrong with a request to one webhook, and with its body.
const BODY: &[Kind] = &[
    Kind::InvalidJson,
    Kind::InvalidWebhook,
    Kind::UnknownWebhook,
    Kind::Unavailable,
];

/// What may be wrong with one that has no body.
const ONE: &[Kind] = &[Kind::UnknownWebhook, Kind::Unavailable];

/// The paths of webhooks.
pub(crate) fn doors(doors: Doors) -> Doors {
    let list_all = Operation::new("list_webhooks", "Lists the webhooks")
        .answers::<Webhooks>(200, "All webhooks; secrets are not shown");
    let make = Operation::new("create_webhook", "Creates a webhook")
        .described("Events of its topics are sent to its URL from now on.")
        .takes::<NewWebhook>()
        .answers::<Created>(201, "It is at work; the only answer that has its secret")
        .problems(&[
            Kind::InvalidJson,
            Kind::InvalidWebhook,
            Kind::InvalidName,
            Kind::Conflict,
            Kind::Limit,
            Kind::UnknownTopic,
            Kind::Mismatch,
            Kind::GroupConflict,
            Kind::Unavailable,
        ]);
    let one = Operation::new("show_webhook", "Shows a webhook and how it is doing")
        .answers::<Webhook>(200, "The webhook")
        .problems(&[Kind::UnknownWebhook]);
    let change = Operation::new("alter_webhook", "Changes a webhook")
        .described(
            "What is not named stays; `null` brings back what a new webhook has. Its topics are \
             what it was created with.",
        )
        .takes::<Patch>()
        .answers::<Webhook>(200, "The webhook as it is from now on")
        .problems(BODY);
    let remove = Operation::new("delete_webhook", "Deletes a webhook and its group")
        .answers_nothing(204, "It is gone; its dead letters stay")
        .problems(ONE);
    doors
        .door(
            "/v1/webhooks",
            Methods::new().get(list, list_all).post(create, make),
        )
        .door(
            "/v1/webhooks/{webhook}",
            Methods::new()
                .get(show, one)
                .patch(alter, change)
                .delete(delete, remove),
        )
        .with(acts)
}

/// What is done with one webhook.
fn acts(doors: Doors) -> Doors {
    let pause = Operation::new("pause_webhook", "Stops sending, and keeps the place")
        .answers::<Webhook>(200, "The webhook")
        .problems(ONE);
    let resume = Operation::new("resume_webhook", "Sends again, from where it was")
        .answers::<Webhook>(200, "The webhook")
        .problems(ONE);
    let rotate = Operation::new("rotate_webhook", "Gives a webhook a new secret")
        .described("The secret before signs, too, for `overlap_ms`.")
        .takes::<Rotation>()
        .answers::<Rotated>(200, "The only answer that has the new secret")
        .problems(BODY);
    let test = Operation::new("test_webhook", "Sends a test event, once")
        .answers::<Tested>(
            200,
            "What the endpoint answered, also where that is a failure",
        )
        .problems(&[Kind::UnknownWebhook]);
    doors
        .door(
            "/v1/webhooks/{webhook}/pause",
            Methods::new().post(halt, pause),
        )
        .door(
            "/v1/webhooks/{webhook}/resume",
            Methods::new().post(go_on, resume),
        )
        .door(
            "/v1/webhooks/{webhook}/rotate",
            Methods::new().post(renew, rotate),
        )
        .door(
            "/v1/webhooks/{webhook}/test",
            Methods::new().post(check, test),
        )
}

/// What a webhook is made of; anything else in it is refused.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewWebhook {
    /// Letters, digits, dashes, underscores and dots.
    name: String,
    /// Where events are sent to: `http://` or `https://`.
    url: String,
    topics: Vec<String>,
    /// Types, or patterns over them; without it events of all types are sent.
    types: Option<Vec<String>>,
    /// Headers that are sent with every event, such as `authorization`.
    headers: Option<BTreeMap<String, String>>,
    /// `whsec_` and 24 to 64 bytes in base64; without it one is made.
    secret: Option<String>,
    /// Where it begins in its topics: `end`, unless told otherwise, or `beginning`.
    #[serde(default, deserialize_with = "start")]
    #[schemars(with = "Option<From>")]
    start: Option<From>,
    timeout_ms: Option<u64>,
    attempts: Option<u32>,
    retry_first_ms: Option<u64>,
    retry_max_ms: Option<u64>,
    concurrency: Option<usize>,
}

/// Where a new webhook begins.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "WebhookStart")]
enum From {
    /// With the oldest event kept.
    Beginning,
    /// With what is published from now on.
    #[default]
    End,
}

/// As the derived one, which does not say what of the body is wrong.
fn start<'de, D: Deserializer<'de>>(from: D) -> Result<Option<From>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    let wrong = |_| D::Error::custom("\"start\" is \"beginning\" or \"end\"");
    Option::deserialize(value).map_err(wrong)
}

/// What is to be changed; anything else in it is refused.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "AlterWebhook")]
struct Patch {
    url: Patched<String>,
    types: Patched<Vec<String>>,
    headers: Patched<BTreeMap<String, String>>,
    timeout_ms: Patched<u64>,
    attempts: Patched<u32>,
    retry_first_ms: Patched<u64>,
    retry_max_ms: Patched<u64>,
    concurrency: Patched<usize>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RotateWebhook")]
struct Rotation {
    /// The new secret; without it one is made.
    secret: Option<String>,
    /// How long the secret before signs, too; a day where it is not said.
    overlap_ms: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
struct Webhooks {
    webhooks: Vec<Webhook>,
}

/// A webhook and how it is doing. What is counted is since the server began.
#[derive(Serialize, JsonSchema)]
struct Webhook {
    name: String,
    url: String,
    topics: Vec<TopicName>,
    /// None means all.
    types: Vec<String>,
    /// The names of its headers; their values are not shown.
    headers: Vec<String>,
    timeout_ms: u64,
    attempts: u32,
    retry_first_ms: u64,
    retry_max_ms: u64,
    concurrency: usize,
    created: String,
    /// The consumer group that it is.
    group: GroupName,
    paused: Option<Paused>,
    /// Events that are not settled; none where this server has no broker of its own.
    lag: Option<u64>,
    in_flight: usize,
    delivered: u64,
    /// Attempts that failed.
    failed: u64,
    dead_lettered: u64,
    last_success: Option<String>,
    /// The last attempt that failed.
    last_error: Option<LastError>,
    /// What keeps it from reading its topics now.
    trouble: Option<LastError>,
    /// Until when an older secret signs, too.
    old_secret_until: Option<String>,
}

/// Why nothing is sent.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WebhookPaused")]
struct Paused {
    reason: String,
    since: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WebhookError")]
struct LastError {
    time: String,
    error: String,
}

/// A webhook with its secret, which is not shown again.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CreatedWebhook")]
struct Created {
    #[serde(flatten)]
    webhook: Webhook,
    secret: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RotatedWebhook")]
struct Rotated {
    name: String,
    secret: String,
    /// Until when an older secret signs, too.
    old_secret_until: Option<String>,
    /// How many secrets sign now.
    signing: usize,
    /// The oldest secret ended before its time, since no more than four sign.
    oldest_ended: bool,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TestedWebhook")]
struct Tested {
    /// The endpoint answered 2xx.
    delivered: bool,
    /// What it answered, where it did.
    status: Option<u16>,
    error: Option<String>,
    took_ms: u64,
    /// The `webhook-id` of the event.
    id: String,
}

impl std::convert::From<Shown> for Webhook {
    fn from(shown: Shown) -> Self {
        let Shown {
            definition,
            counts,
            lag,
        } = shown;
        let time = |time: Timestamp| time.to_string();
        let paused = definition.paused.as_ref().map(|paused| Paused {
            reason: paused.reason.clone(),
            since: time(paused.since),
        });
        let error = |(at, error)| LastError {
            time: time(at),
            error,
        };
        Self {
            name: definition.name.clone(),
            url: definition.url.clone(),
            topics: definition.topics.clone(),
            types: definition.types.clone(),
            headers: definition.headers.0.keys().cloned().collect(),
            timeout_ms: definition.timeout_ms,
            attempts: definition.attempts,
            retry_first_ms: definition.retry_first_ms,
            retry_max_ms: definition.retry_max_ms,
            concurrency: definition.concurrency,
            created: time(definition.created),
            group: definition.group(),
            paused,
            lag,
            in_flight: counts.in_flight,
            delivered: counts.delivered,
            failed: counts.failed,
            dead_lettered: counts.dead_lettered,
            last_success: counts.last_success.map(time),
            last_error: counts.last_error.map(error),
            trouble: counts.trouble.map(error),
            old_secret_until: definition.old_secret_until(Timestamp::now()).map(time),
        }
    }
}

/// Does what changes a webhook to its end, also where whoever asked for it is gone.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|error| Err(Problem::new(Kind::Internal, error.to_string())))
}

/// The body of a request to webhooks, none being an empty object; `shape` says what it is to be.
async fn body_of<T: DeserializeOwned>(
    app: &App,
    query: Option<&str>,
    request: Request,
    shape: &str,
) -> Result<T, Problem> {
    let (parts, body) = request.into_parts();
    let received = app.bodies.read(&parts.headers, body).await?;
    Query::parse(query, &[])?;
    is_for_json(&parts.headers)?;
    let body = match received.bytes.is_empty() {
        true => b"{}",
        false => &received.bytes[..],
    };
    decode(body, shape, Kind::InvalidWebhook)
}

async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let webhooks = app.webhooks.list().into_iter().map(Webhook::from);
    let webhooks = webhooks.collect();
    Ok(json(&Webhooks { webhooks }))
}

async fn show(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    Ok(json(&Webhook::from(app.webhooks.show(&name)?)))
}

async fn create(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let shape = "{\"name\": ..., \"url\": ..., \"topics\": [...]}, with \"types\", \"headers\", \
                 \"secret\", \"start\", \"timeout_ms\", \"attempts\", \"retry_first_ms\", \
                 \"retry_max_ms\" and \"concurrency\" where they are wanted";
    let new: NewWebhook = body_of(&app, query.as_deref(), request, shape).await?;
    let topics: Result<Vec<TopicName>, _> = new.topics.into_iter().map(TopicName::new).collect();
    let who = (new.name, topics?, new.secret);
    let how = Changes {
        url: Some(new.url),
        types: new.types,
        headers: new.headers.map(Headers),
        timeout_ms: new.timeout_ms,
        attempts: new.attempts,
        retry_first_ms: new.retry_first_ms,
        retry_max_ms: new.retry_max_ms,
        concurrency: new.concurrency,
    };
    let start = match new.start.unwrap_or_default() {
        From::Beginning => Start::Beginning,
        From::End => Start::End,
    };
    let webhooks = Arc::clone(&app.webhooks);
    let shown = to_the_end(async move { webhooks.create(who, how, start).await }).await?;
    let secret = shown.definition.secret.text();
    let webhook = Webhook::from(shown);
    let location = HeaderValue::try_from(format!("/v1/webhooks/{}", webhook.name));
    let mut response = json_with(StatusCode::CREATED, &Created { webhook, secret });
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

async fn alter(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let shape = "{...} with what is to be changed: \"url\", \"types\", \"headers\", \
                 \"timeout_ms\", \"attempts\", \"retry_first_ms\", \"retry_max_ms\" or \
                 \"concurrency\"";
    let new: Patch = body_of(&app, query.as_deref(), request, shape).await?;
    let nowhere = "\"url\" cannot be null: events are sent somewhere; leave it out, or pause it";
    let how = Changes {
        url: new.url.needed(Kind::InvalidWebhook, nowhere)?,
        types: new.types.or(Vec::new()),
        headers: new.headers.or(BTreeMap::new()).map(Headers),
        timeout_ms: new.timeout_ms.or(WEBHOOK_TIMEOUT_MS.1),
        attempts: new.attempts.or(WEBHOOK_ATTEMPTS.1),
        retry_first_ms: new.retry_first_ms.or(WEBHOOK_RETRY_FIRST_MS.1),
        retry_max_ms: new.retry_max_ms.or(WEBHOOK_RETRY_MAX_MS.1),
        concurrency: new.concurrency.or(WEBHOOK_CONCURRENCY.1),
    };
    if how.is_empty() {
        let detail = format!("nothing is to be changed; the body is {shape}");
        return Err(Problem::new(Kind::InvalidWebhook, detail));
    }
    let webhooks = Arc::clone(&app.webhooks);
    let change = async move {
        let apply = webhooks.change(&name, |definition| {
            let changed = definition.change(how);
            changed.map_err(|why| Problem::new(Kind::InvalidWebhook, why))
        });
        apply.await
    };
    Ok(json(&Webhook::from(to_the_end(change).await?)))
}

async fn delete(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let webhooks = Arc::clone(&app.webhooks);
    to_the_end(async move { webhooks.delete(&name).await }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn halt(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let webhooks = Arc::clone(&app.webhooks);
    let pause = async move { webhooks.pause(&name, "somebody paused it").await };
    Ok(json(&Webhook::from(to_the_end(pause).await?)))
}

async fn go_on(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let webhooks = Arc::clone(&app.webhooks);
    let resume = async move { webhooks.resume(&name).await };
    Ok(json(&Webhook::from(to_the_end(resume).await?)))
}

async fn renew(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let shape = "{}, with \"overlap_ms\" and \"secret\" where they are wanted";
    let Rotation { secret, overlap_ms } = body_of(&app, query.as_deref(), request, shape).await?;
    let (usual, most) = WEBHOOK_OVERLAP_MS;
    let overlap_ms = overlap_ms.unwrap_or(usual);
    if overlap_ms > most {
        let detail = format!("\"overlap_ms\" is a whole number from 0 to {most}");
        return Err(Problem::new(Kind::InvalidWebhook, detail));
    }
    let overlap = Duration::from_millis(overlap_ms);
    let webhooks = Arc::clone(&app.webhooks);
    let rotate = async move { webhooks.rotate(&name, secret, overlap).await };
    let (shown, oldest_ended) = to_the_end(rotate).await?;
    let now = Timestamp::now();
    let until = shown.definition.old_secret_until(now);
    Ok(json(&Rotated {
        name: shown.definition.name.clone(),
        secret: shown.definition.secret.text(),
        old_secret_until: until.map(|until| until.to_string()),
        signing: shown.definition.secrets(now).count(),
        oldest_ended,
    }))
}

async fn check(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let tested = app.webhooks.test(&name).await?;
    let (status, error) = match tested.verdict {
        Verdict::Done(status) => (Some(status), None),
        Verdict::Failed(failed) => (failed.status, Some(failed.text)),
        Verdict::Gone(why) => (Some(StatusCode::GONE), Some(why)),
    };
    Ok(json(&Tested {
        delivered: error.is_none(),
        status: status.map(|status| status.as_u16()),
        error,
        took_ms: u64::try_from(tested.took.as_millis()).unwrap_or(u64::MAX),
        id: tested.id,
    }))
}
