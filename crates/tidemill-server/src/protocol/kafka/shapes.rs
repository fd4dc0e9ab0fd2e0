//! What requests look like over their versions, for [`shape`](super::shape): the fields of
//! Kafka's message definitions, as far as their lengths go. Versions that the crate
//! `kafka-protocol` does not decode are left out; of Fetch, those with known tagged structs
//! (from 15 on) are not walked as they are decoded, and must not be served.
//!
//! This room may not know what a field means.

#![allow(dead_code, reason = "a shape may be here before its key is served")]

use super::shape::Kind::{Array, Bytes, Fixed, Group, Maybe, Tagged, Text};
use super::shape::{Field, Shape, always, from, within};
pub(super) use super::share_shapes::{
    ALTER_SHARE_GROUP_OFFSETS, DELETE_SHARE_GROUP_OFFSETS, DESCRIBE_SHARE_GROUP_OFFSETS,
    SHARE_ACKNOWLEDGE, SHARE_FETCH, SHARE_GROUP_DESCRIBE, SHARE_GROUP_HEARTBEAT,
};

/// What follows the client's name in the head of a flexible request: tagged fields alone.
pub(super) static NO_FIELDS: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[],
};

/// ProduceRequest, 3 to 13.
pub(super) static PRODUCE: Shape = Shape {
    flexible: 9,
    tagged_text: None,
    fields: &[
        always(Text),     // transactional_id
        always(Fixed(2)), // acks
        always(Fixed(4)), // timeout_ms
        always(Array(&Group(&[
            within(3, 12, Text), // name
            from(13, Fixed(16)), // topic_id
            always(Array(&Group(&[
                always(Fixed(4)), // index
                always(Bytes),    // records
            ]))), // partition_data
        ]))), // topic_data
    ],
};

/// FetchRequest, 4 to 18.
pub(super) static FETCH: Shape = Shape {
    flexible: 12,
    tagged_text: Some(0),
    fields: &[
        within(4, 14, Fixed(4)), // replica_id
        always(Fixed(4)),        // max_wait_ms
        always(Fixed(4)),        // min_bytes
        always(Fixed(4)),        // max_bytes
        always(Fixed(1)),        // isolation_level
        from(7, Fixed(4)),       // session_id
        from(7, Fixed(4)),       // session_epoch
        always(Array(&Group(&[
            within(4, 12, Text), // topic
            from(13, Fixed(16)), // topic_id
            always(Array(&Group(&[
                always(Fixed(4)),                // partition
                from(9, Fixed(4)),               // current_leader_epoch
                always(Fixed(8)),                // fetch_offset
                from(12, Fixed(4)),              // last_fetched_epoch
                from(5, Fixed(8)),               // log_start_offset
                always(Fixed(4)),                // partition_max_bytes
                from(17, Tagged(0, &Fixed(16))), // replica_directory_id
                from(18, Tagged(1, &Fixed(8))),  // high_watermark
            ]))), // partitions
        ]))), // topics
        from(
            7,
            Array(&Group(&[
                within(7, 12, Text),       // topic
                from(13, Fixed(16)),       // topic_id
                from(7, Array(&Fixed(4))), // partitions
            ])),
        ), // forgotten_topics_data
        from(11, Text),          // rack_id
        from(15, Tagged(1, &Group(&[always(Fixed(4)), always(Fixed(8))]))), // replica_state
    ],
};

/// ListOffsetsRequest, 1 to 10.
pub(super) static LIST_OFFSETS: Shape = Shape {
    flexible: 6,
    tagged_text: None,
    fields: &[
        always(Fixed(4)),  // replica_id
        from(2, Fixed(1)), // isolation_level
        always(Array(&Group(&[
            always(Text), // name
            always(Array(&Group(&[
                always(Fixed(4)),  // partition_index
                from(4, Fixed(4)), // current_leader_epoch
                always(Fixed(8)),  // timestamp
            ]))), // partitions
        ]))), // topics
        from(10, Fixed(4)), // timeout_ms
    ],
};

