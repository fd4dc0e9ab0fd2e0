//! Merges small batches on their way into a segment, so that a million single publishes do not
//! leave a million headers behind, and packs them where the partition's settings say so.
//!
//! Only plain batches are merged: uncompressed, no producer id, no transaction, no control
//! records, of one leader epoch and of one time of appending or none, whose offsets follow each
//! other without a gap. Offsets, times, keys, values and headers of the records stay what they are.
//! A batch that may not be merged is packed by itself, but for control records and what its
//! producer packed already.

use bytes::Bytes;

use crate::batch::{Batch, BatchBuilder, Compression, CompressionType};
use crate::limits::{
    MERGE_BELOW_BYTES, MERGED_BATCH_BYTES, PACK_BELOW_BYTES, PACK_MAX_BYTES, PACKED_BATCH_BYTES,
};

/// How many of `batches`, from the first on, go into a segment as one, and what that one is.
/// `None` where there is none.
pub(crate) fn next<'a>(
    batches: impl Iterator<Item = &'a Batch> + Clone,
    compression: CompressionType,
) -> Option<(usize, Batch)> {
    let first = batches.clone().next()?;
    let (count, batch) = merge(batches, compression).unwrap_or_else(|| (1, first.clone()));
    if batch.size_bytes() > PACK_MAX_BYTES {
        return Some((count, batch));
    }
    Some((count, batch.compressed(compression)))
}

/// Two or more batches as one. One batch stays as it is.
fn merge<'a>(
    batches: impl Iterator<Item = &'a Batch> + Clone,
    compression: CompressionType,
) -> Option<(usize, Batch)> {
    let (below_bytes, most_bytes) = match compression {
        CompressionType::None => (MERGE_BELOW_BYTES, MERGED_BATCH_BYTES),
        _ => (PACK_BELOW_BYTES, PACKED_BATCH_BYTES),
    };
    let is_small = |batch: &Batch| batch.size_bytes() < below_bytes && is_mergeable(batch);
    let first = batches.clone().next()?;
    if !is_small(first) {
        return None;
    }
    let (mut count, mut bytes, mut next) = (0, 0, first.base_offset());
    for batch in batches.clone() {
        let follows = batch.base_offset() == next && batch.leader_epoch() == first.leader_epoch();
        let alike = batch.append_time_ms() == first.append_time_ms();
        if !follows || !alike || !is_small(batch) || bytes + batch.size_bytes() > most_bytes {
            break;
        }
        count += 1;
        bytes += batch.size_bytes();
        next = batch.next_offset();
    }
    if count < 2 {
        return None;
    }
    let mut builder = BatchBuilder::with_capacity(bytes);
    for batch in batches.take(count) {
        // What cannot be rebuilt exactly stays as it is.
        add(&mut builder, batch)?;
    }
    let merged = builder.finish().ok()?;
    let merged = merged.with_base_offset(first.base_offset());
    let merged = merged.with_leader_epoch(first.leader_epoch());
    let merged = match first.append_time_ms() {
        Some(time_ms) => merged.with_append_time_ms(time_ms),
        None => merged,
    };
    (merged.next_offset() == next).then_some((count, merged))
}

fn is_mergeable(batch: &Batch) -> bool {
    let records = batch.next_offset().0 - batch.base_offset().0;
    batch.compression() == Compression::None
        && batch.producer().is_none()
        && !batch.is_transactional()
        && !batch.is_control()
        && u64::from(batch.record_count()) == records
}

