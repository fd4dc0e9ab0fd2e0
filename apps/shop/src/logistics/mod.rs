//! The logistics service: plans a shipment for each order, sends it off once the order is
//! confirmed, and tells how it goes on. Its carrier is a person who says so, or a simulated one.
//! May not know stock or payments, or how an order stands but from events.

mod desk;

use tidemill::{Data, Fail, Handler as _, Reply, Router, State};

use crate::database::{DatabaseError, Place};
use crate::events::{
    Answer, Followed, GetShipment, ListShipments, LogisticsFollowed, LogisticsUpdated,
    OrderCancelled, OrderConfirmed, OrderCreated, OrderReturned, OrderUpdated, Shipment,
    ShipmentCreated, Shipments, UpdateShipment,
};
use crate::inbox::Input;
use crate::service::{self, Handled, Service, Told, emitted, patient};

pub mod audit;

/// The name of its group and of its database.
pub const NAME: &str = "logistics";

emitted! {
    LogisticsOut {
        Created(ShipmentCreated),
        Updated(LogisticsUpdated),
    }
}

type Recorded = service::Recorded<LogisticsOut, Answer<Shipment>>;
type Out<L> = Told<LogisticsOut, L>;

/// Who carries the shipments of orders that do not go on by themselves; those that do are shipped
/// and delivered at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Carrier {
    /// A person, who says that a shipment left and arrived.
    #[default]
    ByHand,
    /// A simulated one that takes them with it at once; a person says that they arrived.
    AtOnce,
}

/// The service. Clones share its database.
#[derive(Clone)]
pub struct Logistics {
    service: Service,
    carrier: Carrier,
}

impl Logistics {
    /// Opens its database. Blocks on the disk.
    ///
    /// # Errors
    /// [`DatabaseError::Open`].
    pub fn open(place: &Place, carrier: Carrier) -> Result<Self, DatabaseError> {
        Ok(Self {
            service: Service::open(place, NAME, desk::SCHEMA)?,
            carrier,
        })
    }

    /// Its database and its counts.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Its handlers, to be served as the group [`NAME`].
    pub fn router(&self) -> Router {
        Router::new()
            .source(service::source(NAME))
            .on(plan.id("plan").retry(patient()))
            .on(order_updated.id("order_updated").retry(patient()))
            .on(confirmed.id("confirmed").retry(patient()))
            .on(cancelled.id("cancelled").retry(patient()))
            .on(returned.id("returned").retry(patient()))
            .on(update.id("update").retry(patient()))
            .on(get.id("get"))
            .on(list.id("list"))
            .on(followed.id("followed"))
            .with_state(self.clone())
    }
}

async fn plan(
    State(logistics): State<Logistics>,
    input: Input,
    Data(order): Data<OrderCreated>,
) -> Out<()> {
    let work = move |on: &_| desk::plan(on, &order);
    logistics.service.told(input, work).await
}

async fn order_updated(
    State(logistics): State<Logistics>,
    input: Input,
    Data(order): Data<OrderUpdated>,
) -> Out<(LogisticsUpdated,)> {
    if !desk::concerns(&order) {
        return logistics.service.nothing();
    }
    let work = move |on: &_| desk::order_updated(on, &order);
    logistics.service.told(input, work).await
}

async fn confirmed(
    State(logistics): State<Logistics>,
    input: Input,
    Data(order): Data<OrderConfirmed>,
) -> Out<(ShipmentCreated, LogisticsUpdated)> {
    let carrier = logistics.carrier;
    let work = move |on: &_| desk::confirmed(on, carrier, &order);
    logistics.service.told(input, work).await
}

async fn cancelled(
    State(logistics): State<Logistics>,
    input: Input,
    Data(order): Data<OrderCancelled>,
) -> Out<(LogisticsUpdated,)> {
    let work = move |on: &_| desk::cancelled(on, order.order_id);
    logistics.service.told(input, work).await
}

async fn returned(
    State(logistics): State<Logistics>,
    input: Input,
    Data(order): Data<OrderReturned>,
) -> Out<(LogisticsUpdated,)> {
    let work = move |on: &_| desk::returned(on, order.order_id);
    logistics.service.told(input, work).await
}

async fn update(
    State(logistics): State<Logistics>,
    input: Input,
    Data(request): Data<UpdateShipment>,
) -> Handled<LogisticsOut, (LogisticsUpdated,), Answer<Shipment>> {
    let work = move |on: &_| desk::update(on, &request);
    logistics.service.once(input, work).await
}

// Questions change nothing, so they need no inbox.

async fn get(
    State(logistics): State<Logistics>,
    Data(asked): Data<GetShipment>,
) -> Result<Reply<Shipments>, Fail> {
    let found = move |on: &_| desk::find(on, asked.shipment_id);
    let shipments = logistics.service.read(found).await?.into_iter().collect();
    Ok(Reply(Shipments { shipments }))
}

async fn list(
    State(logistics): State<Logistics>,
    Data(asked): Data<ListShipments>,
) -> Result<Reply<Shipments>, Fail> {
    let found = move |on: &_| desk::list(on, asked.after, asked.order_id);
    Ok(Reply(logistics.service.read(found).await?))
}

async fn followed(Data(asked): Data<LogisticsFollowed>) -> Reply<Followed> {
    Reply(Followed { id: asked.order_id })
}
