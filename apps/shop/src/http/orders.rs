//! Orders: `/order/...` and `/orders`. Knows the events that ask the order service, and no service.

use std::time::Instant;

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use tidemill::Message;

use super::answer::{self, OrderBody, OrderShown, OrdersShown, Refusal, json};
use super::heard::News;
use super::{Answer, Asked, Body, Door, Id, OUTCOME_WAIT, number, read, user};
use crate::events::{
    CancelOrder, CartFollowed, Checkout, ConfirmOrder, CreateOrder, GetOrder, ListOrders,
    LogisticsFollowed, OrderAnswer, OrderList, OrderStatus, PayOrder, PaymentFollowed, SendBack,
    StockFollowed, UpdateOrder, Verdict, Wanted, buyer,
};
use crate::limits::{ORDER_LINES_MAX, QUANTITY_MAX};

/// Fields that are not named here are ignored.
#[derive(Deserialize)]
struct NewOrder {
    user_id: i64,
    products: Vec<Value>,
}

#[derive(Deserialize)]
struct NewProducts {
    products: Vec<Value>,
}

/// A product as a cart shows it will do: its price is not asked for.
#[derive(Deserialize)]
struct NewLine {
    product_id: Option<i64>,
    id: Option<i64>,
    quantity: Option<i64>,
}

impl NewLine {
    /// An object, or a product's id alone, which is one piece of it.
    fn read(line: Value) -> Result<Self, Refusal> {
        let wrong = |why: String| Refusal::wrong(format!("the body is wrong: {why}"));
        match line {
            Value::Number(id) => Ok(Self {
                product_id: Some(
                    id.as_i64()
                        .ok_or_else(|| wrong(format!("{id} is no product's id")))?,
                ),
                id: None,
                quantity: None,
            }),
            Value::Object(_) => serde_json::from_value(line).map_err(|why| wrong(why.to_string())),
            other => Err(wrong(format!(
                "{other} is no product; write its id, or {{\"product_id\": 1, \"quantity\": 1}}"
            ))),
        }
    }
}

#[derive(Deserialize)]
struct Named {
    order_id: i64,
}

fn wanted(lines: Vec<Value>) -> Result<Vec<Wanted>, Refusal> {
    if lines.is_empty() || lines.len() > ORDER_LINES_MAX {
        let why = format!("an order has 1 to {ORDER_LINES_MAX} products");
        return Err(Refusal::wrong(why));
    }
    let wanted = |line: Value| {
        let line = NewLine::read(line)?;
        let unnamed = || Refusal::wrong("the body is wrong: a product without product_id");
        let quantity = line.quantity.unwrap_or(1);
        if !(1..=QUANTITY_MAX).contains(&quantity) {
            let why = format!("a quantity is a whole number from 1 to {QUANTITY_MAX}");
            return Err(Refusal::wrong(why));
        }
        Ok(Wanted {
            product_id: line.product_id.or(line.id).ok_or_else(unnamed)?,
            quantity,
            price_version: None,
        })
    };
    lines.into_iter().map(wanted).collect()
}

/// Services that are to have followed before an order's answer.
#[derive(Clone, Copy)]
enum Who {
    Logistics,
    Cart,
    /// Those who gave something for it.
    StockPaymentLogistics,
}

impl Door {
    /// Asks about an order, then waits for what stock and payment make of it, and until those who
    /// follow from that have heard: who asks them next finds it so.
    async fn ask_and_wait<M: Message + Clone>(
        &self,
        request: &M,
        done: (StatusCode, &str),
        wanted: impl Fn(&News, &OrderAnswer) -> bool,
        who: Who,
    ) -> Answer {
        let answer: OrderAnswer = self.change(request).await?;
        let until = Instant::now() + OUTCOME_WAIT;
        let (Verdict::Done, Some(order_id)) = (answer.verdict, answer.order_id) else {
            return Ok(answer::order(answer, done.0));
        };
        let wanted = |news: &News| wanted(news, &answer);
        let Some(news) = self.heard.wait(order_id, wanted, OUTCOME_WAIT).await else {
            return Ok(answer::order(answer, StatusCode::ACCEPTED));
        };
        let went_well = news.status.is_pending() || news.status.is_sold();
        let (code, message) = match (went_well, news.reason) {
            (true, None) => (done.0, done.1.to_owned()),
            (_, Some(why)) => (StatusCode::CONFLICT, why),
            (false, None) => (StatusCode::CONFLICT, "the order is closed".to_owned()),
        };
        let followed = self.have_followed(order_id, who, until).await;
        let body = OrderBody {
            message,
            order_id: Some(order_id),
            status: Some(news.status),
        };
        let code = match code.is_success() && !followed {
            true => StatusCode::ACCEPTED,
            false => code,
        };
        Ok(json(code, &body))
    }

