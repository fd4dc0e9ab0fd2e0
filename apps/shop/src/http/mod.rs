//! The shop's HTTP door. A request becomes a request event and the reply to it the answer; the
//! door reads no database and calls no service.
//!
//! | request | body or query | answer |
//! |---|---|---|
//! | `POST /order/create` | `{"user_id", "products": [{"product_id", "quantity"}]}` | 201 |
//! | `POST /order/pay`, `/order/confirm`, `/order/cancel` | `{"order_id"}` | 200 |
//! | `GET /order/{id}`, `GET /orders` | `?user_id=` | 200 |
//! | `GET /products` | `?after=` | 200 |
//! | `GET /stock/{product}` | | 200 |
//!
//! Every answer has a `message`; one about an order has its `order_id` and `status`. Unknown is
//! 404, wrong input 422, out of turn 409 with nothing changed; an order that the stock or the card
//! refused is 409 too, with the status it got. `create` and `pay` wait a while for what stock and
//! payment say; where that takes longer, the answer is 202.

mod answer;
pub(crate) mod heard;

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidemill::core::FetchError;
use tidemill::{Bus, BusExt as _, Message};
use tokio::net::TcpListener;

use self::answer::{OrderBody, OrderShown, OrdersShown, ProductsShown, Refusal, StockShown, json};
use self::heard::{Heard, News};
use crate::events::{
    CancelOrder, Checkout, ConfirmOrder, CreateOrder, GetOrder, GetStock, ListOrders, ListProducts,
    OrderAnswer, OrderList, OrderStatus, PayOrder, ProductList, StockAnswer, Verdict, Wanted,
    buyer,
};
use crate::limits::{HTTP_BODY_MAX_BYTES, ORDER_LINES_MAX, QUANTITY_MAX};

/// How long the reply to a request event is waited for.
const REPLY_WAIT: Duration = Duration::from_secs(10);

/// How long `create` and `pay` wait for stock and payment.
const OUTCOME_WAIT: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Door {
    bus: Bus,
    heard: Heard,
}

type Answer = Result<Response, Refusal>;

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
    let listening = tokio::spawn(heard.clone().listen(heard::tail(&bus).await?));
    let app = router(Door { bus, heard });
    let served = axum::serve(listener, app).with_graceful_shutdown(shutdown);
    let ended = served.await;
    listening.abort();
    ended.map_err(|error| FetchError::Other(error.to_string()))
}

fn router(door: Door) -> Router {
    Router::new()
        .route("/order/create", post(create))
        .route("/order/pay", post(pay))
        .route("/order/confirm", post(confirm))
        .route("/order/cancel", post(cancel))
        .route("/order/{id}", get(show))
        .route("/orders", get(list))
        .route("/products", get(products))
        .route("/stock/{product}", get(stock))
        .fallback(|| async { Refusal::unknown("there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            let why = "this path takes another method";
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, why)
        })
        .layer(DefaultBodyLimit::max(HTTP_BODY_MAX_BYTES))
        .with_state(door)
}

/// Fields that are not named here are ignored.
#[derive(Deserialize)]
struct NewOrder {
    user_id: i64,
    products: Vec<NewLine>,
}

#[derive(Deserialize)]
struct NewLine {
    product_id: i64,
    quantity: i64,
}

#[derive(Deserialize)]
struct Named {
    order_id: i64,
}

fn read<T: DeserializeOwned>(body: Result<Bytes, impl std::fmt::Display>) -> Result<T, Refusal> {
    let body = body.map_err(|why| {
        let why = format!("the body cannot be read: {why}");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why)
    })?;
    serde_json::from_slice(&body).map_err(|why| Refusal::wrong(format!("the body is wrong: {why}")))
}

type Body = Result<Bytes, axum::extract::rejection::BytesRejection>;

impl Door {
    async fn ask<M: Message, R: DeserializeOwned>(&self, message: &M) -> Result<R, Refusal> {
        Ok(self.bus.ask(message, REPLY_WAIT).await?)
    }

