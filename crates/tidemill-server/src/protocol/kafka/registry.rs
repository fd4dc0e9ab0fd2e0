//! Which API keys are served, in which versions, and how a request finds its answer.
//!
//! This room may not know sockets, nor what any key means.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tidemill_broker::{Broker, PartitionInfo, ShareHold};
use tidemill_core::TopicName;
use tidemill_core::budget::Share;
use tokio::time::{Instant, sleep};

use super::Door;
use super::access::{Access, Needs};
use super::apis;
use super::connection::Turn;
use super::convert;
use super::error::{self, Code};
use super::sasl::Session;
use super::shape::Shape;
use crate::clients::Client;
use crate::limits::MEMORY_LOOK_EVERY;

/// One API key.
pub(super) trait Api: 'static {
    /// What is asked.
    type Request: Decodable + Send;
    /// What is answered.
    type Response: Reply + Send;
    /// The key.
    const KEY: ApiKey;
    /// The versions that are served, lowest and highest.
    const VERSIONS: [i16; 2];
    /// What requests look like.
    const SHAPE: &'static Shape;
    /// What callers need some of; `answer` asks for it. Nothing needs to be needed where nothing
    /// is told but what everybody may know.
    const NEEDS: Needs;
    /// Whether a request begins while others of such keys are under way on its connection. What
    /// it does before it first waits is done in the order in which the requests came.
    const PIPELINED: bool = false;
    /// Whether it is served to clients that have to log in and have not.
    const BEFORE_LOGIN: bool = false;

    /// Whether there is an answer at all.
    fn is_answered(_request: &Self::Request) -> bool {
        true
    }

    /// Whether a response that is not sent says that something was not done. The client finds out
    /// by the end of its connection.
    fn has_failed(_response: &Self::Response) -> bool {
        false
    }

    /// Does what is asked. Errors are part of the response.
    fn answer(
        call: Call,
        request: Self::Request,
    ) -> impl Future<Output = Self::Response> + Send + 'static;
}

/// Who asks, and with what it is done.
#[derive(Clone)]
pub(super) struct Call {
    /// What all connections share.
    pub(super) door: Arc<Door>,
    /// The broker, as this connection's own publisher.
    pub(super) broker: Broker,
    /// The request's version.
    pub(super) version: i16,
    /// The request came in a version that nobody knows here, and is taken for one of version 0.
    pub(super) too_new: bool,
    /// What the client calls itself.
    #[allow(dead_code, reason = "for keys that tell clients apart")]
    pub(super) client_id: Option<StrBytes>,
    /// Where the client is.
    #[allow(dead_code, reason = "for keys that tell clients apart")]
    pub(super) peer: SocketAddr,
    /// The address by which it came.
    pub(super) local: SocketAddr,
    /// Who it is.
    pub(super) session: Arc<Session>,
    /// That it has still to hand in what it wants to be kept; for those that are pipelined.
    pub(super) turn: Option<Arc<Turn>>,
    /// What people see of it.
    pub(super) client: Arc<Client>,
}

impl Call {
    /// What who asks may do now.
    pub(super) fn access(&self) -> Access {
        self.session.access()
    }

    /// A partition by its number.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn partition(&self, topic: &TopicName, index: i32) -> Result<PartitionInfo, Code> {
        let partition = convert::partition(index)?;
        let there = self.broker.partition(topic, partition);
        there.map_err(|why| error::fetch(&why))
    }
}

/// An answer's bytes, in pieces, and their memory.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) pieces: Vec<Bytes>,
    /// Given back when it is sent.
    pub(super) _share: Option<Share>,
    /// Told when it is sent.
    pub(super) given: Vec<ShareHold>,
}

/// What can be an answer.
pub(super) trait Reply {
    /// Its bytes in this version.
    ///
    /// # Errors
    /// Something in it has no place in this version, which is a mistake of ours.
    fn into_body(self, version: i16) -> Result<Body, Unserved>;
}

impl<T: Encodable> Reply for T {
    fn into_body(self, version: i16) -> Result<Body, Unserved> {
        let mut bytes = BytesMut::new();
        let encoded = self.encode(&mut bytes, version);
        encoded.map_err(|why| Unserved::Response(why.to_string()))?;
        Ok(Body {
            pieces: vec![bytes.freeze()],
            _share: None,
            given: Vec::new(),
        })
    }
}

