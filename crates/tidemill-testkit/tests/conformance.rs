//! Runs the conformance suite over the embedded broker, in memory and on disk, where a topic has
//! many partitions. (With one partition the broker's own tests run it.)

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use tidemill_broker::{Broker, Builder};
use tidemill_testkit::conformance::{Features, Instance, Report, run_all};

const EVENT_MAX_BYTES: usize = 64 * 1024;
const PARTITIONS: u32 = 5;

async fn open(builder: Builder) -> Broker {
    let builder = builder.default_partitions(PARTITIONS);
    builder
        .event_max_bytes(EVENT_MAX_BYTES)
        .open()
        .await
        .unwrap()
}

async fn in_memory() -> Instance {
    let broker = open(Broker::builder().in_memory(64 * 1024 * 1024)).await;
    Instance::new(broker.bus(), Features::all(Some(EVENT_MAX_BYTES))).keeping(broker)
}

async fn on_disk() -> Instance {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(Broker::builder().path(folder.path())).await;
    let features = Features::all(Some(EVENT_MAX_BYTES));
    // The folder goes last.
    Instance::new(broker.bus(), features).keeping((broker, folder))
}

fn assert_clean(report: &Report) {
    let failed: Vec<String> = report
        .failed
        .iter()
        .map(|(name, why)| format!("{name}: {why}"))
        .collect();
    assert!(report.is_clean(), "{}", failed.join("\n"));
    assert!(report.skipped.is_empty(), "skipped: {:?}", report.skipped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_in_memory_conforms_with_many_partitions() {
    assert_clean(&run_all(in_memory).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_on_disk_conforms_with_many_partitions() {
    assert_clean(&run_all(on_disk).await);
}
