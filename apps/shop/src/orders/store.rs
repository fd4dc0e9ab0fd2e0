//! The tables of the order service, and nothing that decides: rows in, rows out.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::state::{Life, Stock};
use crate::database::WorkError;
use crate::events::{Checkout, Item, OrderStatus};
use crate::money::Pence;

/// Prices as `price_changed` told them; orders and credit notes in the order of their acceptance
/// (`seq`); their lines, and what these were before a change that the stock has not answered yet;
/// products that are not sold any more; users who are logged in; the prices that orders still wait
/// for; and what was returned of each order.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS prices (
        product_id INTEGER NOT NULL,
        version INTEGER NOT NULL,
        sku TEXT NOT NULL,
        name TEXT NOT NULL,
        price_pence INTEGER NOT NULL,
        PRIMARY KEY (product_id, version)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS orders (
        seq INTEGER PRIMARY KEY,
        order_id INTEGER NOT NULL UNIQUE,
        user_id INTEGER,
        credit INTEGER NOT NULL,
        immediate INTEGER NOT NULL,
        status TEXT NOT NULL,
        stock INTEGER NOT NULL,
        wants_to_pay INTEGER NOT NULL,
        paying INTEGER NOT NULL,
        revision INTEGER NOT NULL
    );
    CREATE INDEX IF NOT EXISTS orders_by_user ON orders (user_id, seq);
    CREATE TABLE IF NOT EXISTS lines (
        order_id INTEGER NOT NULL,
        line INTEGER NOT NULL,
        product_id INTEGER NOT NULL,
        quantity INTEGER NOT NULL,
        price_version INTEGER NOT NULL,
        bought_with INTEGER,
        PRIMARY KEY (order_id, line)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS lines_before (
        order_id INTEGER NOT NULL,
        line INTEGER NOT NULL,
        product_id INTEGER NOT NULL,
        quantity INTEGER NOT NULL,
        price_version INTEGER NOT NULL,
        bought_with INTEGER,
        PRIMARY KEY (order_id, line)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS removed (product_id INTEGER PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS logged_in (user_id INTEGER PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS missing (
        product_id INTEGER NOT NULL,
        version INTEGER NOT NULL,
        order_id INTEGER NOT NULL,
        PRIMARY KEY (product_id, version, order_id)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS missing_by_order ON missing (order_id);
    CREATE TABLE IF NOT EXISTS returned (
        order_id INTEGER NOT NULL,
        product_id INTEGER NOT NULL,
        quantity INTEGER NOT NULL,
        PRIMARY KEY (order_id, product_id)
    ) WITHOUT ROWID;";

/// A row of `orders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) seq: i64,
    pub(crate) order_id: i64,
    pub(crate) user_id: Option<i64>,
    pub(crate) credit: bool,
    pub(crate) life: Life,
}

/// A line as it is asked for: product, pieces, version of the price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) product_id: i64,
    pub(crate) quantity: i64,
    pub(crate) price_version: i64,
}

/// The newest price of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Price {
    pub(crate) product_id: i64,
    pub(crate) version: i64,
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) price: Pence,
}

fn order_of(row: &Row<'_>) -> rusqlite::Result<Order> {
    let status: String = row.get(5)?;
    let known = OrderStatus::ALL.into_iter().find(|s| s.as_str() == status);
    let unknown = || rusqlite::Error::InvalidColumnName(format!("status {status}"));
    Ok(Order {
        seq: row.get(0)?,
        order_id: row.get(1)?,
        user_id: row.get(2)?,
        credit: row.get(3)?,
        life: Life {
            checkout: match row.get(4)? {
                0_i64 => Checkout::Stepwise,
                1 => Checkout::Immediate,
                _ => Checkout::Prepaid,
            },
            status: known.ok_or_else(unknown)?,
            stock: match row.get(6)? {
                0_i64 => Stock::Unpriced,
                1 => Stock::Asked,
                _ => Stock::Reserved,
            },
            wants_to_pay: row.get(7)?,
            paying: row.get(8)?,
            revision: row.get(9)?,
        },
    })
}

fn checkout_number(checkout: Checkout) -> i64 {
    match checkout {
        Checkout::Stepwise => 0,
        Checkout::Immediate => 1,
        Checkout::Prepaid => 2,
    }
}

fn stock_number(stock: Stock) -> i64 {
    match stock {
        Stock::Unpriced => 0,
        Stock::Asked => 1,
        Stock::Reserved => 2,
    }
}

pub(crate) fn find(on: &Connection, order_id: i64) -> Result<Option<Order>, WorkError> {
    let mut find = on.prepare_cached("SELECT * FROM orders WHERE order_id = ?1")?;
    Ok(find.query_row([order_id], order_of).optional()?)
}

/// The orders and credit notes above `after`, of one user if one is named, by id, at most `limit`.
pub(crate) fn list(
    on: &Connection,
    user_id: Option<i64>,
    after: i64,
    limit: i64,
) -> Result<Vec<Order>, WorkError> {
    let of = match user_id {
        Some(_) => "SELECT * FROM orders WHERE user_id = ?1 AND order_id > ?2",
        None => "SELECT * FROM orders WHERE ?1 IS NULL AND order_id > ?2",
    };
    let mut find = on.prepare_cached(&format!("{of} ORDER BY order_id LIMIT ?3"))?;
    let rows = find.query_map(params![user_id, after, limit], order_of)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The first id of the shop's own numbers that is free.
pub(crate) fn free_id(on: &Connection, from: i64, before: i64) -> Result<i64, WorkError> {
    let mut find = on.prepare_cached(
        "SELECT max(order_id) FROM orders WHERE order_id >= ?1 AND order_id < ?2",
    )?;
    let highest: Option<i64> = find.query_row([from, before], |row| row.get(0))?;
    Ok(highest.map_or(from, |id| id + 1))
}

pub(crate) fn insert(
    on: &Connection,
    (order_id, user_id, credit): (i64, Option<i64>, bool),
    life: &Life,
    lines: &[Asked],
) -> Result<(), WorkError> {
    let mut order = on.prepare_cached(
        "INSERT INTO orders (order_id, user_id, credit, immediate, status, stock, wants_to_pay,
         paying, revision) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0)",
    )?;
    order.execute(params![
        order_id,
        user_id,
        credit,
        checkout_number(life.checkout),
        life.status.as_str(),
        stock_number(life.stock),
        life.wants_to_pay,
        life.paying,
    ])?;
    insert_lines(on, order_id, lines)
}