/// MetadataRequest, 0 to 13.
pub(super) static METADATA: Shape = Shape {
    flexible: 9,
    tagged_text: None,
    fields: &[
        always(Array(&Group(&[
            from(10, Fixed(16)), // topic_id
            always(Text),        // name
        ]))), // topics
        from(4, Fixed(1)),       // allow_auto_topic_creation
        within(8, 10, Fixed(1)), // include_cluster_authorized_operations
        from(8, Fixed(1)),       // include_topic_authorized_operations
    ],
};

/// OffsetCommitRequest, 2 to 9.
pub(super) static OFFSET_COMMIT: Shape = Shape {
    flexible: 8,
    tagged_text: None,
    fields: &[
        always(Text),           // group_id
        always(Fixed(4)),       // generation_id_or_member_epoch
        always(Text),           // member_id
        from(7, Text),          // group_instance_id
        within(2, 4, Fixed(8)), // retention_time_ms
        always(Array(&Group(&[
            always(Text), // name
            always(Array(&Group(&[
                always(Fixed(4)),  // partition_index
                always(Fixed(8)),  // committed_offset
                from(6, Fixed(4)), // committed_leader_epoch
                always(Text),      // committed_metadata
            ]))), // partitions
        ]))), // topics
    ],
};

/// OffsetFetchRequest, 1 to 9.
pub(super) static OFFSET_FETCH: Shape = Shape {
    flexible: 6,
    tagged_text: None,
    fields: &[
        within(1, 7, Text), // group_id
        within(
            1,
            7,
            Array(&Group(&[
                within(1, 7, Text),             // name
                within(1, 7, Array(&Fixed(4))), // partition_indexes
            ])),
        ), // topics
        from(
            8,
            Array(&Group(&[
                from(8, Text),     // group_id
                from(9, Text),     // member_id
                from(9, Fixed(4)), // member_epoch
                from(
                    8,
                    Array(&Group(&[
                        from(8, Text),             // name
                        from(8, Array(&Fixed(4))), // partition_indexes
                    ])),
                ), // topics
            ])),
        ), // groups
        from(7, Fixed(1)),  // require_stable
    ],
};

/// FindCoordinatorRequest, 0 to 6.
pub(super) static FIND_COORDINATOR: Shape = Shape {
    flexible: 3,
    tagged_text: None,
    fields: &[
        within(0, 3, Text),    // key
        from(1, Fixed(1)),     // key_type
        from(4, Array(&Text)), // coordinator_keys
    ],
};

/// JoinGroupRequest, 0 to 9.
pub(super) static JOIN_GROUP: Shape = Shape {
    flexible: 6,
    tagged_text: None,
    fields: &[
        always(Text),      // group_id
        always(Fixed(4)),  // session_timeout_ms
        from(1, Fixed(4)), // rebalance_timeout_ms
        always(Text),      // member_id
        from(5, Text),     // group_instance_id
        always(Text),      // protocol_type
        always(Array(&Group(&[
            always(Text),  // name
            always(Bytes), // metadata
        ]))), // protocols
        from(8, Text),     // reason
    ],
};

/// HeartbeatRequest, 0 to 4.
pub(super) static HEARTBEAT: Shape = Shape {
    flexible: 4,
    tagged_text: None,
    fields: &[
        always(Text),     // group_id
        always(Fixed(4)), // generation_id
        always(Text),     // member_id
        from(3, Text),    // group_instance_id
    ],
};

/// LeaveGroupRequest, 0 to 5.
pub(super) static LEAVE_GROUP: Shape = Shape {
    flexible: 4,
    tagged_text: None,
    fields: &[
        always(Text),       // group_id
        within(0, 2, Text), // member_id
        from(
            3,
            Array(&Group(&[
                from(3, Text), // member_id
                from(3, Text), // group_instance_id
                from(5, Text), // reason
            ])),
        ), // members
    ],
};

/// SyncGroupRequest, 0 to 5.
pub(super) static SYNC_GROUP: Shape = Shape {
    flexible: 4,
    tagged_text: None,
    fields: &[
        always(Text),     // group_id
        always(Fixed(4)), // generation_id
        always(Text),     // member_id
        from(3, Text),    // group_instance_id
        from(5, Text),    // protocol_type
        from(5, Text),    // protocol_name
        always(Array(&Group(&[
            always(Text),  // member_id
            always(Bytes), // assignment
        ]))), // assignments
    ],
};

