//! What the logistics service's database holds, for the demo's closing account and for tests. Reads
//! only.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::{Logistics, desk};
use crate::database::{DatabaseError, WorkError};
use crate::events::Shipment;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogisticsAccount {
    /// By order.
    pub shipments: BTreeMap<i64, Shipment>,
}

impl Logistics {
    /// Reads the account. Its size follows the number of orders.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn account(&self) -> Result<LogisticsAccount, DatabaseError> {
        self.service.read(account).await
    }
}

fn account(on: &Connection) -> Result<LogisticsAccount, WorkError> {
    let mut all = LogisticsAccount::default();
    for shipment in desk::all(on)? {
        all.shipments.insert(shipment.order_id, shipment);
    }
    Ok(all)
}
