//! What the logistics service decides, and its table. Works inside of a transaction that its caller
//! holds; knows no bus.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Carrier, LogisticsOut, Recorded, topics};
use crate::database::WorkError;
use crate::events::{
    Answer, Checkout, Item, LogisticsUpdated, OrderConfirmed, OrderCreated, OrderStatus,
    OrderUpdated, Packed, Shipment, ShipmentCreated, ShipmentStatus, Shipments, UpdateShipment,
    Verdict,
};
use crate::limits::LIST_MAX;

/// One shipment an order, with what is in it.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS shipments (
        shipment_id INTEGER PRIMARY KEY,
        order_id INTEGER NOT NULL UNIQUE,
        user_id INTEGER,
        status TEXT NOT NULL,
        products TEXT NOT NULL
    );";

type Decided = Result<Recorded, WorkError>;

const SHIPMENT: &str = "SELECT shipment_id, order_id, user_id, status, products FROM shipments";

fn shipment(row: &Row<'_>) -> rusqlite::Result<Shipment> {
    let status: String = row.get(3)?;
    let known = ShipmentStatus::ALL
        .into_iter()
        .find(|s| s.as_str() == status);
    let products: String = row.get(4)?;
    let broken = |what: &str| rusqlite::Error::InvalidColumnName(what.to_owned());
    Ok(Shipment {
        shipment_id: row.get(0)?,
        order_id: row.get(1)?,
        user_id: row.get(2)?,
        status: known.ok_or_else(|| broken(&status))?,
        products: serde_json::from_str(&products).map_err(|_| broken("products"))?,
    })
}

pub(super) fn find(on: &Connection, shipment_id: i64) -> Result<Option<Shipment>, WorkError> {
    let mut find = on.prepare_cached(&format!("{SHIPMENT} WHERE shipment_id = ?1"))?;
    Ok(find.query_row([shipment_id], shipment).optional()?)
}

pub(super) fn of_order(on: &Connection, order_id: i64) -> Result<Option<Shipment>, WorkError> {
    let mut find = on.prepare_cached(&format!("{SHIPMENT} WHERE order_id = ?1"))?;
    Ok(find.query_row([order_id], shipment).optional()?)
}

pub(super) fn list(
    on: &Connection,
    after: i64,
    order_id: Option<i64>,
) -> Result<Shipments, WorkError> {
    if let Some(order_id) = order_id {
        let shipments = of_order(on, order_id)?.into_iter().collect();
        return Ok(Shipments { shipments });
    }
    let page = format!("{SHIPMENT} WHERE shipment_id > ?1 ORDER BY shipment_id LIMIT ?2");
    let mut find = on.prepare_cached(&page)?;
    let rows = find.query_map([after, LIST_MAX], shipment)?;
    let shipments = rows.collect::<Result<_, _>>()?;
    Ok(Shipments { shipments })
}

