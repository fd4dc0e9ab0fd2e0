//! The shop's HTTP door. A request becomes a request event and the reply to it the answer; the
//! door reads no database and calls no service. docs/SHOP.md has every path with an example.
//!
//! Every answer has a `message`; one about an order has its `order_id` and `status`. Unknown is
//! 404, wrong input 422, out of turn 409 with nothing changed; an order that the stock or the card
//! refused is 409 too, with the status it got. Where an answer depends on several services the door
//! waits a while for what they say; where that takes longer, the answer is 202.

mod answer;
mod cart;
pub(crate) mod heard;
mod orders;
mod products;
mod secret;
mod shipments;
mod stock;
mod users;

use std::future::Future;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tidemill::core::FetchError;
use tidemill::{Bus, BusExt as _, EventId, Message, Outgoing};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use self::answer::Refusal;
use self::heard::Heard;
use self::secret::Hasher;
use crate::limits::{HTTP_BODY_MAX_BYTES, IDEMPOTENCY_KEY_MAX_BYTES};
use crate::service::source;

/// How long the reply to a request event is waited for.
const REPLY_WAIT: Duration = Duration::from_secs(10);

/// How long an answer waits for what other services say.
const OUTCOME_WAIT: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Door {
    bus: Bus,
    /// News of orders.
    heard: Heard,
    hasher: Hasher,
    /// Of the request at hand: what its client calls it, however often it is sent.
    key: Option<String>,
}

type Answer = Result<Response, Refusal>;
type Body = Result<Bytes, BytesRejection>;

/// Serves the door on `listener` until `shutdown`, then finishes what is under way.
///
/// # Errors
/// [`FetchError`] when the bus cannot be listened to. A listener that fails ends the door early.
pub async fn serve(
    bus: Bus,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), FetchError> {
    let heard = Heard::default();
    // It ends with this future, also when that is dropped.
    let mut listening = JoinSet::new();
    listening.spawn(heard.clone().listen(heard::remembered(&bus).await?));
    let app = router(Door {
        bus,
        heard,
        hasher: Hasher::default(),
        key: None,
    });
    let served = axum::serve(listener, app).with_graceful_shutdown(shutdown);
    let ended = served.await;
    listening.shutdown().await;
    ended.map_err(|error| FetchError::Other(error.to_string()))
}

fn router(door: Door) -> Router {
    let order = get(orders::show).put(orders::update).delete(orders::remove);
    let product = get(products::show)
        .put(products::update)
        .delete(products::remove);
    let mut router = Router::new()
        .route("/cart/add", post(cart::add))
        .route("/cart/delete", delete(cart::remove).post(cart::remove))
        .route("/cart/query", get(cart::show))
        .route("/order/create", post(orders::create))
        .route("/order/pay", post(orders::pay))
        .route("/order/confirm", post(orders::confirm))
        .route("/order/cancel", post(orders::cancel))
        .route("/order/return", post(orders::send_back))
        .route(
            "/order/update",
            put(orders::update_named).post(orders::update_named),
        )
        .route("/order/delete", delete(orders::cancel).post(orders::cancel))
        .route("/order/query", get(orders::query))
        .route("/order/{id}", order.clone())
        .route("/orders", get(orders::list).post(orders::create))
        .route("/orders/{id}", order)
        .route("/products", get(products::list).post(products::create))
        .route("/products/{id}", product)
        .route("/shipments", get(shipments::list))
        .route("/shipments/{id}", get(shipments::show))
        .route(
            "/shipments/{id}/status",
            post(shipments::update).put(shipments::update),
        )
        .route("/stock", get(stock::list))
        .route("/stock/{product}", get(stock::show).put(stock::set))
        .route("/users/{id}", get(users::show));
    for users in ["/users", "/user"] {
        router = router
            .route(&format!("{users}/register"), post(users::register))
            .route(&format!("{users}/login"), post(users::login))
            .route(&format!("{users}/logout"), post(users::logout));
    }
    router
        .fallback(|| async { Refusal::unknown("there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            let why = "this path takes another method";
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, why)
        })
        .layer(DefaultBodyLimit::max(HTTP_BODY_MAX_BYTES))
        .with_state(door)
}

