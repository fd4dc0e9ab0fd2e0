//! Mutated bytes under a right checksum: never a panic, and what is given out is what the header
//! promises.

use crate::forge::{CODECS, Pieces, batch_of, event, forged, pack, rebuilt, texts};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidemill_log::batch::{Batch, HEADER_BYTES};

/// Reads whatever these bytes are in every way there is.
fn survive(bytes: Bytes) -> Result<(), TestCaseError> {
    let door = Batch::from_producer(bytes.clone());
    let Ok((batch, _)) = Batch::parse(bytes) else {
        prop_assert!(door.is_err());
        return Ok(());
    };
    let most = batch.record_count() as usize + 1;
    prop_assert!(batch.records().take(most + 1).count() <= most);
    let Ok(records) = batch.checked_records() else {
        return Ok(());
    };
    let records: Result<Vec<_>, _> = records.collect();
    let records = records.expect("every record was looked at");
    prop_assert_eq!(records.len(), batch.record_count() as usize);
    let within = |offset| batch.base_offset() <= offset && offset <= batch.last_offset();
    prop_assert!(records.iter().all(|record| within(record.offset)));
    prop_assert!(records.is_sorted_by(|a, b| a.offset < b.offset));
    if let Ok(taken) = door {
        prop_assert!(texts(&taken).len() == records.len());
        prop_assert_eq!(taken.check_records(), Ok(()));
    }
    Ok(())
}

fn mutate(bytes: &mut [u8], changes: &[(usize, u8)]) {
    for (at, byte) in changes {
        if let Some(length) = bytes.len().checked_sub(1) {
            bytes[at % (length + 1)] = *byte;
        }
    }
}

fn any_record() -> impl Strategy<Value = Pieces> {
    let bytes = || option::of(vec(any::<u8>(), 0..80));
    let headers = vec((".{0,12}", bytes()), 0..5);
    let time = -1_000_000_000_000i64..1_000_000_000_000;
    (time, bytes(), bytes(), headers).prop_map(|(time, key, value, headers)| Pieces {
        time,
        key,
        value,
        headers,
    })
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} {:?}", self.time, self.key, self.value)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_records_come_back_from_every_codec(records in vec(any_record(), 1..20)) {
        let plain = batch_of(&records);
        for codec in CODECS {
            let batch = Batch::from_producer(rebuilt(&plain, codec, |body| pack(codec, body)));
            prop_assert_eq!(texts(&batch.unwrap()), texts(&plain));
        }
    }

    #[test]
    fn packed_bytes_that_were_changed_never_panic(
        count in 1u64..60,
        changes in vec((any::<usize>(), any::<u8>()), 1..6),
        header in vec((21usize..HEADER_BYTES, any::<u8>()), 0..3),
        cut in option::of(any::<usize>()),
    ) {
        let plain = batch_of(&(0..count).map(event).collect::<Vec<_>>());
        for codec in CODECS {
            let body = |body: &[u8]| {
                let mut packed = pack(codec, body);
                mutate(&mut packed, &changes);
                if let Some(cut) = cut {
                    packed.truncate(cut % packed.len());
                }
                packed
            };
            survive(forged(&plain, codec, body, |bytes| mutate(bytes, &header)))?;
        }
    }

    #[test]
    fn records_that_were_changed_before_packing_never_panic(
        count in 1u64..60,
        changes in vec((any::<usize>(), any::<u8>()), 1..6),
    ) {
        let plain = batch_of(&(0..count).map(event).collect::<Vec<_>>());
        for codec in CODECS {
            let body = |body: &[u8]| {
                let mut body = body.to_vec();
                mutate(&mut body, &changes);
                pack(codec, &body)
            };
            survive(rebuilt(&plain, codec, body))?;
        }
    }

    #[test]
    fn arbitrary_bodies_never_panic(body in vec(any::<u8>(), 0..300), prefix in any::<bool>()) {
        let plain = batch_of(&[event(1), event(2)]);
        for codec in CODECS {
            let arbitrary = |own: &[u8]| {
                // Behind what the codec begins with, the codec's own decoder is reached.
                let begin = pack(codec, own);
                let length = if prefix { 7.min(begin.len()) } else { 0 };
                [&begin[..length], &body].concat()
            };
            survive(rebuilt(&plain, codec, arbitrary))?;
        }
    }
}
