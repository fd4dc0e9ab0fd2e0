//! Finding the place in a partition where a time begins.

use jiff::Timestamp;
use tidemill_core::error::Unavailable;
use tidemill_core::{FetchError, Offset, Partition, TopicName};
use tidemill_log::ReadError;

use crate::broker::Broker;
use crate::fetch::partition_id;

impl Broker {
    /// The offset of the first event of a partition, in the order of the offsets, that was
    /// published at `since` or later; the partition's end for readers where there is none yet, or
    /// where it is not decided yet whether it counts. Where what
    /// may hold it is unreadable, that place: a fetch there names the damage.
    ///
    /// # Errors
    /// [`FetchError::UnknownTopic`], [`FetchError::UnknownPartition`], and
    /// [`FetchError::Other`] where the files cannot be read.
    pub async fn offset_since(
        &self,
        topic: &TopicName,
        partition: Partition,
        since: Timestamp,
    ) -> Result<Offset, FetchError> {
        let found = self.offset_since_of_all(topic, partition, since).await?;
        let id = partition_id(&self.inner, topic, partition)?;
        // Where a transaction is open, what follows may still come, whatever its time.
        let stable = self.inner.stable(id);
        let stable = stable.ok_or_else(|| FetchError::UnknownTopic(topic.clone()))?;
        Ok(found.min(stable.end))
    }

    /// As [`Broker::offset_since`], and for who reads what is not decided yet as well: the high
    /// watermark where there is nothing of this time or later.
    ///
    /// # Errors
    /// Those of [`Broker::offset_since`].
    pub async fn offset_since_of_all(
        &self,
        topic: &TopicName,
        partition: Partition,
        since: Timestamp,
    ) -> Result<Offset, FetchError> {
        let unknown = || FetchError::UnknownTopic(topic.clone());
        let id = partition_id(&self.inner, topic, partition)?;
        // Records have whole milliseconds, rounded down.
        let since_ms = since.as_millisecond();
        let reader = self.inner.handle.reader();
        let search = reader.since(id, since_ms).ok_or_else(unknown)?;
        let searched = tokio::task::spawn_blocking(move || search.run()).await;
        match searched.map_err(|_| Unavailable::Closed)? {
            Ok(offset) => Ok(offset),
            // The search looks again by itself while the partition is there.
            Err(ReadError::Gone(_)) if reader.bounds(id).is_none() => Err(unknown()),
            Err(ReadError::Gone(_)) => {
                let why = "what was searched was deleted meanwhile; try again";
                Err(FetchError::Other(why.into()))
            }
            Err(error) => Err(FetchError::Other(error.to_string())),
        }
    }
}
