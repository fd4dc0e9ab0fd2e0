//! What the keys of share groups have in common: who asks, what is said of records, and what of it
//! may be done.

use bytestring::ByteString;
use kafka_protocol::messages::GroupId;
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{ShareAcknowledgement, ShareError, SharePart, ShareVerdict};
use tidemill_core::{Offset, TopicId};
use uuid::Uuid;

use super::super::access::{Access, Operation};
use super::super::convert;
use super::super::error::{self, Code, Refused};
use super::super::registry::Call;
use super::super::share_session::Owner;
use super::group;
use crate::limits::KAFKA_SHARE_MEMBER_ID_MAX_BYTES;

/// Who asks: a member of a group.
///
/// # Errors
/// It may not read as the group, names none, or has an id that is too long.
pub(super) fn owner(
    access: &Access,
    group: Option<&GroupId>,
    member: Option<&StrBytes>,
) -> Result<Owner, Refused> {
    let none = || Refused::new(Code::InvalidRequest, "a member of a group is named");
    let group = group.ok_or_else(none)?;
    access.group(Operation::Read, group)?;
    let member = member
        .filter(|member| !member.is_empty())
        .ok_or_else(none)?;
    Ok((group::name(group)?, member_id(member)?))
}

/// The id of a member, which it chose.
///
/// # Errors
/// It is longer than [`KAFKA_SHARE_MEMBER_ID_MAX_BYTES`].
pub(super) fn member_id(id: &StrBytes) -> Result<ByteString, Refused> {
    let (length, max) = (id.len(), KAFKA_SHARE_MEMBER_ID_MAX_BYTES);
    if length > max {
        let why = format!("a member's id has {length} bytes; it may have {max}, use a UUID");
        return Err(Refused::new(Code::InvalidRequest, why));
    }
    Ok(convert::own(id))
}

/// Refuses to begin a session where there is no such group: nothing would ever use it.
///
/// # Errors
/// The group is of another kind, or there is none.
pub(super) fn is_there(call: &Call, owner: &Owner) -> Result<(), Refused> {
    match call.broker.share_groups().has(&owner.0) {
        true => Ok(()),
        false => {
            let none = ShareError::UnknownGroup;
            Err(Refused::new(code(&none), none))
        }
    }
}

/// A partition as requests name it.
///
/// # Errors
/// There can be none of this number.
pub(super) fn part(topic: Uuid, index: i32) -> Result<SharePart, Code> {
    Ok(SharePart {
        topic: TopicId(topic),
        partition: convert::partition(index)?,
    })
}

/// Whether who asks may read a topic.
///
/// # Errors
/// He may not, or there is none.
pub(super) fn may_read(call: &Call, access: &Access, topic: TopicId) -> Result<(), Code> {
    let name = call.broker.topic_name(topic).ok_or(Code::UnknownTopicId)?;
    access.topic_of_id(Operation::Read, name.as_str())
}

/// What is said of neighbouring records.
///
/// # Errors
/// It makes no sense.
pub(super) fn said(first: i64, last: i64, types: &[i8]) -> Result<ShareAcknowledgement, Code> {
    let offset = |number: i64| u64::try_from(number).map(Offset);
    let verdict = |number: &i8| {
        Ok(match number {
            0 => ShareVerdict::Gap,
            1 => ShareVerdict::Accept,
            2 => ShareVerdict::Release,
            3 => ShareVerdict::Reject,
            _ => return Err(Code::InvalidRequest),
        })
    };
    Ok(ShareAcknowledgement {
        first: offset(first).map_err(|_| Code::InvalidRequest)?,
        last: offset(last).map_err(|_| Code::InvalidRequest)?,
        verdicts: types.iter().map(verdict).collect::<Result<_, _>>()?,
    })
}

/// What is said of records of one partition, and what becomes of it.
pub(super) struct Said {
    pub(super) part: SharePart,
    pub(super) said: Result<Vec<ShareAcknowledgement>, Code>,
}

/// Does what is said, and answers for each partition what came of it.
///
/// # Errors
/// Of the group as a whole: it is gone, or of another kind.
pub(super) async fn acknowledge(
    call: &Call,
    access: &Access,
    owner: &Owner,
    all: Vec<Said>,
) -> Result<Vec<(SharePart, Result<(), Code>)>, Refused> {
    let (mut good, mut answers) = (Vec::new(), Vec::new());
    for one in all {
        let may = may_read(call, access, one.part.topic);
        match may.and(one.said) {
            Ok(said) => good.push((one.part, said)),
            Err(code) => answers.push((one.part, Err(code))),
        }
    }
    if good.is_empty() {
        return Ok(answers);
    }
    let parts: Vec<_> = good.iter().map(|(part, _)| *part).collect();
    let groups = call.broker.share_groups();
    match groups.acknowledge(&owner.0, &owner.1, good).await {
        Ok(done) => {
            let done = done.into_iter().map(|one| one.map_err(|why| code(&why)));
            answers.extend(parts.into_iter().zip(done));
        }
        Err(why @ ShareError::UnknownGroup) => return Err(Refused::new(code(&why), why)),
        Err(why) => {
            let code = code(&why);
            answers.extend(parts.into_iter().map(|part| (part, Err(code))));
        }
    }
    Ok(answers)
}

/// Why records were not given out, or not settled.
pub(super) fn code(error: &ShareError) -> Code {
    match error {
        ShareError::UnknownGroup => Code::GroupIdNotFound,
        ShareError::UnknownTopic => Code::UnknownTopicId,
        ShareError::UnknownPartition => Code::UnknownTopicOrPartition,
        ShareError::NotAcquired => Code::InvalidRecordState,
        ShareError::Invalid(_) => Code::InvalidRequest,
        ShareError::Read(why) => error::fetch(why),
        ShareError::Unavailable(why) => match error::unavailable(why) {
            // What clients of share groups know.
            Code::NotEnoughReplicas => Code::KafkaStorageError,
            code => code,
        },
        ShareError::Indeterminate(_) | ShareError::Other(_) => Code::UnknownServerError,
    }
}
