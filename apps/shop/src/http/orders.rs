//! Orders: `/order/...` and `/orders`. Knows the events that ask the order service, and no service.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use tidemill::Message;

use super::answer::{self, OrderBody, OrderShown, OrdersShown, Refusal, json};
use super::heard::News;
use super::{Answer, Asked, Body, Door, Id, OUTCOME_WAIT, number, read, user};
use crate::events::{
    CancelOrder, Checkout, ConfirmOrder, CreateOrder, GetOrder, ListOrders, OrderAnswer, OrderList,
    OrderStatus, PayOrder, SendBack, UpdateOrder, Verdict, Wanted, buyer,
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

impl Door {
    /// Asks about an order, then waits for what stock and payment make of it.
    async fn ask_and_wait<M: Message>(
        &self,
        request: &M,
        done: (StatusCode, &str),
        wanted: impl Fn(&News, &OrderAnswer) -> bool,
    ) -> Answer {
        let answer: OrderAnswer = self.ask(request).await?;
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
        let body = OrderBody {
            message,
            order_id: Some(order_id),
            status: Some(news.status),
        };
        Ok(json(code, &body))
    }
}

pub(super) async fn create(State(door): State<Door>, body: Body) -> Answer {
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
    door.ask_and_wait(&request, done, |_, _| true).await
}

/// Products for an order that the body names.
#[derive(Deserialize)]
struct NamedProducts {
    order_id: i64,
    products: Vec<Value>,
}

pub(super) async fn update(State(door): State<Door>, Id(order_id): Id, body: Body) -> Answer {
    let order: NewProducts = read(body)?;
    door.change(order_id, order.products).await
}

pub(super) async fn update_named(State(door): State<Door>, body: Body) -> Answer {
    let order: NamedProducts = read(body)?;
    door.change(order.order_id, order.products).await
}

impl Door {
    async fn change(&self, order_id: i64, products: Vec<Value>) -> Answer {
        let request = UpdateOrder {
            order_id,
            products: wanted(products)?,
        };
        let done = (StatusCode::OK, "the order is changed");
        let decided = |news: &News, answer: &OrderAnswer| {
            !news.status.is_pending() || (news.revision >= answer.revision && !news.is_asking())
        };
        self.ask_and_wait(&request, done, decided).await
    }
}

pub(super) async fn pay(State(door): State<Door>, body: Body) -> Answer {
    let Named { order_id } = read(body)?;
    let decided = |news: &News, _: &_| news.status != OrderStatus::PendingPayment;
    let done = (StatusCode::OK, "the order is paid");
    door.ask_and_wait(&PayOrder { order_id }, done, decided)
        .await
}

pub(super) async fn confirm(State(door): State<Door>, body: Body) -> Answer {
    let Named { order_id } = read(body)?;
    let answer: OrderAnswer = door.ask(&ConfirmOrder { order_id }).await?;
    if answer.verdict == Verdict::Done {
        // Who asks for the shipment next finds it; without it the order is confirmed all the same.
        door.sent.wait(order_id, |_| true, OUTCOME_WAIT).await;
    }
    Ok(answer::order(answer, StatusCode::OK))
}

pub(super) async fn cancel(State(door): State<Door>, body: Body) -> Answer {
    let Named { order_id } = read(body)?;
    let answer = door.ask(&CancelOrder { order_id }).await?;
    Ok(answer::order(answer, StatusCode::OK))
}

pub(super) async fn remove(State(door): State<Door>, Id(order_id): Id) -> Answer {
    let answer = door.ask(&CancelOrder { order_id }).await?;
    Ok(answer::order(answer, StatusCode::OK))
}

pub(super) async fn send_back(State(door): State<Door>, body: Body) -> Answer {
    let Named { order_id } = read(body)?;
    let answer = door.ask(&SendBack { order_id }).await?;
    Ok(answer::order(answer, StatusCode::OK))
}

pub(super) async fn show(State(door): State<Door>, Id(order_id): Id) -> Answer {
    let found: OrderList = door.ask(&GetOrder { order_id }).await?;
    match found.orders.into_iter().next() {
        Some(order) => Ok(json(StatusCode::OK, &OrderShown::new(order))),
        None => Err(Refusal::unknown(format!("there is no order {order_id}"))),
    }
}

/// One order by `order_id`, or else a list.
pub(super) async fn query(State(door): State<Door>, Asked(page): Asked) -> Answer {
    match page.order_id.as_deref().map(number).transpose()? {
        Some(order_id) => show(State(door), Id(order_id)).await,
        None => list(State(door), Asked(page)).await,
    }
}

pub(super) async fn list(State(door): State<Door>, Asked(page): Asked) -> Answer {
    let user_id = page.user_id.as_deref().map(number).transpose()?;
    let after = page.after(i64::MIN)?;
    let found: OrderList = door.ask(&ListOrders { user_id, after }).await?;
    Ok(json(StatusCode::OK, &OrdersShown::new(found, user_id)))
}
