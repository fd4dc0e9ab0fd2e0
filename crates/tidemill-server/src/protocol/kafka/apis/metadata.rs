//! `Metadata` (3), versions 0 to 12: who is in the cluster, and which topics there are.
//!
//! A topic that a client asks for by its name is made where it is not there, if the request and
//! the settings allow it.
//!
//! Deviations: the cluster is this node alone, at the address that the client came by unless
//! another is set; queues are no topics. A topic that is asked for twice is told of once. What
//! there is no memory for is told without its partitions (`LEADER_NOT_AVAILABLE`), and asked for
//! again.

use std::collections::{BTreeSet, HashMap};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{CreateTopic, TopicError, TopicInfo};
use tidemill_core::TopicName;
use tidemill_core::budget::{Class, Share};
use tokio::time::Instant;
use uuid::Uuid;

use super::super::access::{Access, Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code, NONE};
use super::super::registry::{Api, Call, Held, grown};
use super::super::shape::Shape;
use super::super::shapes;
use crate::limits::{KAFKA_ELEMENT_BYTES, KAFKA_PARTITION_BYTES, KAFKA_TOPIC_BYTES, MEMORY_WAIT};

/// See the module.
pub(in super::super) struct Metadata;

impl Api for Metadata {
    type Request = MetadataRequest;
    type Response = Held<MetadataResponse>;
    const KEY: ApiKey = ApiKey::Metadata;
    const VERSIONS: [i16; 2] = [0, 12];
    const SHAPE: &'static Shape = &shapes::METADATA;
    const NEEDS: Needs = &[
        (Operation::Describe, Kind::Topic),
        (Operation::Create, Kind::Cluster),
        (Operation::Create, Kind::Topic),
    ];

    async fn answer(call: Call, request: MetadataRequest) -> Held<MetadataResponse> {
        let operations = request.include_topic_authorized_operations;
        let create = request.allow_auto_topic_creation && call.door.config.auto_create;
        // No list asks for all; before version 1 an empty one does.
        let asked = request
            .topics
            .filter(|asked| call.version > 0 || !asked.is_empty());
        let mut answer = Answer::new(&call, create);
        let mut topics = match asked {
            None => answer.all().await,
            Some(asked) => answer.each(asked).await,
        };
        let share = answer.share;
        let access = answer.access;
        let told = |topic: &&mut MetadataResponseTopic| {
            topic.error_code != Code::TopicAuthorizationFailed.code()
        };
        for topic in topics.iter_mut().filter(|_| operations).filter(told) {
            if let Some(name) = &topic.name {
                topic.topic_authorized_operations = access.operations(Kind::Topic, name);
            }
        }
        let advertised = call.door.advertised(call.local);
        let node = convert::node(call.door.config.node_id);
        let broker = MetadataResponseBroker::default()
            .with_node_id(node)
            .with_host(StrBytes::from_string(advertised.host))
            .with_port(i32::from(advertised.port));
        let response = MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_cluster_id(Some(call.door.cluster_id.clone()))
            .with_controller_id(node)
            .with_topics(topics);
        let response = match request.include_cluster_authorized_operations {
            true => response.with_cluster_authorized_operations(access.cluster_operations()),
            false => response,
        };
        Held { response, share }
    }
}

/// The topics of an answer, and their memory.
struct Answer<'a> {
    call: &'a Call,
    access: Access,
    create: bool,
    share: Share,
    /// How long it waits for memory in all.
    until: Instant,
}

impl<'a> Answer<'a> {
    fn new(call: &'a Call, create: bool) -> Self {
        Self {
            call,
            access: call.access(),
            create,
            share: call.door.memory.empty(Class::Answers),
            until: Instant::now() + MEMORY_WAIT,
        }
    }

    async fn all(&mut self) -> Vec<MetadataResponseTopic> {
        let mut topics = Vec::new();
        let sees = |name: &str| self.access.may(Operation::Describe, Kind::Topic, name);
        let mut all = self.call.broker.topics();
        all.retain(|info| sees(info.name.as_str()));
        for info in all {
            topics.push(self.known(&info).await);
        }
        topics
    }

