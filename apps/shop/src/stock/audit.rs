//! What the stock service's database holds, for the demo's closing account and for tests. Reads
//! only.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::Stock;
use crate::database::{DatabaseError, WorkError};

/// One product that has stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShelfRow {
    /// Pieces at first.
    pub opening: i64,
    /// Pieces that can be ordered.
    pub available: i64,
    /// Pieces that came back with credit notes.
    pub returned: i64,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StockAccount {
    /// By product, those with stock only.
    pub shelf: BTreeMap<i64, ShelfRow>,
    /// Pieces held, by order and product.
    pub held: BTreeMap<(i64, i64), i64>,
}

impl Stock {
    /// Reads the account. Its size follows the number of orders.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn account(&self) -> Result<StockAccount, DatabaseError> {
        self.service.read(account).await
    }
}

fn account(on: &Connection) -> Result<StockAccount, WorkError> {
    let mut all = StockAccount::default();
    let mut shelf =
        on.prepare("SELECT product_id, opening, available, returned FROM products WHERE stocked")?;
    let mut rows = shelf.query([])?;
    while let Some(row) = rows.next()? {
        let product = ShelfRow {
            opening: row.get(1)?,
            available: row.get(2)?,
            returned: row.get(3)?,
        };
        all.shelf.insert(row.get(0)?, product);
    }
    let mut held = on.prepare("SELECT order_id, product_id, quantity FROM held")?;
    let mut rows = held.query([])?;
    while let Some(row) = rows.next()? {
        all.held.insert((row.get(0)?, row.get(1)?), row.get(2)?);
    }
    Ok(all)
}
