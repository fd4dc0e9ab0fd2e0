//! RFC 9457 problem documents, and the one table that maps errors of the bus to HTTP.
//!
//! `type` is a URN that programs compare, `title` is the same for every problem of a type,
//! `detail` says what happened and what to do.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::header::{ACCEPT, ALLOW, CONTENT_TYPE, RETRY_AFTER, UPGRADE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use tidemill_broker::{GroupError, QueueError, TopicError};
use tidemill_core::error::Unavailable;
use tidemill_core::{
    FetchError, InvalidEvent, InvalidName, Partition, PublishError, PullError, SettleError,
    SubscribeError, TopicName,
};

use super::request_id;

/// The media type of a problem document.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Seconds after which a client may try again, where trying again can help.
const RETRY_AFTER_SECONDS: u16 = 1;

/// An answer that says what went wrong.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    header: Option<(axum::http::HeaderName, HeaderValue)>,
    /// Members beside those of RFC 9457.
    more: Option<Box<Map<String, Value>>>,
}

/// Every kind of problem that a door answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The body is not JSON, or not UTF-8.
    InvalidJson,
    /// The body ended before its end.
    BodyBrokenOff,
    /// A query parameter is unknown, double or out of its bounds.
    InvalidQuery,
    /// The path takes WebSocket connections alone, of another kind.
    UpgradeRequired,
    /// A web page of another machine asks.
    ForeignOrigin,
    /// The host that was asked for is no name of this machine.
    ForeignHost,
    /// No such path.
    NotFound,
    /// The path has other methods.
    MethodNotAllowed,
    /// The body did not arrive in time.
    BodyTimeout,
    /// What is to be created exists already.
    Conflict,
    /// It is a queue and this is a door for topics, or the other way round.
    Mismatch,
    /// The lease is over.
    StaleLease,
    /// It was settled with this token before, or is being settled.
    AlreadySettled,
    /// The group's members keep another order, or it is not theirs to join.
    GroupConflict,
    /// The group has members.
    GroupInUse,
    /// The offset is outside of what is kept.
    OffsetOutOfRange,
    /// The body or the event is too large.
    TooLarge,
    /// The content type is none of the accepted ones.
    UnsupportedMediaType,
    /// The event breaks a rule of CloudEvents.
    InvalidEvent,
    /// What a topic is to be made of has a member that is unknown, missing or of another kind.
    InvalidTopic,
    /// A name breaks the rules of its kind.
    InvalidName,
    /// No such topic.
    UnknownTopic,
    /// No such partition.
    UnknownPartition,
    /// No such group.
    UnknownGroup,
    /// No such queue.
    UnknownQueue,
    /// No such dead letter, or none at all.
    UnknownDeadLetter,
    /// No such backup.
    UnknownBackup,
    /// No such webhook.
    UnknownWebhook,
    /// What a webhook is made of has a member that is unknown, missing or out of its bounds.
    InvalidWebhook,
    /// What a queue is made of, or a body of its doors, has a member that is unknown, missing or
    /// of another kind.
    InvalidQueue,
    /// A list of dead letters has a member that is unknown, missing or of another kind.
    InvalidLetters,
    /// What a group's position is to be has a member that is unknown, missing or of another kind.
    InvalidSeek,
    /// The handler gave the request up.
    DeadLettered,
    /// A list of settlements has a member that is unknown, missing or of another kind.
    InvalidSettlement,
    /// A bound of the broker would be passed.
    Limit,
    /// This server has no broker of its own behind it.
    NotSupported,
    /// The log is damaged at that place.
    Damaged,
    /// The bus is closed, or takes no writes, or none now.
    Unavailable,
    /// Too much is on its way at the moment, also for reading.
    Overloaded,
    /// The client's address asks too often.
    TooManyRequests,
    /// It is not known whether the events were kept.
    Indeterminate,
    /// The answer took too long.
    Timeout,
    /// Anything else.
    Internal,
}

