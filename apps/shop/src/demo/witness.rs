//! What the log held when the demo looked last: so that a topic that was deleted, made again or
//! cut between two runs is told as lost. Knows names and bounds of the shop's topics, and no event.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use tidemill::core::FetchError;
use tidemill::{Bus, Message};

use super::DemoError;
use crate::database::{Database, DatabaseError, Place, WorkError};
use crate::events::{
    AddToCart, CartChanged, CreateOrder, CreateProduct, OrderCreated, PaymentRequested,
    PriceChanged, RegisterUser, SetStock, ShipmentCreated, StockOrdered, StockReserved,
    UpdateShipment, UserLoggedIn,
};

/// The name of its database.
const NAME: &str = "log";

/// The partitions of the shop's topics as they were, and those that lost something since: that
/// stays known.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS kept (
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        id TEXT,
        earliest INTEGER NOT NULL,
        end INTEGER NOT NULL,
        PRIMARY KEY (topic, partition)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS lost (
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        why TEXT NOT NULL,
        PRIMARY KEY (topic, partition)
    ) WITHOUT ROWID;";

/// The topics whose events the databases follow from.
const TOPICS: [&str; 14] = [
    CreateOrder::TOPIC,
    PriceChanged::TOPIC,
    OrderCreated::TOPIC,
    StockReserved::TOPIC,
    PaymentRequested::TOPIC,
    ShipmentCreated::TOPIC,
    CartChanged::TOPIC,
    UserLoggedIn::TOPIC,
    CreateProduct::TOPIC,
    AddToCart::TOPIC,
    SetStock::TOPIC,
    UpdateShipment::TOPIC,
    RegisterUser::TOPIC,
    StockOrdered::TOPIC,
];

/// A partition by its topic's name and its number, and what it holds.
type Bounds = BTreeMap<(String, u32), Kept>;

/// What a partition holds: the offsets from `earliest` until before `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    /// Of the topic: one made again has another.
    id: Option<String>,
    earliest: u64,
    end: u64,
}

/// Remembers the log's bounds. Clones share its database.
#[derive(Clone)]
pub(super) struct Witness {
    database: Database,
}

impl Witness {
    /// Opens its database. Blocks on the disk.
    pub(super) fn open(place: &Place) -> Result<Self, DatabaseError> {
        Ok(Self {
            database: Database::open(place, NAME, SCHEMA)?,
        })
    }

    /// Looks at the log, and answers what it has lost since it was looked at first, a sentence
    /// for each partition.
    pub(super) async fn look(&self, bus: &Bus) -> Result<Vec<String>, DemoError> {
        let now = bounds(bus).await?;
        Ok(self.database.write(move |on| compare(on, &now)).await?)
    }

    /// See [`Database::close`].
    pub(super) async fn close(self) {
        self.database.close().await;
    }
}

async fn bounds(bus: &Bus) -> Result<Bounds, FetchError> {
    let mut all = Bounds::new();
    for found in bus.topics().await? {
        if !TOPICS.contains(&found.topic.as_str()) {
            continue;
        }
        for partition in found.partitions {
            let kept = Kept {
                id: found.id.map(|id| id.to_string()),
                earliest: partition.earliest.0,
                end: partition.end.0,
            };
            all.insert((found.topic.to_string(), partition.partition.0), kept);
        }
    }
    Ok(all)
}

/// Holds what is there against what was, and keeps it. What was lost is answered again each time.
fn compare(on: &Connection, now: &Bounds) -> Result<Vec<String>, WorkError> {
    for ((topic, partition), before) in read(on)? {
        let found = now.get(&(topic.clone(), partition));
        if let Some(why) = before.lost(found) {
            on.prepare_cached("INSERT OR IGNORE INTO lost VALUES (?1, ?2, ?3)")?
                .execute(params![topic, partition, why])?;
        }
    }
    for ((topic, partition), kept) in now {
        on.prepare_cached("INSERT OR REPLACE INTO kept VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                topic,
                partition,
                kept.id,
                kept.earliest.cast_signed(),
                kept.end.cast_signed()
            ])?;
    }
    let mut lost = on.prepare_cached("SELECT topic, partition, why FROM lost ORDER BY 1, 2")?;
    let mut rows = lost.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let (topic, partition): (String, u32) = (row.get(0)?, row.get(1)?);
        let why: String = row.get(2)?;
        all.push(format!("{topic}/{partition} {why}"));
    }
    Ok(all)
}

fn read(on: &Connection) -> Result<Bounds, WorkError> {
    let mut find = on.prepare_cached("SELECT topic, partition, id, earliest, end FROM kept")?;
    let mut rows = find.query([])?;
    let mut all = Bounds::new();
    while let Some(row) = rows.next()? {
        let kept = Kept {
            id: row.get(2)?,
            earliest: row.get::<_, i64>(3)?.cast_unsigned(),
            end: row.get::<_, i64>(4)?.cast_unsigned(),
        };
        all.insert((row.get(0)?, row.get(1)?), kept);
    }
    Ok(all)
}

impl Kept {
    /// What of these events is not there any more.
    fn lost(&self, found: Option<&Self>) -> Option<String> {
        let held = self.end - self.earliest;
        match found {
            _ if held == 0 => None,
            None => Some(format!("was deleted, and its {held} events are lost")),
            Some(found) if found.id != self.id => Some(format!(
                "was deleted and made again, and the {held} events that it had are lost"
            )),
            Some(found) if found.end < self.end => Some(format!(
                "ends at {} and ended at {}: {} events are lost",
                found.end,
                self.end,
                self.end - found.end
            )),
            Some(found) if found.earliest > self.earliest => Some(format!(
                "begins at {} and began at {}: {} events are lost",
                found.earliest,
                self.earliest,
                found.earliest - self.earliest
            )),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(id: &str, earliest: u64, end: u64) -> Bounds {
        let kept = Kept {
            id: Some(id.to_owned()),
            earliest,
            end,
        };
        Bounds::from([(("stock".to_owned(), 0), kept)])
    }

    #[test]
    fn what_a_topic_had_and_has_no_more_is_lost_for_good() {
        for (later, said) in [
            (
                Bounds::new(),
                "stock/0 was deleted, and its 7 events are lost",
            ),
            (bounds("b", 0, 90), "stock/0 was deleted and made again"),
            (
                bounds("a", 0, 5),
                "stock/0 ends at 5 and ended at 9: 4 events",
            ),
            (
                bounds("a", 3, 9),
                "stock/0 begins at 3 and began at 2: 1 events",
            ),
        ] {
            let on = Connection::open_in_memory().unwrap();
            on.execute_batch(SCHEMA).unwrap();
            let none = [""; 0];
            assert_eq!(compare(&on, &bounds("a", 0, 0)).unwrap(), none);
            assert_eq!(compare(&on, &bounds("a", 2, 5)).unwrap(), none);
            assert_eq!(compare(&on, &bounds("a", 2, 9)).unwrap(), none);
            let lost = compare(&on, &later).unwrap();
            assert!(lost[0].starts_with(said), "{lost:?}");
            // What comes later does not make up for it.
            assert_eq!(compare(&on, &bounds("b", 0, 99)).unwrap(), lost);
        }
    }
}
