//! The conformance suite that every bus runs, on the broker in memory and on disk.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use tidemill_broker::Broker;
use tidemill_testkit::conformance::{Features, Instance, run_all};

const EVENT_MAX_BYTES: usize = 256 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_in_memory_conforms() {
    let report = run_all(|| async {
        let builder = Broker::builder().event_max_bytes(EVENT_MAX_BYTES);
        let broker = builder.open().await.unwrap();
        Instance::new(broker.bus(), Features::all(Some(EVENT_MAX_BYTES)))
    });
    let report = report.await;
    assert!(report.is_clean(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_on_disk_conforms() {
    let report = run_all(|| async {
        let dir = tempfile::tempdir().unwrap();
        let builder = Broker::builder().path(dir.path());
        let broker = builder
            .event_max_bytes(EVENT_MAX_BYTES)
            .open()
            .await
            .unwrap();
        Instance::new(broker.bus(), Features::all(Some(EVENT_MAX_BYTES))).keeping(dir)
    });
    let report = report.await;
    assert!(report.is_clean(), "{report:#?}");
}