impl Kind {
    /// The status.
    pub(crate) fn status(self) -> StatusCode {
        use StatusCode as S;
        match self {
            Self::InvalidJson | Self::BodyBrokenOff | Self::InvalidQuery => S::BAD_REQUEST,
            Self::UpgradeRequired => S::UPGRADE_REQUIRED,
            Self::ForeignOrigin => S::FORBIDDEN,
            Self::ForeignHost => S::MISDIRECTED_REQUEST,
            Self::NotFound
            | Self::UnknownTopic
            | Self::UnknownPartition
            | Self::UnknownGroup
            | Self::UnknownQueue
            | Self::UnknownDeadLetter
            | Self::UnknownBackup
            | Self::UnknownWebhook => S::NOT_FOUND,
            Self::MethodNotAllowed => S::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => S::REQUEST_TIMEOUT,
            Self::Conflict
            | Self::GroupInUse
            | Self::GroupConflict
            | Self::Mismatch
            | Self::AlreadySettled
            | Self::StaleLease => S::CONFLICT,
            Self::OffsetOutOfRange => S::RANGE_NOT_SATISFIABLE,
            Self::TooLarge => S::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => S::UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidEvent
            | Self::InvalidQueue
            | Self::InvalidWebhook
            | Self::InvalidSettlement
            | Self::InvalidLetters
            | Self::InvalidSeek
            | Self::InvalidTopic
            | Self::InvalidName
            | Self::Limit => S::UNPROCESSABLE_ENTITY,
            Self::NotSupported => S::NOT_IMPLEMENTED,
            Self::Damaged | Self::Indeterminate | Self::Internal => S::INTERNAL_SERVER_ERROR,
            Self::Unavailable | Self::Overloaded => S::SERVICE_UNAVAILABLE,
            Self::TooManyRequests => S::TOO_MANY_REQUESTS,
            Self::DeadLettered => S::BAD_GATEWAY,
            Self::Timeout => S::GATEWAY_TIMEOUT,
        }
    }

    /// The `type` of its documents.
    pub(crate) fn urn(self) -> String {
        format!("urn:tidemill:problem:{}", self.name().0)
    }

    /// The `title` of its documents.
    pub(crate) fn title(self) -> &'static str {
        self.name().1
    }

    /// The last part of the type's URN, and the title.
    fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::InvalidJson => ("invalid-json", "The body is not JSON"),
            Self::BodyBrokenOff => ("body-broken-off", "The body broke off"),
            Self::InvalidQuery => ("invalid-query", "Wrong query parameter"),
            Self::UpgradeRequired => ("upgrade-required", "A WebSocket is needed"),
            Self::ForeignOrigin => ("foreign-origin", "Not for web pages of other machines"),
            Self::ForeignHost => ("foreign-host", "Not a name of this machine"),
            Self::NotFound => ("not-found", "No such path"),
            Self::MethodNotAllowed => ("method-not-allowed", "The path has other methods"),
            Self::BodyTimeout => ("body-timeout", "The body did not arrive in time"),
            Self::Conflict => ("conflict", "It exists already"),
            Self::Mismatch => ("wrong-kind", "A queue is no topic, and a topic no queue"),
            Self::StaleLease => ("stale-lease", "The lease is over"),
            Self::AlreadySettled => ("already-settled", "It was settled before"),
            Self::GroupConflict => ("group-conflict", "The group is used otherwise"),
            Self::InvalidSettlement => ("invalid-settlement", "Not a list of settlements"),
            Self::GroupInUse => ("group-in-use", "The group has members"),
            Self::OffsetOutOfRange => (
                "offset-out-of-range",
                "The offset is outside of what is kept",
            ),
            Self::TooLarge => ("too-large", "Too large"),
            Self::UnsupportedMediaType => {
                ("unsupported-media-type", "The content type is not accepted")
            }
            Self::InvalidEvent => ("invalid-event", "Not a valid event"),
            Self::InvalidTopic => ("invalid-topic", "Not what a topic is made of"),
            Self::InvalidName => ("invalid-name", "Not a valid name"),
            Self::UnknownTopic => ("unknown-topic", "No such topic"),
            Self::UnknownPartition => ("unknown-partition", "No such partition"),
            Self::UnknownQueue => ("unknown-queue", "No such queue"),
            Self::InvalidQueue => ("invalid-queue", "Not what a queue takes"),
            Self::UnknownGroup => ("unknown-group", "No such group"),
            Self::UnknownDeadLetter => ("unknown-dead-letter", "No such dead letter"),
            Self::InvalidLetters => ("invalid-letters", "Not a list of dead letters"),
            Self::InvalidSeek => ("invalid-seek", "Not a position of a group"),
            Self::DeadLettered => ("dead-lettered", "The handler gave the request up"),
            Self::UnknownBackup => ("unknown-backup", "No such backup"),
            Self::UnknownWebhook => ("unknown-webhook", "No such webhook"),
            Self::InvalidWebhook => ("invalid-webhook", "Not what a webhook is made of"),
            Self::Limit => ("limit", "A bound would be passed"),
            Self::NotSupported => ("not-supported", "This server cannot do that"),
            Self::Damaged => ("damaged", "The log is damaged there"),
            Self::Unavailable => ("unavailable", "The bus is closed or takes no writes now"),
            Self::TooManyRequests => ("too-many-requests", "Too many requests from one address"),
            Self::Overloaded => ("overloaded", "Too much is on its way now"),
            Self::Indeterminate => (
                "indeterminate",
                "It is not known whether the events were kept",
            ),
            Self::Timeout => ("timeout", "The answer took too long"),
            Self::Internal => ("internal", "Something went wrong"),
        }
    }
}

