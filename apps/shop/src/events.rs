//! Every event of the shop: what the services say to each other and what they are asked. Names,
//! topics and payloads are the interface between them; there is no other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::Message;

use crate::money::Pence;

/// How an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Accepted; stock or payment is to come.
    PendingPayment,
    /// Paid; to be confirmed. A credit note: to be matched.
    PendingConfirmation,
    /// Done. Final.
    Confirmed,
    /// Given up by its buyer or for want of payment. Final.
    Cancelled,
    /// Never begun: out of stock, or nothing in it. Final.
    Rejected,
    /// A credit note that was taken in. Final.
    Returned,
}

impl OrderStatus {
    /// Every status.
    pub const ALL: [Self; 6] = [
        Self::PendingPayment,
        Self::PendingConfirmation,
        Self::Confirmed,
        Self::Cancelled,
        Self::Rejected,
        Self::Returned,
    ];

    /// The name used in events and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PendingPayment => "pending_payment",
            Self::PendingConfirmation => "pending_confirmation",
            Self::Confirmed => "confirmed",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Returned => "returned",
        }
    }

    /// Whether nothing follows.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::PendingPayment | Self::PendingConfirmation)
    }
}

/// How an order goes on once its stock is reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Checkout {
    /// Its buyer pays and confirms.
    #[default]
    Stepwise,
    /// By itself: paid and confirmed at once, as an invoice from a file is.
    Immediate,
}

/// A product that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Wanted {
    /// Which.
    pub product_id: i64,
    /// How many, 1 or more.
    pub quantity: i64,
    /// At which version of its price; the newest if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_version: Option<i64>,
}

/// One line of an order, with the price it was sold at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Item {
    /// Which product.
    pub product_id: i64,
    /// Its stock code.
    pub sku: String,
    /// How many, 1 or more.
    pub quantity: i64,
    /// The version of its price.
    pub price_version: i64,
    /// That price, of one piece.
    pub price_pence: Pence,
    /// On a credit note: the order that it was bought with, where one was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bought_with: Option<i64>,
}

/// The worth of items together; saturates, which orders' bounds rule out.
#[must_use]
pub fn worth(items: &[Item]) -> Pence {
    let pence = items.iter().fold(0_i64, |sum, item| {
        sum.saturating_add(item.price_pence.0.saturating_mul(item.quantity))
    });
    Pence(pence)
}

/// An event about one order. All have one payload, so that a reader of the topic needs one type.
macro_rules! order_events {
    ($($(#[$doc:meta])* $name:ident = $ty:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Message)]
        #[message(type = $ty, topic = "orders", key = "order_id")]
        #[serde(tag = "type", rename = $ty)]
        pub struct $name {
            /// Which order; negative for a credit note.
            pub order_id: i64,
            /// Whose; none is a guest.
            pub user_id: Option<i64>,
            /// What is in it.
            pub products: Vec<Item>,
            /// How it stands.
            pub status: OrderStatus,
            /// Why, where there is something to say.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub reason: Option<String>,
        }

        impl From<OrderFacts> for $name {
            fn from(facts: OrderFacts) -> Self {
                let OrderFacts { order_id, user_id, products, status, reason } = facts;
                Self { order_id, user_id, products, status, reason }
            }
        }
    )+};
}

/// The payload that all events about an order share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderFacts {
    /// Which order; negative for a credit note.
    pub order_id: i64,
    /// Whose; none is a guest.
    pub user_id: Option<i64>,
    /// What is in it.
    pub products: Vec<Item>,
    /// How it stands.
    pub status: OrderStatus,
    /// Why, where there is something to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

order_events! {
    /// An order was accepted and every price in it is known; its stock is to be reserved.
    OrderCreated = "order_created";
    /// The money for an order is there. Told by the payment service.
    OrderPaid = "order_paid";
    /// An order is done.
    OrderConfirmed = "order_confirmed";
    /// An order stands otherwise, or was rejected.
    OrderUpdated = "order_updated";
    /// An order was given up; its stock and money go back.
    OrderCancelled = "order_cancelled";
    /// A credit note was taken in: pieces came back, their money goes back.
    OrderReturned = "order_returned";
}

macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident = $ty:literal in $topic:literal by $key:literal {
        $($(#[$doc:meta])* $field:ident: $of:ty,)*
    })+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Message)]
        #[message(type = $ty, topic = $topic, key = $key)]
        #[serde(tag = "type", rename = $ty)]
        pub struct $name {
            $($(#[$doc])* pub $field: $of,)*
        }
    )+};
}