/// DescribeGroupsRequest, 0 to 6.
pub(super) static DESCRIBE_GROUPS: Shape = Shape {
    flexible: 5,
    tagged_text: None,
    fields: &[
        always(Array(&Text)), // groups
        from(3, Fixed(1)),    // include_authorized_operations
    ],
};

/// ListGroupsRequest, 0 to 5.
pub(super) static LIST_GROUPS: Shape = Shape {
    flexible: 3,
    tagged_text: None,
    fields: &[
        from(4, Array(&Text)), // states_filter
        from(5, Array(&Text)), // types_filter
    ],
};

/// ApiVersionsRequest, 0 to 4.
pub(super) static API_VERSIONS: Shape = Shape {
    flexible: 3,
    tagged_text: None,
    fields: &[
        from(3, Text), // client_software_name
        from(3, Text), // client_software_version
    ],
};

/// CreateTopicsRequest, 2 to 7.
pub(super) static CREATE_TOPICS: Shape = Shape {
    flexible: 5,
    tagged_text: None,
    fields: &[
        always(Array(&Group(&[
            always(Text),     // name
            always(Fixed(4)), // num_partitions
            always(Fixed(2)), // replication_factor
            always(Array(&Group(&[
                always(Fixed(4)),         // partition_index
                always(Array(&Fixed(4))), // broker_ids
            ]))), // assignments
            always(Array(&Group(&[
                always(Text), // name
                always(Text), // value
            ]))), // configs
        ]))), // topics
        always(Fixed(4)), // timeout_ms
        always(Fixed(1)), // validate_only
    ],
};

/// DeleteTopicsRequest, 1 to 6.
pub(super) static DELETE_TOPICS: Shape = Shape {
    flexible: 4,
    tagged_text: None,
    fields: &[
        from(
            6,
            Array(&Group(&[
                from(6, Text),      // name
                from(6, Fixed(16)), // topic_id
            ])),
        ), // topics
        within(1, 5, Array(&Text)), // topic_names
        always(Fixed(4)),           // timeout_ms
    ],
};

/// DeleteRecordsRequest, 0 to 2.
pub(super) static DELETE_RECORDS: Shape = Shape {
    flexible: 2,
    tagged_text: None,
    fields: &[
        always(Array(&Group(&[
            always(Text), // name
            always(Array(&Group(&[
                always(Fixed(4)), // partition_index
                always(Fixed(8)), // offset
            ]))), // partitions
        ]))), // topics
        always(Fixed(4)), // timeout_ms
    ],
};

/// InitProducerIdRequest, 0 to 5.
pub(super) static INIT_PRODUCER_ID: Shape = Shape {
    flexible: 2,
    tagged_text: None,
    fields: &[
        always(Text),      // transactional_id
        always(Fixed(4)),  // transaction_timeout_ms
        from(3, Fixed(8)), // producer_id
        from(3, Fixed(2)), // producer_epoch
    ],
};

/// OffsetForLeaderEpochRequest, 2 to 4.
pub(super) static OFFSET_FOR_LEADER_EPOCH: Shape = Shape {
    flexible: 4,
    tagged_text: None,
    fields: &[
        from(3, Fixed(4)), // replica_id
        always(Array(&Group(&[
            always(Text), // topic
            always(Array(&Group(&[
                always(Fixed(4)), // partition
                always(Fixed(4)), // current_leader_epoch
                always(Fixed(4)), // leader_epoch
            ]))), // partitions
        ]))), // topics
    ],
};