/// The document's members, in the order of RFC 9457.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(flatten)]
    more: Option<&'a Map<String, Value>>,
}

impl Problem {
    /// A problem of this kind; `detail` says what happened and what to do.
    pub(crate) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            header: None,
            more: None,
        }
    }

    /// A fetch of a partition that failed; one that met damage says which partition it was and
    /// where reading may go on.
    pub(crate) fn fetch(topic: &TopicName, partition: Partition, error: FetchError) -> Self {
        let FetchError::Damaged { resume, .. } = error else {
            return error.into();
        };
        Self::new(Kind::Damaged, format!("{topic}/{partition}: {error}"))
            .with("partition", partition.0.into())
            .with("resume", resume.0.into())
    }

    /// Which kind it is.
    #[cfg(test)]
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The content type is not one of `accepted`.
    pub(crate) fn media_type(accepted: &'static str) -> Self {
        let with_curl = match accepted {
            "application/json" => "; with curl, -H 'content-type: application/json'",
            _ => "",
        };
        let detail = format!("send one of these content types: {accepted}{with_curl}");
        let mut problem = Self::new(Kind::UnsupportedMediaType, detail);
        problem.header = Some((ACCEPT, HeaderValue::from_static(accepted)));
        problem
    }

    /// JSON in another encoding than UTF-8.
    pub(crate) fn charset() -> Self {
        let detail = "JSON is read as UTF-8 alone; send it so, and leave \"charset\" out";
        Self::new(Kind::UnsupportedMediaType, detail)
    }

    /// The path takes a WebSocket with the native protocol alone.
    pub(crate) fn upgrade(detail: String) -> Self {
        let mut problem = Self::new(Kind::UpgradeRequired, detail);
        problem.header = Some((UPGRADE, HeaderValue::from_static("websocket")));
        problem
    }

    /// The path has only the methods `allowed`.
    pub(crate) fn method(allowed: &str) -> Self {
        let detail = format!("this path answers to {allowed}");
        let mut problem = Self::new(Kind::MethodNotAllowed, detail);
        let names = HeaderValue::try_from(allowed).ok();
        problem.header = names.map(|names| (ALLOW, names));
        problem
    }

    /// A body or an event larger than `max_bytes`.
    pub(crate) fn too_large(max_bytes: usize) -> Self {
        Self::new(
            Kind::TooLarge,
            format!("at most {max_bytes} bytes are taken at once; send less"),
        )
    }

    /// A wrong query parameter.
    pub(crate) fn query(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::InvalidQuery, detail)
    }

    /// There is no such topic to read, show or delete.
    fn unknown_topic(topic: &TopicName) -> Self {
        let detail = format!(
            "unknown topic {topic}; GET /v1/topics lists those there are, and POST /v1/topics \
             creates one"
        );
        Self::new(Kind::UnknownTopic, detail)
    }

    /// A door for topics was asked for a queue.
    pub(crate) fn is_queue(queue: &TopicName) -> Self {
        let detail = format!(
            "{queue} is a queue, no topic; POST /v1/queues/{queue}/enqueue and /dequeue, and \
             GET /v1/queues/{queue} instead"
        );
        Self::new(Kind::Mismatch, detail)
    }

    /// More requests of one address than it may make; the next one may come after `wait`.
    pub(crate) fn too_many(wait: Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
        let detail = format!(
            "this address makes more requests than the server was told to take; try again in \
             {seconds} s"
        );
        let mut problem = Self::new(Kind::TooManyRequests, detail);
        problem.header = Some((RETRY_AFTER, HeaderValue::from(seconds)));
        problem
    }

    /// The same call may succeed a little later.
    #[must_use]
    pub(crate) fn retry_later(mut self) -> Self {
        self.header = Some((RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS)));
        self
    }
}

