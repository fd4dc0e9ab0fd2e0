//! What the keys have in common that look at, set and forget where share groups go on.

use kafka_protocol::messages::TopicName as WireTopic;
use tidemill_broker::{ShareOffsetsError, TopicInfo};

use super::super::access::{Access, Operation};
use super::super::convert;
use super::super::error::{self, Code, Refused};
use super::super::registry::Call;

/// A topic by its name, for somebody who needs this of it.
///
/// # Errors
/// He may not, or there is none.
pub(super) fn topic(
    call: &Call,
    access: &Access,
    operation: Operation,
    name: &WireTopic,
) -> Result<TopicInfo, Code> {
    access.topic(operation, name)?;
    let ours = convert::topic(name).map_err(|_| Code::UnknownTopicOrPartition)?;
    call.broker
        .topic(&ours)
        .ok_or(Code::UnknownTopicOrPartition)
}

/// Why positions were not set or forgotten.
pub(super) fn refused(why: ShareOffsetsError) -> Refused {
    let code = match &why {
        ShareOffsetsError::UnknownGroup(_) => Code::GroupIdNotFound,
        ShareOffsetsError::InUse { .. } => Code::NonEmptyGroup,
        ShareOffsetsError::Refused(why) => error::consumer(why),
    };
    Refused::new(code, why)
}
