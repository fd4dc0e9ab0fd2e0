//! A transactional producer inside of the program.

use std::time::Duration;

use tidemill_core::{Event, GroupName, Offset, Partition, Position, TopicName};

use super::api::{Begins, InitTransactional, TransactionEnd};
use super::id::TransactionalId;
use super::state::TransactionStatus;
use crate::broker::Broker;
use crate::producer::{Producer, ProducerError, ProducerIdentity};

/// A transactional producer: what it publishes and the positions that it gives belong to one
/// transaction until [`Transactional::commit`] or [`Transactional::abort`]. One transaction after
/// the other; each has an epoch of its own. Dropped with an open transaction, that is aborted
/// when its time is over, or when the id is taken over.
#[derive(Debug)]
pub struct Transactional {
    broker: Broker,
    id: TransactionalId,
    producer: Producer,
    /// Something was published or given since the last end.
    open: bool,
    /// An end that has no answer yet: whether it commits.
    ending: Option<bool>,
}

impl Broker {
    /// Takes a transactional id over, and aborts what its last holder left open.
    ///
    /// # Errors
    /// See [`Broker::init_transactional`].
    pub async fn transactional(
        &self,
        id: TransactionalId,
        timeout: Duration,
    ) -> Result<Transactional, ProducerError> {
        let init = InitTransactional {
            id: id.clone(),
            timeout,
            expected: None,
        };
        let identity = self.init_transactional(init).await?;
        Ok(Transactional {
            broker: self.clone(),
            producer: Producer::transactional(self, identity),
            id,
            open: false,
            ending: None,
        })
    }
}

impl Transactional {
    /// Who it is now.
    #[must_use]
    pub fn identity(&self) -> ProducerIdentity {
        self.producer.identity()
    }

    /// Publishes events to a topic as part of the transaction, and answers where they are when
    /// they are durable. Nobody gets them before the commit.
    ///
    /// # Errors
    /// [`ProducerError::Fenced`] where somebody took the id over or the transaction's time was
    /// over; abort it then, or end this producer.
    pub async fn publish(
        &mut self,
        topic: &TopicName,
        events: &[Event],
    ) -> Result<Vec<Position>, ProducerError> {
        self.end_again().await?;
        let before = std::mem::replace(&mut self.open, true);
        let published = self.producer.publish(topic, events).await;
        self.open = before || may_be_kept(&published);
        published
    }

    /// Has a group's position in a partition set when the transaction is committed.
    ///
    /// # Errors
    /// As [`Broker::commit_offsets_in_transaction`].
    pub async fn settle(
        &mut self,
        group: &GroupName,
        offsets: &[(TopicName, Partition, Offset)],
    ) -> Result<(), ProducerError> {
        self.end_again().await?;
        let before = std::mem::replace(&mut self.open, true);
        let (id, identity) = (&self.id, self.producer.identity());
        let broker = &self.broker;
        let given = broker.commit_offsets_in_transaction(id, identity, Begins::Yes, group, offsets);
        let given = given.await;
        self.open = before || may_be_kept(&given);
        given
    }

    /// Ends the transaction: everything in it counts, at once. Does nothing where nothing was
    /// published or given. After an error nothing counts yet, except after
    /// [`ProducerError::Indeterminate`]; where the answer was not waited for, whatever is called
    /// next sees to it first.
    ///
    /// # Errors
    /// As [`Broker::end_transaction`].
    pub async fn commit(&mut self) -> Result<(), ProducerError> {
        self.end_again().await?;
        // What has no answer may be in it or not: it is sent again before.
        self.producer.resume().await?;
        self.end(true).await
    }

    /// Ends the transaction: nothing in it counts.
    ///
    /// # Errors
    /// As [`Broker::end_transaction`]; [`ProducerError::Transaction`] where a commit had no
    /// answer, and was done: everything in it counts.
    pub async fn abort(&mut self) -> Result<(), ProducerError> {
        let committing = self.ending == Some(true);
        self.end_again().await?;
        if committing {
            return Err(ProducerError::Transaction {
                id: self.id.clone(),
                status: TransactionStatus::Committed,
                what: "be aborted",
            });
        }
        self.end(false).await
    }

    async fn end(&mut self, commit: bool) -> Result<(), ProducerError> {
        if !self.open {
            return Ok(());
        }
        self.ending = Some(commit);
        let ended = self.ask_end(commit).await;
        if matches!(ended, Err(ProducerError::Unavailable(_))) {
            // Nothing was done, for certain: it was asked for once.
            self.ending = None;
        }
        ended
    }

    /// Asks once more for an end whose answer did not come.
    async fn end_again(&mut self) -> Result<(), ProducerError> {
        match self.ending {
            Some(commit) => self.ask_end(commit).await,
            None => Ok(()),
        }
    }

    async fn ask_end(&mut self, commit: bool) -> Result<(), ProducerError> {
        let end = TransactionEnd {
            commit,
            renew: true,
        };
        let identity = self.producer.identity();
        let ended = self.broker.end_transaction(&self.id, identity, end).await;
        match ended {
            Ok(identity) => {
                self.producer.renew(identity);
                self.open = false;
                self.ending = None;
                Ok(())
            }
            Err(error) => {
                let unknown = matches!(
                    error,
                    ProducerError::Indeterminate(_) | ProducerError::Unavailable(_)
                );
                if !unknown {
                    self.ending = None;
                }
                Err(error)
            }
        }
    }
}

/// Whether something of it may be part of the transaction.
fn may_be_kept<T>(done: &Result<T, ProducerError>) -> bool {
    matches!(
        done,
        Ok(_) | Err(ProducerError::Indeterminate(_) | ProducerError::Unavailable(_))
    )
}
