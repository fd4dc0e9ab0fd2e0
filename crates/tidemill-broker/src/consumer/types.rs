//! What members of consumer groups say, and what they are answered. Knows no wire.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use thiserror::Error;
use tidemill_core::{Partition, TopicId, TopicName};

use crate::limits::MEMBER_TEXT_MAX_BYTES;

/// Partitions of topics.
pub type ConsumerParts = BTreeSet<(TopicId, Partition)>;

/// The epoch of who wants to be a member.
pub const EPOCH_JOIN: i32 = 0;
/// The epoch of who leaves for good.
pub const EPOCH_LEAVE: i32 = -1;
/// The epoch of an instance that leaves and will be back.
pub const EPOCH_LEAVE_FOR_A_WHILE: i32 = -2;

/// Which topics a member may see. It is given only partitions of those.
#[derive(Clone)]
pub struct ConsumerSight {
    key: ByteString,
    sees: Arc<dyn Fn(&TopicName) -> bool + Send + Sync>,
}

impl ConsumerSight {
    /// Those topics of which `sees` says so, which is asked while the group is locked. `key` is
    /// another one whenever it may say something else.
    pub fn new(
        key: impl Into<ByteString>,
        sees: impl Fn(&TopicName) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            key: key.into(),
            sees: Arc::new(sees),
        }
    }

    pub(crate) fn sees(&self, topic: &TopicName) -> bool {
        (self.sees)(topic)
    }
}

impl fmt::Debug for ConsumerSight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConsumerSight").field(&self.key).finish()
    }
}

impl PartialEq for ConsumerSight {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for ConsumerSight {}

/// A member says that it lives, joins or leaves, and what of it has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerHeartbeat {
    /// The id that it chose or was given; empty for one that wants to be given one.
    pub member: ByteString,
    /// The epoch that it is in, or one of [`EPOCH_JOIN`], [`EPOCH_LEAVE`] and
    /// [`EPOCH_LEAVE_FOR_A_WHILE`].
    pub epoch: i32,
    /// The name that it keeps over its restarts, if it has one.
    pub instance: Option<ByteString>,
    /// Where it is among racks.
    pub rack: Option<ByteString>,
    /// How long it may take to give partitions back.
    pub rebalance_timeout: Option<Duration>,
    /// The topics that it reads by their names, where that has changed.
    pub topics: Option<BTreeSet<TopicName>>,
    /// It reads topics whose whole name matches, too, where that has changed; empty for none.
    pub pattern: Option<ByteString>,
    /// How it would have the partitions shared, where that has changed.
    pub assignor: Option<ByteString>,
    /// What it has, where that has changed.
    pub owned: Option<ConsumerParts>,
    /// What the client calls itself.
    pub client_id: ByteString,
    /// Where it is.
    pub client_host: ByteString,
    /// The topics that it may see at this moment; `None` for all.
    pub sight: Option<ConsumerSight>,
}

impl ConsumerHeartbeat {
    /// Whether it says everything of the member, as after an answer that was lost.
    pub(crate) fn is_whole(&self) -> bool {
        let reads = self.topics.is_some() || self.pattern.is_some();
        reads && self.rebalance_timeout.is_some() && self.owned.is_some()
    }

    /// Bytes that it may need in memory with its member, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let text = |text: &Option<ByteString>| text.as_ref().map_or(0, |text| text.len());
        let topics = self.topics.iter().flatten();
        let topics: usize = topics.map(|name| 64 + name.as_str().len()).sum();
        let texts = self.member.len() + self.client_id.len() + self.client_host.len();
        let more = text(&self.instance) + text(&self.rack) + text(&self.pattern);
        512 + topics + texts + more
    }
}

/// A member's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerPlace {
    /// Its id.
    pub member: ByteString,
    /// The epoch that it is in now.
    pub epoch: i32,
    /// When it is to be heard of again.
    pub heartbeat_interval: Duration,
    /// What it is to have, where that has changed or it may not know.
    pub assignment: Option<ConsumerParts>,
}

/// How far a consumer group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ConsumerState {
    /// It has no members.
    Empty,
    /// Something has changed, and partitions are not shared anew yet.
    Assigning,
    /// Members give partitions back, or wait for some.
    Reconciling,
    /// Every member has its part.
    Stable,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerTopicParts {
    /// The topic.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Its partitions, ascending.
    pub partitions: Vec<Partition>,
}

