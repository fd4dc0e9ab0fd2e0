//! What members of classic groups ask, and what they are answered. Knows no wire.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use thiserror::Error;

/// A way of sharing the work that a member knows, with what it has to say for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicProtocol {
    /// Its name, as in "range".
    pub name: ByteString,
    /// Opaque: only members read it.
    pub metadata: Bytes,
}

/// Who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicCaller {
    /// The id that it was given; empty for none.
    pub member: ByteString,
    /// The name that it keeps over its restarts, if it has one.
    pub instance: Option<ByteString>,
    /// The generation that it thinks it is in; negative for none.
    pub generation: i32,
}

/// Somebody wants to be a member, or to stay one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicJoin {
    /// The id that it was given; empty for none.
    pub member: ByteString,
    /// The name that it keeps over its restarts, if it has one.
    pub instance: Option<ByteString>,
    /// What the client calls itself.
    pub client_id: ByteString,
    /// Where it is.
    pub client_host: ByteString,
    /// How long it may be silent.
    pub session_timeout: Duration,
    /// How long it may take to join again.
    pub rebalance_timeout: Duration,
    /// What sort of group it means, as in "consumer".
    pub protocol_type: ByteString,
    /// What it knows, the best first.
    pub protocols: Vec<ClassicProtocol>,
    /// Whether a new member must come again with the id that it is given, so that one whose
    /// answer was lost leaves nothing behind.
    pub asks_twice: bool,
    /// Whether a leader that comes back with its instance's name can be told that what was
    /// shared out stays.
    pub may_skip: bool,
}

/// A member of a generation, as its leader is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member: ByteString,
    /// The name that it keeps over its restarts.
    pub instance: Option<ByteString>,
    /// What it said for the protocol that was chosen.
    pub metadata: Bytes,
}

/// The caller is a member of this generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicJoined {
    /// The generation.
    pub generation: i32,
    /// The caller's id.
    pub member: ByteString,
    /// Who shares the work out.
    pub leader: ByteString,
    /// What sort of group it is.
    pub protocol_type: ByteString,
    /// The way of sharing that was chosen.
    pub protocol: ByteString,
    /// All members, where the caller is the leader and is to share the work out.
    pub members: Vec<JoinedMember>,
    /// The caller is the leader, and what was shared out stays.
    pub skip_assignment: bool,
}

/// A member wants its part of the work; the leader brings everybody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicSync {
    /// Who calls.
    pub caller: ClassicCaller,
    /// What sort of group it means, where it says so.
    pub protocol_type: Option<ByteString>,
    /// The way of sharing that it means, where it says so.
    pub protocol: Option<ByteString>,
    /// Members' parts, from the leader.
    pub assignments: Vec<(ByteString, Bytes)>,
}

/// A member's part of the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicSynced {
    /// What sort of group it is.
    pub protocol_type: ByteString,
    /// The way of sharing that was chosen.
    pub protocol: ByteString,
    /// Opaque: only members read it.
    pub assignment: Bytes,
}

/// How far a classic group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ClassicState {
    /// It has no members.
    Empty,
    /// It waits for its members to join the next generation.
    PreparingRebalance,
    /// It waits for the leader to share the work out.
    CompletingRebalance,
    /// Every member may have its part.
    Stable,
    /// It was deleted.
    Dead,
}

/// A member as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicMember {
    /// Its id.
    pub member: ByteString,
    /// The name that it keeps over its restarts.
    pub instance: Option<ByteString>,
    /// What the client calls itself.
    pub client_id: ByteString,
    /// Where it is.
    pub client_host: ByteString,
    /// What it said for the protocol that was chosen; empty before one is.
    pub metadata: Bytes,
    /// Its part of the work; empty before it is shared out.
    pub assignment: Bytes,
}

/// A classic group as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicDescription {
    /// How far it is.
    pub state: ClassicState,
    /// What sort of group it is; empty where it had no member since the broker was opened.
    pub protocol_type: ByteString,
    /// The way of sharing that was chosen; empty for none.
    pub protocol: ByteString,
    /// How many generations it has had since the broker was opened.
    pub generation: i32,
    /// Who shares the work out.
    pub leader: Option<ByteString>,
    /// Its members, sorted by their ids.
    pub members: Vec<ClassicMember>,
}

/// Why a member of a classic group, or who speaks for one, is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClassicError {
    /// There is no such member (any more).
    #[error("the group has no such member; join it again without an id")]
    UnknownMember,
    /// Come again with this id.
    #[error("join again with the member id {0}")]
    IdRequired(ByteString),
    /// The caller is in another generation.
    #[error("the group is in another generation; join it again")]
    Generation,
    /// The members join the next generation.
    #[error("the group rebalances; join it again")]
    Rebalancing,
    /// Another process has the instance's name since.
    #[error("another process has taken this group instance id over; stop one of them")]
    Fenced,
    /// The caller knows no way of sharing that the others know, or means another sort of group.
    #[error("the group's members and this one share no protocol: {0}")]
    Protocol(String),
    /// The session timeout is out of its bounds.
    #[error("a session timeout is {} to {} ms", .min.as_millis(), .max.as_millis())]
    SessionTimeout {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// There are too many members, or they say too much.
    #[error("the group is full: {0}")]
    Full(&'static str),
    /// There is no such group.
    #[error("there is no such group")]
    UnknownGroup,
    /// It has members, and must not have any for this.
    #[error("the group has members; stop them first")]
    NotEmpty,
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
pub(crate) struct ClassicBounds {
    pub(crate) members_max: usize,
    /// Most bytes of all that its members say and are given.
    pub(crate) bytes_max: usize,
    pub(crate) session_min: Duration,
    pub(crate) session_max: Duration,
    /// How long a group that was empty waits for more than the first member.
    pub(crate) initial_delay: Duration,
}
