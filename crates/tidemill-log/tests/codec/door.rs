//! Batches that lie: each lie alone, plain and under every codec, at the door and when read.

use crate::forge::{CODECS, batch_of, event, forged, golden, pack, rebuilt, texts};
use bytes::Bytes;
use tidemill_log::batch::{Batch, BatchBuilder, BatchError, Compression, HEADER_BYTES, Producer};

fn three() -> Batch {
    batch_of(&[event(1), event(2), event(4)])
}

/// One record in the fewest bytes: length, attributes, time, offset, key length, 3 of key, value
/// length, 5 of value, headers.
fn one() -> Batch {
    let mut builder = BatchBuilder::new();
    builder
        .push(9, Some(b"key"), Some(&[0; 5]), std::iter::empty())
        .unwrap();
    builder.finish().unwrap()
}

/// A batch of every codec whose body was changed before it was packed.
fn lying(batch: &Batch, change: impl Fn(&mut Vec<u8>)) -> Vec<(Compression, Bytes)> {
    let bytes = CODECS.map(|codec| {
        let body = |body: &[u8]| {
            let mut body = body.to_vec();
            change(&mut body);
            pack(codec, &body)
        };
        (codec, rebuilt(batch, codec, body))
    });
    bytes.into()
}

/// Neither the door nor a reader takes it; `text` says why.
fn is_refused(codec: Compression, bytes: &Bytes, text: &str) {
    let error = Batch::from_producer(bytes.clone()).unwrap_err().to_string();
    assert!(error.contains(text), "{codec}, wanted {text:?}: {error}");
    let (batch, _) = Batch::parse(bytes.clone()).unwrap();
    let error = batch.check_records().unwrap_err().to_string();
    assert!(error.contains(text), "{codec}, wanted {text:?}: {error}");
    assert!(batch.checked_records().is_err());
}

#[test]
fn records_that_lie_are_refused_in_every_codec() {
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
        let forged = lying(&one(), |body| {
            body[at..at + change.len()].copy_from_slice(change);
        });
        for (codec, bytes) in forged {
            is_refused(codec, &bytes, text);
        }
    }
}

