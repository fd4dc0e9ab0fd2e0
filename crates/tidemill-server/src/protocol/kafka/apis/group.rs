//! What the keys of consumer groups share: how a caller, a group and a commit are read.
//!
//! A group's members are Kafka's classic ones or those of a consumer group; the broker coordinates
//! them, and this node is the coordinator of every group.

use bytestring::ByteString;
use kafka_protocol::messages::{GroupId, TopicName};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{
    ClassicCaller, ClassicCommit, CommitNote, ConsumerCaller, ConsumerDescription,
};
use tidemill_core::{GroupName, Offset};

use super::super::access::{Access, Operation};
use super::super::convert;
use super::super::error::{Code, Refused};
use super::super::registry::Call;
use crate::own_groups;

/// The group that a request names, to be a member of or to set a position in.
///
/// # Errors
/// No group can have this name, or it is one of the server's own.
pub(super) fn name(id: &GroupId) -> Result<GroupName, Code> {
    told(id).map_err(|refused| refused.code)
}

/// As [`name`], with the reason in words.
///
/// # Errors
/// As [`name`].
pub(super) fn told(id: &GroupId) -> Result<GroupName, Refused> {
    let name = GroupName::new(id.as_str().to_owned());
    let name = name.map_err(|why| Refused::new(Code::InvalidGroupId, why))?;
    own_groups::of_others(&name).map_err(|why| {
        tracing::info!(%why, "a client of Kafka is refused");
        Refused::new(Code::InvalidGroupId, why)
    })?;
    Ok(name)
}

/// As [`told`], for a heartbeat of who reads these topics.
///
/// # Errors
/// He may not read with the group or not see the topics, the server closes, or as [`told`].
pub(super) fn joined<'a>(
    call: &Call,
    access: &Access,
    id: &GroupId,
    topics: impl Iterator<Item = &'a TopicName>,
) -> Result<GroupName, Refused> {
    access.group(Operation::Read, id)?;
    for topic in topics {
        access.topic(Operation::Describe, topic)?;
    }
    if call.door.is_closing() {
        return Err(Code::CoordinatorNotAvailable.into());
    }
    told(id)
}

/// Who may not see what members read does not see the members.
///
/// # Errors
/// There is a topic that who asks may not see.
pub(super) fn sees_members(access: &Access, group: &ConsumerDescription) -> Result<(), Code> {
    for member in &group.members {
        let parts = member.assigned.iter().chain(&member.target);
        for name in member.topics.iter().chain(parts.map(|topic| &topic.name)) {
            access.topic(Operation::Describe, name.as_str())?;
        }
    }
    Ok(())
}

/// The group that a request names, to look at or to delete.
///
/// # Errors
/// No group can have this name.
pub(super) fn shown(id: &GroupId) -> Result<GroupName, Code> {
    GroupName::new(id.as_str().to_owned()).map_err(|_| Code::InvalidGroupId)
}

/// Why a group is not described: it is of another kind than the one asked for, or there is none.
pub(super) fn not_described(call: &Call, name: &GroupName, asked: &str) -> Refused {
    let why = match call.broker.group_kind(name) {
        Some(kind) => format!(
            "{name} is a group of the kind {}, and is described as one of the kind {asked} here; \
             ask for it by its own kind",
            kind.name()
        ),
        None => format!("there is no group {name}; it is made when its first member joins"),
    };
    Refused::new(Code::GroupIdNotFound, why)
}

/// Where a member is, as Kafka writes it.
pub(super) fn host(call: &Call) -> ByteString {
    format!("/{}", call.peer.ip().to_canonical()).into()
}

/// Who speaks in a consumer group, as a request names it.
pub(super) fn consumer(member: &StrBytes, epoch: i32) -> ConsumerCaller {
    ConsumerCaller {
        member: convert::own(member),
        epoch,
    }
}

/// Who speaks, as a request names it.
pub(super) fn caller(
    member: &StrBytes,
    instance: Option<&StrBytes>,
    generation: i32,
) -> ClassicCaller {
    ClassicCaller {
        member: convert::own(member),
        instance: instance.map(convert::own),
        generation,
    }
}

/// A position as a request has it.
pub(super) struct Asked<'a> {
    pub(super) topic: &'a kafka_protocol::messages::TopicName,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) metadata: Option<&'a StrBytes>,
}

/// What clients set for the first offset that is kept, and for the end.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

/// A position to be committed.
///
/// # Errors
/// There can be no such partition or offset.
fn commit(call: &Call, access: &Access, asked: &Asked<'_>) -> Result<ClassicCommit, Code> {
    access.topic(Operation::Read, asked.topic)?;
    let topic = convert::topic(asked.topic).map_err(|_| Code::UnknownTopicOrPartition)?;
    let partition = convert::partition(asked.partition)?;
    let there = || {
        let there = call.broker.partition(&topic, partition);
        there.map_err(|_| Code::UnknownTopicOrPartition)
    };
    let offset = match (asked.offset, u64::try_from(asked.offset)) {
        (_, Ok(offset)) => Offset(offset),
        (EARLIEST, _) => there()?.earliest,
        (LATEST, _) => there()?.end,
        _ => return Err(Code::InvalidCommitOffsetSize),
    };
    Ok(ClassicCommit {
        topic,
        partition,
        offset,
        note: CommitNote {
            leader_epoch: u32::try_from(asked.leader_epoch).ok(),
            metadata: asked.metadata.map(convert::own).unwrap_or_default(),
        },
    })
}

/// Positions that can be committed, and for each that was asked for where it is among these, or
/// why it is not.
pub(super) fn commits<'a>(
    call: &Call,
    asked: impl Iterator<Item = Asked<'a>>,
) -> (Vec<ClassicCommit>, Vec<Result<usize, Code>>) {
    let access = call.access();
    let mut good = Vec::new();
    let places = asked.map(|asked| {
        good.push(commit(call, &access, &asked)?);
        Ok(good.len() - 1)
    });
    let places = places.collect();
    (good, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_the_server_may_be_looked_at_and_not_be_used() {
        let id = |name: &'static str| GroupId(StrBytes::from_static_str(name));
        assert!(name(&id("billing")).is_ok() && name(&id("webhook")).is_ok());
        assert_eq!(name(&id("webhook.shop")), Err(Code::InvalidGroupId));
        assert!(shown(&id("webhook.shop")).is_ok());
        assert_eq!(name(&id("audit.deadletter")), Err(Code::InvalidGroupId));
        assert_eq!(shown(&id("")), Err(Code::InvalidGroupId));
    }
}
