//! Our types as Kafka's, and back. Everything that crosses over does it here.

use bytestring::ByteString;
use kafka_protocol::messages::{self as wire, ApiKey, BrokerId};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{ProducerEpoch, ProducerId, ProducerIdentity, TransactionalId};
use tidemill_core::{Offset, Partition, TopicId, TopicName};
use uuid::Uuid;

use super::error::Code;

/// A topic's name as clients sent it.
///
/// # Errors
/// No topic can have it.
pub(super) fn topic(name: &wire::TopicName) -> Result<TopicName, Code> {
    TopicName::new(name.as_str()).map_err(|_| Code::InvalidTopicException)
}

/// A topic's name for clients.
pub(super) fn wire_topic(name: &TopicName) -> wire::TopicName {
    text(name.as_str()).into()
}

/// A text of a client, in memory of its own.
pub(super) fn own(text: &StrBytes) -> ByteString {
    ByteString::from(text.as_str())
}

/// A text of our own.
pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A partition's number; none is negative.
///
/// # Errors
/// There is no such partition.
pub(super) fn partition(index: i32) -> Result<Partition, Code> {
    let index = u32::try_from(index).map_err(|_| Code::UnknownTopicOrPartition)?;
    Ok(Partition(index))
}

/// A partition's number for clients.
pub(super) fn wire_partition(partition: Partition) -> i32 {
    // There are never so many.
    i32::try_from(partition.0).unwrap_or(i32::MAX)
}

/// An offset for clients.
pub(super) fn wire_offset(offset: Offset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}

/// A topic's identity for clients.
pub(super) fn wire_id(id: TopicId) -> Uuid {
    id.0
}

/// A producer as a request names it; `None` for one that has no id yet.
pub(super) fn producer(id: wire::ProducerId, epoch: i16) -> Option<ProducerIdentity> {
    (id.0 >= 0 && epoch >= 0).then_some(ProducerIdentity {
        id: ProducerId(id.0),
        epoch: ProducerEpoch(epoch),
    })
}

/// A transactional id as a request names it.
///
/// # Errors
/// It is empty or too long.
pub(super) fn transactional_id(id: &wire::TransactionalId) -> Result<TransactionalId, Code> {
    TransactionalId::new(id.as_str()).map_err(|_| Code::InvalidRequest)
}

/// Who calls for a transaction.
///
/// # Errors
/// Nobody can have such an id.
pub(super) fn transaction(
    id: &wire::TransactionalId,
    producer_id: wire::ProducerId,
    epoch: i16,
) -> Result<(TransactionalId, ProducerIdentity), Code> {
    let identity = producer(producer_id, epoch).ok_or(Code::InvalidProducerIdMapping)?;
    Ok((transactional_id(id)?, identity))
}

/// The node of these settings.
pub(super) fn node(id: i32) -> BrokerId {
    BrokerId(id)
}

/// The epoch of the one leader of all partitions: how often the broker was opened.
pub(super) fn leader_epoch(incarnation: u64) -> i32 {
    i32::try_from(incarnation).unwrap_or(i32::MAX)
}

/// The name of the cluster, from the identity of the data: 22 characters, as Kafka's have.
pub(super) fn cluster_id(id: Uuid) -> StrBytes {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 128 bits in digits of six, and two zero bits behind them.
    let bits = |at: u32| match 128_u32.checked_sub(at + 6) {
        Some(right) => id.as_u128() >> right,
        None => id.as_u128() << 4,
    };
    let digit = |at: u32| {
        let digit = usize::try_from(bits(at) & 63).unwrap_or(0);
        char::from(DIGITS.get(digit).copied().unwrap_or(b'A'))
    };
    StrBytes::from_string((0..22).map(|n| digit(n * 6)).collect())
}