impl Problem {
    /// The document, in one line.
    pub(crate) fn document(&self) -> String {
        let document = Document {
            r#type: self.kind.urn(),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            request_id: request_id::current(),
            more: self.more.as_deref(),
        };
        serde_json::to_string(&document).expect("texts and numbers are always JSON")
    }

    /// The document as a part of another one.
    pub(crate) fn to_json(&self) -> Value {
        serde_json::from_str(&self.document()).expect("it was written just now")
    }

    /// The last part of its type, as a word among others.
    pub(crate) fn word(&self) -> &'static str {
        self.kind.name().0
    }

    /// The same with one more member.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        let more = self.more.get_or_insert_default();
        more.insert(name.to_owned(), value);
        self
    }

    /// The same, which says first what it is about.
    #[must_use]
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.detail = format!("{what}: {}", self.detail).into();
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if matches!(self.kind, Kind::Internal | Kind::Indeterminate) {
            tracing::warn!(problem = self.word(), "{}", self.detail);
        }
        let mut response = (self.kind.status(), self.document()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        response
    }
}

impl From<InvalidName> for Problem {
    fn from(error: InvalidName) -> Self {
        Self::new(Kind::InvalidName, error.to_string())
    }
}

impl From<InvalidEvent> for Problem {
    fn from(error: InvalidEvent) -> Self {
        Self::new(Kind::InvalidEvent, error.to_string())
    }
}

impl From<Unavailable> for Problem {
    fn from(error: Unavailable) -> Self {
        let kind = match error {
            Unavailable::Overloaded => Kind::Overloaded,
            _ => Kind::Unavailable,
        };
        let problem = Self::new(kind, error.to_string());
        // A Retry-After on every 503: a restarted server is also worth another try.
        problem.retry_later()
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let text = error.to_string();
        match error {
            PublishError::UnknownTopic(topic) => {
                let detail = format!(
                    "unknown topic {topic}, and topics are not created by their first use here; \
                     create it with POST /v1/topics"
                );
                Self::new(Kind::UnknownTopic, detail)
            }
            PublishError::IsQueue(queue) => Self::is_queue(&queue),
            PublishError::Invalid(invalid) => Self::new(Kind::InvalidEvent, invalid.to_string()),
            PublishError::TooLarge { .. } => Self::new(Kind::TooLarge, text),
            PublishError::Unavailable(why) => why.into(),
            PublishError::Indeterminate(_) => Self::new(Kind::Indeterminate, text),
            PublishError::Other(_) => Self::new(Kind::Internal, text),
        }
    }
}

impl From<FetchError> for Problem {
    fn from(error: FetchError) -> Self {
        let text = error.to_string();
        match error {
            FetchError::UnknownTopic(topic) => Self::unknown_topic(&topic),
            FetchError::IsQueue(queue) => Self::is_queue(&queue),
            FetchError::UnknownPartition { .. } => Self::new(Kind::UnknownPartition, text),
            FetchError::OutOfRange { .. } => Self::new(Kind::OffsetOutOfRange, text),
            FetchError::Damaged { .. } => Self::new(Kind::Damaged, text),
            FetchError::Unavailable(why) => why.into(),
            FetchError::Other(_) => Self::new(Kind::Internal, text),
        }
    }
}

impl From<TopicError> for Problem {
    fn from(error: TopicError) -> Self {
        let text = error.to_string();
        match error {
            TopicError::Exists(_) => Self::new(Kind::Conflict, text),
            TopicError::Unknown(topic) => Self::unknown_topic(&topic),
            TopicError::IsQueue(queue) => Self::is_queue(&queue),
            TopicError::UnknownPartition { .. } => Self::new(Kind::UnknownPartition, text),
            TopicError::BeyondEnd { .. } => Self::new(Kind::OffsetOutOfRange, text),
            TopicError::Limit(_) => Self::new(Kind::Limit, text),
            TopicError::Unavailable(why) => why.into(),
            TopicError::Indeterminate(_) => Self::new(Kind::Indeterminate, text),
        }
    }
}