/// AddPartitionsToTxnRequest, 0 to 5.
pub(super) static ADD_PARTITIONS_TO_TXN: Shape = Shape {
    flexible: 3,
    tagged_text: None,
    fields: &[
        from(
            4,
            Array(&Group(&[
                from(4, Text),     // transactional_id
                from(4, Fixed(8)), // producer_id
                from(4, Fixed(2)), // producer_epoch
                from(4, Fixed(1)), // verify_only
                from(
                    4,
                    Array(&Group(&[
                        always(Text),             // name
                        always(Array(&Fixed(4))), // partitions
                    ])),
                ), // topics
            ])),
        ), // transactions
        within(0, 3, Text),     // v3_and_below_transactional_id
        within(0, 3, Fixed(8)), // v3_and_below_producer_id
        within(0, 3, Fixed(2)), // v3_and_below_producer_epoch
        within(
            0,
            3,
            Array(&Group(&[
                always(Text),             // name
                always(Array(&Fixed(4))), // partitions
            ])),
        ), // v3_and_below_topics
    ],
};

/// AddOffsetsToTxnRequest, 0 to 4.
pub(super) static ADD_OFFSETS_TO_TXN: Shape = Shape {
    flexible: 3,
    tagged_text: None,
    fields: &[
        always(Text),     // transactional_id
        always(Fixed(8)), // producer_id
        always(Fixed(2)), // producer_epoch
        always(Text),     // group_id
    ],
};

/// EndTxnRequest, 0 to 5.
pub(super) static END_TXN: Shape = Shape {
    flexible: 3,
    tagged_text: None,
    fields: &[
        always(Text),     // transactional_id
        always(Fixed(8)), // producer_id
        always(Fixed(2)), // producer_epoch
        always(Fixed(1)), // committed
    ],
};

/// TxnOffsetCommitRequest, 0 to 5.
pub(super) static TXN_OFFSET_COMMIT: Shape = Shape {
    flexible: 3,
    tagged_text: None,
    fields: &[
        always(Text),      // transactional_id
        always(Text),      // group_id
        always(Fixed(8)),  // producer_id
        always(Fixed(2)),  // producer_epoch
        from(3, Fixed(4)), // generation_id
        from(3, Text),     // member_id
        from(3, Text),     // group_instance_id
        always(Array(&Group(&[
            always(Text), // name
            always(Array(&Group(&[
                always(Fixed(4)),  // partition_index
                always(Fixed(8)),  // committed_offset
                from(2, Fixed(4)), // committed_leader_epoch
                always(Text),      // committed_metadata
            ]))), // partitions
        ]))), // topics
    ],
};

/// DescribeConfigsRequest, 1 to 4.
pub(super) static DESCRIBE_CONFIGS: Shape = Shape {
    flexible: 4,
    tagged_text: None,
    fields: &[
        always(Array(&Group(&[
            always(Fixed(1)),     // resource_type
            always(Text),         // resource_name
            always(Array(&Text)), // configuration_keys
        ]))), // resources
        always(Fixed(1)),  // include_synonyms
        from(3, Fixed(1)), // include_documentation
    ],
};

/// AlterConfigsRequest, 0 to 2.
pub(super) static ALTER_CONFIGS: Shape = Shape {
    flexible: 2,
    tagged_text: None,
    fields: &[
        always(Array(&Group(&[
            always(Fixed(1)), // resource_type
            always(Text),     // resource_name
            always(Array(&Group(&[
                always(Text), // name
                always(Text), // value
            ]))), // configs
        ]))), // resources
        always(Fixed(1)), // validate_only
    ],
};

/// DescribeLogDirsRequest, 1 to 4.
pub(super) static DESCRIBE_LOG_DIRS: Shape = Shape {
    flexible: 2,
    tagged_text: None,
    fields: &[
        always(Array(&Group(&[
            always(Text),             // topic
            always(Array(&Fixed(4))), // partitions
        ]))), // topics
    ],
};

/// CreatePartitionsRequest, 0 to 3.
pub(super) static CREATE_PARTITIONS: Shape = Shape {
    flexible: 2,
    tagged_text: None,
    fields: &[
        always(Array(&Group(&[
            always(Text),     // name
            always(Fixed(4)), // count
            always(Array(&Group(&[
                always(Array(&Fixed(4))), // broker_ids
            ]))), // assignments
        ]))), // topics
        always(Fixed(4)), // timeout_ms
        always(Fixed(1)), // validate_only
    ],
};

