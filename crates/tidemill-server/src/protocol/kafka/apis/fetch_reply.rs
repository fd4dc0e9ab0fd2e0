//! The response of Fetch in pieces: what is between the batches is written here, and the batches
//! themselves are sent from where they lie.
//!
//! The layout is that of `FetchResponse` in Kafka's protocol guide, versions 4 to 17: no
//! node is named beside this one. This room
//! may not know how batches are read.

use bytes::{BufMut, Bytes, BytesMut};
use tidemill_core::budget::Share;

use super::super::error::Code;
use super::super::fetch_session::Named;
use super::super::registry::{Body, Reply, Unserved};

/// The first version with compact lengths.
const FLEXIBLE: i16 = 12;

/// See the module.
#[derive(Debug, Default)]
pub(in super::super) struct FetchReply {
    /// An error of the whole, 0 for none.
    pub(in super::super) error: i16,
    /// The session's number, 0 for none.
    pub(in super::super) session: i32,
    pub(in super::super) topics: Vec<TopicReply>,
    pub(in super::super) share: Option<Share>,
}

impl FetchReply {
    /// An answer of nothing but an error.
    pub(super) fn refused(code: Code) -> Self {
        Self {
            error: code.code(),
            ..Self::default()
        }
    }
}

#[derive(Debug)]
pub(in super::super) struct TopicReply {
    named: Named,
    pub(in super::super) partitions: Vec<PartitionReply>,
}

impl TopicReply {
    /// As it was asked for: by its id from version 13 on.
    pub(super) fn new(named: Named) -> Self {
        Self {
            named,
            // Topics of one partition are many.
            partitions: Vec::with_capacity(1),
        }
    }
}

#[derive(Debug)]
pub(in super::super) struct PartitionReply {
    pub(in super::super) index: i32,
    pub(in super::super) error: i16,
    pub(in super::super) high_watermark: i64,
    pub(super) stable_end: i64,
    pub(super) earliest: i64,
    /// Producers, and where their aborted transactions begin; `None` for who reads everything.
    pub(super) aborted: Option<Vec<(i64, i64)>>,
    pub(in super::super) batches: Vec<Bytes>,
    /// It is left out.
    pub(super) silent: bool,
}

impl PartitionReply {
    pub(super) fn new(index: i32) -> Self {
        Self {
            index,
            error: 0,
            high_watermark: -1,
            stable_end: -1,
            earliest: -1,
            aborted: None,
            batches: Vec::new(),
            silent: false,
        }
    }
}

/// Writes what is between batches, and lays batches beside it.
struct Writer {
    version: i16,
    pieces: Vec<Bytes>,
    open: BytesMut,
}

impl Reply for FetchReply {
    fn into_body(self, version: i16) -> Result<Body, Unserved> {
        let mut out = Writer {
            version,
            pieces: Vec::new(),
            open: BytesMut::new(),
        };
        // Throttled for no time.
        out.open.put_i32(0);
        if version >= 7 {
            out.open.put_i16(self.error);
            out.open.put_i32(self.session);
        }
        out.count(self.topics.len())?;
        for topic in self.topics {
            match &topic.named {
                Named::Id(id) => out.open.put_slice(id.as_bytes()),
                Named::Name(name) => out.text(name)?,
            }
            out.count(topic.partitions.len())?;
            for partition in topic.partitions {
                out.partition(partition)?;
            }
            out.no_tags();
        }
        out.no_tags();
        out.pieces.push(out.open.freeze());
        Ok(Body {
            pieces: out.pieces,
            _share: self.share,
            given: Vec::new(),
        })
    }
}

fn too_many<T>(_: T) -> Unserved {
    Unserved::Response("there is more in it than its format can say".to_owned())
}

