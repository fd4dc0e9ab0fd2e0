//! Who may do nothing is refused by every key that is served, and who has what a key needs is not:
//! the list of keys is walked, so that none can be forgotten. And what is hidden of what is there.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::FutureExt;
use kafka_protocol::messages as wire;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{Begins, Broker, CreateTopic, ProducerIdentity, ShareSettings};
use tidemill_core::{GroupName, TopicId, TopicName};
use tokio::sync::watch;
use uuid::Uuid;

use super::super::Door;
use super::super::access::{Kind, Needs, Operation};
use super::super::apis;
use super::super::convert;
use super::super::error::Code;
use super::super::registry::{APIS, Api, Call};
use super::every_key::{codes, commit, fetch, produce};
use super::{begin, broker, builder, call, part, topic, writing};
use crate::config::{AclConfig, KafkaConfig, SaslConfig};
use crate::metrics::Metrics;
use crate::permissions::Permissions;
use crate::permissions::filter::Filter;
use crate::permissions::rule::{Effect, Match, Pattern, Rule};
use crate::users::Users;

/// What refusals are answered with: Kafka's codes about topics, groups, the cluster and
/// transactional ids.
const REFUSED: [i16; 4] = [29, 30, 31, 53];

/// What is said of a topic by its id, whether it is hidden or not there.
const HIDDEN: i16 = 100;

pub(super) const USER: &str = "User:ANONYMOUS";

pub(super) fn text<T: From<StrBytes>>(text: &'static str) -> T {
    StrBytes::from_static_str(text).into()
}

/// A rule about all resources of a kind, or this one.
fn rule(effect: Effect, operation: Operation, kind: Kind, name: &str, how: Match) -> Rule {
    Rule {
        resource: Pattern {
            kind,
            name: name.to_owned(),
            how,
        },
        principal: USER.to_owned(),
        host: "*".to_owned(),
        operation,
        effect,
    }
}

pub(super) fn allow(operation: Operation, kind: Kind, name: &str) -> Rule {
    rule(Effect::Allow, operation, kind, name, Match::Literal)
}

fn all_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Cluster => "kafka-cluster",
        _ => "*",
    }
}

/// A closed door to a broker with a topic `a` of two partitions, a group `g` with a position in it,
/// a transactional producer `t` and a user.
pub(super) struct House {
    pub(super) door: Arc<Door>,
    pub(super) broker: Broker,
    pub(super) producer: ProducerIdentity,
    pub(super) id: TopicId,
    _close: watch::Sender<bool>,
    folder: tempfile::TempDir,
}

impl House {
    pub(super) async fn new() -> Self {
        let broker = broker(2, 64 << 20).await;
        let folder = tempfile::tempdir().unwrap();
        let private = folder.path().join("private");
        Users::new(&private).add("eve", "one").unwrap();
        let (open, _closing) = super::door(broker.clone());
        let committed = apis::offset_commit::OffsetCommit::answer(call(&open, 8), commit()).await;
        assert_eq!(committed.topics[0].partitions[0].error_code, 0);
        let (shared, settings) = (GroupName::new("shared").unwrap(), ShareSettings::default());
        let set = broker.share_groups().set(&shared, settings).await;
        set.unwrap();
        let producer = begin(&broker).await;
        let before = writing(builder(1, b"x"), Begins::No);
        broker.produce(before).await.unwrap();
        broker.produce(part(producer, 1000)).await.unwrap();
        let (close, closing) = watch::channel(false);
        let config = KafkaConfig {
            sasl: Some(SaslConfig {
                users: private.clone(),
                cleartext: false,
            }),
            acls: Some(AclConfig {
                rules: private,
                open: false,
                super_users: BTreeSet::new(),
            }),
            ..KafkaConfig::default()
        };
        let metrics = Arc::new(Metrics::new());
        let pullers = Arc::new(crate::http::pull::Pullers::new(broker.bus()));
        let door = Door::new(broker.clone(), config, metrics, pullers, closing);
        Self {
            id: broker.topic(&topic()).unwrap().id,
            door: Arc::new(door),
            broker,
            producer,
            _close: close,
            folder,
        }
    }