/// DeleteGroupsRequest, 0 to 2.
pub(super) static DELETE_GROUPS: Shape = Shape {
    flexible: 2,
    tagged_text: None,
    fields: &[
        always(Array(&Text)), // groups_names
    ],
};

/// IncrementalAlterConfigsRequest, 0 to 1.
pub(super) static INCREMENTAL_ALTER_CONFIGS: Shape = Shape {
    flexible: 1,
    tagged_text: None,
    fields: &[
        always(Array(&Group(&[
            always(Fixed(1)), // resource_type
            always(Text),     // resource_name
            always(Array(&Group(&[
                always(Text),     // name
                always(Fixed(1)), // config_operation
                always(Text),     // value
            ]))), // configs
        ]))), // resources
        always(Fixed(1)), // validate_only
    ],
};

/// OffsetDeleteRequest, 0 to 0.
pub(super) static OFFSET_DELETE: Shape = Shape {
    flexible: i16::MAX,
    tagged_text: None,
    fields: &[
        always(Text), // group_id
        always(Array(&Group(&[
            always(Text), // name
            always(Array(&Group(&[
                always(Fixed(4)), // partition_index
            ]))), // partitions
        ]))), // topics
    ],
};

/// DescribeClusterRequest, 0 to 2.
pub(super) static DESCRIBE_CLUSTER: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Fixed(1)),  // include_cluster_authorized_operations
        from(1, Fixed(1)), // endpoint_type
        from(2, Fixed(1)), // include_fenced_brokers
    ],
};

/// DescribeTopicPartitionsRequest, 0 to 0.
pub(super) static DESCRIBE_TOPIC_PARTITIONS: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Array(&Group(&[
            always(Text), // name
        ]))), // topics
        always(Fixed(4)), // response_partition_limit
        always(Maybe(&[
            always(Text),     // topic_name
            always(Fixed(4)), // partition_index
        ])), // cursor
    ],
};

/// AlterReplicaLogDirsRequest, 1 to 2.
pub(super) static ALTER_REPLICA_LOG_DIRS: Shape = Shape {
    flexible: 2,
    tagged_text: None,
    fields: &[
        always(Array(&Group(&[
            always(Text), // path
            always(Array(&Group(&[
                always(Text),             // name
                always(Array(&Fixed(4))), // partitions
            ]))), // topics
        ]))), // dirs
    ],
};

/// ElectLeadersRequest, 0 to 2.
pub(super) static ELECT_LEADERS: Shape = Shape {
    flexible: 2,
    tagged_text: None,
    fields: &[
        from(1, Fixed(1)), // election_type
        always(Array(&Group(&[
            always(Text),             // topic
            always(Array(&Fixed(4))), // partitions
        ]))), // topic_partitions
        always(Fixed(4)),  // timeout_ms
    ],
};

/// AlterPartitionReassignmentsRequest, 0 to 1.
pub(super) static ALTER_PARTITION_REASSIGNMENTS: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Fixed(4)),  // timeout_ms
        from(1, Fixed(1)), // allow_replication_factor_change
        always(Array(&Group(&[
            always(Text), // name
            always(Array(&Group(&[
                always(Fixed(4)),         // partition_index
                always(Array(&Fixed(4))), // replicas
            ]))), // partitions
        ]))), // topics
    ],
};

/// ListPartitionReassignmentsRequest, 0 to 0.
pub(super) static LIST_PARTITION_REASSIGNMENTS: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Fixed(4)), // timeout_ms
        always(Array(&Group(&[
            always(Text),             // name
            always(Array(&Fixed(4))), // partition_indexes
        ]))), // topics
    ],
};

/// DescribeQuorumRequest, 0 to 2.
pub(super) static DESCRIBE_QUORUM: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Array(&Group(&[
            always(Text), // topic_name
            always(Array(&Group(&[
                always(Fixed(4)), // partition_index
            ]))), // partitions
        ]))), // topics
    ],
};

/// DescribeProducersRequest, 0 to 0.
pub(super) static DESCRIBE_PRODUCERS: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Array(&Group(&[
            always(Text),             // name
            always(Array(&Fixed(4))), // partition_indexes
        ]))), // topics
    ],
};

