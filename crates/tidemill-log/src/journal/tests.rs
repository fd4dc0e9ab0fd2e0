//! What is sealed is what is decoded, and no bytes make the decoders panic.

use bytes::Bytes;
use proptest::prelude::*;
use tidemill_core::{Offset, Partition, TopicId};
use uuid::Uuid;

use super::commit::CommitHeader;
use super::entry::{Part, decode};
use super::group::GroupBuilder;
use crate::batch::{Batch, BatchBuilder};
use crate::limits::INLINE_BATCH_BYTES;
use crate::machine::{Lsn, PartitionId};

fn partition(number: u32) -> PartitionId {
    PartitionId {
        topic: TopicId(Uuid::from_u128(number.into())),
        partition: Partition(number),
    }
}

fn batch(size: usize) -> Batch {
    let mut builder = BatchBuilder::new();
    let headers = std::iter::empty();
    builder
        .push(5, None, Some(&vec![3; size]), headers)
        .unwrap();
    builder.finish().unwrap()
}

/// Three entries; what was forgotten or empty is none.
fn sealed() -> GroupBuilder {
    let mut group = GroupBuilder::new(Lsn(41));
    group.begin();
    group.epoch(3, -7);
    group.keep();
    group.begin();
    group.create(partition(1));
    group.records(partition(1), batch(10));
    group.records(partition(1), batch(3 * INLINE_BATCH_BYTES));
    group.effect(77, b"effect");
    group.records(partition(1), batch(2 * INLINE_BATCH_BYTES));
    assert_eq!(group.keep(), Some(Lsn(42)));
    // Forgotten, large batches included.
    group.begin();
    group.effect(1, b"gone");
    group.records(partition(1), batch(5 * INLINE_BATCH_BYTES));
    group.forget();
    // Nothing in it.
    group.begin();
    assert_eq!(group.keep(), None);
    group.begin();
    group.segment(partition(2), Offset(9), true);
    group.delete(partition(1));
    group.marker();
    assert_eq!(group.keep(), Some(Lsn(43)));
    group
}

/// What [`sealed`] has.
fn expected() -> Vec<(Lsn, Vec<Part>)> {
    let id = partition(1);
    let records = |size| Part::Records {
        id,
        batch: batch(size),
    };
    vec![
        (
            Lsn(41),
            vec![Part::Epoch {
                epoch: 3,
                wall_ms: -7,
            }],
        ),
        (
            Lsn(42),
            vec![
                Part::PartitionCreate(id),
                records(10),
                records(3 * INLINE_BATCH_BYTES),
                Part::Effect {
                    kind: 77,
                    bytes: Bytes::from_static(b"effect"),
                },
                records(2 * INLINE_BATCH_BYTES),
            ],
        ),
        (
            Lsn(43),
            vec![
                Part::SegmentCreate {
                    id: partition(2),
                    base: Offset(9),
                },
                Part::PartitionDelete(id),
                Part::Marker,
            ],
        ),
    ]
}

#[test]
fn a_group_comes_back_as_it_was_sealed() {
    let group = sealed();
    let size_bytes = group.size_bytes();
    let group = group.finish();
    assert_eq!(
        (group.first, group.count, group.last()),
        (Lsn(41), 3, Lsn(43))
    );
    let payload = Bytes::from(group.pieces.concat());
    assert_eq!(payload.len(), size_bytes);
    let mut entries = Vec::new();
    let each = |lsn, parts| {
        entries.push((lsn, parts));
        Ok(())
    };
    decode(payload, 3, Lsn(41), each).unwrap();
    assert_eq!(entries, expected());
}

/// A small valid payload, to be cut and changed.
fn payload() -> Vec<u8> {
    let mut group = GroupBuilder::new(Lsn(1));
    group.begin();
    group.create(partition(1));
    group.records(partition(1), batch(10));
    group.effect(77, b"effect");
    group.keep();
    group.finish().pieces.concat()
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoders_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        count in 0u32..5,
    ) {
        let _ = CommitHeader::decode(&bytes);
        let _ = decode(Bytes::from(bytes), count, Lsn(1), |_, _| Ok(()));
    }

    #[test]
    fn no_change_of_a_payload_makes_the_decoder_panic(
        cut in 0usize..200,
        at in 0usize..200,
        byte in any::<u8>(),
    ) {
        let mut bytes = payload();
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.truncate(cut.min(length));
        let _ = decode(Bytes::from(bytes), 1, Lsn(1), |_, _| Ok(()));
    }
}
