//! The whole shop in one process: its three services, each served as its own group on one bus.
//! May not reach into a service.

use std::future::IntoFuture as _;

use tidemill::{Bus, ServeError, Served};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::database::{DatabaseError, Place};
use crate::limits::HANDLERS_MAX;
use crate::orders::Orders;
use crate::payment::{Cards, Payment};
use crate::service::Counted;
use crate::stock::{Opening, Stock};
use crate::{orders, payment, stock};

/// How the shop behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShopOptions {
    /// What lies on the shelf when a product is first seen.
    pub opening: Opening,
    /// The card processor.
    pub cards: Cards,
}

/// The three services. Clones share them.
#[derive(Clone)]
pub struct Shop {
    /// Leads orders to their end.
    pub orders: Orders,
    /// Holds pieces.
    pub stock: Stock,
    /// Takes money.
    pub payment: Payment,
}

impl Shop {
    /// Opens the three databases. Blocks on the disk.
    ///
    /// # Errors
    /// [`DatabaseError::Open`], naming the one.
    pub fn open(place: &Place, options: ShopOptions) -> Result<Self, DatabaseError> {
        Ok(Self {
            orders: Orders::open(place)?,
            stock: Stock::open(place, options.opening)?,
            payment: Payment::open(place, options.cards)?,
        })
    }

    /// What the services did since their start, together.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let services = [
            self.orders.service(),
            self.stock.service(),
            self.payment.service(),
        ];
        services
            .into_iter()
            .fold(Counted::default(), |sum, service| sum + service.counted())
    }
}

/// The three services at work.
pub struct Serving {
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<Served, ServeError>>,
}

impl Shop {
    /// Serves the three services on `bus`, each as its own group.
    #[must_use]
    pub fn serve(&self, bus: &Bus) -> Serving {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let services = [
            (orders::NAME, self.orders.router()),
            (stock::NAME, self.stock.router()),
            (payment::NAME, self.payment.router()),
        ];
        for (group, router) in services {
            let mut stopped = stopped.clone();
            let until = async move {
                // An error means that `Serving` was dropped, which stops too.
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            let serve = tidemill::serve(bus.clone(), router)
                .group(group)
                .concurrency(HANDLERS_MAX)
                .with_graceful_shutdown(until);
            tasks.spawn(serve.into_future());
        }
        Serving { stop, tasks }
    }

    /// Lets go of the services and waits until their databases are closed.
    pub async fn close(self) {
        let Self {
            orders,
            stock,
            payment,
        } = self;
        orders.close().await;
        stock.close().await;
        payment.close().await;
    }
}

impl Serving {
    /// Waits until a service ends by itself, which none does while its bus works.
    ///
    /// # Errors
    /// [`ServeError`] of the first that ended.
    pub async fn ended(&mut self) -> Result<(), ServeError> {
        match self.tasks.join_next().await {
            Some(ended) => flat(ended),
            None => std::future::pending().await,
        }
    }

    /// Drains the services: what is being handled is finished and settled.
    ///
    /// # Errors
    /// [`ServeError`] of the first that ended with one.
    pub async fn stop(mut self) -> Result<(), ServeError> {
        self.stop.send_replace(true);
        let mut result = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            result = result.and(flat(ended));
        }
        result
    }
}

fn flat(ended: Result<Result<Served, ServeError>, JoinError>) -> Result<(), ServeError> {
    match ended {
        Ok(served) => served.map(|_| ()),
        Err(panic) => Err(ServeError::Worker(panic.to_string())),
    }
}
