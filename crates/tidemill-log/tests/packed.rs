//! Partitions whose batches are packed on their way into segments.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use common::{Operation, ok, open, partition, publish, read_all};
use tidemill_core::Offset;
use tidemill_log::batch::{Batch, BatchBuilder, Compression, CompressionType, Producer};
use tidemill_log::driver::MemoryDisk;
use tidemill_log::{Disk, Options, PartitionId, PartitionSettings, Read, Reader};

const COUNT: u64 = 3_000;

fn memory() -> Arc<dyn Disk> {
    Arc::new(MemoryDisk::new(1 << 30))
}

fn packed_with(compression: CompressionType) -> PartitionSettings {
    let mut settings = PartitionSettings::default();
    settings.compression = compression;
    settings
}

fn json(n: u64) -> Vec<u8> {
    format!(
        "{{\"order\":{n},\"customer\":\"c-{}\",\"state\":\"paid\",\"total\":{}}}",
        n % 97,
        n * 7 % 10_000
    )
    .into_bytes()
}

/// The batches of a partition's segments, in order.
fn stored(reader: &Reader, id: PartitionId) -> Vec<Batch> {
    let (mut batches, mut offset) = (Vec::<Batch>::new(), Offset(0));
    loop {
        match reader.read(id, offset, 1 << 20) {
            Read::Disk(read) => batches.extend(read.run().unwrap()),
            Read::AtEnd => return batches,
            other => panic!("{other:?} at {offset}"),
        }
        offset = batches.last().unwrap().next_offset();
    }
}

#[test]
fn single_events_become_few_packed_batches_and_come_back_as_they_were() {
    let disk = memory();
    let log = open(&disk, &Options::default()).unwrap();
    let kinds = [
        CompressionType::None,
        CompressionType::Lz4,
        CompressionType::Zstd,
    ];
    for (number, kind) in kinds.into_iter().enumerate() {
        let id = partition(1, number as u32);
        ok(&log, Operation::Create(id));
        ok(&log, Operation::Configure(id, packed_with(kind)));
        for n in 0..COUNT {
            assert_eq!(publish(&log, id, &json(n)), n);
        }
    }
    log.close();
    let log = open(&disk, &Options::default()).unwrap();
    let wanted: Vec<_> = (0..COUNT).map(|n| (n, json(n))).collect();
    let mut sizes = Vec::new();
    for (number, kind) in kinds.into_iter().enumerate() {
        let id = partition(1, number as u32);
        let batches = stored(log.reader(), id);
        assert!(batches.iter().all(|b| b.check_records().is_ok()));
        let packed = batches.iter().filter(|b| b.compression() == kind.codec());
        assert!(packed.count() + 1 >= batches.len(), "{kind}: {batches:?}");
        assert!(batches.len() < 40, "{kind}: {} batches", batches.len());
        assert_eq!(read_all(log.reader(), id, 4096), wanted, "{kind}");
        sizes.push(log.reader().bounds(id).unwrap().size_bytes);
    }
    assert!(sizes[1] * 2 < sizes[0], "{sizes:?}");
    assert!(sizes[2] * 3 < sizes[0], "{sizes:?}");
    log.close();
}

#[test]
fn a_changed_setting_is_for_what_comes_then() {
    let disk = memory();
    let id = partition(1, 0);
    let log = open(&disk, &Options::default()).unwrap();
    ok(&log, Operation::Create(id));
    log.close();
    let mut wanted = Vec::new();
    for kind in [
        CompressionType::Lz4,
        CompressionType::None,
        CompressionType::Zstd,
    ] {
        let log = open(&disk, &Options::default()).unwrap();
        ok(&log, Operation::Configure(id, packed_with(kind)));
        for _ in 0..200 {
            let n = wanted.len() as u64;
            publish(&log, id, &json(n));
            wanted.push((n, json(n)));
        }
        log.close();
    }
    let log = open(&disk, &Options::default()).unwrap();
    let mut seen: Vec<_> = stored(log.reader(), id)
        .iter()
        .map(Batch::compression)
        .collect();
    seen.dedup();
    assert_eq!(
        seen,
        [Compression::Lz4, Compression::None, Compression::Zstd]
    );
    assert_eq!(read_all(log.reader(), id, 1 << 20), wanted);
    log.close();
}

#[test]
fn a_producers_batches_are_packed_one_by_one_and_keep_their_fields() {
    let disk = memory();
    let id = partition(1, 0);
    let log = open(&disk, &Options::default()).unwrap();
    ok(&log, Operation::Create(id));
    ok(
        &log,
        Operation::Configure(id, packed_with(CompressionType::Lz4)),
    );
    let mut sent = Vec::new();
    for batch in 0..20 {
        let producer = Producer {
            id: 9,
            epoch: 1,
            base_sequence: batch * 10,
        };
        let mut builder = BatchBuilder::new().producer(producer);
        for n in 0..10 {
            let value = json(n);
            builder
                .push(n as i64, None, Some(&value), std::iter::empty())
                .unwrap();
        }
        let batch = builder.finish().unwrap();
        ok(&log, Operation::Append(id, batch.clone()));
        sent.push(producer);
    }
    log.close();
    let log = open(&disk, &Options::default()).unwrap();
    let batches = stored(log.reader(), id);
    assert!(batches.iter().all(|b| b.compression() == Compression::Lz4));
    let kept: Vec<_> = batches.iter().filter_map(Batch::producer).collect();
    assert_eq!(kept, sent);
    log.close();
}