impl Writer {
    fn partition(&mut self, partition: PartitionReply) -> Result<(), Unserved> {
        self.open.put_i32(partition.index);
        self.open.put_i16(partition.error);
        self.open.put_i64(partition.high_watermark);
        self.open.put_i64(partition.stable_end);
        if self.version >= 5 {
            self.open.put_i64(partition.earliest);
        }
        match partition.aborted {
            Some(aborted) => {
                self.count(aborted.len())?;
                for (producer, first) in aborted {
                    self.open.put_i64(producer);
                    self.open.put_i64(first);
                    self.no_tags();
                }
            }
            None if self.version >= FLEXIBLE => self.open.put_u8(0),
            None => self.open.put_i32(-1),
        }
        if self.version >= 11 {
            // No other replica to read from.
            self.open.put_i32(-1);
        }
        self.count(partition.batches.iter().map(Bytes::len).sum())?;
        if !partition.batches.is_empty() {
            self.pieces.push(self.open.split().freeze());
            self.pieces.extend(partition.batches);
        }
        self.no_tags();
        Ok(())
    }

    /// A number of elements or of bytes.
    fn count(&mut self, count: usize) -> Result<(), Unserved> {
        match self.version >= FLEXIBLE {
            true => self.varint(u32::try_from(count + 1).map_err(too_many)?),
            false => self.open.put_i32(i32::try_from(count).map_err(too_many)?),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Unserved> {
        match self.version >= FLEXIBLE {
            true => self.count(text.len())?,
            false => self
                .open
                .put_i16(i16::try_from(text.len()).map_err(too_many)?),
        }
        self.open.put_slice(text.as_bytes());
        Ok(())
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.open.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.open.put_u8(value as u8);
    }

    fn no_tags(&mut self) {
        if self.version >= FLEXIBLE {
            self.open.put_u8(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction, FetchableTopicResponse, PartitionData,
    };
    use kafka_protocol::messages::{FetchResponse, ProducerId, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use uuid::Uuid;

    /// The first version that names topics by their ids.
    const BY_ID: i16 = 13;

    fn ours(version: i16) -> FetchReply {
        let mut topic = TopicReply::new(match version >= BY_ID {
            true => Named::Id(Uuid::from_u128(7)),
            false => Named::Name("orders".into()),
        });
        for index in 0..2 {
            let mut partition = PartitionReply::new(index);
            partition.high_watermark = 200;
            partition.stable_end = 150;
            partition.earliest = 3;
            if index == 1 {
                partition.error = 1;
                partition.aborted = Some(vec![(7, 120), (8, 130)]);
                partition.batches = vec![vec![1; 100].into(), vec![2; 200].into()];
            }
            topic.partitions.push(partition);
        }
        FetchReply {
            error: if version >= 7 { 71 } else { 0 },
            session: if version >= 7 { 1234 } else { 0 },
            topics: vec![topic],
            share: None,
        }
    }

    fn theirs(version: i16) -> Vec<u8> {
        let partition = |index: i32| {
            let data = PartitionData::default()
                .with_partition_index(index)
                .with_high_watermark(200)
                .with_last_stable_offset(150)
                .with_log_start_offset(3)
                .with_aborted_transactions(None)
                .with_preferred_read_replica((-1).into())
                .with_records(Some(Bytes::new()));
            match index {
                1 => data
                    .with_error_code(1)
                    .with_aborted_transactions(Some(vec![aborted(7, 120), aborted(8, 130)]))
                    .with_records(Some([vec![1; 100], vec![2; 200]].concat().into())),
                _ => data,
            }
        };
        let topic = match version >= BY_ID {
            true => FetchableTopicResponse::default().with_topic_id(Uuid::from_u128(7)),
            false => FetchableTopicResponse::default()
                .with_topic(TopicName(StrBytes::from_static_str("orders"))),
        };
        let topic = topic.with_partitions(vec![partition(0), partition(1)]);
        let mut response = FetchResponse::default().with_responses(vec![topic]);
        if version >= 7 {
            response = response.with_error_code(71).with_session_id(1234);
        }
        let mut bytes = BytesMut::new();
        response.encode(&mut bytes, version).unwrap();
        bytes.to_vec()
    }

    fn aborted(producer: i64, first: i64) -> AbortedTransaction {
        AbortedTransaction::default()
            .with_producer_id(ProducerId(producer))
            .with_first_offset(first)
    }

    #[test]
    fn a_reply_in_pieces_is_the_response_in_one_piece() {
        for version in 4..=17 {
            let pieces = ours(version).into_body(version).unwrap().pieces;
            assert_eq!(pieces.concat(), theirs(version), "version {version}");
        }
    }
}
