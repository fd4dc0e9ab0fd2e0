//! Products: `/products`. Knows the events that ask the catalogue, and no service.

use std::time::Instant;

use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidemill::Key;

use super::answer::{self, ProductShown, ProductsShown, Refusal, json};
use super::{Answer, Asked, Body, Door, Id, OUTCOME_WAIT, read};
use crate::events::{
    Answer as Given, CartHeard, CreateProduct, GetProduct, ListProducts, OrdersHeard, Product,
    ProductList, RemoveProduct, StockHeard, UpdateProduct, Verdict,
};
use crate::money::Pence;

/// Fields that are not named here are ignored.
#[derive(Deserialize)]
struct NewProduct {
    name: String,
    sku: Option<String>,
    price: Box<RawValue>,
    stock: Option<i64>,
}

#[derive(Deserialize)]
struct OtherProduct {
    name: Option<String>,
    price: Option<Box<RawValue>>,
}

/// Reads a price as it is written, number or text: never through a float.
fn price(raw: &RawValue) -> Result<Pence, Refusal> {
    let text = raw.get().trim_matches('"');
    Pence::parse_pounds(text)
        .map_err(|why| Refusal::wrong(format!("the price {text} is {why}; write it as 2.55")))
}

impl Door {
    /// Answers once the other services know the product as it is now: who asks them next finds it
    /// so. Where that takes too long, the answer is 202.
    async fn when_known(&self, given: Given<Product>, done: StatusCode) -> Response {
        let product_id = match &given.about {
            Some(product) if given.verdict == Verdict::Done => product.id,
            _ => return answer::product(given, done),
        };
        let until = Instant::now() + OUTCOME_WAIT;
        let known = tokio::join!(
            self.has_followed(OrdersHeard { product_id }, until),
            self.has_followed(CartHeard { product_id }, until),
            self.has_followed(StockHeard { product_id }, until),
        );
        match known {
            (true, true, true) => answer::product(given, done),
            _ => answer::product(given, StatusCode::ACCEPTED),
        }
    }
}

pub(super) async fn create(door: Door, body: Body) -> Answer {
    let product: NewProduct = read(body)?;
    // It is the key of what asks for it.
    if Key::new(product.name.as_str()).is_err() {
        let why = "a product's name is a text of one line that is not empty";
        return Err(Refusal::wrong(why));
    }
    let request = CreateProduct {
        price_pence: price(&product.price)?,
        name: product.name,
        sku: product.sku,
        opening: product.stock,
    };
    let given = door.change(&request).await?;
    Ok(door.when_known(given, StatusCode::CREATED).await)
}

pub(super) async fn update(door: Door, Id(product_id): Id, body: Body) -> Answer {
    let product: OtherProduct = read(body)?;
    let request = UpdateProduct {
        product_id,
        price_pence: product.price.as_deref().map(price).transpose()?,
        name: product.name,
    };
    if request.name.is_none() && request.price_pence.is_none() {
        return Err(Refusal::wrong(
            "the body is wrong: it has neither name nor price",
        ));
    }
    let given = door.change(&request).await?;
    Ok(door.when_known(given, StatusCode::OK).await)
}

pub(super) async fn remove(door: Door, Id(product_id): Id) -> Answer {
    let given = door.change(&RemoveProduct { product_id }).await?;
    Ok(door.when_known(given, StatusCode::OK).await)
}

pub(super) async fn show(door: Door, Id(product_id): Id) -> Answer {
    let found: ProductList = door.ask(&GetProduct { product_id }).await?;
    match found.products.into_iter().next() {
        Some(product) => {
            let shown = ProductShown::new("the product as it is sold now", product);
            Ok(json(StatusCode::OK, &shown))
        }
        None => Err(Refusal::unknown(format!(
            "there is no product {product_id}"
        ))),
    }
}

pub(super) async fn list(door: Door, Asked(page): Asked) -> Answer {
    let after = page.after(0)?;
    let found: ProductList = door.ask(&ListProducts { after }).await?;
    Ok(json(StatusCode::OK, &ProductsShown::new(found.products)))
}