/// Every shipment.
pub(super) fn all(on: &Connection) -> Result<Vec<Shipment>, WorkError> {
    let mut find = on.prepare(SHIPMENT)?;
    let rows = find.query_map([], shipment)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn packed(items: &[Item]) -> Vec<Packed> {
    let packed = |item: &Item| Packed {
        product_id: item.product_id,
        quantity: item.quantity,
    };
    items.iter().map(packed).collect()
}

fn insert(
    on: &Connection,
    (order_id, user_id): (i64, Option<i64>),
    status: ShipmentStatus,
    items: &[Item],
) -> Result<(), WorkError> {
    let products = serde_json::to_string(&packed(items))?;
    on.prepare_cached(
        "INSERT OR IGNORE INTO shipments (order_id, user_id, status, products)
         VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![order_id, user_id, status.as_str(), products])?;
    Ok(())
}

pub(super) fn set(
    on: &Connection,
    shipment: &mut Shipment,
    status: ShipmentStatus,
) -> Result<(), WorkError> {
    shipment.status = status;
    on.prepare_cached("UPDATE shipments SET status = ?2 WHERE shipment_id = ?1")?
        .execute(params![shipment.shipment_id, status.as_str()])?;
    Ok(())
}

pub(super) fn updated(shipment: &Shipment) -> LogisticsOut {
    LogisticsOut::Updated(LogisticsUpdated {
        shipment_id: shipment.shipment_id,
        order_id: shipment.order_id,
        status: shipment.status,
    })
}

/// An order was accepted: its shipment is planned.
pub(super) fn plan(on: &Connection, order: &OrderCreated) -> Decided {
    let whose = (order.order_id, order.user_id);
    insert(on, whose, ShipmentStatus::Planned, &order.products)?;
    Ok(Recorded::nothing())
}

/// Whether news of an order concern its shipment: it is changed, or will never leave.
pub(super) fn concerns(order: &OrderUpdated) -> bool {
    match order.status {
        OrderStatus::Rejected => true,
        OrderStatus::PendingPayment => order.revision > 0,
        _ => false,
    }
}

pub(super) fn order_updated(on: &Connection, order: &OrderUpdated) -> Decided {
    if order.status == OrderStatus::Rejected {
        return cancelled(on, order.order_id);
    }
    on.prepare_cached(
        "UPDATE shipments SET products = ?2 WHERE order_id = ?1 AND status = 'planned'",
    )?
    .execute(params![
        order.order_id,
        serde_json::to_string(&packed(&order.products))?
    ])?;
    Ok(Recorded::nothing())
}

/// An order was confirmed: its shipment is ready, and leaves where a carrier takes it.
pub(super) fn confirmed(on: &Connection, carrier: Carrier, order: &OrderConfirmed) -> Decided {
    let whose = (order.order_id, order.user_id);
    insert(on, whose, ShipmentStatus::Planned, &order.products)?;
    let Some(mut shipment) = of_order(on, order.order_id)? else {
        return Err(WorkError::Broken(
            "no shipment where one was written".into(),
        ));
    };
    if shipment.status != ShipmentStatus::Planned {
        return Ok(Recorded::nothing());
    }
    set(on, &mut shipment, ShipmentStatus::Created)?;
    let mut events = vec![LogisticsOut::Created(ShipmentCreated {
        shipment_id: shipment.shipment_id,
        order_id: shipment.order_id,
        user_id: shipment.user_id,
        products: shipment.products.clone(),
    })];
    let by_itself = order.checkout == Checkout::Immediate;
    if by_itself || carrier == Carrier::AtOnce {
        set(on, &mut shipment, ShipmentStatus::Shipped)?;
        events.push(updated(&shipment));
    }
    if by_itself {
        set(on, &mut shipment, ShipmentStatus::Delivered)?;
        events.push(updated(&shipment));
    }
    events.extend(topics::ready(on, &mut shipment)?);
    Ok(Recorded {
        events,
        answer: None,
    })
}

/// An order was given up: its shipment never leaves.
pub(super) fn cancelled(on: &Connection, order_id: i64) -> Decided {
    follow(
        on,
        order_id,
        ShipmentStatus::Planned,
        ShipmentStatus::Cancelled,
    )
}

/// An order came back.
pub(super) fn returned(on: &Connection, order_id: i64) -> Decided {
    follow(
        on,
        order_id,
        ShipmentStatus::Delivered,
        ShipmentStatus::Returned,
    )
}

fn follow(on: &Connection, order_id: i64, from: ShipmentStatus, to: ShipmentStatus) -> Decided {
    match of_order(on, order_id)? {
        Some(mut shipment) if shipment.status == from => {
            if to == ShipmentStatus::Cancelled {
                topics::forget(on, shipment.shipment_id)?;
            }
            set(on, &mut shipment, to)?;
            Ok(Recorded::event(updated(&shipment)))
        }
        _ => Ok(Recorded::nothing()),
    }
}

/// The carrier says how a shipment stands: it goes from created to shipped to delivered.
pub(super) fn update(on: &Connection, request: &UpdateShipment) -> Decided {
    use ShipmentStatus::{Created, Delivered, Shipped};
    let refused = |verdict, why| Ok(Recorded::answer(Answer::refused(verdict, why)));
    let id = request.shipment_id;
    let Some(mut shipment) = find(on, id)? else {
        return refused(Verdict::Unknown, format!("there is no shipment {id}"));
    };
    match (shipment.status, request.status) {
        (Created, Shipped) | (Shipped, Delivered) => {}
        (_, Shipped | Delivered) => {
            let (is, not) = (shipment.status.as_str(), request.status.as_str());
            let why = format!("shipment {id} is {is}, so it cannot be {not} next");
            return Ok(Recorded::answer(Answer {
                about: Some(shipment),
                ..Answer::refused(Verdict::Conflict, why)
            }));
        }
        _ => {
            let why = "a shipment is set to shipped or delivered".to_owned();
            return refused(Verdict::Invalid, why);
        }
    }
    set(on, &mut shipment, request.status)?;
    Ok(Recorded {
        events: vec![updated(&shipment)],
        answer: Some(Answer::done("the shipment goes on", shipment)),
    })
}