fn read<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let body = body.map_err(|why| {
        let why = format!("the body cannot be read: {why}");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why)
    })?;
    // A list would be taken for the fields in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Refusal::wrong("the body is wrong: it is no JSON object"));
    }
    serde_json::from_slice(&body).map_err(|why| Refusal::wrong(format!("the body is wrong: {why}")))
}

fn number(text: &str) -> Result<i64, Refusal> {
    text.parse()
        .map_err(|_| Refusal::wrong("an id is a whole number"))
}

/// Whoever it is: carts and orders ask for no registration.
fn user(id: i64) -> Result<i64, Refusal> {
    let why = || Refusal::wrong("a user_id is a whole number from 1 on");
    (id > 0).then_some(id).ok_or_else(why)
}

/// The id in a path.
struct Id(i64);

impl FromRequestParts<Door> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, Refusal> {
        let text = Path::<String>::from_request_parts(parts, door).await;
        let Path(text) = text.map_err(|why| Refusal::wrong(why.body_text()))?;
        number(&text).map(Self)
    }
}

/// The header by which a client says that a request is one that it sent before.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl FromRequestParts<Self> for Door {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, door: &Self) -> Result<Self, Refusal> {
        let Some(value) = parts.headers.get(IDEMPOTENCY_KEY) else {
            return Ok(door.clone());
        };
        let legal = |text: &&str| (1..=IDEMPOTENCY_KEY_MAX_BYTES).contains(&text.len());
        let key = value.to_str().ok().filter(legal).ok_or_else(|| {
            let most = IDEMPOTENCY_KEY_MAX_BYTES;
            let why = format!("an Idempotency-Key has 1 to {most} letters, digits and signs");
            Refusal::wrong(why)
        })?;
        Ok(Self {
            key: Some(key.to_owned()),
            ..door.clone()
        })
    }
}

/// What a list may be asked for.
#[derive(Deserialize)]
struct Page {
    user_id: Option<String>,
    order_id: Option<String>,
    after: Option<String>,
}

struct Asked(Page);

impl FromRequestParts<Door> for Asked {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, Refusal> {
        let page = Query::from_request_parts(parts, door).await;
        let Query(page) = page.map_err(|why| Refusal::wrong(why.body_text()))?;
        Ok(Self(page))
    }
}

impl Page {
    fn after(&self, first: i64) -> Result<i64, Refusal> {
        self.after.as_deref().map_or(Ok(first), number)
    }
}

impl Door {
    /// Whether a service says, until then, that it has handled all that was said before.
    async fn has_followed(&self, question: impl Message, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        let followed: Result<IgnoredAny, _> = self.bus.ask(&question, left).await;
        followed.is_ok()
    }

    /// Asks for a change. With the client's key the event has an id that follows from it, and the
    /// service, which remembers its inputs, does it once and answers as it did then.
    async fn change<M: Message + Clone, R: DeserializeOwned>(
        &self,
        message: &M,
    ) -> Result<R, Refusal> {
        let Some(key) = &self.key else {
            return self.ask(message).await;
        };
        let id = EventId::new(format!("{}-{key}", M::TYPE));
        let id = id.map_err(|why| Refusal::wrong(why.to_string()))?;
        let outgoing = Outgoing::new(message.clone()).id(id).source(source("door"));
        Ok(self.bus.ask_with(outgoing, REPLY_WAIT).await?)
    }

    /// Asks for something that changes nothing, or anew each time.
    async fn ask<M: Message, R: DeserializeOwned>(&self, message: &M) -> Result<R, Refusal> {
        Ok(self.bus.ask(message, REPLY_WAIT).await?)
    }
}
