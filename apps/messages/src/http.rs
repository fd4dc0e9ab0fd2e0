//! The HTTP door: `POST /messages` takes a message in and answers with what became of it,
//! `GET /messages?user=` shows what was sent. Every answer has a `message`.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tidemill::core::{FetchError, PublishError, RequestError};
use tidemill::{AskError, Bus, BusExt as _};

use crate::events::{MessageSent, SendMessage};
use crate::handlers::clean;
use crate::history::{self, Place};
use crate::limits::{HTTP_BODY_MAX_BYTES, NAME_MAX_BYTES, RESULT_WAIT, TEXT_MAX_BYTES};

pub(crate) fn router(bus: Bus) -> Router {
    Router::new()
        .route("/messages", post(take).get(show))
        .route("/", get(|| async { json(StatusCode::OK, &Wrong::hint()) }))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            let why = "this path takes another method";
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, why)
        })
        .layer(DefaultBodyLimit::max(HTTP_BODY_MAX_BYTES))
        .with_state(bus)
}

/// A refusal.
struct Refusal {
    code: StatusCode,
    message: String,
}

impl Refusal {
    fn new(code: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }

    fn wrong(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }
}

impl From<AskError> for Refusal {
    fn from(error: AskError) -> Self {
        let code = match &error {
            AskError::Message(_) => StatusCode::UNPROCESSABLE_ENTITY,
            AskError::Request(RequestError::Timeout(_)) => StatusCode::GATEWAY_TIMEOUT,
            AskError::Request(
                RequestError::TooMany | RequestError::Publish(PublishError::Unavailable(_)),
            ) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(code, error.to_string())
    }
}

impl From<FetchError> for Refusal {
    fn from(error: FetchError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

#[derive(Serialize)]
struct Wrong<'a> {
    title: &'a str,
    code: u16,
    message: &'a str,
}

impl Wrong<'_> {
    fn hint() -> Self {
        Self {
            title: "text messages",
            code: 200,
            message: "POST /messages takes {from, to, text}; GET /messages?user= shows them",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let wrong = Wrong {
            title: self.code.canonical_reason().unwrap_or("refused"),
            code: self.code.as_u16(),
            message: &self.message,
        };
        json(self.code, &wrong)
    }
}

fn json(code: StatusCode, value: &impl Serialize) -> Response {
    let (code, body) = match serde_json::to_vec(value) {
        Ok(body) => (code, body),
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            br#"{"message":"the answer cannot be written"}"#.to_vec(),
        ),
    };
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (code, kind, Body::from(body)).into_response()
}

/// Fields that are not named here are ignored.
#[derive(Deserialize)]
struct NewMessage {
    from: Name,
    to: Name,
    text: String,
}

/// A user's name, or id.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a sender or receiver is a text or a whole number"
)]
enum Name {
    Text(String),
    Number(i64),
}

impl Name {
    fn checked(self, what: &str) -> Result<String, Refusal> {
        let name = match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        };
        let good = !name.trim().is_empty()
            && name.len() <= NAME_MAX_BYTES
            && !name.chars().any(char::is_control);
        let why = || format!("{what} has 1 to {NAME_MAX_BYTES} bytes without control characters");
        good.then_some(name).ok_or_else(|| Refusal::wrong(why()))
    }
}

/// What became of a message.
#[derive(Serialize)]
struct Taken {
    message: &'static str,
    status: &'static str,
    #[serde(flatten)]
    sent: Shown,
}

/// A message that was sent.
#[derive(Serialize)]
struct Shown {
    id: String,
    from: String,
    to: String,
    text: String,
    characters: u64,
    words: u64,
}

impl From<MessageSent> for Shown {
    fn from(sent: MessageSent) -> Self {
        Self {
            id: sent.id,
            from: sent.from,
            to: sent.to,
            text: sent.text,
            characters: sent.characters,
            words: sent.words,
        }
    }
}

async fn take(
    State(bus): State<Bus>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body.map_err(|why| {
        let why = format!("the body cannot be read: {why}");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why)
    })?;
    // A list would be taken for the fields in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Refusal::wrong("the body is wrong: it is no JSON object"));
    }
    let new: NewMessage = serde_json::from_slice(&body)
        .map_err(|why| Refusal::wrong(format!("the body is wrong: {why}")))?;
    if clean(&new.text).is_empty() || new.text.len() > TEXT_MAX_BYTES {
        let why = format!("a text has 1 to {TEXT_MAX_BYTES} bytes, and not what nobody sees alone");
        return Err(Refusal::wrong(why));
    }
    let request = SendMessage {
        from: new.from.checked("a sender")?,
        to: new.to.checked("a receiver")?,
        text: new.text,
    };
    let sent: MessageSent = bus.ask(&request, RESULT_WAIT).await?;
    let taken = Taken {
        message: "the message is sent",
        status: "sent",
        sent: sent.into(),
    };
    Ok(json(StatusCode::CREATED, &taken))
}

#[derive(Deserialize)]
struct Asked {
    user: Option<String>,
    after: Option<String>,
}

/// What was sent from or to a user.
#[derive(Serialize)]
struct HistoryShown {
    message: String,
    messages: Vec<Shown>,
    /// To be given back as `after`, where there is more to look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

async fn show(
    State(bus): State<Bus>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(asked) = asked.map_err(|why| Refusal::wrong(why.body_text()))?;
    let missing = || Refusal::wrong("say whose messages: ?user=");
    let user = asked
        .user
        .filter(|user| !user.is_empty())
        .ok_or_else(missing)?;
    let place = match asked.after.as_deref() {
        None => Place::default(),
        Some(text) => Place::parse(text)
            .ok_or_else(|| Refusal::wrong("after is what an answer gave as next"))?,
    };
    let history = history::read(&bus, &user, place).await?;
    let shown = HistoryShown {
        message: format!("{} messages", history.messages.len()),
        messages: history.messages.into_iter().map(Shown::from).collect(),
        next: history.next.map(|place| place.to_string()),
    };
    Ok(json(StatusCode::OK, &shown))
}