    /// Asks about an order, then waits for what stock and payment make of it.
    async fn ask_and_wait<M: Message>(
        &self,
        request: &M,
        done: (StatusCode, &str),
        wanted: impl Fn(&News) -> bool,
    ) -> Answer {
        let answer: OrderAnswer = self.ask(request).await?;
        let (Verdict::Done, Some(order_id)) = (answer.verdict, answer.order_id) else {
            return Ok(answer::order(answer, done.0));
        };
        let Some(news) = self.heard.wait(order_id, wanted, OUTCOME_WAIT).await else {
            return Ok(answer::order(answer, StatusCode::ACCEPTED));
        };
        let went_well = matches!(
            news.status,
            OrderStatus::PendingPayment | OrderStatus::PendingConfirmation | OrderStatus::Confirmed
        );
        let (code, message) = match (went_well, news.reason) {
            (true, _) => (done.0, done.1.to_owned()),
            (false, Some(why)) => (StatusCode::CONFLICT, why),
            (false, None) => (StatusCode::CONFLICT, "the order is closed".to_owned()),
        };
        let body = OrderBody {
            message,
            order_id: Some(order_id),
            status: Some(news.status),
        };
        Ok(json(code, &body))
    }
}

async fn create(State(door): State<Door>, body: Body) -> Answer {
    let order: NewOrder = read(body)?;
    if order.products.is_empty() || order.products.len() > ORDER_LINES_MAX {
        let why = format!("an order has 1 to {ORDER_LINES_MAX} products");
        return Err(Refusal::wrong(why));
    }
    let sane = |line: &NewLine| (1..=QUANTITY_MAX).contains(&line.quantity);
    if !order.products.iter().all(sane) {
        let why = format!("a quantity is a whole number from 1 to {QUANTITY_MAX}");
        return Err(Refusal::wrong(why));
    }
    let wanted = |line: NewLine| Wanted {
        product_id: line.product_id,
        quantity: line.quantity,
        price_version: None,
    };
    let request = CreateOrder {
        order_id: None,
        user_id: Some(order.user_id),
        buyer: buyer(Some(order.user_id), 0),
        products: order.products.into_iter().map(wanted).collect(),
        checkout: Checkout::Stepwise,
    };
    let done = (StatusCode::CREATED, "the order is created");
    door.ask_and_wait(&request, done, |_| true).await
}

async fn pay(State(door): State<Door>, body: Body) -> Answer {
    let Named { order_id } = read(body)?;
    let decided = |news: &News| news.status != OrderStatus::PendingPayment;
    let done = (StatusCode::OK, "the order is paid");
    door.ask_and_wait(&PayOrder { order_id }, done, decided)
        .await
}

async fn confirm(State(door): State<Door>, body: Body) -> Answer {
    let Named { order_id } = read(body)?;
    let answer = door.ask(&ConfirmOrder { order_id }).await?;
    Ok(answer::order(answer, StatusCode::OK))
}

async fn cancel(State(door): State<Door>, body: Body) -> Answer {
    let Named { order_id } = read(body)?;
    let answer = door.ask(&CancelOrder { order_id }).await?;
    Ok(answer::order(answer, StatusCode::OK))
}

fn number(text: &str) -> Result<i64, Refusal> {
    text.parse()
        .map_err(|_| Refusal::wrong("an id is a whole number"))
}

async fn show(State(door): State<Door>, Path(id): Path<String>) -> Answer {
    let order_id = number(&id)?;
    let found: OrderList = door.ask(&GetOrder { order_id }).await?;
    match found.orders.into_iter().next() {
        Some(order) => Ok(json(StatusCode::OK, &OrderShown::new(order))),
        None => Err(Refusal::unknown(format!("there is no order {order_id}"))),
    }
}

#[derive(Deserialize)]
struct OfUser {
    user_id: Option<String>,
}

async fn list(State(door): State<Door>, Query(of): Query<OfUser>) -> Answer {
    let missing = || Refusal::wrong("say whose orders: ?user_id=");
    let user_id = number(&of.user_id.ok_or_else(missing)?)?;
    let found: OrderList = door.ask(&ListOrders { user_id }).await?;
    Ok(json(StatusCode::OK, &OrdersShown::new(found.orders)))
}

#[derive(Deserialize)]
struct After {
    after: Option<String>,
}

async fn products(State(door): State<Door>, Query(page): Query<After>) -> Answer {
    let after = page.after.map_or(Ok(0), |text| number(&text))?;
    let found: ProductList = door.ask(&ListProducts { after }).await?;
    Ok(json(StatusCode::OK, &ProductsShown::new(found.products)))
}

async fn stock(State(door): State<Door>, Path(product): Path<String>) -> Answer {
    let product_id = number(&product)?;
    let found: StockAnswer = door.ask(&GetStock { product_id }).await?;
    if !found.known {
        let why = format!("there is no product {product_id}");
        return Ok(Refusal::unknown(why).into_response());
    }
    let message = "what can be ordered";
    let available = found.available;
    let shown = StockShown {
        message,
        product_id,
        available,
    };
    Ok(json(StatusCode::OK, &shown))
}
