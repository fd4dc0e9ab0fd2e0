//! The products that are always there, so that whoever opens the shop for the first time can put
//! one into a cart. Their supplier brings more when few are left. Knows the catalogue's database,
//! to publish each once, and no other.

use std::time::Duration;

use serde::de::IgnoredAny;
use tidemill::core::PublishError;
use tidemill::{Bus, BusExt as _, EventId, Outgoing, SendError};

use crate::catalogue::known_through;
use crate::database::DatabaseError;
use crate::events::{CartHeard, OrdersHeard, PriceChanged, StockHeard};
use crate::limits::SEEDS_MAX;
use crate::money::Pence;
use crate::service::{Service, source};

/// Name and price in pence of each, by id from 1 on.
const SEEDS: [(&str, i64); SEEDS_MAX as usize] = [
    ("Blue mug", 425),
    ("Tea towel", 395),
    ("Storm lantern", 1850),
    ("Bread board", 1275),
    ("Paper star", 210),
    ("Wool blanket", 4900),
    ("Egg timer", 650),
    ("Door bell", 2399),
    ("Garden twine", 199),
    ("Alarm clock", 1575),
];

/// Pieces of each at first, and whenever few are left.
const PIECES: i64 = 1_000;

/// How long the services are waited for that are to know them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Publishes the price of those that the catalogue, whose service this is, has never heard of.
/// Answers how many these were.
///
/// # Errors
/// [`DatabaseError`] of the catalogue's database; [`PublishError`] of the bus.
pub async fn seed<E>(bus: &Bus, catalogue: &Service) -> Result<usize, E>
where
    E: From<DatabaseError> + From<PublishError>,
{
    let known = known_through(catalogue, SEEDS_MAX).await?;
    let missing = (1..).zip(SEEDS).filter(|(id, _)| !known.contains(id));
    let mut published = 0;
    for (product_id, (name, pence)) in missing {
        let price = PriceChanged {
            product_id,
            version: 1,
            sku: format!("S{product_id:05}"),
            name: name.to_owned(),
            price_pence: Pence(pence),
            opening: Some(PIECES),
            supply: Some(PIECES),
        };
        let id = EventId::new(format!("seed-{product_id}")).expect("it is a legal id");
        let price = Outgoing::new(price).id(id).source(source("seed"));
        bus.send_with(price).await.map_err(|error| match error {
            SendError::Publish(why) => why,
            SendError::Message(why) => PublishError::Other(why.to_string()),
        })?;
        published += 1;
    }
    Ok(published)
}

/// Waits a while until those who are asked for a product know them all.
pub async fn known(bus: &Bus) {
    for product_id in 1..=SEEDS_MAX {
        let (orders, cart) = (OrdersHeard { product_id }, CartHeard { product_id });
        let stock = StockHeard { product_id };
        let heard: (
            Result<IgnoredAny, _>,
            Result<IgnoredAny, _>,
            Result<IgnoredAny, _>,
        ) = tokio::join!(
            bus.ask(&orders, PATIENCE),
            bus.ask(&cart, PATIENCE),
            bus.ask(&stock, PATIENCE),
        );
        if heard.0.is_err() || heard.1.is_err() || heard.2.is_err() {
            // They will, once their service is there.
            return;
        }
    }
}
