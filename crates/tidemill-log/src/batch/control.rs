//! Control batches: the marker that ends a transaction in a partition, as Kafka writes it. One
//! record, whose key is a version and a type, whose value is a version and the coordinator's
//! epoch (all big-endian). This room may not know what a transaction is.

use super::header::{Batch, Producer};
use super::{BatchBuilder, BatchError};

/// Version of a control record's key, and of the value behind it.
const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// Its records do not count.
    Abort,
    /// Its records count.
    Commit,
}

impl Marker {
    /// The control batch that ends a transaction of this producer, at base offset 0.
    /// `coordinator_epoch` is the incarnation of who ended it.
    ///
    /// # Panics
    /// Never: it is one small record.
    #[must_use]
    pub fn batch(
        self,
        producer_id: i64,
        producer_epoch: i16,
        coordinator_epoch: i32,
        timestamp_ms: i64,
    ) -> Batch {
        let kind = match self {
            Self::Abort => ABORT,
            Self::Commit => COMMIT,
        };
        let key = [VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
        let mut value = VERSION.to_be_bytes().to_vec();
        value.extend_from_slice(&coordinator_epoch.to_be_bytes());
        let producer = Producer {
            id: producer_id,
            epoch: producer_epoch,
            base_sequence: -1,
        };
        let builder = BatchBuilder::new().producer(producer).transactional();
        let mut builder = builder.control();
        let pushed = builder.push(timestamp_ms, Some(&key), Some(&value), std::iter::empty());
        let batch = pushed.and_then(|()| builder.finish());
        batch.expect("one small record fits")
    }

    /// How the control batch says that its producer's transaction ended; `None` where it is
    /// another batch, or control records of another kind.
    ///
    /// # Errors
    /// Where its record cannot be read.
    pub fn of(batch: &Batch) -> Result<Option<Self>, BatchError> {
        if !batch.is_control() {
            return Ok(None);
        }
        let Some(record) = batch.records().next() else {
            return Ok(None);
        };
        let key = record?.key.unwrap_or_default();
        let kind = key.get(2..).and_then(|key| key.first_chunk());
        Ok(match kind.map(|kind| i16::from_be_bytes(*kind)) {
            Some(ABORT) => Some(Self::Abort),
            Some(COMMIT) => Some(Self::Commit),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_has_the_bytes_that_kafka_gives_it_and_comes_back() {
        for (marker, kind) in [(Marker::Abort, 0), (Marker::Commit, 1)] {
            let batch = marker.batch(7, 3, 9, 1_000);
            assert!(batch.is_control() && batch.is_transactional());
            let producer = batch.producer().unwrap();
            assert_eq!(
                (producer.id, producer.epoch, producer.base_sequence),
                (7, 3, -1)
            );
            let record = batch.records().next().unwrap().unwrap();
            assert_eq!(record.key.unwrap(), vec![0, 0, 0, kind]);
            assert_eq!(record.value.unwrap(), vec![0, 0, 0, 0, 0, 9]);
            let (parsed, rest) = Batch::parse(batch.as_bytes().clone()).unwrap();
            assert!(rest.is_empty());
            assert_eq!(Marker::of(&parsed), Ok(Some(marker)));
        }
    }

    #[test]
    fn plain_batches_are_no_markers() {
        let mut builder = BatchBuilder::new();
        let key = [0, 0, 0, 1];
        builder
            .push(0, Some(&key), None, std::iter::empty())
            .unwrap();
        assert_eq!(Marker::of(&builder.finish().unwrap()), Ok(None));
    }
}
