//! A member of a consumer group, and its way from what it has to what it is to have.
//!
//! A member gives back first what it is not to have any longer, and is given only what nobody
//! has. So the way leads over three stages, each of which an answer to a heartbeat may end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use tidemill_core::{Partition, TopicId};

use super::assign::Assignor;
use super::reads::Reads;
use super::types::{ConsumerHeartbeat, ConsumerParts, EPOCH_JOIN, EPOCH_LEAVE_FOR_A_WHILE, brief};

/// How far a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has all that it was to have when it came into its epoch.
    Stable,
    /// It has been told to give partitions back, until then.
    Revoking { until: Duration },
    /// Others still have some of what it is to have.
    Waiting,
}

/// Who has each partition, by the members' numbers. A partition that is being given back is
/// still its member's.
#[derive(Debug)]
pub(super) struct Owners {
    parts: BTreeMap<(TopicId, Partition), u32>,
    /// Before this, members of a time that nobody remembers may have any.
    free_from: Duration,
}

impl Owners {
    pub(super) fn new(free_from: Duration) -> Self {
        Self {
            parts: BTreeMap::new(),
            free_from,
        }
    }

    fn is_free(&self, part: &(TopicId, Partition), now: Duration) -> bool {
        now >= self.free_from && !self.parts.contains_key(part)
    }

    pub(super) fn release(&mut self, parts: &ConsumerParts) {
        for part in parts {
            self.parts.remove(part);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }
}

#[derive(Debug)]
pub(super) struct Member {
    /// Its place among all that ever were in the group; whoever takes an instance over has it.
    pub(super) number: u32,
    pub(super) instance: Option<ByteString>,
    pub(super) rack: Option<ByteString>,
    pub(super) client_id: ByteString,
    pub(super) client_host: ByteString,
    pub(super) rebalance_timeout: Duration,
    pub(super) reads: Arc<Reads>,
    pub(super) assignor: Option<Assignor>,
    pub(super) epoch: i32,
    /// The epoch before: its answer with the new one may have been lost.
    pub(super) previous: i32,
    pub(super) stage: Stage,
    /// What it has and keeps.
    pub(super) assigned: ConsumerParts,
    /// What it has and is to give back.
    pub(super) revoking: ConsumerParts,
    /// What it is to have in the group's assignment.
    pub(super) target: ConsumerParts,
    /// When it was silent for too long.
    pub(super) expires: Duration,
}

impl Member {
    pub(super) fn new(number: u32) -> Self {
        Self {
            number,
            instance: None,
            rack: None,
            client_id: ByteString::new(),
            client_host: ByteString::new(),
            rebalance_timeout: Duration::ZERO,
            reads: Arc::default(),
            assignor: None,
            epoch: EPOCH_JOIN,
            previous: EPOCH_JOIN,
            stage: Stage::Stable,
            assigned: ConsumerParts::new(),
            revoking: ConsumerParts::new(),
            target: ConsumerParts::new(),
            expires: Duration::MAX,
        }
    }

    /// It begins anew, and has nothing at the moment; what it had to itself is kept for it.
    pub(super) fn begin_anew(&mut self, owners: &mut Owners) {
        owners.release(&std::mem::take(&mut self.revoking));
        self.stage = Stage::Stable;
        self.epoch = EPOCH_JOIN;
        self.previous = EPOCH_JOIN;
    }

    /// Its process ends, and another one of its name will come.
    pub(super) fn leave_for_a_while(&mut self, owners: &mut Owners) {
        self.begin_anew(owners);
        self.epoch = EPOCH_LEAVE_FOR_A_WHILE;
        self.previous = EPOCH_LEAVE_FOR_A_WHILE;
    }