/// An answer, and the memory that was taken for it before it was made.
pub(super) struct Held<T> {
    pub(super) response: T,
    pub(super) share: Share,
}

impl<T: Encodable> Reply for Held<T> {
    fn into_body(self, version: i16) -> Result<Body, Unserved> {
        let mut body = self.response.into_body(version)?;
        body._share = Some(self.share);
        Ok(body)
    }
}

/// An answer with records that are its client's once it is sent.
pub(super) struct Given<T> {
    pub(super) held: Held<T>,
    pub(super) given: Vec<ShareHold>,
}

impl<T: Encodable> Reply for Given<T> {
    fn into_body(self, version: i16) -> Result<Body, Unserved> {
        let mut body = self.held.into_body(version)?;
        body.given = self.given;
        Ok(body)
    }
}

/// Takes memory for an answer, waiting for it until this moment; `false` where there is none.
pub(super) async fn grown(share: &mut Share, bytes: usize, until: Instant) -> bool {
    while !share.grow(bytes) {
        if Instant::now() >= until {
            return false;
        }
        sleep(MEMORY_LOOK_EVERY).await;
    }
    true
}

/// Why a connection is ended instead of answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unserved {
    /// The bytes are no request.
    #[error("what came is no request of the Kafka protocol")]
    Malformed,
    /// A key that is not served.
    #[error("the API key {0} is not served")]
    Key(i16),
    /// A version that is not served.
    #[error("version {version} of the API key {key} is not served")]
    Version {
        /// The key.
        key: i16,
        /// The version.
        version: i16,
    },
    /// Nobody knows who asks.
    #[error("{0} was asked before the login")]
    Unauthenticated(&'static str),
    /// Who is at the other end has not shown who he is.
    #[error("the login failed")]
    Login,
    /// What was to be done without an answer was not done.
    #[error("what a client wanted no answer for could not be done")]
    Unheard,
    /// A response could not be written.
    #[error("a response could not be written: {0}")]
    Response(String),
}

/// A request whose head was read.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) entry: &'static Entry,
    pub(super) version: i16,
    /// It came in a version that nobody knows here.
    pub(super) too_new: bool,
    pub(super) correlation: i32,
    pub(super) client_id: Option<StrBytes>,
    body: Bytes,
    /// Bytes of the whole, its length included.
    pub(super) bytes: usize,
    /// Elements of its arrays.
    pub(super) elements: usize,
}

type Serve = fn(Call, Bytes) -> BoxFuture<'static, Result<Option<Body>, Unserved>>;

/// A key as it is served.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: ApiKey,
    /// The versions that are told to clients.
    pub(super) advertised: [i16; 2],
    /// The versions that are served.
    served: [i16; 2],
    shape: &'static Shape,
    #[cfg_attr(not(test), expect(dead_code, reason = "a test holds every key to it"))]
    pub(super) needs: Needs,
    pub(super) pipelined: bool,
    pub(super) before_login: bool,
    serve: Serve,
}

#[cfg(any(test, feature = "fuzzing"))]
impl Entry {
    /// Some body of a request in this version.
    pub(super) fn example(&self, version: i16, seed: &[u8]) -> Vec<u8> {
        self.shape.example(version, seed)
    }
}

const fn entry<A: Api>() -> Entry {
    Entry {
        key: A::KEY,
        advertised: A::VERSIONS,
        served: A::VERSIONS,
        shape: A::SHAPE,
        needs: A::NEEDS,
        pipelined: A::PIPELINED,
        before_login: A::BEFORE_LOGIN,
        serve: serve::<A>,
    }
}

/// As [`entry`], but clients are told that versions from 0 on are served.
const fn entry_since_0<A: Api>() -> Entry {
    let mut entry = entry::<A>();
    entry.advertised[0] = 0;
    entry
}