impl From<GroupError> for Problem {
    fn from(error: GroupError) -> Self {
        let text = error.to_string();
        match error {
            GroupError::Unknown(group) => {
                let detail = format!(
                    "unknown group {group}; GET /v1/groups lists those there are, and a group is \
                     made by its first subscription"
                );
                Self::new(Kind::UnknownGroup, detail)
            }
            GroupError::InUse { .. } => Self::new(Kind::GroupInUse, text),
            GroupError::OfQueue(_) | GroupError::OfDeadLetters(_) => {
                Self::new(Kind::Mismatch, text)
            }
            GroupError::OutOfRange(_) => Self::new(Kind::OffsetOutOfRange, text),
            GroupError::NotRead { .. } => Self::new(Kind::UnknownPartition, text),
            GroupError::Unavailable(why) => why.into(),
            GroupError::Indeterminate(_) => Self::new(Kind::Indeterminate, text),
            GroupError::Other(_) => Self::new(Kind::Internal, text),
        }
    }
}

impl From<SubscribeError> for Problem {
    fn from(error: SubscribeError) -> Self {
        let text = error.to_string();
        match error {
            SubscribeError::UnknownTopic(topic) => PublishError::UnknownTopic(topic).into(),
            SubscribeError::IsQueue(queue) => Self::is_queue(&queue),
            SubscribeError::GroupConflict { .. } => Self::new(Kind::GroupConflict, text),
            SubscribeError::OutOfRange(_) => Self::new(Kind::OffsetOutOfRange, text),
            SubscribeError::Unavailable(why) => why.into(),
            SubscribeError::Unsupported { .. } => Self::new(Kind::NotSupported, text),
            SubscribeError::Other(_) => Self::new(Kind::Internal, text),
        }
    }
}

impl From<PullError> for Problem {
    fn from(error: PullError) -> Self {
        let text = error.to_string();
        match error {
            PullError::Gone => {
                let detail =
                    "the group or its topic was deleted meanwhile; pull again to begin anew";
                Self::new(Kind::UnknownGroup, detail)
            }
            PullError::Damaged { .. } => Self::new(Kind::Damaged, text),
            PullError::Unavailable(why) => why.into(),
            PullError::Other(_) => Self::new(Kind::Internal, text),
        }
    }
}

impl From<SettleError> for Problem {
    fn from(error: SettleError) -> Self {
        let text = error.to_string();
        match error {
            SettleError::Stale => Self::new(Kind::StaleLease, text),
            SettleError::Effect(why) => Self::from(why).about("a staged event was refused"),
            SettleError::Unavailable(why) => why.into(),
            SettleError::Indeterminate(_) => Self::new(Kind::Indeterminate, text),
            SettleError::Other(_) => Self::new(Kind::Internal, text),
        }
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        let text = error.to_string();
        match error {
            QueueError::Unknown(queue) => {
                let detail = format!(
                    "unknown queue {queue}; GET /v1/queues lists those there are, and POST \
                     /v1/queues creates one"
                );
                Self::new(Kind::UnknownQueue, detail)
            }
            QueueError::Exists(_) | QueueError::GroupExists(_) => Self::new(Kind::Conflict, text),
            QueueError::IsTopic(topic) => {
                let detail = format!(
                    "{topic} is a topic, no queue; POST and GET /v1/topics/{topic}/events instead"
                );
                Self::new(Kind::Mismatch, detail)
            }
            QueueError::Stale(_) => Self::new(Kind::StaleLease, text),
            QueueError::Limit(_) => Self::new(Kind::Limit, text),
            QueueError::Publish(why) => why.into(),
            QueueError::Full(_) => Self::new(Kind::Overloaded, text).retry_later(),
            QueueError::Unavailable(why) => why.into(),
            QueueError::Indeterminate(_) => Self::new(Kind::Indeterminate, text),
            QueueError::Other(_) => Self::new(Kind::Internal, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publish_errors_have_their_statuses() {
        let topic = TopicName::new("orders").unwrap();
        let cases = [
            (PublishError::UnknownTopic(topic), 404),
            (PublishError::Invalid(InvalidEvent::Missing("id")), 422),
            (
                PublishError::TooLarge {
                    size_bytes: 2,
                    max_bytes: 1,
                },
                413,
            ),
            (Unavailable::Overloaded.into(), 503),
            (Unavailable::Full("disk".into()).into(), 503),
            (Unavailable::SyncFailed("io".into()).into(), 503),
            (PublishError::Indeterminate("io".into()), 500),
        ];
        for (error, status) in cases {
            let text = error.to_string();
            let response = Problem::from(error).into_response();
            assert_eq!(response.status().as_u16(), status, "{text}");
            let retry = response.headers().contains_key(RETRY_AFTER);
            assert_eq!(retry, status == 503, "{text}");
            let content_type = response.headers().get(CONTENT_TYPE).unwrap();
            assert_eq!(content_type, PROBLEM_JSON);
        }
    }
}
