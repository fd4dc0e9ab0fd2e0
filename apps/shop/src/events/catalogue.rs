//! What is said of products, and what the catalogue is asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::Message;

use crate::money::Pence;

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
        /// Of a new product: how many pieces there are. The stock service decides without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        opening: Option<i64>,
        /// How many pieces a supplier brings whenever fewer than half as many are left; nobody
        /// brings any without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        supply: Option<i64>,
    }
    /// A product is not sold any more.
    ProductRemoved = "product_removed" in "catalogue" by "product_id" {
        /// Which product.
        product_id: i64,
    }

    /// Request: a new product. Answered with an [`Answer`](super::Answer) about the [`Product`].
    CreateProduct = "create_product" in "catalogue_requests" by "name" {
        /// Its name.
        name: String,
        /// Its stock code; made from its id if none is named.
        sku: Option<String>,
        /// The price of one piece.
        price_pence: Pence,
        /// How many pieces there are; the stock service decides if nothing is said.
        opening: Option<i64>,
    }
    /// Request: another name or price. Answered with an [`Answer`](super::Answer) about the
    /// [`Product`].
    UpdateProduct = "update_product" in "catalogue_requests" by "product_id" {
        /// Which product.
        product_id: i64,
        /// Its new name.
        name: Option<String>,
        /// Its new price.
        price_pence: Option<Pence>,
    }
    /// Request: sell a product no more. Answered with an [`Answer`](super::Answer) about the
    /// [`Product`].
    RemoveProduct = "remove_product" in "catalogue_requests" by "product_id" {
        /// Which product.
        product_id: i64,
    }
    /// Request: show a product. Answered with a [`ProductList`] of one or none.
    GetProduct = "get_product" in "catalogue_requests" by "product_id" {
        /// Which product.
        product_id: i64,
    }
    /// Request: show products. Answered with a [`ProductList`].
    ListProducts = "list_products" in "catalogue_requests" by "after" {
        /// Those with a higher id than this.
        after: i64,
    }

    /// Question to the order service, answered with [`Heard`] once it has handled all that was
    /// said of the product before: a topic is read in the order of its keys.
    OrdersHeard = "orders_heard" in "catalogue" by "product_id" {
        /// Of which product.
        product_id: i64,
    }
    /// The same question to the cart service.
    CartHeard = "cart_heard" in "catalogue" by "product_id" {
        /// Of which product.
        product_id: i64,
    }
    /// The same question to the stock service.
    StockHeard = "stock_heard" in "catalogue" by "product_id" {
        /// Of which product.
        product_id: i64,
    }
}

/// All that was said before was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Heard {
    /// Of this product.
    pub product_id: i64,
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
