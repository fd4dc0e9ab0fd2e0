//! What the logistics service makes of a carrier's words on `logistics-topic` and `order-topic`,
//! and what it reports there. Works inside of a transaction that its caller holds.

use rusqlite::{Connection, OptionalExtension, params};

use super::desk::{find, of_order, set, updated};
use super::{LogisticsOut, Recorded};
use crate::database::WorkError;
use crate::events::{CarrierSaid, LogisticsReported, Shipment, ShipmentStatus};

/// What carriers said of shipments that are not ready: done once they are.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS words (
        shipment_id INTEGER PRIMARY KEY,
        status TEXT NOT NULL
    );";

/// With a report of each step on `order-topic`, if `reports`.
pub(super) fn reported(reports: bool, mut recorded: Recorded) -> Result<Recorded, WorkError> {
    if !reports {
        return Ok(recorded);
    }
    let report = |event: &LogisticsOut| match event {
        LogisticsOut::Created(shipment) => Some(LogisticsReported::new(
            shipment.shipment_id,
            shipment.order_id,
            ShipmentStatus::Created,
        )),
        LogisticsOut::Updated(shipment) => Some(LogisticsReported::new(
            shipment.shipment_id,
            shipment.order_id,
            shipment.status,
        )),
        LogisticsOut::Reported(_) => None,
    };
    let reports: Vec<_> = recorded.events.iter().filter_map(report).collect();
    let reports = reports.into_iter().map(LogisticsOut::Reported);
    recorded.events.extend(reports);
    Ok(recorded)
}

/// How far a shipment is that goes its way.
fn rank(status: ShipmentStatus) -> Option<u8> {
    match status {
        ShipmentStatus::Planned => Some(0),
        ShipmentStatus::Created => Some(1),
        ShipmentStatus::Shipped => Some(2),
        ShipmentStatus::Delivered => Some(3),
        ShipmentStatus::Cancelled | ShipmentStatus::Returned => None,
    }
}

/// A carrier says how a shipment stands. Where it stands so already, or further, nothing changes.
///
/// # Errors
/// [`WorkError::Early`] where the shipment may still come, [`WorkError::Refused`] where it makes no
/// sense.
pub(super) fn carried(on: &Connection, said: &CarrierSaid) -> Result<Recorded, WorkError> {
    let mut shipment = named(on, said)?;
    let id = shipment.shipment_id;
    if shipment.status == said.status {
        return Ok(Recorded::nothing());
    }
    let Some(to) = rank(said.status) else {
        let why = "a shipment is set to shipped or delivered; the rest follows from its order";
        return Err(WorkError::Refused(why.into()));
    };
    let Some(at) = rank(shipment.status) else {
        let (is, not) = (shipment.status.as_str(), said.status.as_str());
        let why = format!("shipment {id} is {is}, so it cannot be {not}");
        return Err(WorkError::Refused(why));
    };
    if to <= at {
        return Ok(Recorded::nothing());
    }
    if shipment.status == ShipmentStatus::Planned {
        // Ready once its order is confirmed; nobody has to say so.
        if to > 1 {
            keep(on, id, said.status)?;
        }
        return Ok(Recorded::nothing());
    }
    go_on(on, &mut shipment, said.status)
}

fn named(on: &Connection, said: &CarrierSaid) -> Result<Shipment, WorkError> {
    let early = |what: &str, id: i64| WorkError::Early(format!("there is no {what} {id}"));
    let shipment = match (said.shipment_id, said.order_id) {
        (Some(id), _) => find(on, id)?.ok_or_else(|| early("shipment", id))?,
        (None, Some(id)) => of_order(on, id)?.ok_or_else(|| early("shipment of order", id))?,
        (None, None) => return Err(WorkError::Refused("no shipment is named".into())),
    };
    match said.order_id {
        Some(order_id) if order_id != shipment.order_id => Err(WorkError::Refused(format!(
            "shipment {} is of order {}, not {order_id}",
            shipment.shipment_id, shipment.order_id
        ))),
        _ => Ok(shipment),
    }
}

/// Arriving is a proof of having left, so that is told too.
fn go_on(
    on: &Connection,
    shipment: &mut Shipment,
    to: ShipmentStatus,
) -> Result<Recorded, WorkError> {
    let mut events = Vec::new();
    for next in [ShipmentStatus::Shipped, ShipmentStatus::Delivered] {
        if rank(next) > rank(shipment.status) && rank(next) <= rank(to) {
            set(on, shipment, next)?;
            events.push(updated(shipment));
        }
    }
    Ok(Recorded {
        events,
        answer: None,
    })
}

/// Keeps the word that goes furthest.
fn keep(on: &Connection, shipment_id: i64, status: ShipmentStatus) -> Result<(), WorkError> {
    let known = word(on, shipment_id)?;
    if rank(status) > known.and_then(rank) {
        on.prepare_cached("INSERT OR REPLACE INTO words VALUES (?1, ?2)")?
            .execute(params![shipment_id, status.as_str()])?;
    }
    Ok(())
}

fn word(on: &Connection, shipment_id: i64) -> Result<Option<ShipmentStatus>, WorkError> {
    let mut find = on.prepare_cached("SELECT status FROM words WHERE shipment_id = ?1")?;
    let text: Option<String> = find.query_row([shipment_id], |row| row.get(0)).optional()?;
    let known = |text: String| {
        let mut all = ShipmentStatus::ALL.into_iter();
        all.find(|status| status.as_str() == text)
    };
    Ok(text.and_then(known))
}

/// A shipment is ready: does what was said of it before.
pub(super) fn ready(
    on: &Connection,
    shipment: &mut Shipment,
) -> Result<Vec<LogisticsOut>, WorkError> {
    let Some(status) = word(on, shipment.shipment_id)? else {
        return Ok(Vec::new());
    };
    forget(on, shipment.shipment_id)?;
    Ok(go_on(on, shipment, status)?.events)
}

/// A shipment never becomes ready: nothing that was said of it is to be done.
pub(super) fn forget(on: &Connection, shipment_id: i64) -> Result<(), WorkError> {
    on.prepare_cached("DELETE FROM words WHERE shipment_id = ?1")?
        .execute([shipment_id])?;
    Ok(())
}
