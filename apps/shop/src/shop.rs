//! The whole shop in one process: its three services, each served as its own group on one bus.
//! May not reach into a service.

use crate::database::{DatabaseError, Place};
use crate::orders::Orders;
use crate::payment::{Cards, Payment};
use crate::service::Counted;
use crate::stock::{Opening, Stock};

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
