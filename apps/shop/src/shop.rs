//! The whole shop in one process: its seven services, each served as its own group on one bus.
//! May not reach into a service.

use std::collections::HashMap;
use std::future::IntoFuture as _;

use thiserror::Error;
use tidemill::core::PullError;
use tidemill::{Bus, Router, ServeError, Served};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use crate::cart::Cart;
use crate::catalogue::Catalogue;
use crate::database::{DatabaseError, Place};
use crate::limits::HANDLERS_MAX;
use crate::logistics::{Carrier, Logistics};
use crate::orders::Orders;
use crate::payment::{Cards, Payment};
use crate::service::{Counted, Service};
use crate::stock::{Opening, Stock};
use crate::users::Users;
use crate::{cart, catalogue, logistics, orders, payment, stock, users};

/// How the shop behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShopOptions {
    /// What lies on the shelf when a product is first seen.
    pub opening: Opening,
    /// The card processor.
    pub cards: Cards,
    /// Who carries shipments.
    pub carrier: Carrier,
    /// Whether plain clients of Kafka may order and carry over `order-topic` and
    /// `logistics-topic`.
    pub topics: bool,
}

/// The names of the services, of their groups and of their databases.
pub const SERVICES: [&str; 7] = [
    catalogue::NAME,
    cart::NAME,
    orders::NAME,
    payment::NAME,
    stock::NAME,
    logistics::NAME,
    users::NAME,
];

