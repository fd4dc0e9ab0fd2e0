//! Topics that are deleted, or made again, between two runs of the demo: the next one says that
//! their events are lost, and ends at once.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::future::pending;
use std::path::Path;
use std::time::Duration;

use tidemill::TopicName;
use tidemill::broker::{Broker, CreateTopic};
use tidemill_shop::database::Place;
use tidemill_shop::demo::{self, DemoOptions, DemoReport, Format, Load};
use tidemill_shop::shop::ShopOptions;

/// Shorter than the demo's own patience with orders that do not end.
const LONGEST: Duration = Duration::from_secs(20);

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/orders.csv");

async fn replay(broker: &Broker, folder: &Path) -> (DemoReport, String) {
    let options = DemoOptions {
        place: Place::Folder(folder.to_owned()),
        shop: ShopOptions::default(),
        load: Load::Replay {
            file: FILE.into(),
            rejects: folder.join("rejects.csv"),
        },
        run_for: None,
        http: None,
        format: Format::Text,
    };
    let mut output = Vec::new();
    let run = demo::run(broker.bus(), options, &mut output, pending());
    let report = tokio::time::timeout(LONGEST, run).await;
    let report = report.expect("it waits for nothing").unwrap();
    (report, String::from_utf8(output).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_deleted_between_two_runs_is_told_as_lost() {
    for name in ["order_requests", "catalogue", "orders", "stock", "payments"] {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::in_memory();
        let (first, output) = replay(&broker, folder.path()).await;
        assert!(first.is_success(), "{output}");
        let topic = TopicName::new(name).unwrap();
        broker.delete_topic(&topic).await.unwrap();
        let (deleted, output) = replay(&broker, folder.path()).await;
        assert!(!deleted.is_success(), "{name}: {output}");
        let said = format!("{name}/0 was deleted, and its ");
        assert!(deleted.lost[0].starts_with(&said), "{deleted:?}");
        assert_eq!(deleted.lost.len(), 1, "{deleted:?}");
        assert!(
            output.contains("restore the folder from a backup"),
            "{output}"
        );
        assert!(!output.contains("nothing lost"), "{output}");

        // One made again in its place does not hide it.
        let created = broker.create_topic(topic, CreateTopic::default()).await;
        created.unwrap();
        let (again, output) = replay(&broker, folder.path()).await;
        assert_eq!(again.lost, deleted.lost, "{output}");
        assert!(!again.is_success(), "{output}");
    }
}