    /// Takes over what a heartbeat says. Answers whether it reads something else now.
    pub(super) fn update(
        &mut self,
        beat: ConsumerHeartbeat,
        (assignor, reads): (Option<Assignor>, Arc<Reads>),
    ) -> bool {
        self.client_id = brief(beat.client_id);
        self.client_host = brief(beat.client_host);
        self.rack = beat.rack.or(self.rack.take());
        self.rebalance_timeout = beat.rebalance_timeout.unwrap_or(self.rebalance_timeout);
        let other = assignor.is_some_and(|assignor| self.assignor != Some(assignor));
        let changed = other || !self.reads.is_like(&reads);
        self.assignor = assignor.or(self.assignor);
        self.reads = reads;
        changed
    }

    /// When it is to be taken out: for its silence, or for what it does not give back.
    pub(super) fn deadline(&self) -> Duration {
        match self.stage {
            Stage::Revoking { until } => until.min(self.expires),
            Stage::Stable | Stage::Waiting => self.expires,
        }
    }

    /// Whether it has what it is to have in this epoch of the group's assignment.
    pub(super) fn is_settled(&self, target_epoch: i32) -> bool {
        self.stage == Stage::Stable
            && (self.epoch == target_epoch || self.epoch == EPOCH_LEAVE_FOR_A_WHILE)
    }

    /// Goes on towards what it is to have. `owned` is what it says that it has, where it says so.
    pub(super) fn reconcile(
        &mut self,
        now: Duration,
        target_epoch: i32,
        owned: Option<&ConsumerParts>,
        owners: &mut Owners,
    ) {
        match self.stage {
            Stage::Stable if self.epoch == target_epoch => {}
            Stage::Stable | Stage::Waiting => {
                let epochs = (self.epoch, target_epoch);
                self.step(now, epochs, owned, owners);
            }
            Stage::Revoking { .. } => {
                if owned.is_some_and(|owned| owned.is_disjoint(&self.revoking)) {
                    owners.release(&std::mem::take(&mut self.revoking));
                    let epochs = (self.epoch.saturating_add(1), target_epoch);
                    self.step(now, epochs, owned, owners);
                }
            }
        }
    }

    /// Goes on as far as it can: gives back, in the first of these epochs, or takes, in the other.
    fn step(
        &mut self,
        now: Duration,
        (until_given, target_epoch): (i32, i32),
        owned: Option<&ConsumerParts>,
        owners: &mut Owners,
    ) {
        let keeps: ConsumerParts = self.assigned.intersection(&self.target).copied().collect();
        let gives: ConsumerParts = self.assigned.difference(&keeps).copied().collect();
        self.assigned = keeps;
        let has = owned.is_none_or(|owned| !owned.is_disjoint(&gives));
        if has && !gives.is_empty() {
            self.revoking = gives;
            let until = now.saturating_add(self.rebalance_timeout);
            self.stage = Stage::Revoking { until };
            self.enter(until_given);
            return;
        }
        owners.release(&gives);
        self.stage = Stage::Stable;
        for part in self.target.difference(&self.assigned.clone()) {
            if owners.is_free(part, now) {
                owners.parts.insert(*part, self.number);
                self.assigned.insert(*part);
            } else {
                self.stage = Stage::Waiting;
            }
        }
        self.enter(target_epoch);
    }

    fn enter(&mut self, epoch: i32) {
        if epoch != self.epoch {
            self.previous = self.epoch;
            self.epoch = epoch;
        }
    }

    /// Bytes that it needs in memory without what it reads, roughly.
    pub(super) fn bytes(&self) -> usize {
        let text = |text: &Option<ByteString>| text.as_ref().map_or(0, |text| text.len());
        let texts = self.client_id.len() + self.client_host.len();
        let texts = texts + text(&self.instance) + text(&self.rack);
        let parts = self.assigned.len() + self.revoking.len() + self.target.len();
        size_of::<Self>() + texts + parts * PART_BYTES
    }
}

/// Bytes of a partition in a set, roughly.
pub(crate) const PART_BYTES: usize = 32;