fn serve<A: Api>(
    call: Call,
    mut body: Bytes,
) -> BoxFuture<'static, Result<Option<Body>, Unserved>> {
    Box::pin(async move {
        let version = call.version;
        let request = A::Request::decode(&mut body, version).map_err(|_| Unserved::Malformed)?;
        drop(body);
        let answered = A::is_answered(&request);
        let response = A::answer(call, request).await;
        match answered {
            true => response.into_body(version).map(Some),
            false if A::has_failed(&response) => Err(Unserved::Unheard),
            false => Ok(None),
        }
    })
}

/// Every key that is served. Produce is told from version 0 on, as Apache Kafka does: released
/// versions of librdkafka take a missing version 0 for a broker that cannot compress.
pub(super) static APIS: &[Entry] = &[
    entry_since_0::<apis::produce::Produce>(),
    entry::<apis::fetch::Fetch>(),
    entry::<apis::list_offsets::ListOffsets>(),
    entry::<apis::metadata::Metadata>(),
    entry::<apis::offset_commit::OffsetCommit>(),
    entry::<apis::offset_fetch::OffsetFetch>(),
    entry::<apis::find_coordinator::FindCoordinator>(),
    entry::<apis::join_group::JoinGroup>(),
    entry::<apis::heartbeat::Heartbeat>(),
    entry::<apis::leave_group::LeaveGroup>(),
    entry::<apis::sync_group::SyncGroup>(),
    entry::<apis::describe_groups::DescribeGroups>(),
    entry::<apis::list_groups::ListGroups>(),
    entry::<apis::delete_groups::DeleteGroups>(),
    entry::<apis::offset_delete::OffsetDelete>(),
    entry::<apis::api_versions::ApiVersions>(),
    entry::<apis::create_topics::CreateTopics>(),
    entry::<apis::delete_topics::DeleteTopics>(),
    entry::<apis::delete_records::DeleteRecords>(),
    entry::<apis::init_producer_id::InitProducerId>(),
    entry::<apis::offset_for_leader_epoch::OffsetForLeaderEpoch>(),
    entry::<apis::add_partitions_to_txn::AddPartitionsToTxn>(),
    entry::<apis::add_offsets_to_txn::AddOffsetsToTxn>(),
    entry::<apis::end_txn::EndTxn>(),
    entry::<apis::txn_offset_commit::TxnOffsetCommit>(),
    entry::<apis::describe_configs::DescribeConfigs>(),
    entry::<apis::alter_configs::AlterConfigs>(),
    entry::<apis::create_partitions::CreatePartitions>(),
    entry::<apis::incremental_alter_configs::IncrementalAlterConfigs>(),
    entry::<apis::describe_cluster::DescribeCluster>(),
    entry::<apis::alter_replica_log_dirs::AlterReplicaLogDirs>(),
    entry::<apis::describe_log_dirs::DescribeLogDirs>(),
    entry::<apis::elect_leaders::ElectLeaders>(),
    entry::<apis::alter_partition_reassignments::AlterPartitionReassignments>(),
    entry::<apis::list_partition_reassignments::ListPartitionReassignments>(),
    entry::<apis::describe_quorum::DescribeQuorum>(),
    entry::<apis::describe_producers::DescribeProducers>(),
    entry::<apis::describe_transactions::DescribeTransactions>(),
    entry::<apis::list_transactions::ListTransactions>(),
    entry::<apis::consumer_group_heartbeat::ConsumerGroupHeartbeat>(),
    entry::<apis::consumer_group_describe::ConsumerGroupDescribe>(),
    entry::<apis::share_group_heartbeat::ShareGroupHeartbeat>(),
    entry::<apis::share_group_describe::ShareGroupDescribe>(),
    entry::<apis::share_fetch::ShareFetch>(),
    entry::<apis::share_acknowledge::ShareAcknowledge>(),
    entry::<apis::describe_share_group_offsets::DescribeShareGroupOffsets>(),
    entry::<apis::alter_share_group_offsets::AlterShareGroupOffsets>(),
    entry::<apis::delete_share_group_offsets::DeleteShareGroupOffsets>(),
    entry::<apis::list_config_resources::ListConfigResources>(),
    entry::<apis::describe_topic_partitions::DescribeTopicPartitions>(),
    entry::<apis::sasl_handshake::SaslHandshake>(),
    entry::<apis::sasl_authenticate::SaslAuthenticate>(),
    entry::<apis::describe_user_scram_credentials::DescribeUserScramCredentials>(),
    entry::<apis::alter_user_scram_credentials::AlterUserScramCredentials>(),
    entry::<apis::acls::DescribeAcls>(),
    entry::<apis::acls::CreateAcls>(),
    entry::<apis::acls::DeleteAcls>(),
];