    /// The topics that were asked for by their names or ids, each once.
    async fn each(&mut self, asked: Vec<MetadataRequestTopic>) -> Vec<MetadataResponseTopic> {
        let by_id = match asked.iter().any(by_its_id) {
            true => self.call.broker.topics(),
            false => Vec::new(),
        };
        let by_id = by_id
            .into_iter()
            .map(|info| (convert::wire_id(info.id), info.name));
        let by_id = by_id.collect::<HashMap<_, _>>();
        let mut seen = BTreeSet::new();
        let mut topics = Vec::new();
        for one in asked {
            let id = by_its_id(&one).then_some(one.topic_id);
            if seen.insert((one.name.clone(), id)) {
                topics.push(self.find(one, &by_id).await);
            }
        }
        topics
    }

    async fn find(
        &mut self,
        asked: MetadataRequestTopic,
        by_id: &HashMap<Uuid, TopicName>,
    ) -> MetadataResponseTopic {
        let by_id_only = by_its_id(&asked);
        let found = match &asked.name {
            Some(name) if !by_id_only => self.find_or_create(name).await,
            _ => {
                let name = by_id.get(&asked.topic_id);
                let may =
                    name.map(|name| self.access.topic_of_id(Operation::Describe, name.as_str()));
                let info = name.and_then(|name| self.call.broker.topic(name));
                may.unwrap_or(Ok(())).and(info.ok_or(Code::UnknownTopicId))
            }
        };
        match found {
            Ok(info) => self.known(&info).await,
            Err(code) => {
                let named = asked.name.filter(|_| !by_id_only);
                let name = named.as_ref().map_or(0, |name| name.len());
                // No more than the request has, which is in memory.
                self.share.grow_anyway(name + KAFKA_ELEMENT_BYTES);
                MetadataResponseTopic::default()
                    .with_error_code(code.code())
                    .with_name(named)
                    .with_topic_id(asked.topic_id)
            }
        }
    }

    /// A topic that is there. Where memory is short its client is told to ask again.
    async fn known(&mut self, info: &TopicInfo) -> MetadataResponseTopic {
        // Others have their turn.
        tokio::task::yield_now().await;
        let bytes = KAFKA_TOPIC_BYTES + info.partitions.len() * KAFKA_PARTITION_BYTES;
        if grown(&mut self.share, bytes, self.until).await {
            return topic(self.call, info);
        }
        MetadataResponseTopic::default()
            .with_error_code(Code::LeaderNotAvailable.code())
            .with_name(Some(convert::wire_topic(&info.name)))
            .with_topic_id(convert::wire_id(info.id))
    }

    /// A topic of this name, which is made where it may be.
    async fn find_or_create(
        &self,
        name: &kafka_protocol::messages::TopicName,
    ) -> Result<TopicInfo, Code> {
        self.access.topic(Operation::Describe, name)?;
        let broker = &self.call.broker;
        let name: TopicName = convert::topic(name)?;
        if let Some(info) = broker.topic(&name) {
            return Ok(info);
        }
        if !self.create {
            return Err(Code::UnknownTopicOrPartition);
        }
        self.access.create_topic(name.as_str())?;
        let how = CreateTopic {
            partitions: self.call.door.config.default_partitions,
            ..CreateTopic::default()
        };
        match broker.create_topic(name.clone(), how).await {
            Ok(info) => Ok(info),
            // Somebody else was quicker, or it is a queue.
            Err(TopicError::Exists(_)) => {
                let there = broker.topic(&name);
                there.ok_or(Code::InvalidTopicException)
            }
            Err(why) => Err(error::topic(&why)),
        }
    }
}

/// Whether a topic is asked for by its id: Java's clients leave its name empty then.
fn by_its_id(asked: &MetadataRequestTopic) -> bool {
    asked.name.is_none() || !asked.topic_id.is_nil()
}

fn topic(call: &Call, info: &TopicInfo) -> MetadataResponseTopic {
    let node = convert::node(call.door.config.node_id);
    let epoch = convert::leader_epoch(call.broker.incarnation());
    let partitions = info.partitions.iter().map(|partition| {
        MetadataResponsePartition::default()
            .with_partition_index(convert::wire_partition(partition.partition))
            .with_leader_id(node)
            .with_leader_epoch(epoch)
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
    });
    MetadataResponseTopic::default()
        .with_error_code(NONE)
        .with_name(Some(convert::wire_topic(&info.name)))
        .with_topic_id(convert::wire_id(info.id))
        .with_partitions(partitions.collect())
}