    fn rules(&self) -> &Permissions {
        &self.door.guard.as_ref().unwrap().rules
    }

    pub(super) fn add(&self, rules: Vec<Rule>) {
        self.rules().add(rules).unwrap();
    }

    pub(super) fn remove_all(&self) {
        self.rules().delete(&[Filter::default()]).unwrap();
    }

    pub(super) fn call(&self, version: i16) -> Call {
        call(&self.door, version)
    }

    /// Everything that a client could have changed.
    fn state(&self) -> String {
        let topics = self.broker.topics().into_iter().map(|topic| {
            let settings = self.broker.topic_settings(&topic.name);
            let ends = topic.partitions.iter();
            let ends: Vec<_> = ends.map(|one| (one.earliest, one.high_watermark)).collect();
            (topic.name, settings, ends)
        });
        let topics: Vec<_> = topics.collect();
        let groups = self.broker.classic_groups();
        let names = groups.names();
        let offsets: Vec<_> = names.iter().map(|name| groups.offsets(name)).collect();
        let producers = self.broker.transactions(None, usize::MAX).into_iter();
        let producers: Vec<_> = producers
            .map(|one| (one.id, one.producer, one.epoch, one.status))
            .collect();
        let users = Users::new(self.folder.path().join("private")).list();
        let rules = &self.rules().known().unwrap().rules;
        format!("{topics:?} {names:?} {offsets:?} {producers:?} {users:?} {rules:?}")
    }
}

/// Keys that tell nothing but what everybody may know.
const FREE: [ApiKey; 4] = [
    ApiKey::ApiVersions,
    ApiKey::SaslHandshake,
    ApiKey::SaslAuthenticate,
    ApiKey::DescribeCluster,
];

fn guarded() -> impl Iterator<Item = (ApiKey, i16, Needs)> {
    let all = APIS
        .iter()
        .map(|entry| (entry.key, entry.advertised[1], entry.needs));
    all.filter(|(key, ..)| !FREE.contains(key))
}

#[tokio::test]
async fn who_may_do_nothing_is_refused_by_every_key() {
    let house = House::new().await;
    let before = house.state();
    for entry in APIS {
        assert_eq!(
            entry.needs.is_empty(),
            FREE.contains(&entry.key),
            "{entry:?}"
        );
    }
    for (key, version, _) in guarded() {
        let codes = codes(&house, key, version).await;
        let refused = codes.iter().filter(|code| REFUSED.contains(code)).count();
        // Above what is refused there may stand that nothing else went wrong.
        assert!(refused > 0, "{key:?}: {codes:?}");
        let others = codes
            .iter()
            .filter(|code| !REFUSED.contains(code) && ![0, HIDDEN].contains(*code));
        assert_eq!(others.count(), 0, "{key:?}: {codes:?}");
        assert_eq!(house.state(), before, "{key:?}");
    }
}

#[tokio::test]
async fn who_has_what_a_key_needs_is_not_refused() {
    for (key, version, needs) in guarded() {
        let house = House::new().await;
        let rules = needs.iter();
        let rules = rules.map(|(operation, kind)| allow(*operation, *kind, all_of(*kind)));
        house.add(rules.collect());
        let codes = codes(&house, key, version).await;
        assert!(
            !codes.iter().any(|code| REFUSED.contains(code)),
            "{key:?}: {codes:?}"
        );
    }
}

/// Needs of which any one is enough; of all others a key needs each.
const ONE_OF: [(ApiKey, [(Operation, Kind); 2]); 4] = [
    (
        ApiKey::CreateTopics,
        [
            (Operation::Create, Kind::Cluster),
            (Operation::Create, Kind::Topic),
        ],
    ),
    (
        ApiKey::Metadata,
        [
            (Operation::Create, Kind::Cluster),
            (Operation::Create, Kind::Topic),
        ],
    ),
    (
        ApiKey::InitProducerId,
        [
            (Operation::IdempotentWrite, Kind::Cluster),
            (Operation::Write, Kind::Topic),
        ],
    ),
    (
        ApiKey::ListGroups,
        [
            (Operation::Describe, Kind::Cluster),
            (Operation::Describe, Kind::Group),
        ],
    ),
];