fn add(builder: &mut BatchBuilder, batch: &Batch) -> Option<()> {
    for record in batch.records() {
        let record = record.ok()?;
        let headers: Vec<(&str, Option<Bytes>)> = record
            .headers
            .iter()
            .map(|header| (header.name, header.value))
            .collect();
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, value.as_deref()));
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder
            .push(record.timestamp_ms, key, value, headers)
            .ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Producer;
    use tidemill_core::Offset;

    fn batch(base: u64, records: u64) -> Batch {
        build(BatchBuilder::new(), base, records)
    }

    fn build(mut builder: BatchBuilder, base: u64, records: u64) -> Batch {
        for n in base..base + records {
            let value = n.to_string().into_bytes();
            let headers = [("ce_id", Some(value.as_slice())), ("none", None)];
            let key = (n % 3 == 0).then_some(value.as_slice());
            let value = (n % 5 != 0).then_some(value.as_slice());
            builder
                .push(1_000 - n as i64, key, value, headers.into_iter())
                .unwrap();
        }
        builder
            .finish()
            .unwrap()
            .with_base_offset(Offset(base))
            .with_leader_epoch(7)
    }

    fn records(batches: &[Batch]) -> Vec<String> {
        let records = batches.iter().flat_map(Batch::records);
        let text = |record: crate::batch::Record| {
            let headers: Vec<_> = record.headers.iter().map(|h| format!("{h:?}")).collect();
            let (key, value) = (record.key, record.value);
            format!(
                "{} {} {key:?} {value:?} {headers:?}",
                record.offset, record.timestamp_ms
            )
        };
        records.map(|record| text(record.unwrap())).collect()
    }

    #[test]
    fn merging_keeps_every_record_as_it_was() {
        let batches = vec![batch(10, 1), batch(11, 3), batch(14, 1), batch(15, 2)];
        let (count, merged) = merge(batches.iter(), CompressionType::None).unwrap();
        assert_eq!(count, 4);
        assert_eq!(merged.base_offset(), Offset(10));
        assert_eq!(merged.next_offset(), Offset(17));
        assert_eq!(merged.leader_epoch(), 7);
        assert_eq!(records(&[merged]), records(&batches));
    }

    #[test]
    fn the_time_of_appending_is_kept_and_parts_what_is_merged() {
        let at = |base, time_ms| batch(base, 2).with_append_time_ms(time_ms);
        let batches = [at(10, 5000), at(12, 5000), at(14, 5001), at(16, 5001)];
        for to in [CompressionType::None, CompressionType::Lz4] {
            let (count, merged) = next(batches.iter(), to).unwrap();
            assert_eq!((count, merged.append_time_ms()), (2, Some(5000)));
            assert_eq!(merged.check_records(), Ok(()));
            assert_eq!(records(&[merged]), records(&batches[..2]));
        }
        let plain = [batch(10, 2), at(12, 5000)];
        assert_eq!(merge(plain.iter(), CompressionType::None), None);
    }

    #[test]
    fn what_must_stay_by_itself_is_not_merged() {
        let producer = Producer {
            id: 4,
            epoch: 0,
            base_sequence: 0,
        };
        let special = [
            build(BatchBuilder::new().producer(producer), 11, 1),
            build(
                BatchBuilder::new().producer(producer).transactional(),
                11,
                1,
            ),
            batch(11, 1).with_leader_epoch(8),
            batch(12, 1),
        ];
        for other in special {
            assert!(
                merge([batch(10, 1), other.clone()].iter(), CompressionType::None).is_none(),
                "{other:?}"
            );
            let three = [batch(9, 1), batch(10, 1), other];
            assert_eq!(
                merge(three.iter(), CompressionType::None).map(|(count, _)| count),
                Some(2)
            );
        }
        assert!(merge([].iter(), CompressionType::None).is_none());
        assert!(merge([batch(0, 1)].iter(), CompressionType::None).is_none());
        assert!(
            merge([batch(0, 200), batch(200, 1)].iter(), CompressionType::None).is_none(),
            "the first is large"
        );
    }

    #[test]
    fn small_batches_are_merged_and_packed_with_all_that_they_hold() {
        let batches: Vec<_> = (0..900).map(|n| batch(n, 1)).collect();
        for to in [CompressionType::Lz4, CompressionType::Zstd] {
            let (count, packed) = next(batches.iter(), to).unwrap();
            assert!(count > 300, "{count} in one");
            if to.is_built() {
                assert_eq!(packed.compression(), to.codec());
                assert!(packed.size_bytes() < PACKED_BATCH_BYTES / 2, "{packed:?}");
            }
            assert_eq!(packed.check_records(), Ok(()));
            assert_eq!(packed.next_offset(), Offset(count as u64));
            assert_eq!(packed.leader_epoch(), 7);
            assert_eq!(records(&[packed]), records(&batches[..count]));
        }
        let (count, plain) = next(batches.iter(), CompressionType::None).unwrap();
        assert_eq!(plain.compression(), Compression::None);
        assert!(count > 50);
    }

    #[test]
    fn what_must_stay_by_itself_is_packed_by_itself() {
        let producer = Producer {
            id: 4,
            epoch: 0,
            base_sequence: 0,
        };
        let idempotent = build(BatchBuilder::new().producer(producer), 10, 100);
        let transactional = build(
            BatchBuilder::new().producer(producer).transactional(),
            10,
            100,
        );
        for own in [idempotent, transactional] {
            let both = [own.clone(), batch(110, 1)];
            let (count, packed) = next(both.iter(), CompressionType::Lz4).unwrap();
            assert_eq!((count, packed.compression()), (1, Compression::Lz4));
            assert_eq!(packed.producer(), Some(producer));
            assert_eq!(packed.is_transactional(), own.is_transactional());
            assert_eq!(records(std::slice::from_ref(&packed)), records(&[own]));
            // What is packed already stays as it is, and is merged with nothing.
            let again = [packed.clone(), batch(110, 1)];
            let stays = next(again.iter(), CompressionType::Zstd);
            assert_eq!(stays, Some((1, packed)));
        }
    }

    #[test]
    fn a_batch_that_would_hold_up_the_log_is_not_packed() {
        let mut builder = BatchBuilder::new();
        let value = vec![7; PACK_MAX_BYTES];
        builder
            .push(0, None, Some(&value), std::iter::empty())
            .unwrap();
        let large = builder.finish().unwrap();
        let stays = next([large.clone()].iter(), CompressionType::Lz4);
        assert_eq!(stays, Some((1, large)));
    }
}