#[test]
fn counts_that_lie_are_refused_in_every_codec() {
    for codec in CODECS {
        let with = |at: usize, field: i32| {
            forged(
                &three(),
                codec,
                |body| pack(codec, body),
                |bytes| bytes[at..at + 4].copy_from_slice(&field.to_be_bytes()),
            )
        };
        // One record fewer than there is, and one more.
        let fewer = with(57, 2);
        let error = Batch::from_producer(fewer.clone()).unwrap_err().to_string();
        assert!(error.contains("last offset is not that"), "{error}");
        let (batch, _) = Batch::parse(fewer).unwrap();
        let error = batch.check_records().unwrap_err().to_string();
        assert!(error.contains("bytes follow the last record"), "{error}");
        let error = Batch::parse(with(57, 4)).unwrap_err().to_string();
        assert!(error.contains("more records than offsets"), "{error}");
        // More offsets than records, fewer offsets than records.
        let error = Batch::from_producer(with(23, 9)).unwrap_err().to_string();
        assert!(error.contains("last offset is not that"), "{error}");
        assert!(Batch::from_producer(with(23, 1)).is_err());
        // Both together: a record too few in the body.
        let both = forged(
            &three(),
            codec,
            |body| pack(codec, body),
            |bytes| {
                bytes[23..27].copy_from_slice(&3i32.to_be_bytes());
                bytes[57..61].copy_from_slice(&4i32.to_be_bytes());
            },
        );
        is_refused(codec, &both, "record 3 of the batch is wrong");
        // Two thousand million records, whatever the body holds.
        let huge = forged(
            &three(),
            codec,
            |body| pack(codec, body),
            |bytes| {
                bytes[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
                bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
            },
        );
        let error = Batch::parse(huge).unwrap_err().to_string();
        assert!(error.contains("more records than its bytes"), "{error}");
    }
}

#[test]
fn offsets_with_a_gap_are_refused_from_a_producer_and_read_from_a_log() {
    // Two records at 0 and 2, as a compaction leaves them.
    let plain = batch_of(&[event(1), event(2)]);
    for codec in CODECS {
        let gap = |body: &[u8]| {
            // A length of two bytes, the attributes and a time of one byte come before.
            let first = usize::from(body[0] & 0x7f) | usize::from(body[1]) << 7;
            let at = 2 + first / 2 + 2 + 1 + 1;
            assert_eq!(body[at], 2, "the second record's offset");
            let mut body = body.to_vec();
            body[at] = 4;
            pack(codec, &body)
        };
        let bytes = forged(&plain, codec, gap, |bytes| bytes[26] = 2);
        let error = Batch::from_producer(bytes.clone()).unwrap_err().to_string();
        assert!(error.contains("last offset is not that"), "{error}");
        let (batch, _) = Batch::parse(bytes).unwrap();
        let offsets = batch.checked_records().unwrap();
        let offsets: Vec<_> = offsets.map(|r| r.unwrap().offset.0).collect();
        assert_eq!(offsets, [0, 2], "{codec}");
    }
}

#[test]
fn a_wrong_largest_timestamp_is_named_and_put_right_at_the_door() {
    for codec in CODECS {
        for stated in [-1i64, 0, 1_700_000_000_073, 1_800_000_000_000] {
            let bytes = forged(
                &three(),
                codec,
                |body| pack(codec, body),
                |bytes| bytes[35..43].copy_from_slice(&stated.to_be_bytes()),
            );
            let (batch, _) = Batch::parse(bytes.clone()).unwrap();
            let error = batch.check_records().unwrap_err();
            let actual_ms = 1_700_000_000_074;
            assert!(
                matches!(error, BatchError::MaxTimestamp { stated_ms, actual_ms: actual }
                if stated_ms == stated && actual == actual_ms)
            );
            assert!(error.to_string().contains("send the largest one"));
            let batch = Batch::from_producer(bytes).unwrap();
            assert_eq!(batch.max_timestamp_ms(), actual_ms);
            assert_eq!(texts(&batch), texts(&three()));
            assert_eq!(Batch::parse(batch.as_bytes().clone()).unwrap().0, batch);
        }
    }
}

#[test]
fn what_is_the_logs_own_is_refused_from_a_producer() {
    let refused = |bytes: Bytes, text: &str| {
        let error = Batch::from_producer(bytes).unwrap_err().to_string();
        assert!(error.contains(text), "wanted {text:?}: {error}");
    };
    for codec in CODECS {
        let flagged = |flag: u8| {
            forged(
                &three(),
                codec,
                |body| pack(codec, body),
                |bytes| bytes[22] |= flag,
            )
        };
        refused(flagged(0x20), "control records");
        refused(flagged(0x08), "that of appending");
        let empty = forged(
            &three(),
            codec,
            |_| Vec::new(),
            |bytes| bytes[57..61].copy_from_slice(&[0; 4]),
        );
        refused(empty.clone(), "holds no record");
        // A compaction may leave such a one.
        assert_eq!(Batch::parse(empty).unwrap().0.records().count(), 0);
    }
    let two = [golden("java-lz4"), golden("java-lz4")].concat();
    refused(two.into(), "one batch at a time");
    refused(golden("java-lz4").slice(..200), "only 200 are there");
}

#[test]
fn a_producers_own_fields_stay_as_they_came() {
    let mut builder = BatchBuilder::new().transactional().producer(Producer {
        id: 12,
        epoch: 1,
        base_sequence: 3,
    });
    event(1).push(&mut builder);
    let sent = builder.finish().unwrap();
    let batch = Batch::from_producer(sent.as_bytes().clone()).unwrap();
    assert_eq!(batch, sent);
}

#[test]
fn broken_bodies_are_refused_with_the_codecs_name() {
    for codec in &CODECS[1..] {
        let packed = pack(*codec, &three().as_bytes()[HEADER_BYTES..]);
        let cut = packed[..packed.len() / 2].to_vec();
        let longer = [&packed[..], b"more"].concat();
        for body in [Vec::new(), vec![0], vec![0xff; 40], cut, longer] {
            let bytes = rebuilt(&three(), *codec, |_| body.clone());
            let refused = Batch::from_producer(bytes.clone());
            assert!(refused.is_err(), "{codec}: {body:?}");
            let (batch, _) = Batch::parse(bytes).unwrap();
            assert!(batch.check_records().is_err());
        }
        let bytes = rebuilt(&three(), *codec, |_| vec![0xff; 40]);
        let error = Batch::from_producer(bytes).unwrap_err().to_string();
        let text = format!("the batch's {codec} data cannot be unpacked");
        assert!(error.starts_with(&text), "{error}");
    }
}