fn deny((operation, kind): (Operation, Kind)) -> Rule {
    rule(Effect::Deny, operation, kind, all_of(kind), Match::Literal)
}

/// What a key answers to who may do everything but this.
async fn without(key: ApiKey, version: i16, denied: &[(Operation, Kind)]) -> (bool, Vec<i16>) {
    let house = House::new().await;
    let kinds = [
        Kind::Topic,
        Kind::Group,
        Kind::Cluster,
        Kind::TransactionalId,
    ];
    let allowed = kinds.map(|kind| allow(Operation::All, kind, all_of(kind)));
    let denied = denied.iter().copied().map(deny);
    house.add(allowed.into_iter().chain(denied).collect());
    let codes = codes(&house, key, version).await;
    (codes.iter().any(|code| REFUSED.contains(code)), codes)
}

#[tokio::test]
async fn a_denial_of_anything_that_a_key_needs_is_kept_whatever_else_is_allowed() {
    for (key, version, needs) in guarded() {
        let any = ONE_OF.iter().find(|(one, _)| *one == key);
        let any = any.map_or(&[][..], |(_, any)| any);
        assert!(any.iter().all(|one| needs.contains(one)), "{key:?}");
        for need in needs.iter().filter(|need| !any.contains(need)) {
            let (refused, codes) = without(key, version, &[*need]).await;
            assert!(refused, "{key:?} without {need:?}: {codes:?}");
        }
        for need in any {
            let (refused, codes) = without(key, version, &[*need]).await;
            assert!(!refused, "{key:?} without {need:?}: {codes:?}");
        }
        if !any.is_empty() {
            let (refused, codes) = without(key, version, any).await;
            assert!(refused, "{key:?} without {any:?}: {codes:?}");
        }
    }
}

/// What is answered about a topic by its id, by every key that takes one, without the id.
async fn by_id(house: &House, id: TopicId) -> [String; 4] {
    use wire::delete_topics_request::DeleteTopicState;
    use wire::metadata_request::MetadataRequestTopic;
    let wire_id = convert::wire_id(id);
    let one = MetadataRequestTopic::default().with_name(None);
    let asked =
        wire::MetadataRequest::default().with_topics(Some(vec![one.with_topic_id(wire_id)]));
    let seen = apis::metadata::Metadata::answer(house.call(12), asked).await;
    let one = DeleteTopicState::default().with_topic_id(wire_id);
    let asked = wire::DeleteTopicsRequest::default().with_topics(vec![one]);
    let deleted = apis::delete_topics::DeleteTopics::answer(house.call(6), asked).await;
    let asked = produce(Some(id));
    let written = apis::produce::Produce::answer(house.call(13), asked).await;
    let asked = fetch(Some(id)).with_session_epoch(-1);
    let read = apis::fetch::Fetch::answer(house.call(17), asked).await;
    [
        format!("{:?}", seen.response),
        format!("{deleted:?}"),
        format!("{written:?}"),
        format!("{read:?}"),
    ]
    .map(|told| told.replace(&wire_id.to_string(), "ID"))
}

#[tokio::test]
async fn by_its_id_a_hidden_topic_is_not_told_from_one_that_is_not_there() {
    let house = House::new().await;
    let nobodys = TopicId(Uuid::from_u128(7));
    let none = by_id(&house, nobodys).await;
    assert_eq!(by_id(&house, house.id).await, none);
    assert!(none.iter().all(|told| told.contains("100")), "{none:?}");
    house.add(vec![allow(Operation::Describe, Kind::Topic, "a")]);
    let seen = by_id(&house, house.id).await;
    assert!(seen[0].contains(" error_code: 0"), "{seen:?}");
    assert!(seen[1..].iter().all(|told| told.contains("29")), "{seen:?}");
    assert_eq!(by_id(&house, nobodys).await, none);
}

