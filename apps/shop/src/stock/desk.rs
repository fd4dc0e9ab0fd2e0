//! What the stock service decides, and its tables. Works inside of a transaction that its caller
//! holds; knows no bus.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Opening, Recorded, StockOut};
use crate::database::WorkError;
use crate::events::{
    Answer, Item, OrderUpdated, SetStock, Shelf, Shelves, StockOrdered, StockRefused,
    StockReleased, StockReserved, Verdict,
};
use crate::limits::{LIST_MAX, QUANTITY_MAX};

/// Products with what the shelf held at first and holds now; what is held for which order.
/// `available = opening - held + returned`; of an order also how often it was changed.
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
        outcome TEXT NOT NULL,
        revision INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS removed (product_id INTEGER PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS supplied (
        product_id INTEGER PRIMARY KEY,
        batch INTEGER NOT NULL,
        ordered INTEGER NOT NULL
    );";

/// Codes in the file that stand for no thing on a shelf: postage, manual entries, discounts,
/// carriage, charges.
const WITHOUT_STOCK: [&str; 6] = ["POST", "DOT", "M", "D", "C2", "BANK CHARGES"];

/// A product comes into sight: it gets its opening stock, once; so many pieces as are named, or
/// as the shop's options say.
pub(super) fn open(
    on: &Connection,
    opening: Opening,
    (product_id, sku): (i64, &str),
    named: Option<i64>,
) -> Result<(), WorkError> {
    let stocked = !WITHOUT_STOCK.contains(&sku);
    let pieces = named.map_or_else(|| opening.of(product_id), |pieces| pieces.max(0));
    let quantity = if stocked { pieces } else { 0 };
    let mut insert =
        on.prepare_cached("INSERT OR IGNORE INTO products VALUES (?1, ?2, ?3, ?4, ?4, 0)")?;
    insert.execute(params![product_id, sku, stocked, quantity])?;
    Ok(())
}

/// A product that is not sold any more: what lies on the shelf goes, and what is held for orders
/// stays theirs.
pub(super) fn forget(on: &Connection, product_id: i64) -> Result<Recorded, WorkError> {
    on.prepare_cached("INSERT OR IGNORE INTO removed VALUES (?1)")?
        .execute([product_id])?;
    on.prepare_cached(
        "UPDATE products SET opening = opening - available, available = 0 WHERE product_id = ?1",
    )?
    .execute([product_id])?;
    Ok(Recorded::nothing())
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
    let held = hold(on, opening, order_id, items)?;
    note(
        on,
        order_id,
        if held.is_ok() { "held" } else { "refused" },
        0,
    )?;
    let mut recorded = told(order_id, 0, held);
    recorded.events.extend(run_short(on, items)?);
    Ok(recorded)
}

/// A supplier brings so many pieces of a product whenever few are left.
pub(super) fn supply(on: &Connection, product_id: i64, batch: i64) -> Result<(), WorkError> {
    let batch = batch.clamp(1, QUANTITY_MAX);
    on.prepare_cached("INSERT OR IGNORE INTO supplied VALUES (?1, ?2, 0)")?
        .execute([product_id, batch])?;
    Ok(())
}

/// Orders more of those products of which few are left, unless that is done already.
fn run_short(on: &Connection, items: &[Item]) -> Result<Vec<StockOut>, WorkError> {
    let mut order = on.prepare_cached(
        "UPDATE supplied SET ordered = 1 WHERE product_id = ?1 AND NOT ordered
         AND product_id NOT IN (SELECT product_id FROM removed)
         AND (SELECT stocked AND available * 2 < batch FROM products p WHERE p.product_id = ?1)
         RETURNING batch",
    )?;
    let mut ordered = Vec::new();
    for item in items {
        let product_id = item.product_id;
        let batch = order.query_row([product_id], |row| row.get(0)).optional()?;
        ordered.extend(batch.map(|quantity| {
            StockOut::Ordered(StockOrdered {
                product_id,
                quantity,
            })
        }));
    }
    Ok(ordered)
}

/// The supplier was there.
pub(super) fn delivered(on: &Connection, brought: &StockOrdered) -> Result<Recorded, WorkError> {
    let product_id = brought.product_id;
    on.prepare_cached("UPDATE supplied SET ordered = 0 WHERE product_id = ?1")?
        .execute([product_id])?;
    on.prepare_cached(
        "UPDATE products SET opening = opening + ?2, available = available + ?2
         WHERE product_id = ?1 AND product_id NOT IN (SELECT product_id FROM removed)",
    )?
    .execute([product_id, brought.quantity])?;
    Ok(Recorded::nothing())
}

/// Holds what an order has become in place of what it was, or goes on holding that and says what is
/// missing. News of an order whose products did not change lead to nothing.
pub(super) fn change(
    on: &Connection,
    opening: Opening,
    order: &OrderUpdated,
) -> Result<Recorded, WorkError> {
    let (order_id, revision) = (order.order_id, order.revision);
    let known = revision_of(on, order_id)?;
    if known.is_none_or(|known| known >= revision)
        || outcome(on, order_id)?.as_deref() != Some("held")
    {
        return Ok(Recorded::nothing());
    }
    let before = let_go(on, order_id)?;
    let held = hold(on, opening, order_id, &order.products)?;
    if held.is_err() {
        for (product, quantity) in before {
            keep(on, order_id, product, quantity)?;
        }
    }
    note(on, order_id, "held", revision)?;
    let mut recorded = told(order_id, revision, held);
    recorded.events.extend(run_short(on, &order.products)?);
    Ok(recorded)
}

fn told(order_id: i64, revision: i64, held: Result<(), String>) -> Recorded {
    Recorded::event(match held {
        Ok(()) => StockOut::Reserved(StockReserved { order_id, revision }),
        Err(reason) => StockOut::Refused(StockRefused {
            order_id,
            revision,
            reason,
        }),
    })
}

/// Holds all of it, or nothing and says what is missing.
fn hold(
    on: &Connection,
    opening: Opening,
    order_id: i64,
    items: &[Item],
) -> Result<Result<(), String>, WorkError> {
    let wanted = stocked(on, opening, items)?;
    let mut short = Vec::new();
    for (product, (sku, quantity)) in &wanted {
        let available = available(on, *product)?;
        if available < *quantity {
            short.push(format!("{sku} ({quantity} wanted, {available} there)"));
        }
    }
    if !short.is_empty() {
        short.truncate(5);
        return Ok(Err(format!("out of stock: {}", short.join(", "))));
    }
    for (product, (_, quantity)) in &wanted {
        keep(on, order_id, *product, *quantity)?;
    }
    Ok(Ok(()))
}

fn keep(on: &Connection, order_id: i64, product: i64, quantity: i64) -> Result<(), WorkError> {
    take(on, product, quantity)?;
    on.prepare_cached("INSERT INTO held VALUES (?1, ?2, ?3)")?
        .execute([order_id, product, quantity])?;
    Ok(())
}

/// Puts what is held for an order back on the shelf; says what it was.
fn let_go(on: &Connection, order_id: i64) -> Result<Vec<(i64, i64)>, WorkError> {
    let mut free =
        on.prepare_cached("DELETE FROM held WHERE order_id = ?1 RETURNING product_id, quantity")?;
    let rows = free.query_map([order_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows: Vec<(i64, i64)> = rows.collect::<Result<_, _>>()?;
    for (product, quantity) in &rows {
        take(on, *product, -quantity)?;
    }
    Ok(rows)
}

/// Lets go of what is held for an order that was given up, or came back.
pub(super) fn release(on: &Connection, order_id: i64) -> Result<Recorded, WorkError> {
    let held = outcome(on, order_id)?.as_deref() == Some("held");
    // An order given up before it was seen here holds nothing, and never will.
    let revision = revision_of(on, order_id)?.unwrap_or(0);
    note(on, order_id, "released", revision)?;
    if !held {
        return Ok(Recorded::nothing());
    }
    let_go(on, order_id)?;
    Ok(Recorded::event(StockOut::Released(StockReleased {
        order_id,
    })))
}

/// Puts pieces of a credit note, or of an order that came back, back on the shelf.
pub(super) fn take_back(
    on: &Connection,
    opening: Opening,
    order_id: i64,
    items: &[Item],
) -> Result<Recorded, WorkError> {
    if order_id > 0 {
        return release(on, order_id);
    }
    if outcome(on, order_id)?.is_none() {
        for (product, (_, quantity)) in stocked(on, opening, items)? {
            on.prepare_cached(
                "UPDATE products SET available = available + ?2, returned = returned + ?2
                 WHERE product_id = ?1",
            )?
            .execute([product, quantity])?;
        }
        note(on, order_id, "returned", 0)?;
    }
    Ok(Recorded::nothing())
}

const SHELF: &str = "SELECT product_id, CASE WHEN stocked THEN available END,
    (SELECT coalesce(sum(quantity), 0) FROM held h WHERE h.product_id = p.product_id)
    FROM products p WHERE product_id NOT IN (SELECT product_id FROM removed)";

fn shelf(row: &Row<'_>) -> rusqlite::Result<Shelf> {
    Ok(Shelf {
        product_id: row.get(0)?,
        available: row.get(1)?,
        held: row.get(2)?,
    })
}

pub(super) fn show(on: &Connection, product_id: i64) -> Result<Option<Shelf>, WorkError> {
    let mut find = on.prepare_cached(&format!("{SHELF} AND product_id = ?1"))?;
    Ok(find.query_row([product_id], shelf).optional()?)
}

pub(super) fn list(on: &Connection, after: i64) -> Result<Shelves, WorkError> {
    let all = format!("{SHELF} AND product_id > ?1 ORDER BY product_id LIMIT ?2");
    let mut find = on.prepare_cached(&all)?;
    let rows = find.query_map([after, LIST_MAX], shelf)?;
    let shelves = rows.collect::<Result<_, _>>()?;
    Ok(Shelves { shelves })
}

/// So many pieces can be ordered from now on: pieces came in, or were counted anew.
pub(super) fn set(on: &Connection, asked: &SetStock) -> Result<Answer<Shelf>, WorkError> {
    let product = asked.product_id;
    let Some(before) = show(on, product)? else {
        let why = format!("there is no product {product}");
        return Ok(Answer::refused(Verdict::Unknown, why));
    };
    if before.available.is_none() {
        let why = format!("product {product} has no stock, as postage has none");
        return Ok(Answer::refused(Verdict::Conflict, why));
    }
    on.prepare_cached(
        "UPDATE products SET opening = opening + ?2 - available, available = ?2
         WHERE product_id = ?1",
    )?
    .execute([product, asked.available])?;
    let after = Shelf {
        available: Some(asked.available),
        ..before
    };
    Ok(Answer::done("the stock is set", after))
}

/// What is wanted of each product that has stock.
fn stocked(
    on: &Connection,
    opening: Opening,
    items: &[Item],
) -> Result<BTreeMap<i64, (String, i64)>, WorkError> {
    let mut wanted = BTreeMap::new();
    for item in items {
        open(on, opening, (item.product_id, &item.sku), None)?;
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

fn revision_of(on: &Connection, order_id: i64) -> Result<Option<i64>, WorkError> {
    let mut find = on.prepare_cached("SELECT revision FROM seen WHERE order_id = ?1")?;
    Ok(find.query_row([order_id], |row| row.get(0)).optional()?)
}

fn note(on: &Connection, order_id: i64, outcome: &str, revision: i64) -> Result<(), WorkError> {
    on.prepare_cached("INSERT OR REPLACE INTO seen VALUES (?1, ?2, ?3)")?
        .execute(params![order_id, outcome, revision])?;
    Ok(())
}
