//! The door: what a batch claims is compared with what is in it, packed records included.
//!
//! This room may not know who sends a batch or where it goes.

use bytes::Bytes;

use super::{Batch, BatchError, Records};

impl Batch {
    /// Takes a batch that comes from outside: `bytes` is that batch and nothing else. What it
    /// says of its records must be true, as [`Batch::check_records`] has it; their offsets must
    /// follow each other from 0 without a gap; and it may hold no control records and no time of
    /// appending, which are the log's own. A wrong largest timestamp alone is put right, as
    /// Kafka's brokers do.
    ///
    /// # Errors
    /// [`BatchError`] says what is wrong and what to do. Nothing of such a batch is kept.
    pub fn from_producer(bytes: Bytes) -> Result<Self, BatchError> {
        let refused = |why| Err(BatchError::Producer(why));
        let (batch, rest) = Self::parse(bytes)?;
        if !rest.is_empty() {
            return refused("bytes follow it; send one batch at a time");
        }
        if batch.is_control() {
            return refused("it holds control records; these are the log's own");
        }
        if batch.is_log_append_time() {
            return refused("it says that its time is that of appending; send the records' own");
        }
        if batch.record_count() == 0 {
            return refused("it holds no record; send at least one");
        }
        // Ascending offsets that are as many as there are places have no gap.
        if i64::from(batch.record_count()) != i64::from(batch.last_offset_delta()) + 1 {
            return refused("its last offset is not that of its last record; count from 0");
        }
        match batch.records().survey()? {
            Some(actual_ms) if actual_ms != batch.max_timestamp_ms() => {
                Ok(batch.with_max_timestamp_ms(actual_ms))
            }
            _ => Ok(batch),
        }
    }

    /// Reads every record once, unpacking them where they are packed, without keeping any:
    /// whether there are as many as the header says and nothing behind them, their lengths,
    /// numbers and header counts hold, their offsets ascend up to the last one that the header
    /// names, and the largest timestamp is the one that it names.
    ///
    /// # Errors
    /// The first thing that is not true.
    pub fn check_records(&self) -> Result<(), BatchError> {
        self.checked_records().map(|_| ())
    }

    /// Reads the records like [`Batch::records`], but only after all of them were looked at, as
    /// [`Batch::check_records`] does: either every record is given, or none. Unpacks once.
    ///
    /// # Errors
    /// As [`Batch::check_records`].
    pub fn checked_records(&self) -> Result<Records, BatchError> {
        let records = self.records();
        let largest_ms = records.clone().survey()?;
        let stated_ms = self.max_timestamp_ms();
        match largest_ms {
            Some(actual_ms) if actual_ms != stated_ms => Err(BatchError::MaxTimestamp {
                stated_ms,
                actual_ms,
            }),
            _ => Ok(records),
        }
    }
}
