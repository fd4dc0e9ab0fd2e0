//! The tables of the source of orders: the products with their newest price, which invoices were
//! taken in, and what is still to be published. All in one transaction, so that after `kill -9`
//! the same events go out under the same ids.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::database::WorkError;
use crate::dice::mix;
use crate::events::{Checkout, CreateOrder, PriceChanged, ReturnOrder, Wanted, buyer};
use crate::limits::{SEEDS_MAX, TRAFFIC_ORDER_ID_FIRST};
use crate::money::Pence;
use crate::replay::{Invoice, InvoiceNumber};

pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS products (
        product_id INTEGER PRIMARY KEY,
        sku TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        version INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS prices (
        product_id INTEGER NOT NULL,
        version INTEGER NOT NULL,
        price_pence INTEGER NOT NULL,
        PRIMARY KEY (product_id, version)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS taken (order_id INTEGER PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS digests (order_id INTEGER PRIMARY KEY, digest INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS outbox (seq INTEGER PRIMARY KEY, request TEXT NOT NULL);";

/// What a source publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A price, before the order that uses it.
    Price(PriceChanged),
    /// An invoice.
    Create(CreateOrder),
    /// A credit note.
    Return(ReturnOrder),
}

/// A request that is to be published, and its place in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place.
    pub seq: i64,
    /// The request.
    pub request: Request,
}

/// What taking invoices in led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// What is to be published, in this order.
    pub waiting: Vec<Waiting>,
    /// Invoices that were taken in before, and were not the same then. Nothing follows from them.
    pub changed: Vec<InvoiceNumber>,
}

/// Everything that is still to be published, oldest first.
pub(super) fn waiting(on: &Connection) -> Result<Vec<Waiting>, WorkError> {
    let mut find = on.prepare_cached("SELECT seq, request FROM outbox ORDER BY seq")?;
    let mut rows = find.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get(1)?;
        all.push(Waiting {
            seq: row.get(0)?,
            request: serde_json::from_str(&text)?,
        });
    }
    Ok(all)
}

/// Everything up to this place was published.
pub(super) fn published(on: &Connection, through: i64) -> Result<(), WorkError> {
    on.prepare_cached("DELETE FROM outbox WHERE seq <= ?1")?
        .execute([through])?;
    Ok(())
}

/// Takes invoices in: those known already give nothing.
pub(super) fn take(on: &Connection, invoices: &[Invoice]) -> Result<Taken, WorkError> {
    let mut all = Vec::new();
    let mut changed = Vec::new();
    for invoice in invoices {
        let order_id = invoice.number.order_id();
        let mut insert = on.prepare_cached("INSERT OR IGNORE INTO taken VALUES (?1)")?;
        if insert.execute([order_id])? == 0 {
            changed.extend(is_changed(on, invoice)?.then_some(invoice.number));
            continue;
        }
        on.prepare_cached("INSERT INTO digests VALUES (?1, ?2)")?
            .execute([order_id, digest(invoice)])?;
        let mut products = Vec::with_capacity(invoice.lines.len());
        for line in &invoice.lines {
            let is_credit = invoice.number.is_credit();
            let named = (&*line.sku, &*line.name, None);
            let (product, changed) = price(on, named, line.price, is_credit)?;
            if let Some(changed) = changed {
                all.push(put(on, Request::Price(changed))?);
            }
            products.push(Wanted {
                quantity: line.quantity,
                ..product
            });
        }
        let user_id = invoice.customer;
        let buyer = buyer(user_id, order_id);
        let request = match invoice.number.is_credit() {
            true => Request::Return(ReturnOrder {
                order_id,
                user_id,
                buyer,
                products,
            }),
            false => Request::Create(CreateOrder {
                order_id: Some(order_id),
                user_id,
                buyer,
                products,
                checkout: Checkout::Immediate,
            }),
        };
        all.push(put(on, request)?);
    }
    Ok(Taken {
        waiting: all,
        changed,
    })
}

/// Whether a known invoice is another one now. One that was taken in by a shop that kept no
/// digests counts as the same.
fn is_changed(on: &Connection, invoice: &Invoice) -> Result<bool, WorkError> {
    let mut find = on.prepare_cached("SELECT digest FROM digests WHERE order_id = ?1")?;
    let known: Option<i64> = find
        .query_row([invoice.number.order_id()], |row| row.get(0))
        .optional()?;
    Ok(known.is_some_and(|known| known != digest(invoice)))
}

