//! `DeleteShareGroupOffsets` (92), version 0: where a share group without members is in topics is
//! forgotten. What of a request is done is done together, and durable when it is answered.
//!
//! Where a group has no position in a topic there is nothing to be done, and no error.

use kafka_protocol::messages::delete_share_group_offsets_response as wire;
use kafka_protocol::messages::{
    ApiKey, DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse,
};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Refused};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::{group, share_offsets};

/// See the module.
pub(in super::super) struct DeleteShareGroupOffsets;

impl Api for DeleteShareGroupOffsets {
    type Request = DeleteShareGroupOffsetsRequest;
    type Response = DeleteShareGroupOffsetsResponse;
    const KEY: ApiKey = ApiKey::DeleteShareGroupOffsets;
    const VERSIONS: [i16; 2] = [0, 0];
    const SHAPE: &'static Shape = &shapes::DELETE_SHARE_GROUP_OFFSETS;
    const NEEDS: Needs = &[
        (Operation::Delete, Kind::Group),
        (Operation::Read, Kind::Topic),
    ];

    async fn answer(
        call: Call,
        request: DeleteShareGroupOffsetsRequest,
    ) -> DeleteShareGroupOffsetsResponse {
        let answer = DeleteShareGroupOffsetsResponse::default();
        match delete(&call, request).await {
            Ok(topics) => answer.with_responses(topics),
            Err(refused) => answer
                .with_error_code(refused.code.code())
                .with_error_message(refused.why.as_deref().map(convert::text)),
        }
    }
}

async fn delete(
    call: &Call,
    request: DeleteShareGroupOffsetsRequest,
) -> Result<Vec<wire::DeleteShareGroupOffsetsResponseTopic>, Refused> {
    let access = call.access();
    access.group(Operation::Delete, &request.group_id)?;
    let name = group::told(&request.group_id)?;
    let mut gone = Vec::new();
    let topics = request.topics.into_iter().map(|asked| {
        let topic = share_offsets::topic(call, &access, Operation::Read, &asked.topic_name);
        let id = topic.map(|topic| topic.id);
        gone.extend(id);
        wire::DeleteShareGroupOffsetsResponseTopic::default()
            .with_error_code(error::code_of(&id))
            .with_topic_id(id.map(convert::wire_id).unwrap_or_default())
            .with_topic_name(asked.topic_name)
    });
    let topics: Vec<_> = topics.collect();
    let done = call.broker.share_groups().forget(&name, &gone).await;
    done.map_err(share_offsets::refused)?;
    Ok(topics)
}
