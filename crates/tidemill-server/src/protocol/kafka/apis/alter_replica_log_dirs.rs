//! `AlterReplicaLogDirs` (34), versions 1 to 2: moves partitions to other folders of the node.
//!
//! Deviations: the node has one folder. A partition that is to lie there lies there already;
//! every other folder is refused (`LOG_DIR_NOT_FOUND`).

use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, ApiKey};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// See the module.
pub(in super::super) struct AlterReplicaLogDirs;

impl Api for AlterReplicaLogDirs {
    type Request = AlterReplicaLogDirsRequest;
    type Response = AlterReplicaLogDirsResponse;
    const KEY: ApiKey = ApiKey::AlterReplicaLogDirs;
    const VERSIONS: [i16; 2] = [1, 2];
    const SHAPE: &'static Shape = &shapes::ALTER_REPLICA_LOG_DIRS;
    const NEEDS: Needs = &[(Operation::Alter, Kind::Cluster)];

    async fn answer(
        call: Call,
        request: AlterReplicaLogDirsRequest,
    ) -> AlterReplicaLogDirsResponse {
        let may = call.access().cluster(Operation::Alter);
        let mut results = Vec::new();
        for dir in request.dirs {
            let ours = dir.path.as_str() == call.door.config.log_dir;
            for topic in dir.topics {
                let name = convert::topic(&topic.name);
                let partitions = topic.partitions.into_iter().map(|index| {
                    let there = may.and_then(|()| name.clone());
                    let there = there.and_then(|name| call.partition(&name, index));
                    let moved = there.and(match ours {
                        true => Ok(()),
                        false => Err(Code::LogDirNotFound),
                    });
                    AlterReplicaLogDirPartitionResult::default()
                        .with_partition_index(index)
                        .with_error_code(error::code_of(&moved))
                });
                let partitions = partitions.collect();
                results.push(
                    AlterReplicaLogDirTopicResult::default()
                        .with_topic_name(topic.name)
                        .with_partitions(partitions),
                );
            }
        }
        AlterReplicaLogDirsResponse::default().with_results(results)
    }
}
