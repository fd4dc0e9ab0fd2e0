//! The order service: takes orders and credit notes in, leads each order from its creation to
//! its end, and keeps its own copy of the prices. May not know what is in stock or what was paid
//! but from events.

mod desk;
mod state;
mod store;
mod topics;

use tidemill::{Data, Fail, Handler as _, Message as _, Reply, Router, State};

use self::state::Step;
use crate::database::{DatabaseError, Place};
use crate::events::{
    CancelOrder, ConfirmOrder, CreateOrder, Followed, GetOrder, Heard as AllHeard, ListOrders,
    LogisticsUpdated, OrderAnswer, OrderCancelled, OrderConfirmed, OrderCreated, OrderList,
    OrderPaid, OrderReturned, OrderSaid, OrderTold, OrderUpdated, OrdersHeard, PayOrder,
    PaymentFailed, PaymentRequested, PriceChanged, ProductRemoved, ReturnOrder, Said, SendBack,
    ShipmentStatus, StockRefused, StockReserved, UpdateOrder, UserFollowed, UserLoggedIn,
    UserLoggedOut,
};
use crate::inbox::Input;
use crate::limits::PRICE_MAX_PENCE;
use crate::service::{self, Handled, Service, Told, early, emitted, patient};

pub mod audit;

/// The name of its group and of its database.
pub const NAME: &str = "orders";

/// The name of the group that reads `order-topic` for it.
pub const TOPICS_NAME: &str = "orders_topic";

emitted! {
    OrderOut {
        Created(OrderCreated),
        RequestPayment(PaymentRequested),
        Updated(OrderUpdated),
        Confirmed(OrderConfirmed),
        Cancelled(OrderCancelled),
        Returned(OrderReturned),
        Told(OrderTold),
    }
}

type Recorded = service::Recorded<OrderOut, OrderAnswer>;
type Out<L> = Handled<OrderOut, L, OrderAnswer>;
type Any = (
    OrderCreated,
    PaymentRequested,
    OrderUpdated,
    OrderConfirmed,
    OrderCancelled,
    OrderReturned,
    OrderTold,
);
type Heard<L> = Told<OrderOut, L>;

/// The service. Clones share its database.
#[derive(Clone)]
pub struct Orders {
    service: Service,
    topics: bool,
}

impl Orders {
    /// Opens its database. With `topics` it takes orders from `order-topic` too. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// [`DatabaseError::Open`].
    pub fn open(place: &Place, topics: bool) -> Result<Self, DatabaseError> {
        Ok(Self {
            service: Service::open(place, NAME, store::SCHEMA)?,
            topics,
        })
    }

    /// Its database and its counts.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Lets go of this handle and waits until its database is closed, which it is when the last
    /// handle is gone.
    pub async fn close(self) {
        self.service.close().await;
    }

    /// The handlers of the Kafka topics, if there are any, to be served as the group
    /// [`TOPICS_NAME`]: what is early there waits without holding up what it waits for, which has
    /// the same key.
    pub fn topics_router(&self) -> Option<(&'static str, Router)> {
        let router = || {
            Router::new()
                .source(service::source(NAME))
                .on(said.id("order_topic").retry(early()))
                .with_state(self.clone())
        };
        self.topics.then(|| (TOPICS_NAME, router()))
    }

    /// Its handlers, to be served as the group [`NAME`].
    pub fn router(&self) -> Router {
        Router::new()
            .source(service::source(NAME))
            .on(create.id("create").retry(patient()))
            .on(take_back.id("take_back").retry(patient()))
            .on(pay.id("pay").retry(patient()))
            .on(confirm.id("confirm").retry(patient()))
            .on(cancel.id("cancel").retry(patient()))
            .on(price_changed.id("price_changed").retry(patient()))
            .on(reserved.id("reserved").retry(patient()))
            .on(refused.id("refused").retry(patient()))
            .on(paid.id("paid").retry(patient()))
            .on(payment_failed.id("payment_failed").retry(patient()))
            .on(get.id("get"))
            .on(list.id("list"))
            .on(update.id("update").retry(patient()))
            .on(send_back.id("send_back").retry(patient()))
            .on(removed.id("product_removed").retry(patient()))
            .on(logistics.id("logistics_updated").retry(patient()))
            .on(logged_in.id("user_logged_in").retry(patient()))
            .on(logged_out.id("user_logged_out").retry(patient()))
            .on(heard.id("heard"))
            .on(followed.id("followed"))
            .with_state(self.clone())
    }
}

async fn create(
    State(orders): State<Orders>,
    input: Input,
    Data(request): Data<CreateOrder>,
) -> Out<(OrderCreated, OrderUpdated)> {
    let work = move |on: &_| desk::create(on, &request);
    orders.service.once(input, work).await
}

async fn take_back(
    State(orders): State<Orders>,
    input: Input,
    Data(request): Data<ReturnOrder>,
) -> Out<(OrderReturned, OrderUpdated)> {
    let work = move |on: &_| desk::take_back(on, &request);
    orders.service.once(input, work).await
}

async fn pay(
    State(orders): State<Orders>,
    input: Input,
    Data(order): Data<PayOrder>,
) -> Out<(PaymentRequested,)> {
    let work = move |on: &_| desk::request(on, order.order_id, Step::Pay, "payment is under way");
    orders.service.once(input, work).await
}

async fn confirm(
    State(orders): State<Orders>,
    input: Input,
    Data(order): Data<ConfirmOrder>,
) -> Out<(OrderConfirmed, OrderReturned)> {
    let done = "the order is confirmed";
    let work = move |on: &_| desk::request(on, order.order_id, Step::Confirm, done);
    orders.service.once(input, work).await
}

