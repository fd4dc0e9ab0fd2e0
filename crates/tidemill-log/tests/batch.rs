//! Record batches: the bytes are Kafka's, what was put in comes out, and no bytes from outside
//! do harm. The golden batches were made with kafka-python 3.0.12 (`DefaultRecordBatchBuilder`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidemill_core::Offset;
use tidemill_log::batch::{Batch, BatchBuilder, BatchError, HEADER_BYTES, Producer, Record};
use tidemill_log::limits::BATCH_MAX_BYTES;

type Pieces = (
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(String, Option<Vec<u8>>)>,
);

fn golden(name: &str) -> Bytes {
    let path = format!(
        "{}/tests/golden/batch-v2-{name}.hex",
        env!("CARGO_MANIFEST_DIR")
    );
    let text: String = std::fs::read_to_string(path)
        .unwrap()
        .split_whitespace()
        .collect();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn push(builder: &mut BatchBuilder, (time, key, value, headers): &Pieces) {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()));
    builder
        .push(*time, key.as_deref(), value.as_deref(), headers)
        .unwrap();
}

fn built(records: &[Pieces]) -> Batch {
    let mut builder = BatchBuilder::new();
    records.iter().for_each(|record| push(&mut builder, record));
    builder.finish().unwrap()
}

fn pieces(record: &Record) -> Pieces {
    let owned = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
    let headers = record
        .headers
        .iter()
        .map(|header| (header.name.to_owned(), owned(&header.value)))
        .collect();
    (
        record.timestamp_ms,
        owned(&record.key),
        owned(&record.value),
        headers,
    )
}

