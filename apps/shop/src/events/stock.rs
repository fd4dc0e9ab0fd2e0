//! What is said of pieces on the shelf, and what the stock service is asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::Message;

use super::is_zero;

messages! {
    /// The stock holds all pieces of an order.
    StockReserved = "stock_reserved" in "stock" by "order_id" {
        /// Which order.
        order_id: i64,
        /// How often the order had been changed.
        #[serde(default, skip_serializing_if = "is_zero")]
        revision: i64,
    }
    /// The stock has not all pieces of an order, and holds none.
    StockRefused = "stock_refused" in "stock" by "order_id" {
        /// Which order.
        order_id: i64,
        /// How often the order had been changed.
        #[serde(default, skip_serializing_if = "is_zero")]
        revision: i64,
        /// What is missing.
        reason: String,
    }
    /// The stock let go of an order's pieces.
    StockReleased = "stock_released" in "stock" by "order_id" {
        /// Which order.
        order_id: i64,
    }
    /// Few pieces of a product are left, so its supplier is to bring more. The simulated one does
    /// so at once.
    StockOrdered = "stock_ordered" in "supplies" by "product_id" {
        /// Which product.
        product_id: i64,
        /// How many pieces.
        quantity: i64,
    }

    /// Request: show what is in stock. Answered with [`Shelves`], one or none.
    GetStock = "get_stock" in "stock_requests" by "product_id" {
        /// Of which product.
        product_id: i64,
    }
    /// Request: show what is in stock. Answered with [`Shelves`].
    ListStock = "list_stock" in "stock_requests" by "after" {
        /// Of products with a higher id than this.
        after: i64,
    }
    /// Request: so many pieces of a product can be ordered from now on. Answered with an
    /// [`Answer`](super::Answer) about its [`Shelf`].
    SetStock = "set_stock" in "stock_requests" by "product_id" {
        /// Of which product.
        product_id: i64,
        /// How many, beside those that are held for orders.
        available: i64,
    }
}

/// What is in stock of one product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shelf {
    /// Which product.
    pub product_id: i64,
    /// Pieces that can be ordered; none is a product without stock, such as postage.
    pub available: Option<i64>,
    /// Pieces that are held for orders.
    pub held: i64,
}

/// What is in stock, by product.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shelves {
    /// At most [`crate::limits::LIST_MAX`].
    pub shelves: Vec<Shelf>,
}
