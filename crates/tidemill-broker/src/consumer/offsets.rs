//! Positions of consumer groups: as those of classic ones, but for who may set and see them.

use std::sync::Arc;

use tidemill_core::GroupName;

use super::live::Live;
use super::types::{ConsumerCaller, ConsumerError};
use super::{ConsumerGroups, refused};
use crate::classic::{ClassicCommit, CommitRefused};
use crate::machine::GroupKind;
use crate::producer::{ProducerError, ProducerIdentity};
use crate::transaction::TransactionalId;

/// Why positions were not given to a transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerTransactionError {
    /// The group says no.
    #[error(transparent)]
    Group(#[from] ConsumerError),
    /// The transaction says no.
    #[error(transparent)]
    Producer(#[from] ProducerError),
}

impl ConsumerGroups {
    /// The group for somebody who commits, which may be nobody's member.
    async fn for_commit(
        &self,
        group: &GroupName,
        caller: &ConsumerCaller,
    ) -> Result<Arc<Live>, ConsumerError> {
        if let Some(live) = self.open()?.get(group) {
            return Ok(live);
        }
        if !caller.is_nobody() {
            return Err(ConsumerError::UnknownMember);
        }
        let known = self.keep(group).await?;
        Ok(self.open()?.live(&self.inner, group, known))
    }

    /// Sets positions of a group, all that can be set in one entry of the log, and says of each
    /// whether it was. A member does that in its epoch, or anybody while there are none.
    /// Resolves when it is durable.
    ///
    /// # Errors
    /// See [`ConsumerError`]; nothing is set then.
    pub async fn commit(
        &self,
        group: &GroupName,
        caller: &ConsumerCaller,
        commits: Vec<ClassicCommit>,
    ) -> Result<Vec<Result<(), CommitRefused>>, ConsumerError> {
        let _hold = self.hold(group)?;
        let live = self.for_commit(group, caller).await?;
        let setting = self.inner.setting(group, GroupKind::Consumer, commits);
        // Submitted under the group's lock: what who has a partition next commits comes later.
        let setting = live.change(&self.inner, None, |coordinator, _| {
            coordinator.may_commit(caller).map(|()| setting.begin())
        })?;
        setting.done().await.map_err(refused)
    }

    /// Has positions set when the caller's transaction is committed, which must be open. `caller`
    /// is the member for which the producer speaks; without an id and an epoch it speaks for
    /// none.
    ///
    /// # Errors
    /// What the group says, or what the transaction says; nothing is set then.
    pub async fn commit_in_transaction(
        &self,
        producer: (&TransactionalId, ProducerIdentity),
        group: &GroupName,
        caller: &ConsumerCaller,
        commits: Vec<ClassicCommit>,
    ) -> Result<Vec<Result<(), CommitRefused>>, ConsumerTransactionError> {
        let _hold = self.hold(group)?;
        // A producer may speak for nobody, whoever is in the group.
        if !caller.is_nobody() {
            let live = self.for_commit(group, caller).await?;
            live.change(&self.inner, None, |coordinator, _| {
                coordinator.may_commit(caller)
            })?;
        }
        let kind = GroupKind::Consumer;
        let given = self
            .inner
            .give_to_transaction(producer, (group, kind), commits);
        Ok(given.await?)
    }

    /// Whether somebody may be told the group's positions as a member's.
    ///
    /// # Errors
    /// [`ConsumerError::UnknownMember`] and [`ConsumerError::StaleEpoch`].
    pub fn may_fetch(
        &self,
        group: &GroupName,
        caller: &ConsumerCaller,
    ) -> Result<(), ConsumerError> {
        let live = self
            .open()?
            .get(group)
            .ok_or(ConsumerError::UnknownMember)?;
        live.locked().coordinator.may_commit(caller)
    }
}
