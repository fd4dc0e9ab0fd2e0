//! The services without a bus: every event goes to each service in turn, so that what is
//! tested is what they decide, and nothing else.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::{Wire, real_file, replay, small_file};
use tidemill_shop::balance::Balance;
use tidemill_shop::database::Place;
use tidemill_shop::events::{OrderCreated, OrderReturned, PriceChanged};
use tidemill_shop::shop::{Shop, ShopOptions};
use tidemill_shop::source::{Source, Traffic};
use tidemill_shop::stock::Opening;

fn options(pieces: i64) -> ShopOptions {
    ShopOptions {
        opening: Opening {
            seed: 1,
            least: pieces,
            most: pieces,
        },
        ..ShopOptions::default()
    }
}

#[tokio::test]
async fn the_small_file_has_one_of_everything_and_adds_up() {
    let shop = Shop::open(&Place::Memory, options(500)).unwrap();
    let source = Source::open(&Place::Memory).unwrap();
    let mut wire = Wire::new(&shop);
    wire.twice = true;
    let file = std::fs::read(small_file()).unwrap();
    let (tally, rejects) = replay(&source, &mut wire, &file).await;
    assert_eq!(tally.lines, 38);
    assert_eq!((tally.accepted, tally.refused), (27, 11));
    assert_eq!((tally.orders, tally.credit_notes), (11, 3));
    assert_eq!(tally.empty_invoices, 4);
    assert_eq!(tally.invoices, 18);
    assert!(rejects.contains("\n11,700004,zero price,"), "{rejects}");

    let balance = Balance::of(&shop).await.unwrap();
    assert!(balance.is_even(), "{balance:?}");
    assert_eq!(balance.confirmed, 9);
    assert_eq!(balance.returned, 3);
    // Three lost their lines, two were out of stock; the one without a number is no order.
    assert_eq!((balance.empty, balance.out_of_stock), (3, 2));
    assert_eq!(balance.matched_lines, 2);
    wire.assert_unique();
}

#[tokio::test]
async fn the_same_file_again_changes_nothing() {
    let shop = Shop::open(&Place::Memory, options(500)).unwrap();
    let source = Source::open(&Place::Memory).unwrap();
    let mut wire = Wire::new(&shop);
    let file = std::fs::read(small_file()).unwrap();
    let first = replay(&source, &mut wire, &file).await;
    let balance = Balance::of(&shop).await.unwrap();
    let published = wire.log.len();
    assert_eq!(replay(&source, &mut wire, &file).await, first);
    assert_eq!(wire.log.len(), published);

    // Even a source that lost its memory and publishes everything again.
    let forgetful = Source::open(&Place::Memory).unwrap();
    replay(&forgetful, &mut wire, &file).await;
    assert_eq!(Balance::of(&shop).await.unwrap(), balance);
    assert_eq!(wire.count::<OrderCreated>(), 11);
}

#[tokio::test]
async fn requests_may_arrive_before_their_prices() {
    let shop = Shop::open(&Place::Memory, options(500)).unwrap();
    let source = Source::open(&Place::Memory).unwrap();
    let mut wire = Wire::new(&shop);
    let orders = source.generate(Traffic::default(), 50).await.unwrap();
    let mut backwards = orders.clone();
    backwards.reverse();
    wire.run_all(&backwards).await;
    let balance = Balance::of(&shop).await.unwrap();
    assert!(balance.is_even(), "{balance:?}");
    assert_eq!(balance.confirmed, 50);
    assert_eq!(wire.count::<OrderCreated>(), 50);
}

#[tokio::test]
async fn declined_cards_cancel_orders_and_give_the_stock_back() {
    let mut options = options(500);
    options.cards.decline_one_in = 3;
    let shop = Shop::open(&Place::Memory, options).unwrap();
    let source = Source::open(&Place::Memory).unwrap();
    let mut wire = Wire::new(&shop);
    wire.twice = true;
    let orders = source.generate(Traffic::default(), 60).await.unwrap();
    wire.run_all(&orders).await;
    let balance = Balance::of(&shop).await.unwrap();
    assert!(balance.is_even(), "{balance:?}");
    assert!(
        balance.cancelled > 5 && balance.confirmed > 20,
        "{balance:?}"
    );
    assert_eq!(balance.cancelled + balance.confirmed, 60);
    wire.assert_unique();
}

#[tokio::test]
async fn the_real_file_is_taken_in_whole() {
    let Some(file) = real_file() else { return };
    let file = std::fs::read(file).unwrap();
    let shop = Shop::open(&Place::Memory, options(20_000)).unwrap();
    let source = Source::open(&Place::Memory).unwrap();
    let mut wire = Wire::new(&shop);
    let (tally, _) = replay(&source, &mut wire, &file).await;
    assert_eq!((tally.lines, tally.invoices), (10_000, 512));
    assert_eq!((tally.accepted, tally.refused), (9_954, 46));
    assert_eq!((tally.orders, tally.credit_notes), (424, 43));
    assert_eq!(tally.empty_invoices, 45);

    let balance = Balance::of(&shop).await.unwrap();
    assert!(balance.is_even(), "{balance:?}");
    let ends = balance.confirmed + balance.returned + balance.empty;
    assert_eq!((ends, balance.confirmed, balance.returned), (512, 424, 43));
    assert_eq!(balance.sold_pence, tally.ordered_pence);
    assert_eq!(balance.credited_pence, tally.credited_pence);
    assert_eq!(wire.count::<OrderReturned>(), 43);
    assert!(wire.count::<PriceChanged>() > 2_015);
    wire.assert_unique();
}
