//! A group that is deleted while the demo runs: the demo says so and draws its account, and the
//! next one reads everything again without a second effect.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::future::pending;
use std::time::Duration;

use tidemill::broker::Broker;
use tidemill::core::bus::{Advanced, Watch};
use tidemill::{Bus, GroupName, Message};
use tidemill_shop::database::Place;
use tidemill_shop::demo::{self, DemoOptions, DemoReport, Format, Load};
use tidemill_shop::events::OrderCreated;
use tidemill_shop::shop::ShopOptions;
use tidemill_shop::source::Traffic;
use tidemill_shop::stock::Opening;

fn options(place: Place, run_for: Option<Duration>) -> DemoOptions {
    DemoOptions {
        place,
        shop: ShopOptions {
            opening: Opening {
                seed: 1,
                least: 20_000,
                most: 30_000,
            },
            ..ShopOptions::default()
        },
        load: Load::Traffic {
            traffic: Traffic::default(),
            rate: 100,
        },
        run_for,
        http: None,
        format: Format::Text,
    }
}

async fn run(bus: Bus, options: DemoOptions) -> (DemoReport, String) {
    let mut output = Vec::new();
    let report = demo::run(bus, options, &mut output, pending()).await;
    (report.unwrap(), String::from_utf8(output).unwrap())
}

/// Waits until the group has a member and the topic of orders so many events.
async fn until_at_work(broker: &Broker, watch: &mut dyn Watch, group: &GroupName, events: u64) {
    loop {
        let advanced = watch.next().await.unwrap();
        let there = |a: &Advanced| a.topic.as_str() == OrderCreated::TOPIC && a.end.0 >= events;
        let info = broker.group(group);
        let at_work = info.is_some_and(|info| !info.members.is_empty());
        if at_work && advanced.iter().any(there) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_group_ends_the_demo_with_its_account_and_the_next_one_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().to_owned());
    let broker = Broker::in_memory();
    for group in ["orders", "stock", "payment"] {
        let mut watch = broker.bus().watch().unwrap();
        let group = GroupName::new(group).unwrap();
        let deleted = async {
            until_at_work(&broker, &mut *watch, &group, 40).await;
            broker.delete_group(&group).await.unwrap();
        };
        let running = run(broker.bus(), options(place.clone(), None));
        let ((report, output), ()) = tokio::join!(running, deleted);
        assert!(!report.is_success(), "{output}");
        let told = format!("the group {group}, or a topic that it reads, was deleted while");
        assert!(report.trouble[0].starts_with(&told), "{report:?}");
        assert!(output.contains(&told), "{output}");
        assert!(output.contains("\n  money     "), "{output}");
        assert!(!output.contains("Some("), "{output}");
        assert_eq!(report.complaints, [""; 0], "{output}");
    }
    let again = Some(Duration::from_millis(300));
    let (report, output) = run(broker.bus(), options(place, again)).await;
    assert!(report.is_success(), "{output}");
    assert_eq!(report.read_again, ["orders", "stock", "payment"]);
    assert!(report.log.doubled > 0, "{output}");
    let ended = report.balance.confirmed + report.balance.cancelled;
    assert_eq!(ended, report.log.accepted, "{output}");
}