impl Request {
    /// Reads the head of a request, and walks its body.
    ///
    /// # Errors
    /// [`Unserved`]; the connection cannot go on.
    pub(super) fn new(mut frame: Bytes) -> Result<Self, Unserved> {
        let malformed = |_| Unserved::Malformed;
        let bytes = frame.len() + 4;
        let key = frame.try_get_i16().map_err(malformed)?;
        let version = frame.try_get_i16().map_err(malformed)?;
        let correlation = frame.try_get_i32().map_err(malformed)?;
        let entry = APIS.iter().find(|entry| entry.key as i16 == key);
        let entry = entry.ok_or(Unserved::Key(key))?;
        let served = (entry.served[0]..=entry.served[1]).contains(&version);
        if !served && entry.key == ApiKey::ApiVersions {
            return Ok(Self::which_versions(entry, correlation, bytes));
        }
        if !served {
            return Err(Unserved::Version { key, version });
        }
        let client_id = client_id(&mut frame)?;
        if entry.shape.is_flexible(version) {
            let tags = super::shapes::NO_FIELDS.walk(&frame, 0);
            frame.advance(tags.map_err(|_| Unserved::Malformed)?.bytes);
        }
        let walked = entry.shape.walk(&frame, version);
        let walked = walked.map_err(|_| Unserved::Malformed)?;
        Ok(Self {
            entry,
            version,
            too_new: false,
            correlation,
            client_id,
            body: frame,
            bytes,
            elements: walked.elements,
        })
    }

    /// A client that speaks a newer version than we do is told so in the oldest, and comes again.
    fn which_versions(entry: &'static Entry, correlation: i32, bytes: usize) -> Self {
        Self {
            entry,
            version: 0,
            too_new: true,
            correlation,
            client_id: None,
            body: Bytes::new(),
            bytes,
            elements: 0,
        }
    }

    /// Bytes before the body of the answer.
    pub(super) fn answer_head(&self) -> Bytes {
        let mut head = BytesMut::with_capacity(5);
        head.put_i32(self.correlation);
        let plain = self.entry.key == ApiKey::ApiVersions;
        if self.entry.shape.is_flexible(self.version) && !plain {
            // No tagged fields.
            head.put_u8(0);
        }
        head.freeze()
    }

    /// Does what is asked; `None` where nothing is answered.
    pub(super) fn serve(self, call: Call) -> BoxFuture<'static, Result<Option<Body>, Unserved>> {
        (self.entry.serve)(call, self.body)
    }
}