/// A group's name and its handlers.
pub type Group = (&'static str, Router);

/// One service: its name, its handlers, its database, and the group that reads the Kafka topics
/// for it.
pub type One = (&'static str, Router, Service, Option<Group>);

/// Opens the service of this name alone; `None` if there is none. Blocks on the disk.
///
/// # Errors
/// [`DatabaseError::Open`].
pub fn open_one(
    name: &str,
    place: &Place,
    options: ShopOptions,
) -> Result<Option<One>, DatabaseError> {
    macro_rules! one {
        ($module:ident, $service:expr $(, $topics:ident)?) => {{
            let service = $service?;
            let topics = None$(.or(service.$topics()))?;
            let (router, service) = (service.router(), service.service().clone());
            ($module::NAME, router, service, topics)
        }};
    }
    Ok(Some(match name {
        catalogue::NAME => one!(catalogue, Catalogue::open(place)),
        cart::NAME => one!(cart, Cart::open(place)),
        orders::NAME => one!(orders, Orders::open(place, options.topics), topics_router),
        payment::NAME => one!(payment, Payment::open(place, options.cards)),
        stock::NAME => one!(stock, Stock::open(place, options.opening)),
        logistics::NAME => one!(
            logistics,
            Logistics::open(place, options.carrier, options.topics),
            topics_router
        ),
        users::NAME => one!(users, Users::open(place)),
        _ => return Ok(None),
    }))
}

/// The seven services. Clones share them.
#[derive(Clone)]
pub struct Shop {
    /// Knows products and prices.
    pub catalogue: Catalogue,
    /// Keeps what is wanted.
    pub cart: Cart,
    /// Leads orders to their end.
    pub orders: Orders,
    /// Holds pieces.
    pub stock: Stock,
    /// Takes money.
    pub payment: Payment,
    /// Sends orders off.
    pub logistics: Logistics,
    /// Knows who is there.
    pub users: Users,
}

impl Shop {
    /// Opens the seven databases. Blocks on the disk.
    ///
    /// # Errors
    /// [`DatabaseError::Open`], naming the one.
    pub fn open(place: &Place, options: ShopOptions) -> Result<Self, DatabaseError> {
        Ok(Self {
            catalogue: Catalogue::open(place)?,
            cart: Cart::open(place)?,
            orders: Orders::open(place, options.topics)?,
            stock: Stock::open(place, options.opening)?,
            payment: Payment::open(place, options.cards)?,
            logistics: Logistics::open(place, options.carrier, options.topics)?,
            users: Users::open(place)?,
        })
    }

    /// What the services did since their start, together.
    #[must_use]
    pub fn counted(&self) -> Counted {
        self.databases()
            .into_iter()
            .fold(Counted::default(), |sum, (_, service)| {
                sum + service.counted()
            })
    }

    fn databases(&self) -> [(&'static str, &Service); 7] {
        [
            (catalogue::NAME, self.catalogue.service()),
            (cart::NAME, self.cart.service()),
            (orders::NAME, self.orders.service()),
            (stock::NAME, self.stock.service()),
            (payment::NAME, self.payment.service()),
            (logistics::NAME, self.logistics.service()),
            (users::NAME, self.users.service()),
        ]
    }

    /// The groups that were read again from their beginning, in this process or an earlier one.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn read_again(&self) -> Result<Vec<&'static str>, DatabaseError> {
        let mut groups = Vec::new();
        for (group, service) in self.databases() {
            if service.read_again().await? {
                groups.push(group);
            }
        }
        Ok(groups)
    }
}

/// Services at work.
pub struct Serving {
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<Served, ServeError>>,
    /// The service of each task.
    names: HashMap<Id, &'static str>,
}

/// A service ended, which it does by itself only when its bus does not go on.
#[derive(Debug, Error)]
pub enum ServiceEnded {
    /// Nothing is left to be read for it.
    #[error(
        "the group {0}, or a topic that it reads, was deleted while its service ran; start again \
         on the same data: a new group reads every event again, and what was done stays as it is; \
         a deleted topic is lost, and is told then"
    )]
    Deleted(&'static str),
    /// Its dispatcher failed.
    #[error("the service {0} ended: {1}")]
    Failed(&'static str, Box<ServeError>),
}

impl Shop {
    /// Each service's name and handlers, and the groups that read the Kafka topics for them.
    pub fn routers(&self) -> Vec<Group> {
        let own = [
            (catalogue::NAME, self.catalogue.router()),
            (cart::NAME, self.cart.router()),
            (orders::NAME, self.orders.router()),
            (stock::NAME, self.stock.router()),
            (payment::NAME, self.payment.router()),
            (logistics::NAME, self.logistics.router()),
            (users::NAME, self.users.router()),
        ];
        let topics = [self.orders.topics_router(), self.logistics.topics_router()];
        own.into_iter()
            .chain(topics.into_iter().flatten())
            .collect()
    }

    /// Serves the seven services on `bus`, each as its own group.
    #[must_use]
    pub fn serve(&self, bus: &Bus) -> Serving {
        Serving::of(bus, self.routers())
    }

    /// Lets go of the services and waits until their databases are closed.
    pub async fn close(self) {
        let services = self.databases().map(|(_, service)| service.clone());
        drop(self);
        for service in services {
            service.close().await;
        }
    }
}

impl Serving {
    /// Serves handlers on `bus`, each under the name of its service as its own group.
    pub fn of(bus: &Bus, routers: impl IntoIterator<Item = (&'static str, Router)>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut names = HashMap::new();
        for (group, router) in routers {
            let mut stopped = stopped.clone();
            let until = async move {
                // An error means that `Serving` was dropped, which stops too.
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            let serve = tidemill::serve(bus.clone(), router)
                .group(group)
                .concurrency(HANDLERS_MAX)
                .with_graceful_shutdown(until);
            names.insert(tasks.spawn(serve.into_future()).id(), group);
        }
        Self { stop, tasks, names }
    }

    /// No service at work.
    pub(crate) fn nothing() -> Self {
        Self {
            stop: watch::channel(false).0,
            tasks: JoinSet::new(),
            names: HashMap::new(),
        }
    }

    /// Waits until a service ends by itself, which none does while its bus works.
    pub async fn ended(&mut self) -> ServiceEnded {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            if let Err(ended) = self.flat(ended) {
                return ended;
            }
        }
        std::future::pending().await
    }

    /// Drains the services: what is being handled is finished and settled.
    ///
    /// # Errors
    /// The first that ended before by itself.
    pub async fn stop(mut self) -> Result<(), ServiceEnded> {
        self.stop.send_replace(true);
        let mut result = Ok(());
        while let Some(ended) = self.tasks.join_next_with_id().await {
            result = result.and(self.flat(ended));
        }
        result
    }

    fn flat(
        &self,
        ended: Result<(Id, Result<Served, ServeError>), JoinError>,
    ) -> Result<(), ServiceEnded> {
        let (id, result) = match ended {
            Ok((id, served)) => (id, served.map(|_| ())),
            Err(panic) => (panic.id(), Err(ServeError::Worker(panic.to_string()))),
        };
        let name = self.names.get(&id).copied().unwrap_or("shop");
        result.map_err(|error| match error {
            ServeError::Pull(PullError::Gone) => ServiceEnded::Deleted(name),
            other => ServiceEnded::Failed(name, Box::new(other)),
        })
    }
}