fn insert_lines(on: &Connection, order_id: i64, lines: &[Asked]) -> Result<(), WorkError> {
    let mut line = on.prepare_cached(
        "INSERT INTO lines (order_id, line, product_id, quantity, price_version)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut missing = on.prepare_cached(
        "INSERT OR IGNORE INTO missing SELECT ?1, ?2, ?3 WHERE NOT EXISTS
         (SELECT 1 FROM prices WHERE product_id = ?1 AND version = ?2)",
    )?;
    for (number, asked) in (0_i64..).zip(lines) {
        let (product, version) = (asked.product_id, asked.price_version);
        line.execute(params![order_id, number, product, asked.quantity, version])?;
        missing.execute([product, version, order_id])?;
    }
    Ok(())
}

pub(crate) fn save(on: &Connection, order_id: i64, life: &Life) -> Result<(), WorkError> {
    let mut update = on.prepare_cached(
        "UPDATE orders SET status = ?2, stock = ?3, wants_to_pay = ?4, paying = ?5, revision = ?6,
         immediate = ?7 WHERE order_id = ?1",
    )?;
    update.execute(params![
        order_id,
        life.status.as_str(),
        stock_number(life.stock),
        life.wants_to_pay,
        life.paying,
        life.revision,
        checkout_number(life.checkout),
    ])?;
    Ok(())
}