#[tokio::test]
async fn a_fetch_that_waits_tells_nothing_that_may_not_be_read_any_more() {
    for (id, version) in [(false, 12), (true, 17)] {
        let house = House::new().await;
        house.add(vec![allow(Operation::Read, Kind::Topic, "a")]);
        let mut request = fetch(id.then_some(house.id))
            .with_min_bytes(1)
            .with_max_wait_ms(300_000);
        let end = house.broker.topic(&topic()).unwrap();
        let end = end.partitions[0].high_watermark.0;
        request.topics[0].partitions[0].fetch_offset = i64::try_from(end).unwrap();
        let mut waits = Box::pin(apis::fetch::Fetch::answer(house.call(version), request));
        assert!((&mut waits).now_or_never().is_none());
        house.add(vec![deny((Operation::All, Kind::Topic))]);
        let record = writing(builder(1, b"secret"), Begins::No);
        house.broker.produce(record).await.unwrap();
        let told = waits.await;
        let told = &told.topics[0].partitions[0];
        assert_eq!((told.batches.len(), told.high_watermark), (0, -1));
        let code = Code::TopicAuthorizationFailed;
        let code = if id { Code::UnknownTopicId } else { code };
        assert_eq!(told.error, code.code());
    }
}

/// Names that metadata tells, with their codes and the operations that are allowed.
async fn seen(house: &House, named: &[&'static str]) -> Vec<(String, i16, i32)> {
    use wire::metadata_request::MetadataRequestTopic as One;
    let named = named
        .iter()
        .map(|name| One::default().with_name(Some(text(name))));
    let named: Vec<_> = named.collect();
    let request = wire::MetadataRequest::default()
        .with_allow_auto_topic_creation(true)
        .with_include_topic_authorized_operations(true)
        .with_topics((!named.is_empty()).then_some(named));
    let held = apis::metadata::Metadata::answer(house.call(12), request).await;
    let topics = held.response.topics.into_iter().map(|topic| {
        let hidden = topic.error_code == Code::TopicAuthorizationFailed.code();
        // Whether it is there cannot be told from anything.
        assert!(!hidden || topic.topic_id == Uuid::nil() && topic.partitions.is_empty());
        let name = topic.name.unwrap().to_string();
        (name, topic.error_code, topic.topic_authorized_operations)
    });
    topics.collect()
}

#[tokio::test]
async fn topics_that_are_hidden_are_not_told_to_exist() {
    let house = House::new().await;
    let refused = Code::TopicAuthorizationFailed.code();
    assert_eq!(seen(&house, &[]).await, []);
    let both = seen(&house, &["a", "none"]).await;
    for (name, code, operations) in &both {
        assert_eq!((*code, *operations), (refused, i32::MIN), "{name}");
    }
    // Reading lets one see: bits 3 and 8 are reading and describing.
    house.add(vec![allow(Operation::Read, Kind::Topic, "a")]);
    let reads = 1 << 3 | 1 << 8;
    assert_eq!(seen(&house, &[]).await, [("a".to_owned(), 0, reads)]);
    // Who may see one that is not there may not make it by asking for it.
    house.add(vec![allow(Operation::Describe, Kind::Topic, "none")]);
    assert_eq!(seen(&house, &["none"]).await[0].1, refused);
    assert_eq!(house.broker.topics().len(), 1);
    house.add(vec![allow(Operation::Create, Kind::Topic, "none")]);
    assert_eq!(seen(&house, &["none"]).await[0].1, 0);
    assert_eq!(house.broker.topics().len(), 2);
}

#[tokio::test]
async fn positions_in_hidden_topics_are_hidden() {
    use wire::offset_fetch_request::*;
    let house = House::new().await;
    house.add(vec![allow(Operation::Describe, Kind::Group, "g")]);
    let ask = async |topics| {
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(text("g"))
            .with_topics(topics);
        let request = wire::OffsetFetchRequest::default().with_groups(vec![group]);
        let mut told = apis::offset_fetch::OffsetFetch::answer(house.call(9), request).await;
        assert_eq!(told.groups[0].error_code, 0);
        let topics = told.groups.remove(0).topics.into_iter();
        let parts = topics.flat_map(|topic| topic.partitions);
        let told = parts.map(|one| (one.committed_offset, one.error_code));
        told.collect::<Vec<_>>()
    };
    let topic = OffsetFetchRequestTopics::default()
        .with_name(text("a"))
        .with_partition_indexes(vec![0]);
    let refused = Code::TopicAuthorizationFailed.code();
    assert_eq!(ask(None).await, []);
    assert_eq!(ask(Some(vec![topic.clone()])).await, [(-1, refused)]);
    house.add(vec![allow(Operation::Describe, Kind::Topic, "a")]);
    assert_eq!(ask(None).await, [(1, 0)]);
    assert_eq!(ask(Some(vec![topic])).await, [(1, 0)]);
}

#[tokio::test]
async fn members_are_given_only_topics_that_they_may_see_at_the_moment() {
    let house = House::new().await;
    let make = async |name: &str| {
        let (name, how) = (TopicName::new(name).unwrap(), CreateTopic::default());
        house.broker.create_topic(name, how).await.unwrap();
    };
    let say = async |request: wire::ConsumerGroupHeartbeatRequest| {
        let request = request.with_group_id(text("new")).with_member_id(text("m"));
        let call = house.call(1);
        let client = Arc::clone(&call.client);
        let told =
            apis::consumer_group_heartbeat::ConsumerGroupHeartbeat::answer(call, request).await;
        let member = |group: &str, member: &str| (group, member) == ("new", "m");
        assert_eq!(
            client.shown(member).groups,
            ["new"],
            "people see where it is"
        );
        told
    };
    // How many topics it is told that it has.
    let topics = |told: &wire::ConsumerGroupHeartbeatResponse| {
        assert_eq!(told.error_code, 0);
        let told = told.assignment.as_ref();
        told.map(|told| told.topic_partitions.len())
    };
    make("secret").await;
    house.add(vec![allow(Operation::Read, Kind::Group, "new")]);
    house.add(vec![allow(Operation::Describe, Kind::Topic, "a")]);
    let join = wire::ConsumerGroupHeartbeatRequest::default()
        .with_rebalance_timeout_ms(10_000)
        .with_subscribed_topic_regex(Some(text(".*")))
        .with_topic_partitions(Some(Vec::new()));
    let told = say(join).await;
    assert_eq!(topics(&told), Some(1), "a hidden topic is in nobody's way");
    let lives = |epoch| {
        let request = wire::ConsumerGroupHeartbeatRequest::default();
        request.with_member_epoch(epoch)
    };
    make("secret2").await;
    let told = say(lives(told.member_epoch)).await;
    assert_eq!(topics(&told), None, "nothing has changed");
    house.add(vec![allow(Operation::Describe, Kind::Topic, "secret2")]);
    let told = say(lives(told.member_epoch)).await;
    assert_eq!(topics(&told), Some(2));
    let deny = |name| {
        rule(
            Effect::Deny,
            Operation::Describe,
            Kind::Topic,
            name,
            Match::Literal,
        )
    };
    house.add(vec![deny("a"), deny("secret2")]);
    let told = say(lives(told.member_epoch)).await;
    assert_eq!(topics(&told), Some(0), "it gives everything back");
}

#[tokio::test]
async fn records_of_a_transaction_need_its_id() {
    use wire::produce_request::*;
    let house = House::new().await;
    house.add(vec![allow(Operation::Write, Kind::Topic, "a")]);
    let batch = part(house.producer, 1001).batch;
    let write = async |id: Option<&'static str>| {
        let partition =
            PartitionProduceData::default().with_records(Some(batch.get().as_bytes().clone()));
        let topic = TopicProduceData::default()
            .with_name(text("a"))
            .with_partition_data(vec![partition]);
        let request = wire::ProduceRequest::default()
            .with_acks(-1)
            .with_transactional_id(id.map(text))
            .with_topic_data(vec![topic]);
        let told = apis::produce::Produce::answer(house.call(9), request).await;
        told.responses[0].partition_responses[0].error_code
    };
    let refused = Code::TransactionalIdAuthorizationFailed.code();
    assert_eq!(write(Some("t")).await, refused);
    assert_eq!(write(None).await, refused);
    house.add(vec![allow(Operation::Write, Kind::TransactionalId, "t")]);
    // The same batch once more is the same offset, not a refusal.
    assert_eq!(write(Some("t")).await, 0);
}
