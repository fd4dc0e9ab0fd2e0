//! What the stock service decides, and its tables. Works inside of a transaction that its caller
//! holds; knows no bus.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Opening, Recorded, StockOut};
use crate::database::WorkError;
use crate::events::{Item, StockAnswer, StockRefused, StockReleased, StockReserved};

/// Products with what the shelf held at first and holds now; what is held for which order.
/// `available = opening - held + returned`.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS products (
        product_id INTEGER PRIMARY KEY,
        sku TEXT NOT NULL,
        stocked INTEGER NOT NULL,
        opening INTEGER NOT NULL,
        available INTEGER NOT NULL,
        returned INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS held (
        order_id INTEGER NOT NULL,
        product_id INTEGER NOT NULL,
        quantity INTEGER NOT NULL,
        PRIMARY KEY (order_id, product_id)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS seen (
        order_id INTEGER PRIMARY KEY,
        outcome TEXT NOT NULL
    );";

/// Codes in the file that stand for no thing on a shelf: postage, manual entries, discounts,
/// carriage, charges.
const WITHOUT_STOCK: [&str; 6] = ["POST", "DOT", "M", "D", "C2", "BANK CHARGES"];

/// A product comes into sight: it gets its opening stock, once.
pub(super) fn open(
    on: &Connection,
    opening: Opening,
    product_id: i64,
    sku: &str,
) -> Result<(), WorkError> {
    let stocked = !WITHOUT_STOCK.contains(&sku);
    let quantity = if stocked { opening.of(product_id) } else { 0 };
    let mut insert =
        on.prepare_cached("INSERT OR IGNORE INTO products VALUES (?1, ?2, ?3, ?4, ?4, 0)")?;
    insert.execute(params![product_id, sku, stocked, quantity])?;
    Ok(())
}

/// Holds all pieces of an order, or none and says what is missing.
pub(super) fn reserve(
    on: &Connection,
    opening: Opening,
    order_id: i64,
    items: &[Item],
) -> Result<Recorded, WorkError> {
    if outcome(on, order_id)?.is_some() {
        return Ok(Recorded::nothing());
    }
    let wanted = stocked(on, opening, items)?;
    let mut short = Vec::new();
    for (product, (sku, quantity)) in &wanted {
        let available = available(on, *product)?;
        if available < *quantity {
            short.push(format!("{sku} ({quantity} wanted, {available} there)"));
        }
    }
    if !short.is_empty() {
        note(on, order_id, "refused")?;
        short.truncate(5);
        return Ok(Recorded::event(StockOut::Refused(StockRefused {
            order_id,
            reason: format!("out of stock: {}", short.join(", ")),
        })));
    }
    for (product, (_, quantity)) in &wanted {
        take(on, *product, *quantity)?;
        on.prepare_cached("INSERT INTO held VALUES (?1, ?2, ?3)")?
            .execute([order_id, *product, *quantity])?;
    }
    note(on, order_id, "held")?;
    Ok(Recorded::event(StockOut::Reserved(StockReserved {
        order_id,
    })))
}

/// Lets go of what is held for an order that was given up.
pub(super) fn release(on: &Connection, order_id: i64) -> Result<Recorded, WorkError> {
    let held = outcome(on, order_id)?.as_deref() == Some("held");
    // An order given up before it was seen here holds nothing, and never will.
    note(on, order_id, "released")?;
    if !held {
        return Ok(Recorded::nothing());
    }
    let mut take =
        on.prepare_cached("DELETE FROM held WHERE order_id = ?1 RETURNING product_id, quantity")?;
    let rows = take.query_map([order_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows: Vec<(i64, i64)> = rows.collect::<Result<_, _>>()?;
    for (product, quantity) in rows {
        self::take(on, product, -quantity)?;
    }
    Ok(Recorded::event(StockOut::Released(StockReleased {
        order_id,
    })))
}

/// Puts pieces of a credit note back on the shelf.
pub(super) fn take_back(
    on: &Connection,
    opening: Opening,
    order_id: i64,
    items: &[Item],
) -> Result<Recorded, WorkError> {
    if outcome(on, order_id)?.is_none() {
        for (product, (_, quantity)) in stocked(on, opening, items)? {
            on.prepare_cached(
                "UPDATE products SET available = available + ?2, returned = returned + ?2
                 WHERE product_id = ?1",
            )?
            .execute([product, quantity])?;
        }
        note(on, order_id, "returned")?;
    }
    Ok(Recorded::nothing())
}

pub(super) fn show(on: &Connection, product_id: i64) -> Result<StockAnswer, WorkError> {
    let mut find =
        on.prepare_cached("SELECT stocked, available FROM products WHERE product_id = ?1")?;
    let row: Option<(bool, i64)> = find
        .query_row([product_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(StockAnswer {
        known: row.is_some(),
        available: row.and_then(|(stocked, available)| stocked.then_some(available)),
    })
}

/// What is wanted of each product that has stock.
fn stocked(
    on: &Connection,
    opening: Opening,
    items: &[Item],
) -> Result<BTreeMap<i64, (String, i64)>, WorkError> {
    let mut wanted = BTreeMap::new();
    for item in items {
        open(on, opening, item.product_id, &item.sku)?;
        if !WITHOUT_STOCK.contains(&&*item.sku) {
            let sum = wanted
                .entry(item.product_id)
                .or_insert_with(|| (item.sku.clone(), 0));
            sum.1 += item.quantity;
        }
    }
    Ok(wanted)
}

fn available(on: &Connection, product_id: i64) -> Result<i64, WorkError> {
    let mut find = on.prepare_cached("SELECT available FROM products WHERE product_id = ?1")?;
    Ok(find.query_row([product_id], |row| row.get(0))?)
}

fn take(on: &Connection, product_id: i64, quantity: i64) -> Result<(), WorkError> {
    on.prepare_cached("UPDATE products SET available = available - ?2 WHERE product_id = ?1")?
        .execute([product_id, quantity])?;
    Ok(())
}

fn outcome(on: &Connection, order_id: i64) -> Result<Option<String>, WorkError> {
    let mut find = on.prepare_cached("SELECT outcome FROM seen WHERE order_id = ?1")?;
    Ok(find.query_row([order_id], |row| row.get(0)).optional()?)
}

fn note(on: &Connection, order_id: i64, outcome: &str) -> Result<(), WorkError> {
    on.prepare_cached("INSERT OR REPLACE INTO seen VALUES (?1, ?2)")?
        .execute(params![order_id, outcome])?;
    Ok(())
}
