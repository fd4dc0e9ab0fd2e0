//! The decisions about batches of producers, against the sealed state: what is pending counts.

use std::collections::BTreeSet;

use tidemill_core::Offset;
use tidemill_log::{Batch, PartitionId};

use super::effect::Change;
use super::operation::Refusal;
use super::seal::Decision;
use crate::producer::{Entry, Header, ProducerError, Verdict, What};

impl Decision<'_, '_> {
    /// Appends one batch, unless its producer wrote it before.
    pub(super) fn append_batch(
        &mut self,
        id: PartitionId,
        batch: Batch,
    ) -> Result<Offset, Refusal> {
        let header = Header::of(&batch);
        if let Some(Header {
            producer,
            what: What::Records(offered),
        }) = header
        {
            let caller = match offered.transactional {
                true => Some(self.transactional(producer, offered.epoch)?),
                false => None,
            };
            let have = self.state.producers.get(id, producer);
            let refused = |error| Refusal::Producer(Box::new(error));
            let wrong = |wrong| refused(ProducerError::wrong(producer, wrong));
            if let Verdict::Duplicate(base) = Entry::check(have, offered).map_err(wrong)? {
                return Ok(base);
            }
            if let Some(caller) = caller {
                self.joins(id, &caller)?;
            } else if self.state.transactions.owner(producer).is_some() {
                let why = "a producer with a transactional id writes in transactions alone";
                return Err(refused(ProducerError::InvalidBatch(why)));
            }
        }
        let base = self.draft.append(id, batch);
        let base = base.ok_or(Refusal::UnknownPartition(id))?;
        self.wrote.extend(header.map(|header| (id, header, base)));
        Ok(base)
    }

    /// Forgets producers whose time is over, and makes room for new ones.
    pub(super) fn forget(&mut self) -> Result<(), Refusal> {
        let known = &self.state.producers;
        let heard_now: BTreeSet<_> = self
            .wrote
            .iter()
            .map(|(id, header, _)| (*id, header.producer))
            .collect();
        let over = self
            .heard
            .over(self.now.monotonic, known, &heard_now)
            .map_err(|error| Refusal::Producer(Box::new(error)))?;
        self.changes.extend(over.into_iter().map(Change::Producer));
        Ok(())
    }
}
