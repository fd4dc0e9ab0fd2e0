//! The logistics service: plans a shipment for each order, sends it off once the order is
//! confirmed, and tells how it goes on. Its carrier is a person who says so, or a simulated one.
//! May not know stock or payments, or how an order stands but from events.

mod desk;
mod topics;

use tidemill::{Data, Fail, Handler as _, Message as _, Reply, Router, State};

use crate::database::{DatabaseError, Place};
use crate::events::{
    Answer, Checkout, Followed, GetShipment, ListShipments, LogisticsFollowed, LogisticsReported,
    LogisticsSaid, LogisticsUpdated, OrderCancelled, OrderConfirmed, OrderCreated, OrderReturned,
    OrderSaid, OrderUpdated, Said, Shipment, ShipmentCreated, Shipments, UpdateShipment,
};
use crate::inbox::Input;
use crate::service::{self, Handled, Service, Told, early, emitted, patient};

pub mod audit;

/// The name of its group and of its database.
pub const NAME: &str = "logistics";

/// The name of the group that reads `logistics-topic` and `order-topic` for it.
pub const TOPICS_NAME: &str = "logistics_topic";

emitted! {
    LogisticsOut {
        Created(ShipmentCreated),
        Updated(LogisticsUpdated),
        Reported(LogisticsReported),
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
    topics: bool,
}

impl Logistics {
    /// Opens its database. With `topics` it takes the words of carriers from `logistics-topic` and
    /// `order-topic` too, and reports on the latter. Blocks on the disk.
    ///
    /// # Errors
    /// [`DatabaseError::Open`].
    pub fn open(place: &Place, carrier: Carrier, topics: bool) -> Result<Self, DatabaseError> {
        Ok(Self {
            service: Service::open(place, NAME, &format!("{}{}", desk::SCHEMA, topics::SCHEMA))?,
            carrier,
            topics,
        })
    }

    /// Its database and its counts.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// The handlers of the Kafka topics, if there are any, to be served as the group
    /// [`TOPICS_NAME`]: what is early there waits without holding up what it waits for, which has
    /// the same key.
    pub fn topics_router(&self) -> Option<(&'static str, Router)> {
        let router = || {
            Router::new()
                .source(service::source(NAME))
                .on(said.id("logistics_topic").retry(early()))
                .on(said_of_orders.id("order_topic").retry(early()))
                .with_state(self.clone())
        };
        self.topics.then(|| (TOPICS_NAME, router()))
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
) -> Out<(LogisticsUpdated, LogisticsReported)> {
    if !desk::concerns(&order) {
        return logistics.service.nothing();
    }
    let reports = logistics.topics;
    let work = move |on: &_| topics::reported(reports, desk::order_updated(on, &order)?);
    logistics.service.told(input, work).await
}

async fn confirmed(
    State(logistics): State<Logistics>,
    input: Input,
    Data(order): Data<OrderConfirmed>,
) -> Out<(ShipmentCreated, LogisticsUpdated, LogisticsReported)> {
    let carrier = logistics.carrier;
    let reports = logistics.topics && order.checkout != Checkout::Immediate;
    let work = move |on: &_| topics::reported(reports, desk::confirmed(on, carrier, &order)?);
    logistics.service.told(input, work).await
}

async fn cancelled(
    State(logistics): State<Logistics>,
    input: Input,
    Data(order): Data<OrderCancelled>,
) -> Out<(LogisticsUpdated, LogisticsReported)> {
    let reports = logistics.topics;
    let work = move |on: &_| topics::reported(reports, desk::cancelled(on, order.order_id)?);
    logistics.service.told(input, work).await
}

async fn returned(
    State(logistics): State<Logistics>,
    input: Input,
    Data(order): Data<OrderReturned>,
) -> Out<(LogisticsUpdated, LogisticsReported)> {
    let reports = logistics.topics;
    let work = move |on: &_| topics::reported(reports, desk::returned(on, order.order_id)?);
    logistics.service.told(input, work).await
}

async fn update(
    State(logistics): State<Logistics>,
    input: Input,
    Data(request): Data<UpdateShipment>,
) -> Handled<LogisticsOut, (LogisticsUpdated, LogisticsReported), Answer<Shipment>> {
    let reports = logistics.topics;
    let work = move |on: &_| topics::reported(reports, desk::update(on, &request)?);
    logistics.service.once(input, work).await
}

type Reported = Out<(LogisticsUpdated, LogisticsReported)>;

/// A message of a plain client of Kafka.
async fn said(
    State(logistics): State<Logistics>,
    input: Input,
    Data(LogisticsSaid(said)): Data<LogisticsSaid>,
) -> Reported {
    match said {
        Said::Strange(kind) => logistics.service.ignored(LogisticsSaid::TOPIC, &kind),
        said => carried(&logistics, input, &said).await,
    }
}

/// The same, from a carrier that speaks where the orders are.
async fn said_of_orders(
    State(logistics): State<Logistics>,
    input: Input,
    Data(OrderSaid(said)): Data<OrderSaid>,
) -> Reported {
    carried(&logistics, input, &said).await
}

async fn carried(logistics: &Logistics, input: Input, said: &Said) -> Reported {
    // Orders are the order service's.
    let &Said::Carrier(said) = said else {
        return logistics.service.nothing();
    };
    let work = move |on: &_| topics::reported(true, topics::carried(on, &said)?);
    logistics.service.told(input, work).await
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
