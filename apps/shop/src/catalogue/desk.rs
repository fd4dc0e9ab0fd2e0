//! What the catalogue decides, and its table. Works inside of a transaction that its caller holds;
//! knows no bus.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{CatalogueOut, Recorded};
use crate::database::WorkError;
use crate::events::{
    Answer, CreateProduct, PriceChanged, Product, ProductList, ProductRemoved, UpdateProduct,
    Verdict,
};
use crate::limits::{
    LIST_MAX, NAME_MAX_BYTES, OWN_PRODUCT_ID_FIRST, OWN_VERSION_FIRST, PRICE_MAX_PENCE,
    QUANTITY_MAX,
};
use crate::money::Pence;

/// Products at their newest price; those that are not sold any more stay, so that no id comes
/// twice.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS products (
        product_id INTEGER PRIMARY KEY,
        sku TEXT NOT NULL,
        name TEXT NOT NULL,
        price_pence INTEGER NOT NULL,
        version INTEGER NOT NULL,
        removed INTEGER NOT NULL
    );
    CREATE INDEX IF NOT EXISTS products_by_sku ON products (sku);";

type Decided = Result<Recorded, WorkError>;

fn refused(verdict: Verdict, why: impl Into<String>) -> Decided {
    Ok(Recorded::answer(Answer::refused(verdict, why)))
}

fn product(row: &Row<'_>) -> rusqlite::Result<Product> {
    Ok(Product {
        id: row.get(0)?,
        sku: row.get(1)?,
        name: row.get(2)?,
        price_pence: Pence(row.get(3)?),
        price_version: row.get(4)?,
    })
}

const PRODUCT: &str = "SELECT product_id, sku, name, price_pence, version FROM products
    WHERE NOT removed";

pub(super) fn find(on: &Connection, product_id: i64) -> Result<Option<Product>, WorkError> {
    let mut find = on.prepare_cached(&format!("{PRODUCT} AND product_id = ?1"))?;
    Ok(find.query_row([product_id], product).optional()?)
}

pub(super) fn list(on: &Connection, after: i64) -> Result<ProductList, WorkError> {
    let page = format!("{PRODUCT} AND product_id > ?1 ORDER BY product_id LIMIT ?2");
    let mut find = on.prepare_cached(&page)?;
    let rows = find.query_map([after, LIST_MAX], product)?;
    let products = rows.collect::<Result<_, _>>()?;
    Ok(ProductList { products })
}

pub(super) fn known_through(on: &Connection, last: i64) -> Result<BTreeSet<i64>, WorkError> {
    let mut find = on.prepare_cached("SELECT product_id FROM products WHERE product_id <= ?1")?;
    let rows = find.query_map([last], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Why a product cannot be so.
fn wrong(name: Option<&str>, price: Option<Pence>) -> Option<String> {
    if name.is_some_and(|name| name.trim().is_empty() || name.len() > NAME_MAX_BYTES) {
        return Some(format!("a name has 1 to {NAME_MAX_BYTES} bytes"));
    }
    let sane = |price: Pence| (0..=PRICE_MAX_PENCE).contains(&price.0);
    let most = Pence(PRICE_MAX_PENCE);
    price
        .is_some_and(|price| !sane(price))
        .then(|| format!("a price is 0 to {most}"))
}

pub(super) fn create(on: &Connection, request: CreateProduct) -> Decided {
    if let Some(why) = wrong(Some(&request.name), Some(request.price_pence)) {
        return refused(Verdict::Invalid, why);
    }
    if let Some(why) = request
        .sku
        .as_deref()
        .and_then(|sku| wrong(Some(sku), None))
    {
        return refused(Verdict::Invalid, why.replace("name", "stock code"));
    }
    if request
        .opening
        .is_some_and(|pieces| !(0..=QUANTITY_MAX).contains(&pieces))
    {
        let why = format!("a stock is 0 to {QUANTITY_MAX} pieces");
        return refused(Verdict::Invalid, why);
    }
    let mut newest =
        on.prepare_cached("SELECT max(product_id) FROM products WHERE product_id >= ?1")?;
    let newest: Option<i64> = newest.query_row([OWN_PRODUCT_ID_FIRST], |row| row.get(0))?;
    let id = newest.map_or(OWN_PRODUCT_ID_FIRST, |id| id + 1);
    let sku = request.sku.unwrap_or_else(|| format!("P{id}"));
    let mut taken = on.prepare_cached("SELECT 1 FROM products WHERE sku = ?1 AND NOT removed")?;
    if taken.exists([&sku])? {
        return refused(
            Verdict::Conflict,
            format!("another product has the stock code {sku}"),
        );
    }
    let new = Product {
        id,
        sku,
        name: request.name,
        price_pence: request.price_pence,
        price_version: 1,
    };
    tell(on, "the product is created", new, request.opening)
}

pub(super) fn update(on: &Connection, request: UpdateProduct) -> Decided {
    let Some(before) = find(on, request.product_id)? else {
        return unknown(request.product_id);
    };
    if let Some(why) = wrong(request.name.as_deref(), request.price_pence) {
        return refused(Verdict::Invalid, why);
    }
    let after = Product {
        name: request.name.unwrap_or_else(|| before.name.clone()),
        price_pence: request.price_pence.unwrap_or(before.price_pence),
        ..before.clone()
    };
    if after == before {
        let answer = Answer::done("the product is as it was", before);
        return Ok(Recorded::answer(answer));
    }
    let first = match before.id >= OWN_PRODUCT_ID_FIRST {
        true => 1,
        // A file goes on counting below.
        false => OWN_VERSION_FIRST,
    };
    let price_version = (before.price_version + 1).max(first);
    let after = Product {
        price_version,
        ..after
    };
    tell(on, "the product is changed", after, None)
}

pub(super) fn remove(on: &Connection, product_id: i64) -> Decided {
    let Some(product) = find(on, product_id)? else {
        return unknown(product_id);
    };
    on.prepare_cached("UPDATE products SET removed = 1 WHERE product_id = ?1")?
        .execute([product_id])?;
    let removed = CatalogueOut::Removed(ProductRemoved { product_id });
    Ok(Recorded {
        events: vec![removed],
        answer: Some(Answer::done("the product is not sold any more", product)),
    })
}

/// A price that another one told. The newest is shown; what was set here goes before all that
/// files bring.
pub(super) fn learn(on: &Connection, told: &PriceChanged) -> Result<(), WorkError> {
    on.prepare_cached(
        "INSERT INTO products VALUES (?1, ?2, ?3, ?4, ?5, 0) ON CONFLICT (product_id) DO UPDATE
         SET name = excluded.name, price_pence = excluded.price_pence, version = excluded.version
         WHERE excluded.version > version",
    )?
    .execute(params![
        told.product_id,
        told.sku,
        told.name,
        told.price_pence.0,
        told.version
    ])?;
    Ok(())
}

fn unknown(product_id: i64) -> Decided {
    refused(
        Verdict::Unknown,
        format!("there is no product {product_id}"),
    )
}

/// Keeps a product as it is now, and tells so.
fn tell(on: &Connection, message: &str, product: Product, opening: Option<i64>) -> Decided {
    let told = PriceChanged {
        product_id: product.id,
        version: product.price_version,
        sku: product.sku.clone(),
        name: product.name.clone(),
        price_pence: product.price_pence,
        opening,
        supply: None,
    };
    learn(on, &told)?;
    Ok(Recorded {
        events: vec![CatalogueOut::Price(told)],
        answer: Some(Answer::done(message, product)),
    })
}