/// The name of an API key, for metrics.
pub(super) fn api_name(key: ApiKey) -> &'static str {
    match key {
        ApiKey::Produce => "Produce",
        ApiKey::Fetch => "Fetch",
        ApiKey::ListOffsets => "ListOffsets",
        ApiKey::Metadata => "Metadata",
        ApiKey::OffsetCommit => "OffsetCommit",
        ApiKey::OffsetFetch => "OffsetFetch",
        ApiKey::FindCoordinator => "FindCoordinator",
        ApiKey::JoinGroup => "JoinGroup",
        ApiKey::Heartbeat => "Heartbeat",
        ApiKey::LeaveGroup => "LeaveGroup",
        ApiKey::SyncGroup => "SyncGroup",
        ApiKey::DescribeGroups => "DescribeGroups",
        ApiKey::ListGroups => "ListGroups",
        ApiKey::ApiVersions => "ApiVersions",
        ApiKey::CreateTopics => "CreateTopics",
        ApiKey::DeleteTopics => "DeleteTopics",
        ApiKey::DeleteRecords => "DeleteRecords",
        ApiKey::InitProducerId => "InitProducerId",
        ApiKey::OffsetForLeaderEpoch => "OffsetForLeaderEpoch",
        ApiKey::AddPartitionsToTxn => "AddPartitionsToTxn",
        ApiKey::AddOffsetsToTxn => "AddOffsetsToTxn",
        ApiKey::EndTxn => "EndTxn",
        ApiKey::TxnOffsetCommit => "TxnOffsetCommit",
        ApiKey::DescribeConfigs => "DescribeConfigs",
        ApiKey::AlterConfigs => "AlterConfigs",
        ApiKey::DescribeLogDirs => "DescribeLogDirs",
        ApiKey::CreatePartitions => "CreatePartitions",
        ApiKey::DeleteGroups => "DeleteGroups",
        ApiKey::IncrementalAlterConfigs => "IncrementalAlterConfigs",
        ApiKey::OffsetDelete => "OffsetDelete",
        ApiKey::DescribeCluster => "DescribeCluster",
        ApiKey::AlterReplicaLogDirs => "AlterReplicaLogDirs",
        ApiKey::ElectLeaders => "ElectLeaders",
        ApiKey::AlterPartitionReassignments => "AlterPartitionReassignments",
        ApiKey::ListPartitionReassignments => "ListPartitionReassignments",
        ApiKey::DescribeQuorum => "DescribeQuorum",
        ApiKey::DescribeProducers => "DescribeProducers",
        ApiKey::DescribeTransactions => "DescribeTransactions",
        ApiKey::ListTransactions => "ListTransactions",
        ApiKey::ListConfigResources => "ListConfigResources",
        ApiKey::DescribeTopicPartitions => "DescribeTopicPartitions",
        ApiKey::SaslHandshake => "SaslHandshake",
        ApiKey::SaslAuthenticate => "SaslAuthenticate",
        ApiKey::DescribeUserScramCredentials => "DescribeUserScramCredentials",
        ApiKey::AlterUserScramCredentials => "AlterUserScramCredentials",
        ApiKey::ConsumerGroupHeartbeat => "ConsumerGroupHeartbeat",
        ApiKey::ConsumerGroupDescribe => "ConsumerGroupDescribe",
        ApiKey::ShareGroupHeartbeat => "ShareGroupHeartbeat",
        ApiKey::ShareGroupDescribe => "ShareGroupDescribe",
        ApiKey::ShareFetch => "ShareFetch",
        ApiKey::ShareAcknowledge => "ShareAcknowledge",
        ApiKey::DescribeShareGroupOffsets => "DescribeShareGroupOffsets",
        ApiKey::AlterShareGroupOffsets => "AlterShareGroupOffsets",
        ApiKey::DeleteShareGroupOffsets => "DeleteShareGroupOffsets",
        ApiKey::DescribeAcls => "DescribeAcls",
        ApiKey::CreateAcls => "CreateAcls",
        ApiKey::DeleteAcls => "DeleteAcls",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clusters_name_is_its_identity_in_kafkas_digits() {
        let name = cluster_id(Uuid::from_u128(u128::MAX));
        assert_eq!(name.as_str(), "_____________________w");
        let name = cluster_id(Uuid::from_bytes(*b"Tidemill's data!"));
        assert_eq!(name.as_str(), "VGlkZW1pbGwncyBkYXRhIQ");
    }
}