    /// Asks for a step of an order that is done at once, and waits until the others have heard.
    async fn step<M: Message + Clone>(&self, request: &M, who: Who) -> Answer {
        let answer: OrderAnswer = self.change(request).await?;
        let (Verdict::Done, Some(order_id)) = (answer.verdict, answer.order_id) else {
            return Ok(answer::order(answer, StatusCode::OK));
        };
        let until = Instant::now() + OUTCOME_WAIT;
        let code = match self.have_followed(order_id, who, until).await {
            true => StatusCode::OK,
            false => StatusCode::ACCEPTED,
        };
        Ok(answer::order(answer, code))
    }

    async fn have_followed(&self, order_id: i64, who: Who, until: Instant) -> bool {
        match who {
            Who::Cart => self.has_followed(CartFollowed { order_id }, until).await,
            Who::Logistics => {
                let question = LogisticsFollowed { order_id };
                self.has_followed(question, until).await
            }
            Who::StockPaymentLogistics => {
                let all = tokio::join!(
                    self.has_followed(StockFollowed { order_id }, until),
                    self.has_followed(PaymentFollowed { order_id }, until),
                    self.has_followed(LogisticsFollowed { order_id }, until),
                );
                all == (true, true, true)
            }
        }
    }
}

pub(super) async fn create(door: Door, body: Body) -> Answer {
    let order: NewOrder = read(body)?;
    let user_id = user(order.user_id)?;
    let request = CreateOrder {
        order_id: None,
        user_id: Some(user_id),
        buyer: buyer(Some(user_id), 0),
        products: wanted(order.products)?,
        checkout: Checkout::Stepwise,
    };
    let done = (StatusCode::CREATED, "the order is created");
    door.ask_and_wait(&request, done, |_, _| true, Who::Logistics)
        .await
}

/// Products for an order that the body names.
#[derive(Deserialize)]
struct NamedProducts {
    order_id: i64,
    products: Vec<Value>,
}

pub(super) async fn update(door: Door, Id(order_id): Id, body: Body) -> Answer {
    let order: NewProducts = read(body)?;
    door.reorder(order_id, order.products).await
}

pub(super) async fn update_named(door: Door, body: Body) -> Answer {
    let order: NamedProducts = read(body)?;
    door.reorder(order.order_id, order.products).await
}

impl Door {
    async fn reorder(&self, order_id: i64, products: Vec<Value>) -> Answer {
        let request = UpdateOrder {
            order_id,
            products: wanted(products)?,
        };
        let done = (StatusCode::OK, "the order is changed");
        let decided = |news: &News, answer: &OrderAnswer| {
            !news.status.is_pending() || (news.revision >= answer.revision && !news.is_asking())
        };
        self.ask_and_wait(&request, done, decided, Who::Logistics)
            .await
    }
}

pub(super) async fn pay(door: Door, body: Body) -> Answer {
    let Named { order_id } = read(body)?;
    let decided = |news: &News, _: &_| news.status != OrderStatus::PendingPayment;
    let done = (StatusCode::OK, "the order is paid");
    door.ask_and_wait(&PayOrder { order_id }, done, decided, Who::Cart)
        .await
}

pub(super) async fn confirm(door: Door, body: Body) -> Answer {
    let Named { order_id } = read(body)?;
    door.step(&ConfirmOrder { order_id }, Who::Logistics).await
}

pub(super) async fn cancel(door: Door, body: Body) -> Answer {
    let Named { order_id } = read(body)?;
    let everybody = Who::StockPaymentLogistics;
    door.step(&CancelOrder { order_id }, everybody).await
}

pub(super) async fn remove(door: Door, Id(order_id): Id) -> Answer {
    let everybody = Who::StockPaymentLogistics;
    door.step(&CancelOrder { order_id }, everybody).await
}

pub(super) async fn send_back(door: Door, body: Body) -> Answer {
    let Named { order_id } = read(body)?;
    let everybody = Who::StockPaymentLogistics;
    door.step(&SendBack { order_id }, everybody).await
}

pub(super) async fn show(door: Door, Id(order_id): Id) -> Answer {
    let found: OrderList = door.ask(&GetOrder { order_id }).await?;
    match found.orders.into_iter().next() {
        Some(order) => Ok(json(StatusCode::OK, &OrderShown::new(order))),
        None => Err(Refusal::unknown(format!("there is no order {order_id}"))),
    }
}

/// One order by `order_id`, or else a list.
pub(super) async fn query(door: Door, Asked(page): Asked) -> Answer {
    match page.order_id.as_deref().map(number).transpose()? {
        Some(order_id) => show(door, Id(order_id)).await,
        None => list(door, Asked(page)).await,
    }
}

pub(super) async fn list(door: Door, Asked(page): Asked) -> Answer {
    let user_id = page.user_id.as_deref().map(number).transpose()?;
    let after = page.after(i64::MIN)?;
    let found: OrderList = door.ask(&ListOrders { user_id, after }).await?;
    Ok(json(StatusCode::OK, &OrdersShown::new(found, user_id)))
}
