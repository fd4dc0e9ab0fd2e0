//! Carts: `/cart/...`. Knows the events that ask the cart service, and no service.

use axum::http::StatusCode;
use serde::Deserialize;

use super::answer::{self, CartShown, Refusal, json};
use super::{Answer, Asked, Body, Door, number, read, user};
use crate::events::{AddToCart, Cart, GetCart, RemoveFromCart};

/// Fields that are not named here are ignored, names and prices too: those are the catalogue's.
#[derive(Deserialize)]
struct Picked {
    user_id: i64,
    product_id: i64,
    quantity: Option<i64>,
}

pub(super) async fn add(door: Door, body: Body) -> Answer {
    let picked: Picked = read(body)?;
    let request = AddToCart {
        user_id: user(picked.user_id)?,
        product_id: picked.product_id,
        quantity: picked.quantity.unwrap_or(1),
    };
    Ok(answer::cart(door.change(&request).await?))
}

pub(super) async fn remove(door: Door, body: Body) -> Answer {
    let picked: Picked = read(body)?;
    let request = RemoveFromCart {
        user_id: user(picked.user_id)?,
        product_id: picked.product_id,
        quantity: picked.quantity,
    };
    Ok(answer::cart(door.change(&request).await?))
}

pub(super) async fn show(door: Door, Asked(page): Asked) -> Answer {
    let missing = || Refusal::wrong("say whose cart: ?user_id=");
    let user_id = user(number(page.user_id.as_deref().ok_or_else(missing)?)?)?;
    let cart: Cart = door.ask(&GetCart { user_id }).await?;
    Ok(json(StatusCode::OK, &CartShown::new(None, cart)))
}
