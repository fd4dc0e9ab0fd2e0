//! What the order service's database holds, for the demo's closing account and for tests. Reads
//! only.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::Orders;
use crate::database::{DatabaseError, WorkError};
use crate::events::OrderStatus;

/// One order or credit note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRow {
    /// How it stands.
    pub status: OrderStatus,
    /// A credit note.
    pub credit: bool,
    /// Goes on by itself.
    pub immediate: bool,
    /// The worth of its lines in pence.
    pub worth_pence: i64,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrdersAccount {
    /// By id.
    pub orders: BTreeMap<i64, OrderRow>,
    /// Pieces by order and product, of orders and credit notes.
    pub pieces: BTreeMap<(i64, i64), i64>,
    /// How many lines of credit notes were matched to a purchase.
    pub matched_lines: i64,
}

impl Orders {
    /// Reads the account. Its size follows the number of orders.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn account(&self) -> Result<OrdersAccount, DatabaseError> {
        self.service.read(account).await
    }
}

fn account(on: &Connection) -> Result<OrdersAccount, WorkError> {
    let mut all = OrdersAccount::default();
    let mut orders = on.prepare(
        "SELECT o.order_id, o.status, o.credit, o.immediate = 1,
         (SELECT coalesce(sum(l.quantity * p.price_pence), 0) FROM lines l
          JOIN prices p ON p.product_id = l.product_id AND p.version = l.price_version
          WHERE l.order_id = o.order_id) FROM orders o",
    )?;
    let mut rows = orders.query([])?;
    while let Some(row) = rows.next()? {
        let status: String = row.get(1)?;
        let status = OrderStatus::ALL
            .into_iter()
            .find(|known| known.as_str() == status)
            .ok_or_else(|| WorkError::Broken(format!("the status {status}")))?;
        let order = OrderRow {
            status,
            credit: row.get(2)?,
            immediate: row.get(3)?,
            worth_pence: row.get(4)?,
        };
        all.orders.insert(row.get(0)?, order);
    }
    let mut lines = on.prepare(
        "SELECT order_id, product_id, sum(quantity) FROM lines GROUP BY order_id, product_id",
    )?;
    let mut rows = lines.query([])?;
    while let Some(row) = rows.next()? {
        all.pieces.insert((row.get(0)?, row.get(1)?), row.get(2)?);
    }
    let matched = "SELECT count(*) FROM lines WHERE bought_with IS NOT NULL";
    all.matched_lines = on.query_row(matched, [], |row| row.get(0))?;
    Ok(all)
}
