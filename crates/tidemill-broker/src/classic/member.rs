//! A member of a classic group, as the coordinator keeps it.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::types::{ClassicJoin, ClassicProtocol};
use crate::limits::CLASSIC_NEW_MEMBER_TIMEOUT;

/// Somebody who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token(pub(crate) u64);

#[derive(Debug)]
pub(super) struct Member {
    pub(super) instance: Option<ByteString>,
    pub(super) client_id: ByteString,
    pub(super) client_host: ByteString,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocols: Vec<ClassicProtocol>,
    pub(super) assignment: Bytes,
    /// Waits for the next generation.
    pub(super) joining: Option<Token>,
    /// Waits for its part.
    pub(super) syncing: Option<Token>,
    /// It was told of a generation, and has not asked for its part yet.
    pub(super) unsynced: bool,
    /// It has never been told that it is a member.
    pub(super) is_new: bool,
    /// When it was silent for too long.
    pub(super) expires: Duration,
}

impl Member {
    pub(super) fn new(join: ClassicJoin, now: Duration) -> Self {
        Self {
            instance: join.instance,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: join.protocols,
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            unsynced: false,
            is_new: true,
            expires: now.saturating_add(CLASSIC_NEW_MEMBER_TIMEOUT),
        }
    }

    /// It asks to join again, with what it knows now.
    pub(super) fn update(&mut self, join: ClassicJoin) {
        self.client_id = join.client_id;
        self.client_host = join.client_host;
        self.session_timeout = join.session_timeout;
        self.rebalance_timeout = join.rebalance_timeout;
        self.protocols = join.protocols;
    }

    /// It was heard of.
    pub(super) fn heard(&mut self, now: Duration) {
        self.expires = now.saturating_add(self.session_timeout);
    }

    /// When it is to be taken out for its silence. Who waits for an answer is not silent, unless
    /// it never got one.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let waits = self.joining.is_some() || self.syncing.is_some();
        (self.is_new || !waits).then_some(self.expires)
    }

    /// What it says for a protocol.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let mut known = self.protocols.iter();
        let found = known.find(|known| known.name == protocol);
        found.map_or_else(Bytes::new, |known| known.metadata.clone())
    }

    pub(super) fn knows(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|known| known.name == protocol)
    }

    /// Bytes that it needs in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.client_id.len() + self.client_host.len();
        let instance = self.instance.as_ref().map_or(0, |name| name.len());
        size_of::<Self>()
            + texts
            + instance
            + protocol_bytes(&self.protocols)
            + self.assignment.len()
    }
}

/// Bytes that who joins needs in memory, roughly.
pub(super) fn join_bytes(join: &ClassicJoin) -> usize {
    let texts = join.client_id.len() + join.client_host.len();
    protocol_bytes(&join.protocols) + texts + size_of::<Member>()
}

/// Bytes of what is said for protocols.
fn protocol_bytes(protocols: &[ClassicProtocol]) -> usize {
    let one =
        |one: &ClassicProtocol| size_of::<ClassicProtocol>() + one.name.len() + one.metadata.len();
    protocols.iter().map(one).sum()
}