async fn cancel(
    State(orders): State<Orders>,
    input: Input,
    Data(order): Data<CancelOrder>,
) -> Out<(OrderCancelled, OrderReturned)> {
    let done = "the order is cancelled";
    let work = move |on: &_| desk::request(on, order.order_id, Step::Cancel, done);
    orders.service.once(input, work).await
}

async fn price_changed(
    State(orders): State<Orders>,
    input: Input,
    Data(changed): Data<PriceChanged>,
) -> Heard<(OrderCreated, OrderReturned)> {
    if !(0..=PRICE_MAX_PENCE).contains(&changed.price_pence.0) {
        let why = format!("a price is 0 to {PRICE_MAX_PENCE} pence");
        return Err(Fail::permanent(why));
    }
    let work = move |on: &_| desk::price(on, &changed);
    orders.service.told(input, work).await
}

async fn reserved(
    State(orders): State<Orders>,
    input: Input,
    Data(stock): Data<StockReserved>,
) -> Heard<(PaymentRequested, OrderUpdated)> {
    let work = move |on: &_| desk::fact(on, stock.order_id, Step::Reserved(stock.revision));
    orders.service.told(input, work).await
}

async fn refused(
    State(orders): State<Orders>,
    input: Input,
    Data(stock): Data<StockRefused>,
) -> Heard<(OrderUpdated, OrderReturned, PaymentRequested)> {
    let work = move |on: &_| {
        desk::fact(
            on,
            stock.order_id,
            Step::Refused(stock.revision, stock.reason),
        )
    };
    orders.service.told(input, work).await
}

async fn paid(
    State(orders): State<Orders>,
    input: Input,
    Data(paid): Data<OrderPaid>,
) -> Heard<(OrderConfirmed, OrderUpdated, OrderReturned)> {
    let work = move |on: &_| desk::fact(on, paid.order_id, Step::Paid);
    orders.service.told(input, work).await
}

async fn payment_failed(
    State(orders): State<Orders>,
    input: Input,
    Data(failed): Data<PaymentFailed>,
) -> Heard<(OrderCancelled, OrderReturned)> {
    let work = move |on: &_| desk::fact(on, failed.order_id, Step::PaymentFailed(failed.reason));
    orders.service.told(input, work).await
}

async fn update(
    State(orders): State<Orders>,
    input: Input,
    Data(request): Data<UpdateOrder>,
) -> Out<(OrderUpdated,)> {
    let work = move |on: &_| desk::update(on, &request);
    orders.service.once(input, work).await
}

async fn send_back(
    State(orders): State<Orders>,
    input: Input,
    Data(order): Data<SendBack>,
) -> Out<(OrderReturned,)> {
    let work = move |on: &_| desk::send_back(on, order.order_id);
    orders.service.once(input, work).await
}

async fn removed(
    State(orders): State<Orders>,
    input: Input,
    Data(removed): Data<ProductRemoved>,
) -> Heard<()> {
    let work = move |on: &_| {
        store::remove_product(on, removed.product_id)?;
        Ok(Recorded::nothing())
    };
    orders.service.told(input, work).await
}

async fn logistics(
    State(orders): State<Orders>,
    input: Input,
    Data(updated): Data<LogisticsUpdated>,
) -> Heard<(OrderUpdated,)> {
    let work = move |on: &_| match updated.status {
        ShipmentStatus::Shipped => desk::fact(on, updated.order_id, Step::Shipped),
        ShipmentStatus::Delivered => desk::fact(on, updated.order_id, Step::Delivered),
        // What follows from an order needs not be told to it.
        _ => Ok(Recorded::nothing()),
    };
    orders.service.told(input, work).await
}

/// A message of a plain client of Kafka.
async fn said(
    State(orders): State<Orders>,
    input: Input,
    Data(OrderSaid(said)): Data<OrderSaid>,
) -> Heard<Any> {
    match &said {
        // The logistics service hears it too.
        Said::Carrier(_) => return orders.service.nothing(),
        Said::Strange(kind) => return orders.service.ignored(OrderSaid::TOPIC, kind),
        _ => {}
    }
    let work = move |on: &_| topics::said(on, &said);
    orders.service.told(input, work).await
}

async fn logged_in(
    State(orders): State<Orders>,
    input: Input,
    Data(user): Data<UserLoggedIn>,
) -> Heard<()> {
    let work = move |on: &_| {
        store::log_in(on, user.user_id, true)?;
        Ok(Recorded::nothing())
    };
    orders.service.told(input, work).await
}

async fn logged_out(
    State(orders): State<Orders>,
    input: Input,
    Data(user): Data<UserLoggedOut>,
) -> Heard<()> {
    let work = move |on: &_| {
        store::log_in(on, user.user_id, false)?;
        Ok(Recorded::nothing())
    };
    orders.service.told(input, work).await
}

// Questions change nothing, so they need no inbox.

async fn get(
    State(orders): State<Orders>,
    Data(asked): Data<GetOrder>,
) -> Result<Reply<OrderList>, Fail> {
    let found = move |on: &_| {
        let order = store::find(on, asked.order_id)?;
        desk::show(on, order.into_iter().collect())
    };
    Ok(Reply(orders.service.read(found).await?))
}

async fn list(
    State(orders): State<Orders>,
    Data(asked): Data<ListOrders>,
) -> Result<Reply<OrderList>, Fail> {
    let found = move |on: &_| desk::list(on, &asked);
    Ok(Reply(orders.service.read(found).await?))
}

async fn heard(Data(asked): Data<OrdersHeard>) -> Reply<AllHeard> {
    Reply(AllHeard {
        product_id: asked.product_id,
    })
}

async fn followed(Data(asked): Data<UserFollowed>) -> Reply<Followed> {
    Reply(Followed { id: asked.user_id })
}
