//! What is said of shipments, and what the logistics service is asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::Message;

/// How a shipment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShipmentStatus {
    /// Its order is not confirmed yet.
    Planned,
    /// Ready to leave.
    Created,
    /// On its way.
    Shipped,
    /// It arrived.
    Delivered,
    /// Its order was given up.
    Cancelled,
    /// It came back.
    Returned,
}

impl ShipmentStatus {
    /// Every status.
    pub const ALL: [Self; 6] = [
        Self::Planned,
        Self::Created,
        Self::Shipped,
        Self::Delivered,
        Self::Cancelled,
        Self::Returned,
    ];

    /// The name used in events and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Created => "created",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
            Self::Returned => "returned",
        }
    }
}

messages! {
    /// An order is confirmed and its shipment is ready to leave.
    ShipmentCreated = "shipment_created" in "shipments" by "order_id" {
        /// Which shipment.
        shipment_id: i64,
        /// Of which order.
        order_id: i64,
        /// To whom; none is a guest.
        user_id: Option<i64>,
        /// What is in it.
        products: Vec<Packed>,
    }
    /// A shipment stands otherwise.
    LogisticsUpdated = "logistics_updated" in "shipments" by "order_id" {
        /// Which shipment.
        shipment_id: i64,
        /// Of which order.
        order_id: i64,
        /// How it stands.
        status: ShipmentStatus,
    }

    /// Request: a shipment goes on. Answered with an [`Answer`](super::Answer) about the
    /// [`Shipment`].
    UpdateShipment = "update_shipment" in "shipment_requests" by "shipment_id" {
        /// Which shipment.
        shipment_id: i64,
        /// Shipped or delivered.
        status: ShipmentStatus,
    }
    /// Request: show a shipment. Answered with [`Shipments`], one or none.
    GetShipment = "get_shipment" in "shipment_requests" by "shipment_id" {
        /// Which shipment.
        shipment_id: i64,
    }
    /// Request: show shipments. Answered with [`Shipments`].
    ListShipments = "list_shipments" in "shipment_requests" by "after" {
        /// Those with a higher id than this.
        after: i64,
        /// That of this order alone.
        order_id: Option<i64>,
    }
}

/// A product in a shipment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Packed {
    /// Which product.
    pub product_id: i64,
    /// How many.
    pub quantity: i64,
}

/// A shipment as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shipment {
    /// Which.
    pub shipment_id: i64,
    /// Of which order.
    pub order_id: i64,
    /// To whom; none is a guest.
    pub user_id: Option<i64>,
    /// How it stands.
    pub status: ShipmentStatus,
    /// What is in it.
    pub products: Vec<Packed>,
}

/// Shipments by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shipments {
    /// At most [`crate::limits::LIST_MAX`].
    pub shipments: Vec<Shipment>,
}