/// A member as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMember {
    /// Its id.
    pub member: ByteString,
    /// The name that it keeps over its restarts.
    pub instance: Option<ByteString>,
    /// Where it is among racks.
    pub rack: Option<ByteString>,
    /// The epoch that it is in.
    pub epoch: i32,
    /// What the client calls itself.
    pub client_id: ByteString,
    /// Where it is.
    pub client_host: ByteString,
    /// The topics that it reads by their names.
    pub topics: Vec<TopicName>,
    /// It reads topics whose whole name matches, too.
    pub pattern: Option<ByteString>,
    /// What it has.
    pub assigned: Vec<ConsumerTopicParts>,
    /// What it will have.
    pub target: Vec<ConsumerTopicParts>,
}

/// A consumer group as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerDescription {
    /// How far it is.
    pub state: ConsumerState,
    /// Rises with what its members have and read.
    pub epoch: i32,
    /// The epoch for which the partitions are shared.
    pub assignment_epoch: i32,
    /// How they are shared: `uniform` or `range`.
    pub assignor: &'static str,
    /// Its members, sorted by their ids.
    pub members: Vec<ConsumerMember>,
}

/// Who commits, or asks for positions, in a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerCaller {
    /// Its id; empty for nobody.
    pub member: ByteString,
    /// The epoch that it is in; negative for nobody.
    pub epoch: i32,
}

impl ConsumerCaller {
    /// Whether it speaks for no member.
    pub(crate) fn is_nobody(&self) -> bool {
        self.member.is_empty() && self.epoch < 0
    }
}

/// Why a member of a consumer group, or who speaks for one, is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConsumerError {
    /// There is no such member (any more).
    #[error("the group has no such member; join it again with epoch 0")]
    UnknownMember,
    /// The member is in another epoch than it thinks: it has nothing any longer.
    #[error("the member is in another epoch; give everything up and join again with epoch 0")]
    FencedEpoch,
    /// The member is in another epoch than it thinks, and nothing was committed or told.
    #[error("the member is in another epoch; try again with the one of its last heartbeat")]
    StaleEpoch,
    /// A process that lives has the instance's name.
    #[error("another process has this group instance id; stop it, or wait until it is gone")]
    UnreleasedInstance,
    /// Another process has taken the instance's name over.
    #[error("another process has taken this group instance id over; stop one of them")]
    FencedInstance,
    /// There is no such way of sharing.
    #[error("the assignor {0} is not known; use uniform or range")]
    UnknownAssignor(String),
    /// What is to match topics is no regular expression, or too large a one.
    #[error("the regular expression cannot be used: {0}")]
    Pattern(String),
    /// There are too many members, or they say or have too much.
    #[error("the group is full: {0}")]
    Full(&'static str),
    /// The request is none that makes sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// The group's members are of another kind.
    #[error("the group is of another kind: {0}")]
    OtherKind(String),
    /// The group was deleted, or the broker is closing.
    #[error("the group cannot be served now; look for its coordinator again")]
    Unavailable,
    /// It is not known whether it was kept.
    #[error("it is not known whether it was kept ({0}); check after a restart")]
    Indeterminate(String),
    /// The broker said no for another reason.
    #[error("{0}")]
    Other(String),
}

/// The bounds of a group; see [`crate::limits`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConsumerBounds {
    pub(crate) members_max: usize,
    /// Most bytes of all that its members say and have.
    pub(crate) bytes_max: usize,
    /// How often members are to be heard of.
    pub(crate) heartbeat_interval: Duration,
    /// How long one may be silent.
    pub(crate) session_timeout: Duration,
    /// Until then, since the broker was opened, members of before the opening may have partitions
    /// and not know that they are none any longer.
    pub(crate) free_from: Duration,
}

/// Refuses the name of a rack that is too long: it is kept, and counted for nothing.
pub(crate) fn racked(rack: Option<&ByteString>) -> Result<(), ConsumerError> {
    match rack.is_some_and(|rack| rack.len() > MEMBER_TEXT_MAX_BYTES) {
        true => Err(ConsumerError::Invalid(
            "the name of a rack has 256 bytes at most",
        )),
        false => Ok(()),
    }
}

/// As much of what a client calls itself as is kept of it.
pub(crate) fn brief(text: ByteString) -> ByteString {
    if text.len() <= MEMBER_TEXT_MAX_BYTES {
        return text;
    }
    let end = (0..=MEMBER_TEXT_MAX_BYTES).rfind(|at| text.is_char_boundary(*at));
    // A copy: the rest is not kept.
    ByteString::from(text.get(..end.unwrap_or(0)).unwrap_or_default())
}
