//! Packed batches: those of Kafka's own client are read, ours are what they were before, and
//! what lies, is broken or unpacks without end is refused whole.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod bombs;
mod door;
mod forge;
mod mutated;

use forge::{CODECS, batch_of, event, golden, pack, rebuilt, texts};
use tidemill_core::Offset;
use tidemill_log::batch::{Batch, BatchBuilder, Compression, CompressionType, Producer};

/// What the golden batches of Kafka's Java client hold, made with `MemoryRecords.withRecords`.
fn golden_texts() -> Vec<String> {
    (0..100)
        .map(|n: usize| {
            let key = (!n.is_multiple_of(3)).then(|| format!("k{n}"));
            let value = (n % 10 != 9).then(|| format!("event {n}; ").repeat(90));
            let time = 1_700_000_000_000 + (n * 37) % 100;
            format!("{n} {time} {key:?} {value:?} ce_id=Some(\"a-{n}\") none=None")
        })
        .collect()
}

#[test]
fn batches_of_kafkas_own_client_are_read_in_every_codec() {
    for (codec, name) in [
        (Compression::Gzip, "java-gzip"),
        (Compression::Snappy, "java-snappy"),
        (Compression::Lz4, "java-lz4"),
        (Compression::Zstd, "java-zstd"),
    ] {
        let batch = Batch::from_producer(golden(name)).unwrap();
        assert_eq!(batch.compression(), codec);
        assert_eq!(texts(&batch), golden_texts(), "{codec}");
    }
}

#[test]
fn a_packed_batch_of_another_client_is_read_and_moved() {
    let batch = Batch::from_producer(golden("gzip")).unwrap();
    assert_eq!(batch.compression(), Compression::Gzip);
    let moved = batch.with_base_offset(Offset(70));
    let offsets: Vec<_> = moved.records().map(|r| r.unwrap().offset.0).collect();
    assert_eq!(offsets, [70, 71, 72]);
    assert_eq!(moved.check_records(), Ok(()));
}

#[test]
fn snappy_without_any_framing_is_read() {
    let plain = batch_of(&[event(0), event(1)]);
    let packed = rebuilt(&plain, Compression::Snappy, |body| {
        snap::raw::Encoder::new().compress_vec(body).unwrap()
    });
    let batch = Batch::from_producer(packed).unwrap();
    assert_eq!(texts(&batch), texts(&plain));
}

#[test]
fn every_codec_gives_back_what_was_packed() {
    for count in [1, 2, 700] {
        let plain = batch_of(&(0..count).map(event).collect::<Vec<_>>());
        for codec in CODECS {
            let batch = Batch::from_producer(rebuilt(&plain, codec, |body| pack(codec, body)));
            let batch = batch.unwrap();
            assert_eq!(batch.compression(), codec);
            assert_eq!(texts(&batch), texts(&plain), "{count} records, {codec}");
        }
    }
}

#[test]
fn packing_keeps_everything_but_the_size() {
    let mut builder = BatchBuilder::new().transactional().producer(Producer {
        id: 7,
        epoch: 2,
        base_sequence: 40,
    });
    for n in 0..300 {
        event(n).push(&mut builder);
    }
    let plain = builder.finish().unwrap();
    let plain = plain.with_base_offset(Offset(900)).with_leader_epoch(5);
    for to in [CompressionType::Lz4, CompressionType::Zstd] {
        if !to.is_built() {
            continue;
        }
        let packed = plain.clone().compressed(to);
        assert_eq!(packed.compression(), to.codec());
        assert!(packed.size_bytes() * 3 < plain.size_bytes(), "{packed:?}");
        let (packed, rest) = Batch::parse(packed.as_bytes().clone()).unwrap();
        assert!(rest.is_empty());
        assert_eq!(packed.check_records(), Ok(()));
        assert_eq!(texts(&packed), texts(&plain));
        assert_eq!(packed.base_offset(), Offset(900));
        assert_eq!(packed.next_offset(), Offset(1200));
        assert_eq!(packed.leader_epoch(), 5);
        assert_eq!(packed.producer(), plain.producer());
        assert!(packed.is_transactional());
        assert_eq!(packed.base_timestamp_ms(), plain.base_timestamp_ms());
        assert_eq!(packed.max_timestamp_ms(), plain.max_timestamp_ms());
        assert_eq!(packed.clone().compressed(CompressionType::Lz4), packed);
    }
}

#[test]
fn what_does_not_become_smaller_stays_as_it_is() {
    let small = batch_of(&[forge::Pieces {
        time: 1,
        key: None,
        value: Some(vec![7]),
        headers: vec![],
    }]);
    for to in [
        CompressionType::None,
        CompressionType::Lz4,
        CompressionType::Zstd,
    ] {
        assert_eq!(small.clone().compressed(to), small);
    }
    let many = batch_of(&(0..50).map(event).collect::<Vec<_>>());
    assert_eq!(many.clone().compressed(CompressionType::None), many);
}

#[test]
fn compression_types_have_names() {
    for to in [
        CompressionType::None,
        CompressionType::Lz4,
        CompressionType::Zstd,
    ] {
        assert_eq!(to.to_string().parse(), Ok(to));
    }
    let error = "gzip".parse::<CompressionType>().unwrap_err();
    assert!(error.contains("use none, lz4 or zstd"), "{error}");
}
