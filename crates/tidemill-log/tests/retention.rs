//! Settings of partitions, and what the log removes because of them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use common::{Operation, ok, open, partition, publish, run};
use tidemill_log::driver::MemoryDisk;
use tidemill_log::{Cleanup, Disk, Options, PartitionSettings};

fn memory() -> Arc<dyn Disk> {
    Arc::new(MemoryDisk::new(1 << 30))
}

#[test]
fn settings_survive_with_and_without_a_snapshot() {
    let disk = memory();
    let (one, other) = (partition(1, 0), partition(1, 1));
    let mut settings = PartitionSettings::default();
    settings.cleanup = Cleanup::CompactAndDelete;
    settings.retention_ms = Some(60_000);
    settings.segment_bytes = Some(4096);
    let log = open(&disk, &Options::default()).unwrap();
    ok(&log, Operation::Create(one));
    assert!(run(&log, Operation::Configure(other, settings)).is_err());
    ok(&log, Operation::Configure(one, settings));
    assert_eq!(log.reader().settings(one), Some(settings));
    assert_eq!(log.reader().settings(other), None);
    publish(&log, one, b"record");
    log.close();
    // From the snapshot that the closing made, then from that and the journal behind it.
    for ms in [1, 2] {
        let log = open(&disk, &Options::default()).unwrap();
        assert_eq!(log.reader().settings(one), Some(settings));
        settings.segment_ms = Some(ms);
        ok(&log, Operation::Configure(one, settings));
        log.close();
    }
    let log = open(&disk, &Options::default()).unwrap();
    ok(&log, Operation::Delete(one));
    ok(&log, Operation::Create(one));
    assert_eq!(
        log.reader().settings(one),
        Some(PartitionSettings::default())
    );
}
