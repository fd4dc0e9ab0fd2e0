//! A record batch that was looked at before it may be written as a producer sent it.

use bytes::Bytes;
use tidemill_log::{Batch, BatchError};

/// A record batch from outside whose claims were compared with what is in it: the only kind that
/// [`Broker::produce`](crate::Broker::produce) takes.
#[derive(Clone, Debug)]
pub struct ProducerBatch(Batch);

impl ProducerBatch {
    /// Takes one batch of Kafka's message format v2 and nothing else. Reads every record once,
    /// unpacking them where they are packed; see [`Batch::from_producer`].
    ///
    /// # Errors
    /// [`BatchError`] says what is wrong with it and what to do.
    pub fn new(bytes: Bytes) -> Result<Self, BatchError> {
        Batch::from_producer(bytes).map(Self)
    }

    /// The batch.
    #[must_use]
    pub fn get(&self) -> &Batch {
        &self.0
    }

    pub(super) fn into_batch(self) -> Batch {
        self.0
    }
}

/// Looks at one that was made in the program as at any other.
impl TryFrom<Batch> for ProducerBatch {
    type Error = BatchError;

    fn try_from(batch: Batch) -> Result<Self, BatchError> {
        Self::new(batch.as_bytes().clone())
    }
}
