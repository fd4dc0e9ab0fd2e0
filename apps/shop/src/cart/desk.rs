//! What the cart service decides, and its tables. Works inside of a transaction that its caller
//! holds; knows no bus.

use rusqlite::{Connection, OptionalExtension, params};

use super::{CartOut, Recorded};
use crate::database::WorkError;
use crate::events::{
    AddToCart, Answer, Carried, Cart, CartChanged, CartLine, Checkout, OrderPaid, PriceChanged,
    RemoveFromCart, Verdict,
};
use crate::limits::{CART_LINES_MAX, QUANTITY_MAX};
use crate::money::Pence;

/// Products at their newest price; what is in whose cart, and what it cost when it was put there.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS products (
        product_id INTEGER PRIMARY KEY,
        version INTEGER NOT NULL,
        name TEXT NOT NULL,
        price_pence INTEGER NOT NULL,
        removed INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS carried (
        user_id INTEGER NOT NULL,
        product_id INTEGER NOT NULL,
        quantity INTEGER NOT NULL,
        price_pence INTEGER NOT NULL,
        PRIMARY KEY (user_id, product_id)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS carried_by_product ON carried (product_id);";

type Decided = Result<Recorded, WorkError>;

fn refused(verdict: Verdict, why: String) -> Decided {
    Ok(Recorded::answer(Answer::refused(verdict, why)))
}

/// A newer price; what is in carts costs that from now on.
pub(super) fn price(on: &Connection, told: &PriceChanged) -> Result<(), WorkError> {
    on.prepare_cached(
        "INSERT INTO products VALUES (?1, ?2, ?3, ?4, 0) ON CONFLICT (product_id) DO UPDATE
         SET version = excluded.version, name = excluded.name, price_pence = excluded.price_pence
         WHERE excluded.version > version",
    )?
    .execute(params![
        told.product_id,
        told.version,
        told.name,
        told.price_pence.0
    ])?;
    Ok(())
}

/// A product that is not sold any more: no cart shows it.
pub(super) fn forget(on: &Connection, product_id: i64) -> Result<(), WorkError> {
    on.prepare_cached("UPDATE products SET removed = 1 WHERE product_id = ?1")?
        .execute([product_id])?;
    on.prepare_cached("DELETE FROM carried WHERE product_id = ?1")?
        .execute([product_id])?;
    Ok(())
}

/// A user's cart, by product.
pub(super) fn view(on: &Connection, user_id: i64) -> Result<Cart, WorkError> {
    let mut find = on.prepare_cached(
        "SELECT c.product_id, p.name, c.quantity, p.price_pence, c.price_pence
         FROM carried c JOIN products p ON p.product_id = c.product_id
         WHERE c.user_id = ?1 ORDER BY c.product_id",
    )?;
    let rows = find.query_map([user_id], |row| {
        let (now, before): (i64, i64) = (row.get(3)?, row.get(4)?);
        Ok(CartLine {
            product_id: row.get(0)?,
            name: row.get(1)?,
            quantity: row.get(2)?,
            price_pence: Pence(now),
            price_before: (now != before).then_some(Pence(before)),
        })
    })?;
    let products = rows.collect::<Result<_, _>>()?;
    Ok(Cart { products })
}

fn carried(on: &Connection, user_id: i64, product_id: i64) -> Result<i64, WorkError> {
    let mut find =
        on.prepare_cached("SELECT quantity FROM carried WHERE user_id = ?1 AND product_id = ?2")?;
    let found = find.query_row([user_id, product_id], |row| row.get(0));
    Ok(found.optional()?.unwrap_or(0))
}

/// Sets what is in the cart of a product; none takes it out.
fn set(on: &Connection, user_id: i64, product_id: i64, quantity: i64) -> Result<(), WorkError> {
    if quantity <= 0 {
        on.prepare_cached("DELETE FROM carried WHERE user_id = ?1 AND product_id = ?2")?
            .execute([user_id, product_id])?;
        return Ok(());
    }
    on.prepare_cached(
        "INSERT INTO carried SELECT ?1, ?2, ?3, price_pence FROM products WHERE product_id = ?2
         ON CONFLICT (user_id, product_id) DO UPDATE SET quantity = excluded.quantity",
    )?
    .execute([user_id, product_id, quantity])?;
    Ok(())
}

fn changed(user_id: i64, cart: &Cart) -> CartOut {
    let carried = |line: &CartLine| Carried {
        product_id: line.product_id,
        quantity: line.quantity,
    };
    CartOut::Changed(CartChanged {
        user_id,
        products: cart.products.iter().map(carried).collect(),
    })
}

fn tell(on: &Connection, user_id: i64, message: &str) -> Decided {
    let cart = view(on, user_id)?;
    Ok(Recorded {
        events: vec![changed(user_id, &cart)],
        answer: Some(Answer::done(message, cart)),
    })
}

pub(super) fn add(on: &Connection, request: &AddToCart) -> Decided {
    let AddToCart {
        user_id,
        product_id,
        quantity,
        ..
    } = *request;
    let mut sold =
        on.prepare_cached("SELECT 1 FROM products WHERE product_id = ?1 AND NOT removed")?;
    if !sold.exists([product_id])? {
        return refused(
            Verdict::Unknown,
            format!("there is no product {product_id}"),
        );
    }
    let before = carried(on, user_id, product_id)?;
    if quantity < 1 || quantity > QUANTITY_MAX - before {
        let why = format!("a cart has 1 to {QUANTITY_MAX} pieces of a product");
        return refused(Verdict::Invalid, why);
    }
    let mut count = on.prepare_cached("SELECT count(*) FROM carried WHERE user_id = ?1")?;
    let lines: i64 = count.query_row([user_id], |row| row.get(0))?;
    if before == 0 && lines >= CART_LINES_MAX {
        let why = format!("a cart has at most {CART_LINES_MAX} products");
        return refused(Verdict::Conflict, why);
    }
    set(on, user_id, product_id, before + quantity)?;
    tell(on, user_id, "the product is in the cart")
}

pub(super) fn remove(on: &Connection, request: &RemoveFromCart) -> Decided {
    let RemoveFromCart {
        user_id,
        product_id,
        quantity,
        ..
    } = *request;
    if quantity.is_some_and(|pieces| pieces < 1) {
        return refused(Verdict::Invalid, "a quantity is 1 or more".to_owned());
    }
    let before = carried(on, user_id, product_id)?;
    if before == 0 {
        let why = format!("there is no product {product_id} in the cart of user {user_id}");
        return refused(Verdict::Unknown, why);
    }
    let left = quantity.map_or(0, |pieces| before.saturating_sub(pieces));
    set(on, user_id, product_id, left)?;
    tell(on, user_id, "the product is taken out of the cart")
}

/// Takes what was paid for out of the buyer's cart, as far as it is in there. Orders that go on by
/// themselves, of a file or generated ones, come from no cart.
pub(super) fn bought(on: &Connection, paid: &OrderPaid) -> Decided {
    let Some(user_id) = paid.user_id else {
        return Ok(Recorded::nothing());
    };
    if paid.checkout == Checkout::Immediate {
        return Ok(Recorded::nothing());
    }
    let mut any = false;
    for item in &paid.products {
        let before = carried(on, user_id, item.product_id)?;
        if before > 0 {
            set(
                on,
                user_id,
                item.product_id,
                before.saturating_sub(item.quantity),
            )?;
            any = true;
        }
    }
    if !any {
        return Ok(Recorded::nothing());
    }
    Ok(Recorded::event(changed(user_id, &view(on, user_id)?)))
}