/// Tells an invoice from what it was before. Kept on disk, so it is the same with every compiler:
/// FNV-1a (Fowler, Noll, Vo) over the fields' texts, each with its length.
fn digest(invoice: &Invoice) -> i64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |text: &str| {
        for byte in (text.len() as u64)
            .to_le_bytes()
            .iter()
            .chain(text.as_bytes())
        {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(&invoice.customer.unwrap_or(0).to_string());
    for line in &invoice.lines {
        add(&line.sku);
        add(&line.name);
        add(&line.quantity.to_string());
        add(&line.at.to_string());
        add(&line.price.0.to_string());
    }
    hash.cast_signed()
}

/// The product and the version of this price; also the event that sets it, if it is a new one.
///
/// An order is sold at the newest price, so another one makes a new version. A credit note may
/// give back an older price: it names the newest version that had it.
fn price(
    on: &Connection,
    (sku, name, supply): (&str, &str, Option<i64>),
    price: Pence,
    is_credit: bool,
) -> Result<(Wanted, Option<PriceChanged>), WorkError> {
    let mut find =
        on.prepare_cached("SELECT product_id, version, name FROM products WHERE sku = ?1")?;
    let row: Option<(i64, i64, String)> = find
        .query_row([sku], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let (product_id, newest, known_name) = match row {
        Some(row) => row,
        None => {
            // The first ids are those of the products that are always there.
            on.prepare_cached(
                "INSERT INTO products
                 SELECT 1 + max(?3, coalesce(max(product_id), 0)), ?1, ?2, 0 FROM products",
            )?
            .execute(params![sku, name, SEEDS_MAX])?;
            (on.last_insert_rowid(), 0, name.to_owned())
        }
    };
    let wanted = |version| Wanted {
        product_id,
        quantity: 0,
        price_version: Some(version),
    };
    let mut same = on.prepare_cached(
        "SELECT max(version) FROM prices WHERE product_id = ?1 AND price_pence = ?2",
    )?;
    let version: Option<i64> = same.query_row([product_id, price.0], |row| row.get(0))?;
    if let Some(version) = version
        && (version == newest || is_credit)
    {
        return Ok((wanted(version), None));
    }
    let version = newest + 1;
    on.prepare_cached("UPDATE products SET version = ?2 WHERE product_id = ?1")?
        .execute([product_id, version])?;
    on.prepare_cached("INSERT INTO prices VALUES (?1, ?2, ?3)")?
        .execute(params![product_id, version, price.0])?;
    let changed = PriceChanged {
        product_id,
        version,
        sku: sku.to_owned(),
        name: known_name,
        price_pence: price,
        opening: None,
        supply,
    };
    Ok((wanted(version), Some(changed)))
}

fn put(on: &Connection, request: Request) -> Result<Waiting, WorkError> {
    on.prepare_cached("INSERT INTO outbox (request) VALUES (?1)")?
        .execute([serde_json::to_string(&request)?])?;
    Ok(Waiting {
        seq: on.last_insert_rowid(),
        request,
    })
}

/// The bounds of generated traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mix {
    pub(super) seed: u64,
    pub(super) products: i64,
    pub(super) users: u64,
    pub(super) lines_max: u64,
    pub(super) quantity_max: u64,
    pub(super) supply: Option<i64>,
}

/// The next `count` orders of the generated traffic, with the prices they need.
pub(super) fn generate(on: &Connection, mixed: Mix, count: u64) -> Result<Vec<Waiting>, WorkError> {
    let mut newest = on.prepare_cached("SELECT max(order_id) FROM taken WHERE order_id >= ?1")?;
    let newest: Option<i64> = newest.query_row([TRAFFIC_ORDER_ID_FIRST], |row| row.get(0))?;
    let first = newest.map_or(TRAFFIC_ORDER_ID_FIRST, |id| id + 1);
    let mut all = Vec::new();
    for order_id in (first..).take(usize::try_from(count).unwrap_or(usize::MAX)) {
        on.prepare_cached("INSERT INTO taken VALUES (?1)")?
            .execute([order_id])?;
        let draw = |n: u64| mix(mixed.seed ^ mix(order_id.cast_unsigned()) ^ mix(n));
        let mut products = Vec::new();
        for line in 0..1 + draw(0) % mixed.lines_max {
            let number = draw(3 * line + 1) % mixed.products.unsigned_abs();
            let (product, changed) = generated_price(on, number, draw(3 * line + 2), mixed.supply)?;
            if let Some(changed) = changed {
                all.push(put(on, Request::Price(changed))?);
            }
            products.push(Wanted {
                quantity: 1 + (draw(3 * line + 3) % mixed.quantity_max).cast_signed(),
                ..product
            });
        }
        let user_id = Some(1 + (draw(u64::MAX) % mixed.users).cast_signed());
        let request = CreateOrder {
            order_id: Some(order_id),
            user_id,
            buyer: buyer(user_id, order_id),
            products,
            checkout: Checkout::Immediate,
        };
        all.push(put(on, Request::Create(request))?);
    }
    Ok(all)
}

/// One line in two hundred changes the price of its product.
fn generated_price(
    on: &Connection,
    number: u64,
    draw: u64,
    supply: Option<i64>,
) -> Result<(Wanted, Option<PriceChanged>), WorkError> {
    let sku = format!("T{number:05}");
    let mut find = on.prepare_cached(
        "SELECT p.product_id, p.version, q.price_pence FROM products p
         JOIN prices q ON q.product_id = p.product_id AND q.version = p.version
         WHERE p.sku = ?1",
    )?;
    let row: Option<(i64, i64, i64)> = find
        .query_row([&sku], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let pence = match row {
        Some((_, _, pence)) if !draw.is_multiple_of(200) => pence,
        Some((_, _, pence)) => 50 + (pence + 7) % 5_000,
        None => 100 + (draw % 2_000).cast_signed(),
    };
    let name = format!("THING {number}");
    price(on, (&sku, &name, supply), Pence(pence), false)
}
