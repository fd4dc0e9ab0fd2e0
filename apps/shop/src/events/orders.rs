//! What is said of orders, and what the order service is asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::Message;

use super::{Verdict, is_zero};
use crate::money::Pence;

/// How an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Accepted; stock or payment is to come.
    PendingPayment,
    /// Paid; to be confirmed. A credit note: to be matched.
    PendingConfirmation,
    /// Sold; its shipment is to leave.
    Confirmed,
    /// On its way.
    Shipped,
    /// It arrived. Final, unless it is sent back.
    Delivered,
    /// Given up by its buyer or for want of payment. Final.
    Cancelled,
    /// Never begun: out of stock, or nothing in it. Final.
    Rejected,
    /// Sent back after it arrived, or a credit note that was taken in. Final.
    Returned,
}

impl OrderStatus {
    /// Every status.
    pub const ALL: [Self; 8] = [
        Self::PendingPayment,
        Self::PendingConfirmation,
        Self::Confirmed,
        Self::Shipped,
        Self::Delivered,
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
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Returned => "returned",
        }
    }

    /// Whether nothing follows by itself.
    #[must_use]
    pub fn is_final(self) -> bool {
        !(self.is_pending() || matches!(self, Self::Confirmed | Self::Shipped))
    }

    /// Whether it is not decided yet what becomes of it.
    #[must_use]
    pub fn is_pending(self) -> bool {
        matches!(self, Self::PendingPayment | Self::PendingConfirmation)
    }

    /// Whether stock and money of it are kept: it is paid for.
    #[must_use]
    pub fn is_held(self) -> bool {
        self.is_sold() || self == Self::PendingConfirmation
    }

    /// Whether it was sold and is with its buyer, or on its way there.
    #[must_use]
    pub fn is_sold(self) -> bool {
        matches!(self, Self::Confirmed | Self::Shipped | Self::Delivered)
    }
}

/// How an order goes on once its stock is reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Checkout {
    /// Its buyer pays and confirms.
    #[default]
    Stepwise,
    /// Paid and confirmed by itself; its carrier says how its shipment goes on.
    Prepaid,
    /// By itself: paid, confirmed, shipped and delivered at once, as an invoice from a file is.
    Immediate,
}

impl Checkout {
    pub(super) fn is_stepwise(&self) -> bool {
        *self == Self::Stepwise
    }
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
            /// How it goes on; stepwise if it does not say.
            #[serde(default, skip_serializing_if = "Checkout::is_stepwise")]
            pub checkout: Checkout,
            /// How often its products were changed.
            #[serde(default, skip_serializing_if = "is_zero")]
            pub revision: i64,
            /// Why, where there is something to say.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub reason: Option<String>,
        }

        impl From<OrderFacts> for $name {
            fn from(facts: OrderFacts) -> Self {
                let OrderFacts {
                    order_id, user_id, products, status, checkout, revision, reason,
                } = facts;
                Self { order_id, user_id, products, status, checkout, revision, reason }
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
    /// How it goes on; stepwise if it does not say.
    #[serde(default, skip_serializing_if = "Checkout::is_stepwise")]
    pub checkout: Checkout,
    /// How often its products were changed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: i64,
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
    /// An order or a credit note was taken back: pieces came back, their money goes back.
    OrderReturned = "order_returned";
}

messages! {
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
    /// Request: other products, before anything is paid. Answered with an [`OrderAnswer`]; whether
    /// the stock has them is told later.
    UpdateOrder = "update_order" in "order_requests" by "order_id" {
        /// Which order.
        order_id: i64,
        /// What is wanted in place of what was.
        products: Vec<Wanted>,
    }
    /// Request: take a delivered order back. Answered with an [`OrderAnswer`].
    SendBack = "send_back_order" in "order_requests" by "order_id" {
        /// Which order.
        order_id: i64,
    }
    /// Request: show an order. Answered with an [`OrderList`] of one or none.
    GetOrder = "get_order" in "order_requests" by "order_id" {
        /// Which order.
        order_id: i64,
    }
    /// Request: show orders. Answered with an [`OrderList`].
    ListOrders = "list_orders" in "order_requests" by "user_id" {
        /// Of this user alone.
        user_id: Option<i64>,
        /// Those with a higher id than this; credit notes are below zero.
        after: i64,
    }
}

messages! {
    /// Question to the stock service, answered with [`Followed`] once it has handled all that was
    /// said of the order before: a topic is read in the order of its keys.
    StockFollowed = "stock_followed" in "orders" by "order_id" {
        /// Which order.
        order_id: i64,
    }
    /// The same question to the payment service.
    PaymentFollowed = "payment_followed" in "orders" by "order_id" {
        /// Which order.
        order_id: i64,
    }
    /// The same question to the logistics service.
    LogisticsFollowed = "logistics_followed" in "orders" by "order_id" {
        /// Which order.
        order_id: i64,
    }
    /// The same question to the cart service.
    CartFollowed = "cart_followed" in "orders" by "order_id" {
        /// Which order.
        order_id: i64,
    }
}

/// All that was said before was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Followed {
    /// Of this order, or user.
    pub id: i64,
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
    /// How often its products were changed.
    #[serde(default)]
    pub revision: i64,
}

/// The reason of the news that an order was changed and the stock has not answered yet.
pub const ASKING: &str = "changed; the stock is asked for it";

/// Orders as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderList {
    /// By id, at most [`crate::limits::LIST_MAX`].
    pub orders: Vec<OrderView>,
    /// Of one user's orders: whether the user is logged in.
    #[serde(default)]
    pub logged_in: bool,
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
