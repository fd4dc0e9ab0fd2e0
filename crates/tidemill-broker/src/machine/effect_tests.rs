//! What every kind of effect must do: come back as it was written, and refuse what was cut. Knows
//! none of them.

use std::fmt::Debug;

use tidemill_core::{Partition, TopicId};
use tidemill_log::PartitionId;
use uuid::Uuid;

use super::effect::Reader;
use crate::producer::ProducerId;

pub(super) const PARTITION: PartitionId = PartitionId {
    topic: TopicId(Uuid::from_u128(7)),
    partition: Partition(300),
};

pub(super) const PRODUCER: ProducerId = ProducerId(i64::MAX);

/// Checks one effect after the other; a kind that nobody knows is none.
pub(super) fn check<T: Debug + PartialEq>(
    all: impl IntoIterator<Item = T>,
    encode: impl Fn(&T, &mut Vec<u8>) -> u16,
    decode: impl Fn(u16, &mut Reader<'_>) -> Result<Option<T>, String>,
) {
    for change in all {
        let mut bytes = Vec::new();
        let kind = encode(&change, &mut bytes);
        let mut reader = Reader(&bytes);
        let read = decode(kind, &mut reader).unwrap();
        assert_eq!((read, reader.0), (Some(change), &[][..]));
        for cut in 0..bytes.len() {
            let read = decode(kind, &mut Reader(&bytes[..cut]));
            assert!(read.is_err(), "{kind:#06x} at {cut}");
        }
    }
    assert_eq!(decode(0x7777, &mut Reader(&[])), Ok(None));
}
