//! `DeleteRecords` (21), versions 0 to 2: deletes the records of partitions below an offset; -1 is
//! the high watermark.
//!
//! Deviations: the disk is given back later, a whole segment at a time.

use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{ApiKey, DeleteRecordsRequest, DeleteRecordsResponse};
use tidemill_core::{Offset, TopicName};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// See the module.
pub(in super::super) struct DeleteRecords;

impl Api for DeleteRecords {
    type Request = DeleteRecordsRequest;
    type Response = DeleteRecordsResponse;
    const KEY: ApiKey = ApiKey::DeleteRecords;
    const VERSIONS: [i16; 2] = [0, 2];
    const SHAPE: &'static Shape = &shapes::DELETE_RECORDS;
    const NEEDS: Needs = &[(Operation::Delete, Kind::Topic)];

    async fn answer(call: Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
        let access = call.access();
        let mut topics = Vec::new();
        for topic in request.topics {
            let may = access.topic(Operation::Delete, &topic.name);
            let name = may.and_then(|()| convert::topic(&topic.name));
            let mut partitions = Vec::new();
            for asked in topic.partitions {
                let index = asked.partition_index;
                let trimmed = match &name {
                    Ok(name) => trim(&call, name, index, asked.offset).await,
                    Err(code) => Err(*code),
                };
                let code = error::code_of(&trimmed);
                let low = trimmed.map_or(-1, convert::wire_offset);
                partitions.push(
                    DeleteRecordsPartitionResult::default()
                        .with_partition_index(index)
                        .with_low_watermark(low)
                        .with_error_code(code),
                );
            }
            topics.push(
                DeleteRecordsTopicResult::default()
                    .with_name(topic.name)
                    .with_partitions(partitions),
            );
        }
        DeleteRecordsResponse::default().with_topics(topics)
    }
}

async fn trim(call: &Call, name: &TopicName, index: i32, before: i64) -> Result<Offset, Code> {
    let info = call
        .broker
        .topic(name)
        .ok_or(Code::UnknownTopicOrPartition)?;
    let partition = convert::partition(index)?;
    let mut there = info.partitions.iter();
    let there = there.find(|there| there.partition == partition);
    let there = there.ok_or(Code::UnknownTopicOrPartition)?;
    let before = match before {
        -1 => there.high_watermark,
        before => Offset(u64::try_from(before).map_err(|_| Code::OffsetOutOfRange)?),
    };
    let trimmed = call.broker.trim_topic(name, partition, before).await;
    trimmed.map_err(|why| error::topic(&why))
}