fn golden_records() -> Vec<Pieces> {
    let header = |name: &str, value: &str| (name.to_owned(), Some(value.into()));
    vec![
        (
            1_700_000_000_000,
            Some(b"k".into()),
            Some(br#"{"n":1}"#.into()),
            vec![header("ce_id", "a-1"), header("ce_type", "order_created")],
        ),
        (1_700_000_000_250, None, Some(vec![]), vec![]),
        (
            1_699_999_999_000,
            Some(b"k\xff".into()),
            None,
            vec![("empty".to_owned(), None)],
        ),
        (
            1_700_000_000_000,
            Some(vec![]),
            Some(vec![b'x'; 200]),
            vec![header("content-type", "application/json")],
        ),
    ]
}

/// Sets bytes of the covered part and makes the checksum right again: what a stranger can send.
fn forged(batch: &Batch, change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = batch.as_bytes().to_vec();
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

#[test]
fn our_bytes_are_those_of_another_encoder() {
    assert_eq!(built(&golden_records()).as_bytes(), &golden("plain"));
    let mut builder = BatchBuilder::new().transactional().producer(Producer {
        id: 4711,
        epoch: 3,
        base_sequence: 99,
    });
    push(&mut builder, &(1, None, Some(b"v".into()), vec![]));
    assert_eq!(
        builder.finish().unwrap().as_bytes(),
        &golden("transactional")
    );
}

#[test]
fn bytes_of_another_encoder_are_read() {
    let (batch, rest) = Batch::parse(golden("plain")).unwrap();
    assert!(rest.is_empty());
    assert_eq!(batch.record_count(), 4);
    assert_eq!(batch.base_timestamp_ms(), 1_700_000_000_000);
    assert_eq!(batch.max_timestamp_ms(), 1_700_000_000_250);
    assert_eq!(batch.producer(), None);
    let records: Vec<_> = batch.records().map(Result::unwrap).collect();
    assert_eq!(
        records.iter().map(pieces).collect::<Vec<_>>(),
        golden_records()
    );

    let (batch, _) = Batch::parse(golden("transactional")).unwrap();
    assert!(batch.is_transactional() && !batch.is_control());
    assert_eq!(batch.producer().unwrap().base_sequence, 99);
}

#[test]
fn base_offset_and_epoch_are_patched_without_touching_the_checksum() {
    let batch = built(&golden_records());
    let crc = batch.crc();
    let before = batch.as_bytes().as_ptr();
    let batch = batch.with_base_offset(Offset(1000)).with_leader_epoch(7);
    assert_eq!(batch.as_bytes().as_ptr(), before, "patched in place");
    assert_eq!((batch.crc(), batch.leader_epoch()), (crc, 7));
    let (again, _) = Batch::parse(batch.as_bytes().clone()).unwrap();
    let offsets: Vec<_> = again.records().map(|r| r.unwrap().offset.0).collect();
    assert_eq!(offsets, [1000, 1001, 1002, 1003]);
    assert_eq!(again.next_offset(), Offset(1004));

    let shared = batch.clone();
    let moved = batch.with_base_offset(Offset(5));
    assert_eq!(shared.base_offset(), Offset(1000), "a holder keeps its own");
    assert_eq!(moved.base_offset(), Offset(5));
}

#[test]
fn reading_copies_nothing() {
    let batch = built(&golden_records());
    let range = batch.as_bytes().as_ptr_range();
    for record in batch.records().map(Result::unwrap) {
        let values = record.headers.iter().filter_map(|header| header.value);
        for piece in record.key.into_iter().chain(record.value).chain(values) {
            assert!(range.contains(&piece.as_ptr()) || piece.is_empty());
        }
    }
}

#[test]
fn several_batches_in_a_row_are_taken_one_by_one() {
    let one = built(&golden_records()[..1]);
    let two = built(&golden_records()).with_base_offset(Offset(1));
    let joined: Bytes = [&one.as_bytes()[..], two.as_bytes()].concat().into();
    let (first, rest) = Batch::parse(joined).unwrap();
    let (second, rest) = Batch::parse(rest).unwrap();
    assert_eq!((first, second), (one, two));
    assert!(rest.is_empty());
}

#[test]
fn every_truncation_is_refused() {
    let bytes = golden("plain");
    for length in 0..bytes.len() {
        let error = Batch::parse(bytes.slice(..length)).unwrap_err();
        assert!(
            matches!(error, BatchError::Truncated { have_bytes, need_bytes }
                if have_bytes == length && need_bytes > length),
            "{length}: {error}"
        );
    }
}

#[test]
fn every_flipped_bit_that_the_checksum_covers_is_refused() {
    let bytes = golden("plain");
    for at in 17..bytes.len() {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1 << (at % 8);
        let error = Batch::parse(flipped.into()).unwrap_err();
        assert!(matches!(error, BatchError::Crc { .. }), "{at}: {error}");
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let batch = built(&golden_records());
    let cases: [(&str, usize, &[u8]); 8] = [
        ("base offset is negative", 0, &[0xff]),
        (
            "last offset is out of range",
            0,
            &[0x7f, 255, 255, 255, 255, 255, 255, 255],
        ),
        ("last offset is out of range", 23, &[0x80]),
        ("more records than offsets", 57, &[0, 0, 0, 5]),
        ("more records than offsets", 57, &[0xff]),
        ("compression is none of", 22, &[0x05]),
        ("magic 1", 16, &[1]),
        ("magic 0", 16, &[0]),
    ];
    for (text, at, change) in cases {
        let bytes = forged(&batch, |bytes| {
            bytes[at..at + change.len()].copy_from_slice(change);
        });
        let error = Batch::parse(bytes).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    // Two thousand million records in a few bytes: the count must not become memory.
    let bytes = forged(&batch, |bytes| {
        bytes[23..27].copy_from_slice(&i32::MAX.to_be_bytes());
        bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    });
    let error = Batch::parse(bytes).unwrap_err().to_string();
    assert!(error.contains("more records than its bytes can hold"));
}

#[test]
fn lengths_that_lie_are_refused() {
    for length in [-1, 0, 48, i32::MIN, i32::MAX, BATCH_MAX_BYTES as i32 - 11] {
        let mut bytes = golden("plain").to_vec();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let error = Batch::parse(bytes.into()).unwrap_err();
        assert_eq!(error, BatchError::Length(length));
    }
}

#[test]
fn records_that_lie_are_refused() {
    let plain = built(&[(0, Some(b"key".into()), Some(vec![0; 5]), vec![])]);
    // Length, attributes, time, offset, key length, 3 of key, value length, 5 of value, headers.
    let cases: [(&str, usize, &[u8]); 9] = [
        ("bytes end too early", 0, &[0x7e]),
        ("its length is negative", 0, &[0x01]),
        ("a length in it is negative", 4, &[0x03]),
        ("bytes end too early", 4, &[0x7e]),
        ("longer than its parts", 8, &[0x08]),
        ("header count is negative", 14, &[0x01]),
        ("number in it does not end", 14, &[0x02]),
        ("offset does not follow", 3, &[0x02]),
        (
            "does not end or does not fit",
            4,
            &[0xff, 0xff, 0xff, 0xff, 0xff],
        ),
    ];
    for (text, at, change) in cases {
        let at = HEADER_BYTES + at;
        let bytes = forged(&plain, |bytes| {
            bytes[at..at + change.len()].copy_from_slice(change);
        });
        let (batch, _) = Batch::parse(bytes).unwrap();
        let error = batch.check_records().unwrap_err().to_string();
        assert!(error.contains(text), "wanted {text:?}: {error}");
        assert_eq!(batch.records().count(), 1, "the error ends the iteration");
    }
    // One record fewer than there is.
    let two = built(&golden_records()[..2]);
    let fewer = forged(&two, |bytes| bytes[60] = 1);
    let (batch, _) = Batch::parse(fewer).unwrap();
    let error = batch.check_records().unwrap_err().to_string();
    assert!(error.contains("bytes follow the last record"), "{error}");
}

#[test]
fn append_time_replaces_the_records_own() {
    let bytes = forged(&built(&golden_records()), |bytes| bytes[22] |= 0x08);
    let (batch, _) = Batch::parse(bytes).unwrap();
    let times = batch.records().map(|record| record.unwrap().timestamp_ms);
    assert!(times.eq([1_700_000_000_250; 4]));
}

#[test]
fn a_time_of_appending_changes_the_header_alone_and_its_checksum() {
    for how in [
        tidemill_log::CompressionType::None,
        tidemill_log::CompressionType::Lz4,
    ] {
        let plain = built(&golden_records()).compressed(how);
        let stamped = plain.clone().with_append_time_ms(1_800_000_000_000);
        let (again, rest) = Batch::parse(stamped.as_bytes().clone()).unwrap();
        assert!(rest.is_empty() && again.check_records().is_ok());
        assert_eq!(again.append_time_ms(), Some(1_800_000_000_000));
        assert_eq!(again.compression(), plain.compression());
        assert_eq!(again.as_bytes()[61..], plain.as_bytes()[61..]);
        let times = again.records().map(|record| record.unwrap().timestamp_ms);
        assert!(times.eq([1_800_000_000_000; 4]));
        assert_eq!(plain.append_time_ms(), None, "the other one is as it was");
    }
}

#[test]
fn a_builder_refuses_what_a_batch_cannot_hold() {
    assert_eq!(BatchBuilder::new().finish(), Err(BatchError::Empty));
    let mut builder = BatchBuilder::new();
    let none = std::iter::empty;
    builder.push(i64::MIN, None, None, none()).unwrap();
    let error = builder.push(1, None, None, none());
    assert_eq!(error, Err(BatchError::TimestampRange));
    let large = vec![0; BATCH_MAX_BYTES];
    let error = builder
        .push(i64::MIN, None, Some(&large), none())
        .unwrap_err();
    assert!(matches!(
        error,
        BatchError::TooLarge {
            max_bytes: BATCH_MAX_BYTES,
            ..
        }
    ));
    assert_eq!(builder.finish().unwrap().record_count(), 1);
}

fn any_record() -> impl Strategy<Value = Pieces> {
    let bytes = || option::of(vec(any::<u8>(), 0..80));
    let headers = vec((".{0,12}", bytes()), 0..5);
    (
        -1_000_000_000_000i64..1_000_000_000_000,
        bytes(),
        bytes(),
        headers,
    )
}

proptest! {
    #[test]
    fn what_was_put_in_comes_out(records in vec(any_record(), 1..20), base in 0..=u64::MAX >> 2) {
        let batch = built(&records).with_base_offset(Offset(base));
        let (again, rest) = Batch::parse(batch.as_bytes().clone()).unwrap();
        prop_assert!(rest.is_empty());
        prop_assert_eq!(&again, &batch);
        let read: Vec<_> = again.records().map(Result::unwrap).collect();
        for (index, record) in read.iter().enumerate() {
            prop_assert_eq!(record.offset.0, base + index as u64);
        }
        prop_assert_eq!(read.iter().map(pieces).collect::<Vec<_>>(), records);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(Batch::parse(bytes.into()).is_err());
    }

    #[test]
    fn arbitrary_records_under_a_right_checksum_never_panic(
        body in vec(any::<u8>(), 7..200),
        count in 1u32..30,
        changes in vec((21usize..61, any::<u8>()), 0..3),
    ) {
        let large = vec![0; body.len()];
        let batch = built(&[(0, None, Some(large), vec![])]);
        let bytes = forged(&batch, |bytes| {
            let at = bytes.len() - body.len();
            bytes[at..].copy_from_slice(&body);
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
            for (at, byte) in &changes {
                bytes[*at] = *byte;
            }
        });
        if let Ok((batch, _)) = Batch::parse(bytes) {
            let (most, seen) = (batch.record_count() as usize + 1, batch.records().count());
            prop_assert!(seen <= most);
        }
    }
}
