//! The payment service: takes the money for orders and gives it back. Its card processor is a
//! simulated one that declines every so many-th order. May not know stock, or how an order
//! stands but from events.

mod desk;

use tidemill::{Data, Handler as _, Reply, Router, State};

use crate::database::{DatabaseError, Place};
use crate::events::{
    Followed, OrderCancelled, OrderPaid, OrderReturned, PaymentFailed, PaymentFollowed,
    PaymentRequested,
};
use crate::inbox::Input;
use crate::service::{self, Service, Told, emitted, patient};

pub mod audit;

/// The name of its group and of its database.
pub const NAME: &str = "payment";

emitted! {
    PaymentOut {
        Paid(OrderPaid),
        Failed(PaymentFailed),
    }
}

type Recorded = service::Recorded<PaymentOut, ()>;
type Out<L> = Told<PaymentOut, L>;

/// The simulated card processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cards {
    /// Declines about one generated order in so many, decided by the order's id alone; 0 declines
    /// none. Orders of people and of files are always paid.
    pub decline_one_in: u64,
}

/// The service. Clones share its database.
#[derive(Clone)]
pub struct Payment {
    service: Service,
    cards: Cards,
}

impl Payment {
    /// Opens its database. Blocks on the disk.
    ///
    /// # Errors
    /// [`DatabaseError::Open`].
    pub fn open(place: &Place, cards: Cards) -> Result<Self, DatabaseError> {
        Ok(Self {
            service: Service::open(place, NAME, desk::SCHEMA)?,
            cards,
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

    /// Its handlers, to be served as the group [`NAME`].
    pub fn router(&self) -> Router {
        Router::new()
            .source(service::source(NAME))
            .on(charge.id("charge").retry(patient()))
            .on(refund.id("refund").retry(patient()))
            .on(credit.id("credit").retry(patient()))
            .on(followed.id("followed"))
            .with_state(self.clone())
    }
}

async fn charge(
    State(payment): State<Payment>,
    input: Input,
    Data(asked): Data<PaymentRequested>,
) -> Out<(OrderPaid, PaymentFailed)> {
    let work = move |on: &_| desk::charge(on, payment.cards, asked);
    payment.service.told(input, work).await
}

async fn refund(
    State(payment): State<Payment>,
    input: Input,
    Data(order): Data<OrderCancelled>,
) -> Out<()> {
    let work = move |on: &_| desk::refund(on, order.order_id);
    payment.service.told(input, work).await
}

async fn credit(
    State(payment): State<Payment>,
    input: Input,
    Data(note): Data<OrderReturned>,
) -> Out<()> {
    let work = move |on: &_| desk::credit(on, &note);
    payment.service.told(input, work).await
}

async fn followed(Data(asked): Data<PaymentFollowed>) -> Reply<Followed> {
    Reply(Followed { id: asked.order_id })
}
