//! The forms of the door's answers: every one is JSON with a `message`; money is decimal here,
//! written from whole pence and never a float.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tidemill::AskError;
use tidemill::core::{PublishError, RequestError};

use crate::events::{Item, OrderAnswer, OrderStatus, OrderView, Product, Verdict, worth};
use crate::limits::LIST_MAX;
use crate::money::Pence;

/// An amount as a JSON number with two decimals.
pub(super) struct Pounds(pub(super) Pence);

impl Serialize for Pounds {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.to_string())
            .map_err(serde::ser::Error::custom)?
            .serialize(to)
    }
}

/// A refusal.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: StatusCode,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }

    pub(super) fn wrong(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    pub(super) fn unknown(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
}

impl From<AskError> for Refusal {
    fn from(error: AskError) -> Self {
        let code = match &error {
            AskError::Request(RequestError::Timeout(_)) => StatusCode::GATEWAY_TIMEOUT,
            AskError::Request(
                RequestError::TooMany | RequestError::Publish(PublishError::Unavailable(_)),
            ) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(code, error.to_string())
    }
}

#[derive(Serialize)]
struct Message<'a> {
    message: &'a str,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let message = &*self.message;
        json(self.code, &Message { message })
    }
}

pub(super) fn json(code: StatusCode, value: &impl Serialize) -> Response {
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

/// The answer to a request about one order.
#[derive(Serialize)]
pub(super) struct OrderBody {
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) order_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<OrderStatus>,
}

pub(super) fn order(answer: OrderAnswer, done: StatusCode) -> Response {
    let code = match answer.verdict {
        Verdict::Done => done,
        Verdict::Unknown => StatusCode::NOT_FOUND,
        Verdict::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        Verdict::Conflict => StatusCode::CONFLICT,
    };
    let OrderAnswer {
        message,
        order_id,
        status,
        ..
    } = answer;
    let body = OrderBody {
        message,
        order_id,
        status,
    };
    json(code, &body)
}

/// One order in full.
#[derive(Serialize)]
pub(super) struct OrderShown {
    message: &'static str,
    #[serde(flatten)]
    order: OrderFields,
}

/// Several orders in full.
#[derive(Serialize)]
pub(super) struct OrdersShown {
    message: String,
    orders: Vec<OrderFields>,
}

#[derive(Serialize)]
struct OrderFields {
    order_id: i64,
    user_id: Option<i64>,
    status: OrderStatus,
    total: Pounds,
    products: Vec<ItemShown>,
}

#[derive(Serialize)]
struct ItemShown {
    product_id: i64,
    sku: String,
    quantity: i64,
    price: Pounds,
    price_version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bought_with: Option<i64>,
}

impl From<Item> for ItemShown {
    fn from(item: Item) -> Self {
        Self {
            product_id: item.product_id,
            sku: item.sku,
            quantity: item.quantity,
            price: Pounds(item.price_pence),
            price_version: item.price_version,
            bought_with: item.bought_with,
        }
    }
}

impl From<OrderView> for OrderFields {
    fn from(view: OrderView) -> Self {
        Self {
            order_id: view.order_id,
            user_id: view.user_id,
            status: view.status,
            total: Pounds(worth(&view.products)),
            products: view.products.into_iter().map(ItemShown::from).collect(),
        }
    }
}

impl OrderShown {
    pub(super) fn new(view: OrderView) -> Self {
        let message = "the order as it stands";
        let order = view.into();
        Self { message, order }
    }
}

impl OrdersShown {
    pub(super) fn new(views: Vec<OrderView>) -> Self {
        Self {
            message: counted(views.len(), "orders"),
            orders: views.into_iter().map(OrderFields::from).collect(),
        }
    }
}

/// How many, and whether there may be more.
fn counted(number: usize, what: &str) -> String {
    match number as i64 >= LIST_MAX {
        true => format!("the first {number} {what}"),
        false => format!("{number} {what}"),
    }
}

/// Products at their newest price.
#[derive(Serialize)]
pub(super) struct ProductsShown {
    message: String,
    products: Vec<ProductShown>,
}

#[derive(Serialize)]
struct ProductShown {
    id: i64,
    sku: String,
    name: String,
    price: Pounds,
    price_version: i64,
}

impl ProductsShown {
    pub(super) fn new(products: Vec<Product>) -> Self {
        let shown = |product: Product| ProductShown {
            id: product.id,
            sku: product.sku,
            name: product.name,
            price: Pounds(product.price_pence),
            price_version: product.price_version,
        };
        Self {
            message: counted(products.len(), "products"),
            products: products.into_iter().map(shown).collect(),
        }
    }
}

/// What is in stock of one product.
#[derive(Serialize)]
pub(super) struct StockShown {
    pub(super) message: &'static str,
    pub(super) product_id: i64,
    /// None is a product without stock, such as postage.
    pub(super) available: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_a_decimal_number() {
        let text = |pence| serde_json::to_string(&Pounds(Pence(pence))).unwrap();
        assert_eq!(text(255), "2.55");
        assert_eq!(text(100_000), "1000.00");
        assert_eq!(text(-5), "-0.05");
    }
}
