//! What is said of money.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::Message;

use super::{Checkout, Item, is_zero};
use crate::money::Pence;

messages! {
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
        /// How the order goes on; stepwise if it does not say.
        #[serde(default, skip_serializing_if = "Checkout::is_stepwise")]
        checkout: Checkout,
        /// How often the order's products were changed.
        #[serde(default, skip_serializing_if = "is_zero")]
        revision: i64,
    }
    /// The money for an order was not to be had.
    PaymentFailed = "payment_failed" in "payments" by "order_id" {
        /// Which order.
        order_id: i64,
        /// Why.
        reason: String,
    }
}
