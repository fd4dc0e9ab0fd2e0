//! What the order service does for messages on `order-topic`: the same as for requests, and it
//! tells `logistics-topic` of each. Works inside of a transaction that its caller holds.

use rusqlite::Connection;

use super::state::Step;
use super::{OrderOut, Recorded, desk, store};
use crate::database::WorkError;
use crate::events::{
    CreateOrder, NewOrder, OrderStatus, OrderTold, Said, UpdateOrder, Verdict, buyer,
};

/// Does what a message says. One that asks for what is so already changes nothing and is not told;
/// other products are asked for anew even where they are the same.
///
/// # Errors
/// [`WorkError::Early`] where what it is about may still come, [`WorkError::Refused`] where it was
/// out of turn or makes no sense.
pub(super) fn said(on: &Connection, said: &Said) -> Result<Recorded, WorkError> {
    if is_so(on, said)? {
        return Ok(Recorded::nothing());
    }
    let recorded = match said {
        Said::Create(order) => desk::create(on, &request(order))?,
        Said::Change { order_id, products } => {
            let request = UpdateOrder {
                order_id: *order_id,
                products: products.clone(),
            };
            desk::update(on, &request)?
        }
        Said::Settle { order_id } => desk::request(on, *order_id, Step::Settle, "it goes on")?,
        Said::Cancel { order_id, .. } => {
            desk::request(on, *order_id, Step::Cancel, "the order is cancelled")?
        }
        Said::Carrier(_) | Said::Strange(_) => return Ok(Recorded::nothing()),
    };
    told(recorded, said.kind())
}

fn request(order: &NewOrder) -> CreateOrder {
    CreateOrder {
        order_id: order.order_id,
        user_id: order.user_id,
        buyer: buyer(order.user_id, order.order_id.unwrap_or_default()),
        products: order.products.clone(),
        checkout: order.checkout,
    }
}

/// Whether nothing is left to do: a message may come twice.
fn is_so(on: &Connection, said: &Said) -> Result<bool, WorkError> {
    use OrderStatus::{Confirmed, Delivered, Shipped};
    let find = |order_id| store::find(on, order_id);
    Ok(match said {
        Said::Create(NewOrder {
            order_id: Some(order_id),
            ..
        }) => find(*order_id)?.is_some(),
        Said::Cancel { order_id, .. } => {
            find(*order_id)?.is_some_and(|order| order.life.status == OrderStatus::Cancelled)
        }
        Said::Settle { order_id } => find(*order_id)?
            .is_some_and(|order| matches!(order.life.status, Confirmed | Shipped | Delivered)),
        _ => false,
    })
}

/// With the word of it for `logistics-topic`, where it was done.
fn told(recorded: Recorded, kind: &str) -> Result<Recorded, WorkError> {
    let Recorded { mut events, answer } = recorded;
    let answer = answer.ok_or_else(|| WorkError::Broken("no answer to a request".into()))?;
    let waits = answer.status == Some(OrderStatus::PendingPayment);
    match (answer.verdict, answer.order_id) {
        (Verdict::Done, Some(order_id)) => events.push(OrderOut::Told(OrderTold {
            order_id,
            kind: kind.to_owned(),
        })),
        // The order or the product may be heard of in a moment, the stock or the payment too.
        (Verdict::Unknown, _) => return Err(WorkError::Early(answer.message)),
        (Verdict::Conflict, _) if waits => return Err(WorkError::Early(answer.message)),
        _ => return Err(WorkError::Refused(answer.message)),
    }
    Ok(Recorded {
        events,
        answer: None,
    })
}