/// DescribeTransactionsRequest, 0 to 0.
pub(super) static DESCRIBE_TRANSACTIONS: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Array(&Text)), // transactional_ids
    ],
};

/// ListTransactionsRequest, 0 to 2.
pub(super) static LIST_TRANSACTIONS: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Array(&Text)),     // state_filters
        always(Array(&Fixed(8))), // producer_id_filters
        from(1, Fixed(8)),        // duration_filter
        from(2, Text),            // transactional_id_pattern
    ],
};

/// ListConfigResourcesRequest, 0 to 1.
pub(super) static LIST_CONFIG_RESOURCES: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        from(1, Array(&Fixed(1))), // resource_types
    ],
};

/// SaslHandshakeRequest, 0 to 1.
pub(super) static SASL_HANDSHAKE: Shape = Shape {
    flexible: i16::MAX,
    tagged_text: None,
    fields: &[always(Text)], // mechanism
};

/// ConsumerGroupHeartbeatRequest, 0 to 1.
pub(super) static CONSUMER_GROUP_HEARTBEAT: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Text),         // group_id
        always(Text),         // member_id
        always(Fixed(4)),     // member_epoch
        always(Text),         // instance_id
        always(Text),         // rack_id
        always(Fixed(4)),     // rebalance_timeout_ms
        always(Array(&Text)), // subscribed_topic_names
        from(1, Text),        // subscribed_topic_regex
        always(Text),         // server_assignor
        always(Array(&Group(&[
            always(Fixed(16)),        // topic_id
            always(Array(&Fixed(4))), // partitions
        ]))), // topic_partitions
    ],
};

/// ConsumerGroupDescribeRequest, 0 to 1.
pub(super) static CONSUMER_GROUP_DESCRIBE: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Array(&Text)), // group_ids
        always(Fixed(1)),     // include_authorized_operations
    ],
};

/// SaslAuthenticateRequest, 0 to 2.
pub(super) static SASL_AUTHENTICATE: Shape = Shape {
    flexible: 2,
    tagged_text: None,
    fields: &[always(Bytes)], // auth_bytes
};

/// DescribeUserScramCredentialsRequest, 0.
pub(super) static DESCRIBE_USER_SCRAM_CREDENTIALS: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[always(Array(&Group(&[always(Text)])))], // users
};

/// AlterUserScramCredentialsRequest, 0.
pub(super) static ALTER_USER_SCRAM_CREDENTIALS: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Array(&Group(&[
            always(Text),     // name
            always(Fixed(1)), // mechanism
        ]))), // deletions
        always(Array(&Group(&[
            always(Text),     // name
            always(Fixed(1)), // mechanism
            always(Fixed(4)), // iterations
            always(Bytes),    // salt
            always(Bytes),    // salted_password
        ]))), // upsertions
    ],
};

/// What an ACL is about, and what a filter of them.
static ACL: [Field; 7] = [
    always(Fixed(1)), // resource_type
    always(Text),     // resource_name
    always(Fixed(1)), // pattern_type
    always(Text),     // principal
    always(Text),     // host
    always(Fixed(1)), // operation
    always(Fixed(1)), // permission_type
];

/// DescribeAclsRequest, 1 to 3.
pub(super) static DESCRIBE_ACLS: Shape = Shape {
    flexible: 2,
    tagged_text: None,
    fields: &ACL,
};

/// CreateAclsRequest, 1 to 3.
pub(super) static CREATE_ACLS: Shape = Shape {
    flexible: 2,
    tagged_text: None,
    fields: &[always(Array(&Group(&ACL)))], // creations
};

