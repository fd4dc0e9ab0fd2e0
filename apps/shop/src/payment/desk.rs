//! What the payment service decides, and its tables. Works inside of a transaction that its
//! caller holds; knows no bus.

use rusqlite::{Connection, params};

use super::{Cards, PaymentOut, Recorded};
use crate::database::WorkError;
use crate::dice::mix;
use crate::events::{
    OrderPaid, OrderReturned, OrderStatus, PaymentFailed, PaymentRequested, worth,
};
use crate::limits::TRAFFIC_ORDER_ID_FIRST;

/// What was taken for which order and how much of it went back; what was given for credit notes.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS payments (
        order_id INTEGER PRIMARY KEY,
        user_id INTEGER,
        amount_pence INTEGER NOT NULL,
        captured INTEGER NOT NULL,
        refunded_pence INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS credits (
        order_id INTEGER PRIMARY KEY,
        user_id INTEGER,
        amount_pence INTEGER NOT NULL
    );";

/// Takes the money for an order, once.
pub(super) fn charge(
    on: &Connection,
    cards: Cards,
    asked: PaymentRequested,
) -> Result<Recorded, WorkError> {
    let declined = cards.declines(asked.order_id);
    let mut insert =
        on.prepare_cached("INSERT OR IGNORE INTO payments VALUES (?1, ?2, ?3, ?4, 0)")?;
    let (id, pence) = (asked.order_id, asked.amount_pence.0);
    if insert.execute(params![id, asked.user_id, pence, !declined])? == 0 {
        return Ok(Recorded::nothing());
    }
    Ok(Recorded::event(match declined {
        true => PaymentOut::Failed(PaymentFailed {
            order_id: asked.order_id,
            reason: "the card was declined".into(),
        }),
        false => PaymentOut::Paid(OrderPaid {
            order_id: asked.order_id,
            user_id: asked.user_id,
            products: asked.products,
            status: OrderStatus::PendingConfirmation,
            checkout: asked.checkout,
            revision: asked.revision,
            reason: None,
        }),
    }))
}

impl Cards {
    fn declines(self, order_id: i64) -> bool {
        let draw = mix(order_id.cast_unsigned());
        let generated = order_id >= TRAFFIC_ORDER_ID_FIRST;
        generated && self.decline_one_in > 0 && draw.is_multiple_of(self.decline_one_in)
    }
}

/// Gives the money for an order that was cancelled or came back, if it was taken.
pub(super) fn refund(on: &Connection, order_id: i64) -> Result<Recorded, WorkError> {
    on.prepare_cached(
        "UPDATE payments SET refunded_pence = amount_pence WHERE order_id = ?1 AND captured",
    )?
    .execute([order_id])?;
    Ok(Recorded::nothing())
}

/// Gives the money for a credit note, once; for an order that came back, what was taken for it.
pub(super) fn credit(on: &Connection, note: &OrderReturned) -> Result<Recorded, WorkError> {
    if note.order_id > 0 {
        return refund(on, note.order_id);
    }
    let mut insert = on.prepare_cached("INSERT OR IGNORE INTO credits VALUES (?1, ?2, ?3)")?;
    insert.execute(params![
        note.order_id,
        note.user_id,
        worth(&note.products).0
    ])?;
    Ok(Recorded::nothing())
}