messages! {
    /// A product is new, or its price is another one from now on.
    PriceChanged = "price_changed" in "catalogue" by "product_id" {
        /// Which product.
        product_id: i64,
        /// Ascending per product, from 1.
        version: i64,
        /// Its stock code.
        sku: String,
        /// Its name.
        name: String,
        /// The price of one piece.
        price_pence: Pence,
    }

    /// The stock holds all pieces of an order.
    StockReserved = "stock_reserved" in "stock" by "order_id" {
        /// Which order.
        order_id: i64,
    }
    /// The stock has not all pieces of an order, and holds none.
    StockRefused = "stock_refused" in "stock" by "order_id" {
        /// Which order.
        order_id: i64,
        /// What is missing.
        reason: String,
    }
    /// The stock let go of an order's pieces.
    StockReleased = "stock_released" in "stock" by "order_id" {
        /// Which order.
        order_id: i64,
    }

    /// The money for an order is to be taken.
    PaymentRequested = "payment_requested" in "payments" by "order_id" {
        /// Which order.
        order_id: i64,
        /// Whose money; none is a guest's.
        user_id: Option<i64>,
        /// For what.
        products: Vec<Item>,
        /// How much.
        amount_pence: Pence,
    }
    /// The money for an order was not to be had.
    PaymentFailed = "payment_failed" in "payments" by "order_id" {
        /// Which order.
        order_id: i64,
        /// Why.
        reason: String,
    }

    /// Request: accept an order. Answered with an [`OrderAnswer`].
    CreateOrder = "create_order" in "order_requests" by "buyer" {
        /// The id it is to have; the shop gives one if none is named. A known id changes nothing.
        order_id: Option<i64>,
        /// Whose; none is a guest.
        user_id: Option<i64>,
        /// Names whose orders stay in turn: see [`buyer`].
        buyer: String,
        /// What is wanted.
        products: Vec<Wanted>,
        /// How it goes on.
        checkout: Checkout,
    }
    /// Request: take in a credit note. Answered with an [`OrderAnswer`].
    ReturnOrder = "return_order" in "order_requests" by "buyer" {
        /// Its id, negative. A known id changes nothing.
        order_id: i64,
        /// Whose; none is a guest.
        user_id: Option<i64>,
        /// Names whose orders stay in turn: see [`buyer`].
        buyer: String,
        /// What came back.
        products: Vec<Wanted>,
    }
    /// Request: pay an order. Answered with an [`OrderAnswer`].
    PayOrder = "pay_order" in "order_requests" by "order_id" {
        /// Which order.
        order_id: i64,
    }
    /// Request: confirm a paid order. Answered with an [`OrderAnswer`].
    ConfirmOrder = "confirm_order" in "order_requests" by "order_id" {
        /// Which order.
        order_id: i64,
    }
    /// Request: give an order up. Answered with an [`OrderAnswer`].
    CancelOrder = "cancel_order" in "order_requests" by "order_id" {
        /// Which order.
        order_id: i64,
    }
    /// Request: show an order. Answered with an [`OrderList`] of one or none.
    GetOrder = "get_order" in "order_requests" by "order_id" {
        /// Which order.
        order_id: i64,
    }
    /// Request: show a user's orders. Answered with an [`OrderList`].
    ListOrders = "list_orders" in "order_requests" by "user_id" {
        /// Whose.
        user_id: i64,
    }
    /// Request: show products. Answered with a [`ProductList`].
    ListProducts = "list_products" in "order_requests" by "after" {
        /// Those with a higher id than this.
        after: i64,
    }
    /// Request: show what is in stock. Answered with a [`StockAnswer`].
    GetStock = "get_stock" in "stock_requests" by "product_id" {
        /// Of which product.
        product_id: i64,
    }
}

/// The key of requests whose order in time matters for one buyer: a credit note must not
/// overtake the purchase that it belongs to. A guest's order stands alone.
#[must_use]
pub fn buyer(user_id: Option<i64>, order_id: i64) -> String {
    match user_id {
        Some(user) => format!("user-{user}"),
        None => format!("guest-{order_id}"),
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Done.
    Done,
    /// There is no such order or product.
    Unknown,
    /// It makes no sense.
    Invalid,
    /// Out of turn; nothing changed.
    Conflict,
}

/// The answer to a request about one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderAnswer {
    /// What became of it.
    pub verdict: Verdict,
    /// The same in words.
    pub message: String,
    /// Which order.
    pub order_id: Option<i64>,
    /// How it stands now.
    pub status: Option<OrderStatus>,
}

/// Orders as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderList {
    /// Oldest first.
    pub orders: Vec<OrderView>,
}

/// An order as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderView {
    /// Which; negative for a credit note.
    pub order_id: i64,
    /// Whose; none is a guest.
    pub user_id: Option<i64>,
    /// How it stands.
    pub status: OrderStatus,
    /// What is in it, as far as the prices are known.
    pub products: Vec<Item>,
}

/// Products at their newest price, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProductList {
    /// At most [`crate::limits::LIST_MAX`].
    pub products: Vec<Product>,
}

/// A product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Product {
    /// Which.
    pub id: i64,
    /// Its stock code.
    pub sku: String,
    /// Its name.
    pub name: String,
    /// Its newest price.
    pub price_pence: Pence,
    /// The version of that price.
    pub price_version: i64,
}

/// What is in stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StockAnswer {
    /// The product is known.
    pub known: bool,
    /// Pieces that can be ordered; none is a product without stock, such as postage.
    pub available: Option<i64>,
}