/// DeleteAclsRequest, 1 to 3.
pub(super) static DELETE_ACLS: Shape = Shape {
    flexible: 2,
    tagged_text: None,
    fields: &[always(Array(&Group(&ACL)))], // filters
};

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use bytes::{Buf, Bytes as Frame};
    use kafka_protocol::messages::*;
    use kafka_protocol::protocol::{Decodable, HeaderVersion};
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    use super::super::shape::{Malformed, Shape};

    /// Every request of a shape is decoded whole, to its last byte, and nothing behind it.
    fn check<R: Decodable + HeaderVersion + Debug>(shape: &Shape, versions: [i16; 2]) {
        let mut runner = TestRunner::new(Config::with_cases(24));
        for version in versions[0]..=versions[1] {
            let header = R::header_version(version);
            assert_eq!(header == 2, shape.is_flexible(version), "version {version}");
            let some = proptest::collection::vec(any::<u8>(), 64..256);
            let checked = runner.run(&some, |seed| {
                let body = shape.example(version, &seed);
                let walked = shape.walk(&body, version);
                prop_assert_eq!(walked.map(|walked| walked.bytes), Ok(body.len()));
                let mut frame = Frame::from([&body[..], b"behind"].concat());
                let request = R::decode(&mut frame, version);
                prop_assert!(request.is_ok(), "{version}: {:?}", request.err());
                prop_assert_eq!(frame.chunk(), b"behind", "version {}", version);
                for short in 0..body.len() {
                    prop_assert_eq!(shape.walk(&body[..short], version), Err(Malformed));
                }
                // Whatever else stands there: what the walk lets pass is decoded without more
                // memory than it counted, or an abort, and to the same byte.
                for (at, other) in seed.iter().enumerate() {
                    let mut body = body.clone();
                    let place = at.checked_rem(body.len());
                    if let Some(byte) = place.and_then(|at| body.get_mut(at)) {
                        *byte = *other;
                    }
                    let Ok(walked) = shape.walk(&body, version) else {
                        continue;
                    };
                    let mut frame = Frame::from(body.clone());
                    if R::decode(&mut frame, version).is_ok() {
                        prop_assert_eq!(body.len() - frame.len(), walked.bytes);
                    }
                }
                Ok(())
            });
            checked.unwrap();
        }
    }

    #[test]
    fn shapes_are_what_decoders_read() {
        check::<ProduceRequest>(&super::PRODUCE, [3, 13]);
        check::<FetchRequest>(&super::FETCH, [4, 18]);
        check::<ListOffsetsRequest>(&super::LIST_OFFSETS, [1, 10]);
        check::<MetadataRequest>(&super::METADATA, [0, 13]);
        check::<OffsetCommitRequest>(&super::OFFSET_COMMIT, [2, 9]);
        check::<OffsetFetchRequest>(&super::OFFSET_FETCH, [1, 9]);
        check::<FindCoordinatorRequest>(&super::FIND_COORDINATOR, [0, 6]);
        check::<JoinGroupRequest>(&super::JOIN_GROUP, [0, 9]);
        check::<HeartbeatRequest>(&super::HEARTBEAT, [0, 4]);
        check::<LeaveGroupRequest>(&super::LEAVE_GROUP, [0, 5]);
        check::<SyncGroupRequest>(&super::SYNC_GROUP, [0, 5]);
        check::<DescribeGroupsRequest>(&super::DESCRIBE_GROUPS, [0, 6]);
        check::<ListGroupsRequest>(&super::LIST_GROUPS, [0, 5]);
        check::<ConsumerGroupHeartbeatRequest>(&super::CONSUMER_GROUP_HEARTBEAT, [0, 1]);
        check::<ConsumerGroupDescribeRequest>(&super::CONSUMER_GROUP_DESCRIBE, [0, 1]);
        check::<ShareGroupHeartbeatRequest>(&super::SHARE_GROUP_HEARTBEAT, [1, 1]);
        check::<ShareGroupDescribeRequest>(&super::SHARE_GROUP_DESCRIBE, [1, 1]);
        check::<ShareFetchRequest>(&super::SHARE_FETCH, [1, 1]);
        check::<ShareAcknowledgeRequest>(&super::SHARE_ACKNOWLEDGE, [1, 1]);
        let describe = &super::DESCRIBE_SHARE_GROUP_OFFSETS;
        check::<DescribeShareGroupOffsetsRequest>(describe, [0, 0]);
        check::<AlterShareGroupOffsetsRequest>(&super::ALTER_SHARE_GROUP_OFFSETS, [0, 0]);
        check::<DeleteShareGroupOffsetsRequest>(&super::DELETE_SHARE_GROUP_OFFSETS, [0, 0]);
        check::<ApiVersionsRequest>(&super::API_VERSIONS, [0, 4]);
        check::<CreateTopicsRequest>(&super::CREATE_TOPICS, [2, 7]);
        check::<DeleteTopicsRequest>(&super::DELETE_TOPICS, [1, 6]);
        check::<DeleteRecordsRequest>(&super::DELETE_RECORDS, [0, 2]);
        check::<InitProducerIdRequest>(&super::INIT_PRODUCER_ID, [0, 5]);
        check::<OffsetForLeaderEpochRequest>(&super::OFFSET_FOR_LEADER_EPOCH, [2, 4]);
        check::<AddPartitionsToTxnRequest>(&super::ADD_PARTITIONS_TO_TXN, [0, 5]);
        check::<AddOffsetsToTxnRequest>(&super::ADD_OFFSETS_TO_TXN, [0, 4]);
        check::<EndTxnRequest>(&super::END_TXN, [0, 5]);
        check::<TxnOffsetCommitRequest>(&super::TXN_OFFSET_COMMIT, [0, 5]);
        check::<DescribeConfigsRequest>(&super::DESCRIBE_CONFIGS, [1, 4]);
        check::<AlterConfigsRequest>(&super::ALTER_CONFIGS, [0, 2]);
        check::<DescribeLogDirsRequest>(&super::DESCRIBE_LOG_DIRS, [1, 4]);
        check::<CreatePartitionsRequest>(&super::CREATE_PARTITIONS, [0, 3]);
        check::<DeleteGroupsRequest>(&super::DELETE_GROUPS, [0, 2]);
        check::<IncrementalAlterConfigsRequest>(&super::INCREMENTAL_ALTER_CONFIGS, [0, 1]);
        check::<OffsetDeleteRequest>(&super::OFFSET_DELETE, [0, 0]);
        check::<DescribeClusterRequest>(&super::DESCRIBE_CLUSTER, [0, 2]);
        check::<AlterReplicaLogDirsRequest>(&super::ALTER_REPLICA_LOG_DIRS, [1, 2]);
        check::<ElectLeadersRequest>(&super::ELECT_LEADERS, [0, 2]);
        check::<AlterPartitionReassignmentsRequest>(&super::ALTER_PARTITION_REASSIGNMENTS, [0, 1]);
        check::<ListPartitionReassignmentsRequest>(&super::LIST_PARTITION_REASSIGNMENTS, [0, 0]);
        check::<DescribeQuorumRequest>(&super::DESCRIBE_QUORUM, [0, 2]);
        check::<DescribeProducersRequest>(&super::DESCRIBE_PRODUCERS, [0, 0]);
        check::<DescribeTransactionsRequest>(&super::DESCRIBE_TRANSACTIONS, [0, 0]);
        check::<ListTransactionsRequest>(&super::LIST_TRANSACTIONS, [0, 2]);
        check::<ListConfigResourcesRequest>(&super::LIST_CONFIG_RESOURCES, [0, 1]);
        check::<DescribeTopicPartitionsRequest>(&super::DESCRIBE_TOPIC_PARTITIONS, [0, 0]);
        check::<SaslHandshakeRequest>(&super::SASL_HANDSHAKE, [0, 1]);
        check::<SaslAuthenticateRequest>(&super::SASL_AUTHENTICATE, [0, 2]);
        check::<DescribeUserScramCredentialsRequest>(
            &super::DESCRIBE_USER_SCRAM_CREDENTIALS,
            [0, 0],
        );
        check::<AlterUserScramCredentialsRequest>(&super::ALTER_USER_SCRAM_CREDENTIALS, [0, 0]);
        check::<DescribeAclsRequest>(&super::DESCRIBE_ACLS, [1, 3]);
        check::<CreateAclsRequest>(&super::CREATE_ACLS, [1, 3]);
        check::<DeleteAclsRequest>(&super::DELETE_ACLS, [1, 3]);
    }
}
