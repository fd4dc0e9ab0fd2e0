//! What is in stock: `/stock`. Knows the events that ask the stock service, and no service.

use axum::http::StatusCode;
use serde::Deserialize;

use super::answer::{self, Refusal, ShelfShown, ShelvesShown, json};
use super::{Answer, Asked, Body, Door, Id, read};
use crate::events::{GetStock, ListStock, SetStock, Shelves};
use crate::limits::QUANTITY_MAX;

#[derive(Deserialize)]
struct NewStock {
    available: Option<i64>,
    quantity: Option<i64>,
}

pub(super) async fn show(door: Door, Id(product_id): Id) -> Answer {
    let found: Shelves = door.ask(&GetStock { product_id }).await?;
    match found.shelves.into_iter().next() {
        Some(shelf) => {
            let shown = ShelfShown::new("what can be ordered".to_owned(), shelf);
            Ok(json(StatusCode::OK, &shown))
        }
        None => Err(Refusal::unknown(format!(
            "there is no product {product_id}"
        ))),
    }
}

pub(super) async fn list(door: Door, Asked(page): Asked) -> Answer {
    let after = page.after(0)?;
    let found: Shelves = door.ask(&ListStock { after }).await?;
    Ok(json(StatusCode::OK, &ShelvesShown::new(found)))
}

pub(super) async fn set(door: Door, Id(product_id): Id, body: Body) -> Answer {
    let stock: NewStock = read(body)?;
    let missing = || Refusal::wrong("the body is wrong: missing field `available`");
    let available = stock.available.or(stock.quantity).ok_or_else(missing)?;
    if !(0..=QUANTITY_MAX).contains(&available) {
        let why = format!("a stock is 0 to {QUANTITY_MAX} pieces");
        return Err(Refusal::wrong(why));
    }
    let request = SetStock {
        product_id,
        available,
    };
    Ok(answer::shelf(door.change(&request).await?))
}
