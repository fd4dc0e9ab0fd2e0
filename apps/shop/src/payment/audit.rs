//! What the payment service's database holds, for the demo's closing account and for tests. Reads
//! only.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::Payment;
use crate::database::{DatabaseError, WorkError};

/// The money of one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaymentRow {
    /// Asked for, in pence.
    pub amount_pence: i64,
    /// It was taken.
    pub captured: bool,
    /// Given back, in pence.
    pub refunded_pence: i64,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PaymentAccount {
    /// By order.
    pub payments: BTreeMap<i64, PaymentRow>,
    /// Given for credit notes in pence, by the note's id.
    pub credits: BTreeMap<i64, i64>,
}

impl Payment {
    /// Reads the account. Its size follows the number of orders.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn account(&self) -> Result<PaymentAccount, DatabaseError> {
        self.service.read(account).await
    }
}

fn account(on: &Connection) -> Result<PaymentAccount, WorkError> {
    let mut all = PaymentAccount::default();
    let mut payments =
        on.prepare("SELECT order_id, amount_pence, captured, refunded_pence FROM payments")?;
    let mut rows = payments.query([])?;
    while let Some(row) = rows.next()? {
        let payment = PaymentRow {
            amount_pence: row.get(1)?,
            captured: row.get(2)?,
            refunded_pence: row.get(3)?,
        };
        all.payments.insert(row.get(0)?, payment);
    }
    let mut credits = on.prepare("SELECT order_id, amount_pence FROM credits")?;
    let mut rows = credits.query([])?;
    while let Some(row) = rows.next()? {
        all.credits.insert(row.get(0)?, row.get(1)?);
    }
    Ok(all)
}
