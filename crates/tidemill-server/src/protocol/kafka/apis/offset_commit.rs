//! `OffsetCommit` (8), versions 2 to 9: positions of a group, with what the client keeps beside
//! them. All of a request that can be kept are kept at once. Everything below an offset is settled
//! then, nothing else, forward or back; a group's position is the same for members of every kind.
//!
//! Deviations: an offset of -2 or -1, as some clients send it, is the first one that is kept or the
//! end at that moment; how long a position is to be kept (before version 5) is not looked at.

use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{ApiKey, OffsetCommitRequest, OffsetCommitResponse};

use super::super::access::{Kind, Needs, Operation};
use super::super::error;
use super::super::error::{Code, NONE};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::group::{self, Asked};

/// The first version that members of consumer groups speak.
const KNOWS_EPOCHS: i16 = 9;

/// See the module.
pub(in super::super) struct OffsetCommit;

impl Api for OffsetCommit {
    type Request = OffsetCommitRequest;
    type Response = OffsetCommitResponse;
    const KEY: ApiKey = ApiKey::OffsetCommit;
    const VERSIONS: [i16; 2] = [2, 9];
    const SHAPE: &'static Shape = &shapes::OFFSET_COMMIT;
    const NEEDS: Needs = &[
        (Operation::Read, Kind::Group),
        (Operation::Read, Kind::Topic),
    ];

    async fn answer(call: Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
        let codes = commit(&call, &request).await;
        // One code for each position, or one for all.
        let (mut each, all) = match codes {
            Ok(codes) => (codes.into_iter(), NONE),
            Err(code) => (Vec::new().into_iter(), code.code()),
        };
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(each.next().unwrap_or(all))
            });
            let partitions = partitions.collect();
            OffsetCommitResponseTopic::default()
                .with_name(topic.name)
                .with_partitions(partitions)
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    }
}

async fn commit(call: &Call, request: &OffsetCommitRequest) -> Result<Vec<i16>, Code> {
    call.access().group(Operation::Read, &request.group_id)?;
    let name = group::name(&request.group_id)?;
    let instance = request.group_instance_id.as_ref();
    let generation = request.generation_id_or_member_epoch;
    let caller = group::caller(&request.member_id, instance, generation);
    let asked = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|one| Asked {
            topic: &topic.name,
            partition: one.partition_index,
            offset: one.committed_offset,
            leader_epoch: one.committed_leader_epoch,
            metadata: one.committed_metadata.as_ref(),
        })
    });
    let (commits, places) = group::commits(call, asked);
    let consumers = call.broker.consumer_groups();
    let said = if consumers.has(&name) {
        if call.version < KNOWS_EPOCHS && !request.member_id.is_empty() {
            return Err(Code::UnsupportedVersion);
        }
        let caller = group::consumer(&request.member_id, generation);
        let said = consumers.commit(&name, &caller, commits).await;
        said.map_err(|why| error::consumer(&why))?
    } else {
        let groups = call.broker.classic_groups();
        let said = groups.commit(&name, &caller, commits).await;
        said.map_err(|why| error::classic(&why))?
    };
    let code = |place: Result<usize, Code>| match place {
        Ok(place) => said.get(place).map_or(NONE, error::committed),
        Err(code) => code.code(),
    };
    Ok(places.into_iter().map(code).collect())
}