/// Gives an order other lines, and keeps those that it had.
pub(crate) fn change_lines(
    on: &Connection,
    order_id: i64,
    lines: &[Asked],
) -> Result<(), WorkError> {
    move_lines(on, order_id, ("lines", "lines_before"))?;
    insert_lines(on, order_id, lines)
}

/// Gives an order the lines back that it had before the last change.
pub(crate) fn restore_lines(on: &Connection, order_id: i64) -> Result<(), WorkError> {
    move_lines(on, order_id, ("lines_before", "lines"))
}

fn move_lines(on: &Connection, order_id: i64, (from, to): (&str, &str)) -> Result<(), WorkError> {
    for step in [
        format!("DELETE FROM {to} WHERE order_id = ?1"),
        format!("INSERT INTO {to} SELECT * FROM {from} WHERE order_id = ?1"),
        format!("DELETE FROM {from} WHERE order_id = ?1"),
    ] {
        on.prepare_cached(&step)?.execute([order_id])?;
    }
    Ok(())
}

/// The lines of an order with their prices; a line whose price is not known yet is left out.
pub(crate) fn items(on: &Connection, order_id: i64) -> Result<Vec<Item>, WorkError> {
    let mut find = on.prepare_cached(
        "SELECT l.product_id, p.sku, l.quantity, l.price_version, p.price_pence, l.bought_with
         FROM lines l JOIN prices p ON p.product_id = l.product_id AND p.version = l.price_version
         WHERE l.order_id = ?1 ORDER BY l.line",
    )?;
    let rows = find.query_map([order_id], |row| {
        Ok(Item {
            product_id: row.get(0)?,
            sku: row.get(1)?,
            quantity: row.get(2)?,
            price_version: row.get(3)?,
            price_pence: Pence(row.get(4)?),
            bought_with: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Keeps a version of a price; a version that is there stays as it is.
pub(crate) fn keep_price(on: &Connection, price: &Price) -> Result<(), WorkError> {
    let mut insert =
        on.prepare_cached("INSERT OR IGNORE INTO prices VALUES (?1, ?2, ?3, ?4, ?5)")?;
    insert.execute(params![
        price.product_id,
        price.version,
        price.sku,
        price.name,
        price.price.0,
    ])?;
    Ok(())
}

/// The newest version of the price of a product that is sold.
pub(crate) fn newest_version(on: &Connection, product_id: i64) -> Result<Option<i64>, WorkError> {
    let mut find = on.prepare_cached(
        "SELECT max(version) FROM prices WHERE product_id = ?1
         AND NOT EXISTS (SELECT 1 FROM removed WHERE product_id = ?1)",
    )?;
    Ok(find.query_row([product_id], |row| row.get(0))?)
}

/// A product is not sold any more.
pub(crate) fn remove_product(on: &Connection, product_id: i64) -> Result<(), WorkError> {
    on.prepare_cached("INSERT OR IGNORE INTO removed VALUES (?1)")?
        .execute([product_id])?;
    Ok(())
}

/// A user logged in or out.
pub(crate) fn log_in(on: &Connection, user_id: i64, is_in: bool) -> Result<(), WorkError> {
    let change = match is_in {
        true => "INSERT OR IGNORE INTO logged_in VALUES (?1)",
        false => "DELETE FROM logged_in WHERE user_id = ?1",
    };
    on.prepare_cached(change)?.execute([user_id])?;
    Ok(())
}

/// Whether a user is logged in.
pub(crate) fn is_logged_in(on: &Connection, user_id: i64) -> Result<bool, WorkError> {
    let mut find = on.prepare_cached("SELECT 1 FROM logged_in WHERE user_id = ?1")?;
    Ok(find.exists([user_id])?)
}

/// Whether pieces of an order came back with a credit note.
pub(crate) fn is_credited(on: &Connection, order_id: i64) -> Result<bool, WorkError> {
    let mut find = on.prepare_cached("SELECT 1 FROM returned WHERE order_id = ?1 LIMIT 1")?;
    Ok(find.exists([order_id])?)
}

/// Whether an order still waits for a price.
pub(crate) fn is_unpriced(on: &Connection, order_id: i64) -> Result<bool, WorkError> {
    let mut find = on.prepare_cached("SELECT 1 FROM missing WHERE order_id = ?1 LIMIT 1")?;
    Ok(find.exists([order_id])?)
}

/// The price came: the orders that waited for it and wait for nothing else now.
pub(crate) fn price_came(
    on: &Connection,
    product_id: i64,
    version: i64,
) -> Result<Vec<i64>, WorkError> {
    let mut take = on.prepare_cached(
        "DELETE FROM missing WHERE product_id = ?1 AND version = ?2 RETURNING order_id",
    )?;
    let rows = take.query_map([product_id, version], |row| row.get(0))?;
    let waited: Vec<i64> = rows.collect::<Result<_, _>>()?;
    let mut complete = Vec::new();
    for order_id in waited {
        if !is_unpriced(on, order_id)? {
            complete.push(order_id);
        }
    }
    complete.sort_unstable();
    Ok(complete)
}

/// The credit notes of a user that wait for their match, oldest first.
pub(crate) fn waiting_credits(on: &Connection, user_id: i64) -> Result<Vec<Order>, WorkError> {
    let mut find = on.prepare_cached(
        "SELECT * FROM orders WHERE user_id = ?1 AND credit AND status = 'pending_confirmation'
         ORDER BY seq",
    )?;
    let rows = find.query_map([user_id], order_of)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Whether an earlier order or credit note of the same user is still under way by itself.
pub(crate) fn is_early(on: &Connection, credit: &Order) -> Result<bool, WorkError> {
    let mut find = on.prepare_cached(
        "SELECT 1 FROM orders WHERE user_id = ?1 AND seq < ?2 AND immediate = 1
         AND status IN ('pending_payment', 'pending_confirmation') LIMIT 1",
    )?;
    Ok(find.exists(params![credit.user_id, credit.seq])?)
}

/// The newest purchase of the same user, earlier than `credit`, of which at least
/// `quantity` pieces of the product are left.
pub(crate) fn purchase(
    on: &Connection,
    credit: &Order,
    product_id: i64,
    quantity: i64,
) -> Result<Option<i64>, WorkError> {
    let mut find = on.prepare_cached(
        "SELECT o.order_id FROM orders o JOIN lines l ON l.order_id = o.order_id
         LEFT JOIN returned r ON r.order_id = o.order_id AND r.product_id = l.product_id
         WHERE o.user_id = ?1 AND o.seq < ?2 AND NOT o.credit
         AND o.status IN ('confirmed', 'shipped', 'delivered')
         AND l.product_id = ?3
         GROUP BY o.order_id HAVING sum(l.quantity) - coalesce(max(r.quantity), 0) >= ?4
         ORDER BY o.seq DESC LIMIT 1",
    )?;
    let sought = params![credit.user_id, credit.seq, product_id, quantity];
    Ok(find.query_row(sought, |row| row.get(0)).optional()?)
}

/// Notes on a line of a credit note what it was bought with, and takes the pieces off there.
pub(crate) fn match_line(
    on: &Connection,
    credit_id: i64,
    (line, product_id, quantity): (i64, i64, i64),
    bought_with: i64,
) -> Result<(), WorkError> {
    on.prepare_cached("UPDATE lines SET bought_with = ?3 WHERE order_id = ?1 AND line = ?2")?
        .execute([credit_id, line, bought_with])?;
    on.prepare_cached(
        "INSERT INTO returned VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET quantity = quantity + excluded.quantity",
    )?
    .execute([bought_with, product_id, quantity])?;
    Ok(())
}
