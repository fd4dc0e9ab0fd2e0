//! Runs the conformance suite over the remote bus: every check against a server of its own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::Running;
use tidemill_adapters::remote::Remote;
use tidemill_broker::Broker;
use tidemill_server::Config;
use tidemill_testkit::conformance::{Features, Instance, run_all};

const EVENT_MAX_BYTES: usize = 64 * 1024;

async fn remote(partitions: u32) -> Instance {
    let builder = Broker::builder()
        .in_memory(64 * 1024 * 1024)
        .default_partitions(partitions)
        .event_max_bytes(EVENT_MAX_BYTES);
    let broker = builder.open().await.unwrap();
    let config = Config::at("127.0.0.1:0".parse().unwrap());
    let running = Running::over(broker, config).await;
    let address = format!("tidemill://{}", running.address);
    let remote = Remote::connect(&address).await.unwrap();
    Instance::new(remote.bus(), Features::all(Some(EVENT_MAX_BYTES))).keeping(running)
}

async fn conforms(partitions: u32) {
    let report = run_all(|| remote(partitions)).await;
    let failed = report
        .failed
        .iter()
        .map(|(name, why)| format!("{name}: {why}"));
    let failed: Vec<String> = failed.collect();
    assert!(report.is_clean(), "{}", failed.join("\n"));
    assert!(report.skipped.is_empty(), "skipped: {:?}", report.skipped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_remote_bus_conforms() {
    conforms(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_remote_bus_conforms_with_many_partitions() {
    conforms(5).await;
}
