//! What is said of carts, and what the cart service is asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::Message;

use crate::money::Pence;

messages! {
    /// A cart holds something else.
    CartChanged = "cart_changed" in "carts" by "user_id" {
        /// Whose.
        user_id: i64,
        /// What is in it now.
        products: Vec<Carried>,
    }

    /// Request: put pieces of a product into a cart. Answered with an [`Answer`](super::Answer)
    /// about the [`Cart`].
    AddToCart = "add_to_cart" in "cart_requests" by "user_id" {
        /// Whose.
        user_id: i64,
        /// Which product.
        product_id: i64,
        /// How many.
        quantity: i64,
    }
    /// Request: take a product out of a cart. Answered with an [`Answer`](super::Answer) about the
    /// [`Cart`].
    RemoveFromCart = "remove_from_cart" in "cart_requests" by "user_id" {
        /// Whose.
        user_id: i64,
        /// Which product.
        product_id: i64,
        /// How many; all if none is named.
        quantity: Option<i64>,
    }
    /// Request: show a cart. Answered with the [`Cart`].
    GetCart = "get_cart" in "cart_requests" by "user_id" {
        /// Whose.
        user_id: i64,
    }
}

/// A product in a cart, as events tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Carried {
    /// Which product.
    pub product_id: i64,
    /// How many, 1 or more.
    pub quantity: i64,
}

/// A cart at today's prices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cart {
    /// By product.
    pub products: Vec<CartLine>,
}

/// A product in a cart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CartLine {
    /// Which product.
    pub product_id: i64,
    /// Its name.
    pub name: String,
    /// How many, 1 or more.
    pub quantity: i64,
    /// Its price of today, which an order made now is sold at.
    pub price_pence: Pence,
    /// Its price when it was put into the cart, where that was another one.
    pub price_before: Option<Pence>,
}