/// The client's name, whose length is never compact.
fn client_id(frame: &mut Bytes) -> Result<Option<StrBytes>, Unserved> {
    let length = frame.try_get_i16().map_err(|_| Unserved::Malformed)?;
    let Ok(length) = usize::try_from(length) else {
        return match length {
            -1 => Ok(None),
            _ => Err(Unserved::Malformed),
        };
    };
    if length > frame.len() {
        return Err(Unserved::Malformed);
    }
    let text = StrBytes::from_utf8(frame.split_to(length));
    text.map(Some).map_err(|_| Unserved::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_served_twice_and_every_version_has_a_shape() {
        let mut keys: Vec<_> = APIS.iter().map(|entry| entry.key as i16).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), APIS.len());
        for entry in APIS {
            let [low, high] = entry.served;
            assert!(0 <= low && low <= high, "{entry:?}");
            let told = entry.advertised;
            assert!(told[0] <= low && told[1] == high, "{entry:?}");
            // `ApiKey` knows from which version on heads have tagged fields.
            for version in low..=high {
                let flexible = entry.key.request_header_version(version) == 2;
                assert_eq!(entry.shape.is_flexible(version), flexible, "{entry:?}");
            }
        }
    }

    #[test]
    fn what_is_no_request_is_told_from_what_is_not_served() {
        let request = |bytes: &[u8]| Request::new(Bytes::copy_from_slice(bytes));
        assert!(matches!(request(&[]), Err(Unserved::Malformed)));
        assert!(matches!(
            request(&[0, 99, 0, 0, 0, 0, 0, 1]),
            Err(Unserved::Key(99))
        ));
        // Produce, version 2.
        let old = request(&[0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff]);
        assert!(matches!(old, Err(Unserved::Version { key: 0, version: 2 })));
        // The client's name is longer than the frame.
        let long = request(&[0, 18, 0, 0, 0, 0, 0, 1, 0, 9, b'a']);
        assert!(matches!(long, Err(Unserved::Malformed)));
        // A version of ApiVersions that nobody knows yet is answered.
        let new = request(&[0, 18, 0, 99, 0, 0, 0, 7]).unwrap();
        assert_eq!(new.correlation, 7);
        assert!(new.too_new && new.version == 0);
    }

    /// A door to a broker that runs in memory. It closes, so nobody waits.
    fn door() -> Arc<Door> {
        let (_, closing) = tokio::sync::watch::channel(true);
        let metrics = Arc::new(crate::metrics::Metrics::new());
        let config = crate::config::KafkaConfig::default();
        let broker = Broker::in_memory();
        let pullers = Arc::new(crate::http::pull::Pullers::new(broker.bus()));
        Arc::new(Door::new(broker, config, metrics, pullers, closing))
    }

    /// A request of this key and version, whatever it asks for.
    fn frame(entry: &Entry, version: i16, seed: &[u8]) -> Bytes {
        let mut frame = BytesMut::new();
        frame.put_i16(entry.key as i16);
        frame.put_i16(version);
        frame.put_i32(7);
        frame.put_i16(-1);
        if entry.shape.is_flexible(version) {
            frame.put_u8(0);
        }
        frame.extend(entry.shape.example(version, seed));
        frame.freeze()
    }

    #[test]
    fn a_request_that_is_cut_off_anywhere_is_refused_before_it_is_decoded() {
        let seed: Vec<_> = (0..97).map(|n: u8| n.wrapping_mul(7) ^ (n >> 2)).collect();
        for entry in APIS {
            for version in entry.served[0]..=entry.served[1] {
                let whole = frame(entry, version, &seed);
                assert!(Request::new(whole.clone()).is_ok(), "{entry:?}");
                for cut in 0..whole.len() {
                    let part = Request::new(whole.slice(..cut));
                    let refused = matches!(part, Err(Unserved::Malformed));
                    assert!(refused, "{:?} {version} cut at {cut}", entry.key);
                }
            }
        }
    }

    #[tokio::test]
    async fn every_version_of_every_key_is_answered_whatever_is_asked() {
        let door = door();
        let here = SocketAddr::from(([127, 0, 0, 1], 9092));
        let ends = super::super::connection::Ends {
            peer: here,
            local: here,
        };
        let session = Arc::new(Session::new(&door, ends, false, None));
        let entered = door.metrics.connected.enter(0, "kafka", here);
        for (entry, seed) in APIS
            .iter()
            .flat_map(|entry| (0..24_u8).map(move |n| (entry, n)))
        {
            for version in entry.served[0]..=entry.served[1] {
                let seed: Vec<_> = (0..97)
                    .map(|n: u8| n.wrapping_mul(seed) ^ (n >> 2))
                    .collect();
                let request = Request::new(frame(entry, version, &seed)).unwrap();
                let call = Call {
                    door: Arc::clone(&door),
                    broker: door.broker.clone(),
                    version,
                    too_new: false,
                    client_id: None,
                    peer: here,
                    local: here,
                    session: Arc::clone(&session),
                    turn: None,
                    client: Arc::clone(&entered.client),
                };
                let served = request.serve(call).await;
                // A produce request without an answer that fails has none.
                let unheard = matches!(served, Err(Unserved::Unheard));
                assert!(
                    served.is_ok() || (unheard && entry.key == ApiKey::Produce),
                    "{:?}, version {version}: {served:?}",
                    entry.key
                );
            }
        }
    }
}
