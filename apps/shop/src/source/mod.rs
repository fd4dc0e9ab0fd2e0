//! Where orders come from: a file that is replayed, or generated traffic. Gives products their
//! ids and prices their versions, and publishes nothing that it could not publish again under
//! the same id. May not know the services' databases.

mod store;

use tidemill::core::PublishError;
use tidemill::{Bus, Event, EventId, EventType, Key, Message, Source as EventSource, TopicName};

pub use self::store::{Request, Taken, Waiting};
use crate::database::{Database, DatabaseError, Place};
use crate::replay::Invoice;

/// The name of its database.
pub const NAME: &str = "source";

/// What generated orders look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Another seed, other orders.
    pub seed: u64,
    /// Different products.
    pub products: i64,
    /// Different users.
    pub users: u64,
    /// Most lines of an order.
    pub lines_max: u64,
    /// Most pieces of a line.
    pub quantity_max: u64,
    /// How many pieces a supplier brings of a product of which few are left; without it products
    /// sell out.
    pub supply: Option<i64>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            seed: 1,
            products: 200,
            users: 1_000,
            lines_max: 4,
            quantity_max: 5,
            supply: Some(1_000),
        }
    }
}

/// The source. Clones share its database.
#[derive(Clone)]
pub struct Source {
    database: Database,
}

impl Source {
    /// Opens its database. Blocks on the disk.
    ///
    /// # Errors
    /// [`DatabaseError::Open`].
    pub fn open(place: &Place) -> Result<Self, DatabaseError> {
        Ok(Self {
            database: Database::open(place, NAME, store::SCHEMA)?,
        })
    }

    /// What was taken in but not published when the process ended last; publish it first.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn left_over(&self) -> Result<Vec<Waiting>, DatabaseError> {
        self.database.write(store::waiting).await
    }

    /// Takes invoices in and gives what is to be published for them, prices before the orders
    /// that use them. An invoice that is known gives nothing; where it was another one then,
    /// that is told.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn take(&self, invoices: Vec<Invoice>) -> Result<Taken, DatabaseError> {
        self.database
            .write(move |on| store::take(on, &invoices))
            .await
    }

    /// The next `count` orders of generated traffic, and the prices they need.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn generate(
        &self,
        traffic: Traffic,
        count: u64,
    ) -> Result<Vec<Waiting>, DatabaseError> {
        let mixed = store::Mix {
            seed: traffic.seed,
            products: traffic.products.max(1),
            users: traffic.users.max(1),
            lines_max: traffic.lines_max.max(1),
            quantity_max: traffic.quantity_max.max(1),
            supply: traffic.supply,
        };
        self.database
            .write(move |on| store::generate(on, mixed, count))
            .await
    }

    /// Remembers that everything up to and including `through` was acknowledged by the bus.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn published(&self, through: i64) -> Result<(), DatabaseError> {
        self.database
            .write(move |on| store::published(on, through))
            .await
    }

    /// See [`Database::close`].
    pub async fn close(self) {
        self.database.close().await;
    }
}

impl Request {
    /// The order or credit note it is about.
    #[must_use]
    pub fn order_id(&self) -> Option<i64> {
        match self {
            Self::Price(_) => None,
            Self::Create(create) => create.order_id,
            Self::Return(credit) => Some(credit.order_id),
        }
    }

    /// The event, under an id that follows from what it is about; and its topic.
    ///
    /// # Errors
    /// [`PublishError::Other`] when its data cannot be written.
    pub fn to_event(&self) -> Result<(TopicName, Event), PublishError> {
        match self {
            Self::Price(price) => {
                let id = format!("price-{}-{}", price.product_id, price.version);
                event(&id, price)
            }
            Self::Create(create) => {
                event(&format!("order-{}", create.order_id.unwrap_or(0)), create)
            }
            Self::Return(credit) => event(&format!("credit-{}", -credit.order_id), credit),
        }
    }
}

fn event<M: Message>(id: &str, message: &M) -> Result<(TopicName, Event), PublishError> {
    let invalid = |why: &dyn std::fmt::Display| PublishError::Other(why.to_string());
    let name = |text| TopicName::new(text).map_err(|e| invalid(&e));
    let mut event = Event::builder(
        EventId::new(id.to_owned()).map_err(|e| invalid(&e))?,
        EventSource::new("/shop/source").map_err(|e| invalid(&e))?,
        EventType::new(M::TYPE).map_err(|e| invalid(&e))?,
    )
    .data(
        "application/json",
        message.encode().map_err(|e| invalid(&e))?,
    );
    if let Some(key) = message.key() {
        event = event.key(&Key::new(key.into_owned()).map_err(|e| invalid(&e))?);
    }
    Ok((name(M::TOPIC)?, event.build()?))
}

/// Publishes requests in their turn: neighbours of one topic in one call. Returns when all are
/// acknowledged.
///
/// # Errors
/// See [`PublishError`]; some may have been published then, and may be again.
pub async fn publish(bus: &Bus, waiting: &[Waiting]) -> Result<(), PublishError> {
    let mut prices = Vec::new();
    let mut orders = Vec::new();
    for one in waiting {
        let (topic, event) = one.request.to_event()?;
        match one.request {
            Request::Price(_) => prices.push((topic, event)),
            _ => orders.push((topic, event)),
        }
    }
    for group in [prices, orders] {
        let Some((topic, _)) = group.first() else {
            continue;
        };
        let topic = topic.clone();
        let events = group.into_iter().map(|(_, event)| event).collect();
        bus.publish(topic, events).await?;
    }
    Ok(())
}
