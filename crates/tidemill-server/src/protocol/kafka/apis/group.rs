//! What the keys of consumer groups share: how a caller, a group and a commit are read.
//!
//! A group's members are Kafka's classic ones; the broker coordinates them, and this node is the
//! coordinator of every group.

use kafka_protocol::messages::GroupId;
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{ClassicCaller, ClassicCommit, CommitNote};
use tidemill_core::{GroupName, Offset};

use super::super::convert;
use super::super::error::Code;
use super::super::registry::Call;

/// The group that a request names.
///
/// # Errors
/// No group can have this name.
pub(super) fn name(id: &GroupId) -> Result<GroupName, Code> {
    GroupName::new(id.as_str().to_owned()).map_err(|_| Code::InvalidGroupId)
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
fn commit(call: &Call, asked: &Asked<'_>) -> Result<ClassicCommit, Code> {
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
    let mut good = Vec::new();
    let places = asked.map(|asked| {
        good.push(commit(call, &asked)?);
        Ok(good.len() - 1)
    });
    let places = places.collect();
    (good, places)
}
