//! The forms of the door's answers: every one is JSON with a `message`; money is decimal here,
//! written from whole pence and never a float.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tidemill::AskError;
use tidemill::core::{PublishError, RequestError};

use crate::events::{
    Answer as Given, Cart, CartLine, Item, OrderAnswer, OrderList, OrderStatus, OrderView, Packed,
    Product, Shelf, Shelves, Shipment, ShipmentStatus, Shipments, User, Verdict, worth,
};
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
            // What cannot become an event was no sense: a name that is no key, for one.
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

/// What is wrong, in the manner of a problem document (RFC 9457) whose status is called code: a
/// `status` is an order's here.
#[derive(Serialize)]
struct Wrong<'a> {
    title: &'a str,
    code: u16,
    message: &'a str,
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

fn code(verdict: Verdict, done: StatusCode) -> StatusCode {
    match verdict {
        Verdict::Done => done,
        Verdict::Unknown => StatusCode::NOT_FOUND,
        Verdict::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        Verdict::Conflict => StatusCode::CONFLICT,
        Verdict::Denied => StatusCode::UNAUTHORIZED,
    }
}

/// The answer about something, or the refusal where there is nothing to show.
fn about<T, S: Serialize>(
    given: Given<T>,
    done: StatusCode,
    shown: impl FnOnce(String, T) -> S,
) -> Response {
    let code = code(given.verdict, done);
    match given.about {
        Some(about) => json(code, &shown(given.message, about)),
        None => Refusal::new(code, given.message).into_response(),
    }
}

pub(super) fn product(given: Given<Product>, done: StatusCode) -> Response {
    about(given, done, ProductShown::new)
}

pub(super) fn cart(given: Given<Cart>) -> Response {
    about(given, StatusCode::OK, |message, cart| {
        CartShown::new(Some(message), cart)
    })
}

pub(super) fn shipment(given: Given<Shipment>, done: StatusCode) -> Response {
    about(given, done, ShipmentShown::new)
}

pub(super) fn shelf(given: Given<Shelf>) -> Response {
    about(given, StatusCode::OK, ShelfShown::new)
}

pub(super) fn user(given: Given<User>, done: StatusCode, token: Option<String>) -> Response {
    about(given, done, |message, user| UserShown {
        message,
        user,
        token,
    })
}

pub(super) fn order(answer: OrderAnswer, done: StatusCode) -> Response {
    let code = code(answer.verdict, done);
    if answer.order_id.is_none() && answer.verdict != Verdict::Done {
        return Refusal::new(code, answer.message).into_response();
    }
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
    /// Of one user's orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    logged_in: Option<bool>,
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
    pub(super) fn new(list: OrderList, user_id: Option<i64>) -> Self {
        Self {
            message: counted(list.orders.len(), "orders"),
            logged_in: user_id.map(|_| list.logged_in),
            orders: list.orders.into_iter().map(OrderFields::from).collect(),
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

/// A product at its newest price.
#[derive(Serialize)]
pub(super) struct ProductShown {
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    id: i64,
    sku: String,
    name: String,
    price: Pounds,
    price_version: i64,
}

impl ProductShown {
    pub(super) fn new(message: impl Into<String>, product: Product) -> Self {
        Self {
            message: Some(message.into()),
            ..Self::from(product)
        }
    }
}

impl From<Product> for ProductShown {
    fn from(product: Product) -> Self {
        Self {
            message: None,
            id: product.id,
            sku: product.sku,
            name: product.name,
            price: Pounds(product.price_pence),
            price_version: product.price_version,
        }
    }
}

impl ProductsShown {
    pub(super) fn new(products: Vec<Product>) -> Self {
        Self {
            message: counted(products.len(), "products"),
            products: products.into_iter().map(ProductShown::from).collect(),
        }
    }
}

/// A cart at today's prices.
#[derive(Serialize)]
pub(super) struct CartShown {
    message: String,
    products: Vec<CartLineShown>,
    total: Pounds,
}

#[derive(Serialize)]
struct CartLineShown {
    id: i64,
    name: String,
    price: Pounds,
    quantity: i64,
    /// What it cost when it was put into the cart, where that was something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    price_before: Option<Pounds>,
}

impl From<CartLine> for CartLineShown {
    fn from(line: CartLine) -> Self {
        Self {
            id: line.product_id,
            name: line.name,
            price: Pounds(line.price_pence),
            quantity: line.quantity,
            price_before: line.price_before.map(Pounds),
        }
    }
}

impl CartShown {
    pub(super) fn new(message: Option<String>, cart: Cart) -> Self {
        let pence = cart.products.iter().fold(0_i64, |sum, line| {
            sum.saturating_add(line.price_pence.0.saturating_mul(line.quantity))
        });
        Self {
            message: message.unwrap_or_else(|| counted(cart.products.len(), "products")),
            products: cart.products.into_iter().map(CartLineShown::from).collect(),
            total: Pounds(Pence(pence)),
        }
    }
}

/// What is in stock of one product.
#[derive(Serialize)]
pub(super) struct ShelfShown {
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    product_id: i64,
    /// None is a product without stock, such as postage.
    available: Option<i64>,
    held: i64,
}

impl From<Shelf> for ShelfShown {
    fn from(shelf: Shelf) -> Self {
        Self {
            message: None,
            product_id: shelf.product_id,
            available: shelf.available,
            held: shelf.held,
        }
    }
}

impl ShelfShown {
    pub(super) fn new(message: String, shelf: Shelf) -> Self {
        Self {
            message: Some(message),
            ..Self::from(shelf)
        }
    }
}

/// What is in stock of several.
#[derive(Serialize)]
pub(super) struct ShelvesShown {
    message: String,
    stock: Vec<ShelfShown>,
}

impl ShelvesShown {
    pub(super) fn new(all: Shelves) -> Self {
        Self {
            message: counted(all.shelves.len(), "products"),
            stock: all.shelves.into_iter().map(ShelfShown::from).collect(),
        }
    }
}

/// A shipment.
#[derive(Serialize)]
pub(super) struct ShipmentShown {
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    shipment_id: i64,
    order_id: i64,
    user_id: Option<i64>,
    status: ShipmentStatus,
    products: Vec<Packed>,
}

impl From<Shipment> for ShipmentShown {
    fn from(shipment: Shipment) -> Self {
        Self {
            message: None,
            shipment_id: shipment.shipment_id,
            order_id: shipment.order_id,
            user_id: shipment.user_id,
            status: shipment.status,
            products: shipment.products,
        }
    }
}

impl ShipmentShown {
    pub(super) fn new(message: impl Into<String>, shipment: Shipment) -> Self {
        Self {
            message: Some(message.into()),
            ..Self::from(shipment)
        }
    }
}

/// Several shipments.
#[derive(Serialize)]
pub(super) struct ShipmentsShown {
    message: String,
    shipments: Vec<ShipmentShown>,
}

impl ShipmentsShown {
    pub(super) fn new(all: Shipments) -> Self {
        Self {
            message: counted(all.shipments.len(), "shipments"),
            shipments: all.shipments.into_iter().map(ShipmentShown::from).collect(),
        }
    }
}

/// A user, and the token of a new session.
#[derive(Serialize)]
struct UserShown {
    message: String,
    #[serde(flatten)]
    user: User,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
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
