//! Shipments: `/shipments`. Knows the events that ask the logistics service, and no service.

use axum::http::StatusCode;
use serde::Deserialize;

use super::answer::{self, Refusal, ShipmentShown, ShipmentsShown, json};
use super::heard::News;
use super::{Answer, Asked, Body, Door, Id, OUTCOME_WAIT, number, read};
use crate::events::{
    Answer as Given, GetShipment, ListShipments, OrderStatus, Shipment, ShipmentStatus, Shipments,
    UpdateShipment, Verdict,
};

#[derive(Deserialize)]
struct NewStatus {
    status: ShipmentStatus,
}

/// Answers once the order knows of it: who asks for the order next finds it so.
pub(super) async fn update(door: Door, Id(shipment_id): Id, body: Body) -> Answer {
    let NewStatus { status } = read(body)?;
    let request = UpdateShipment {
        shipment_id,
        status,
    };
    let given: Given<Shipment> = door.change(&request).await?;
    let (Verdict::Done, Some(shipment)) = (given.verdict, &given.about) else {
        return Ok(answer::shipment(given, StatusCode::OK));
    };
    let follows = |news: &News| match status {
        ShipmentStatus::Shipped => news.status == OrderStatus::Shipped || news.status.is_final(),
        _ => news.status.is_final(),
    };
    let order_id = shipment.order_id;
    let code = match door.heard.wait(order_id, follows, OUTCOME_WAIT).await {
        Some(_) => StatusCode::OK,
        None => StatusCode::ACCEPTED,
    };
    Ok(answer::shipment(given, code))
}

pub(super) async fn show(door: Door, Id(shipment_id): Id) -> Answer {
    let found: Shipments = door.ask(&GetShipment { shipment_id }).await?;
    match found.shipments.into_iter().next() {
        Some(shipment) => {
            let shown = ShipmentShown::new("the shipment as it stands".to_owned(), shipment);
            Ok(json(StatusCode::OK, &shown))
        }
        None => Err(Refusal::unknown(format!(
            "there is no shipment {shipment_id}"
        ))),
    }
}

pub(super) async fn list(door: Door, Asked(page): Asked) -> Answer {
    let request = ListShipments {
        after: page.after(0)?,
        order_id: page.order_id.as_deref().map(number).transpose()?,
    };
    let found: Shipments = door.ask(&request).await?;
    Ok(json(StatusCode::OK, &ShipmentsShown::new(found)))
}
