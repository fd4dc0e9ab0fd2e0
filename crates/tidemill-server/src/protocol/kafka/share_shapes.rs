//! The tables by which requests of share groups are walked, see `shapes.rs`.

use super::shape::Kind::{Array, Fixed, Group, Text};
use super::shape::{Field, Shape, always};

/// ShareGroupHeartbeatRequest, 1.
pub(super) static SHARE_GROUP_HEARTBEAT: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Text),         // group_id
        always(Text),         // member_id
        always(Fixed(4)),     // member_epoch
        always(Text),         // rack_id
        always(Array(&Text)), // subscribed_topic_names
    ],
};

/// ShareGroupDescribeRequest, 1.
pub(super) static SHARE_GROUP_DESCRIBE: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Array(&Text)), // group_ids
        always(Fixed(1)),     // include_authorized_operations
    ],
};

/// What is said of records: first and last offset, and a number for each, or one for all.
const ACKNOWLEDGEMENTS: Field = always(Array(&Group(&[
    always(Fixed(8)),
    always(Fixed(8)),
    always(Array(&Fixed(1))),
])));

/// ShareFetchRequest, 1.
pub(super) static SHARE_FETCH: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Text),     // group_id
        always(Text),     // member_id
        always(Fixed(4)), // share_session_epoch
        always(Fixed(4)), // max_wait_ms
        always(Fixed(4)), // min_bytes
        always(Fixed(4)), // max_bytes
        always(Fixed(4)), // max_records
        always(Fixed(4)), // batch_size
        always(Array(&Group(&[
            always(Fixed(16)), // topic_id
            always(Array(&Group(&[
                always(Fixed(4)), // partition_index
                ACKNOWLEDGEMENTS, // acknowledgement_batches
            ]))), // partitions
        ]))), // topics
        always(Array(&Group(&[
            always(Fixed(16)),        // topic_id
            always(Array(&Fixed(4))), // partitions
        ]))), // forgotten_topics_data
    ],
};

/// ShareAcknowledgeRequest, 1.
pub(super) static SHARE_ACKNOWLEDGE: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Text),     // group_id
        always(Text),     // member_id
        always(Fixed(4)), // share_session_epoch
        always(Array(&Group(&[
            always(Fixed(16)), // topic_id
            always(Array(&Group(&[
                always(Fixed(4)), // partition_index
                ACKNOWLEDGEMENTS, // acknowledgement_batches
            ]))), // partitions
        ]))), // topics
    ],
};

/// DescribeShareGroupOffsetsRequest, 0.
pub(super) static DESCRIBE_SHARE_GROUP_OFFSETS: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[always(Array(&Group(&[
        always(Text), // group_id
        always(Array(&Group(&[
            always(Text),             // topic_name
            always(Array(&Fixed(4))), // partitions
        ]))), // topics
    ])))], // groups
};

/// AlterShareGroupOffsetsRequest, 0.
pub(super) static ALTER_SHARE_GROUP_OFFSETS: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Text), // group_id
        always(Array(&Group(&[
            always(Text), // topic_name
            always(Array(&Group(&[
                always(Fixed(4)), // partition_index
                always(Fixed(8)), // start_offset
            ]))), // partitions
        ]))), // topics
    ],
};

/// DeleteShareGroupOffsetsRequest, 0.
pub(super) static DELETE_SHARE_GROUP_OFFSETS: Shape = Shape {
    flexible: 0,
    tagged_text: None,
    fields: &[
        always(Text), // group_id
        always(Array(&Group(&[
            always(Text), // topic_name
        ]))), // topics
    ],
};
