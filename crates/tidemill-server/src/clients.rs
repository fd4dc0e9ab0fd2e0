//! Who is connected, what each calls itself, and what it did: what people look at to find out who
//! does what. Doors enter their connections here; may not know any door, nor any wire format.
//!
//! What is counted for a client id stays when its connections end, for the first so many ids; the
//! others share one count.

#![cfg_attr(
    not(feature = "kafka"),
    allow(
        dead_code,
        reason = "the one door whose clients are entered is a feature"
    )
)]

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use schemars::JsonSchema;
use serde::Serialize;

use crate::limits::{CLIENT_GROUPS_MAX, CLIENT_NAME_MAX_BYTES, METRIC_CLIENT_IDS_MAX};

/// What client ids share that come when there are so many already.
const OTHER: &str = "other";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClientLabels {
    client_id: String,
}

/// What clients count, by their ids.
#[derive(Clone, Default)]
pub(crate) struct ClientMetrics {
    connections: Family<ClientLabels, Gauge>,
    requests: Family<ClientLabels, Counter>,
    received: Family<ClientLabels, Counter>,
    sent: Family<ClientLabels, Counter>,
    produced: Family<ClientLabels, Counter>,
    fetched: Family<ClientLabels, Counter>,
}

impl ClientMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "client_connections",
            "Connections that are open, by client id",
            self.connections.clone(),
        );
        registry.register(
            "client_requests",
            "Requests that were begun, by client id",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "client_received",
            "Size of requests, by client id",
            Unit::Bytes,
            self.received.clone(),
        );
        registry.register_with_unit(
            "client_sent",
            "Size of answers, by client id",
            Unit::Bytes,
            self.sent.clone(),
        );
        registry.register(
            "client_produced_records",
            "Records that were written, by client id",
            self.produced.clone(),
        );
        registry.register(
            "client_fetched_records",
            "Records that were read, by client id",
            self.fetched.clone(),
        );
    }
}

/// The counters of one client id.
#[derive(Clone)]
struct Counts {
    connections: Gauge,
    requests: Counter,
    received: Counter,
    sent: Counter,
    produced: Counter,
    fetched: Counter,
}

/// Everybody who is connected.
#[derive(Default)]
pub(crate) struct Clients {
    all: Mutex<BTreeMap<u64, Arc<Client>>>,
    /// By client ids, the first ones and [`OTHER`].
    counts: Mutex<HashMap<String, Counts>>,
    pub(crate) metrics: ClientMetrics,
}

/// What a connection says of its client.
#[derive(Default)]
struct Named {
    client_id: Option<Arc<str>>,
    software: Option<(String, String)>,
    user: Option<Arc<str>>,
    last: Option<(&'static str, Timestamp)>,
    /// Groups, and as which member it is in them.
    groups: Vec<(String, String)>,
    counts: Option<Counts>,
}

/// One connection. All counts are of it alone.
pub(crate) struct Client {
    number: u64,
    door: &'static str,
    peer: SocketAddr,
    since: Timestamp,
    named: Mutex<Named>,
    requests: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    produced: [AtomicU64; 2],
    fetched: [AtomicU64; 2],
}

/// A connection that is entered, until this is dropped.
pub(crate) struct Entered {
    clients: Arc<Clients>,
    pub(crate) client: Arc<Client>,
}

/// Records and their bytes.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Passed {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// The last request of a connection.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LastRequest {
    /// What it was, as the protocol names it.
    pub(crate) name: String,
    /// When it began.
    #[schemars(with = "String")]
    pub(crate) at: Timestamp,
}

/// A connection as people see it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Client")]
pub(crate) struct Shown {
    /// The connection's number; none comes twice while the server runs.
    pub(crate) id: u64,
    /// By which door it came, as in "kafka".
    pub(crate) door: String,
    /// What the client calls itself, where it has said so.
    pub(crate) client_id: Option<String>,
    /// The program that it is, where it has said so.
    pub(crate) software_name: Option<String>,
    /// Its version.
    pub(crate) software_version: Option<String>,
    /// Where it is.
    pub(crate) address: String,
    /// Who has logged in, where one has to.
    pub(crate) user: Option<String>,
    /// Since when it is connected.
    #[schemars(with = "String")]
    pub(crate) since: Timestamp,
    /// Requests that were begun.
    pub(crate) requests: u64,
    /// Bytes of its requests.
    pub(crate) received_bytes: u64,
    /// Bytes of its answers.
    pub(crate) sent_bytes: u64,
    /// What it has written.
    pub(crate) produced: Passed,
    /// What it has read.
    pub(crate) fetched: Passed,
    pub(crate) last_request: Option<LastRequest>,
    /// Groups that it is a member of by this connection.
    pub(crate) groups: Vec<String>,
}

/// So many bytes of a text of a stranger at most.
fn short(text: &str) -> &str {
    let end = (0..=CLIENT_NAME_MAX_BYTES.min(text.len())).rev();
    let end = end.into_iter().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl Clients {
    /// Enters a connection.
    pub(crate) fn enter(
        self: &Arc<Self>,
        number: u64,
        door: &'static str,
        peer: SocketAddr,
    ) -> Entered {
        let client = Arc::new(Client {
            number,
            door,
            peer,
            since: Timestamp::now(),
            named: Mutex::default(),
            requests: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            produced: Default::default(),
            fetched: Default::default(),
        });
        locked(&self.all).insert(number, Arc::clone(&client));
        Entered {
            clients: Arc::clone(self),
            client,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        locked(&self.all).len()
    }

    /// Those with higher numbers than `after`, so many at most, in the order in which they came.
    pub(crate) fn list(&self, after: Option<u64>, most: usize) -> Vec<Arc<Client>> {
        let first = after.map_or(0, |after| after.saturating_add(1));
        let all = locked(&self.all);
        let listed = all.range(first..).take(most);
        listed.map(|(_, client)| Arc::clone(client)).collect()
    }

    /// The counters of a client id, or of all that share one.
    fn counts(&self, client_id: &str) -> Counts {
        let mut all = locked(&self.counts);
        let known = all.contains_key(client_id) || all.len() < METRIC_CLIENT_IDS_MAX;
        let name = if known { client_id } else { OTHER };
        if let Some(counts) = all.get(name) {
            return counts.clone();
        }
        let labels = ClientLabels {
            client_id: name.to_owned(),
        };
        let metrics = &self.metrics;
        let counts = Counts {
            connections: metrics.connections.get_or_create(&labels).clone(),
            requests: metrics.requests.get_or_create(&labels).clone(),
            received: metrics.received.get_or_create(&labels).clone(),
            sent: metrics.sent.get_or_create(&labels).clone(),
            produced: metrics.produced.get_or_create(&labels).clone(),
            fetched: metrics.fetched.get_or_create(&labels).clone(),
        };
        all.insert(name.to_owned(), counts.clone());
        counts
    }
}

impl Entered {
    /// A request begins: what it is, of how many bytes, and what the client calls itself in it.
    /// `user` is asked until it is known who that is.
    pub(crate) fn asks(
        &self,
        name: &'static str,
        bytes: u64,
        client_id: Option<&str>,
        user: impl FnOnce() -> Option<Arc<str>>,
    ) {
        let client = &self.client;
        add(&client.requests, 1);
        add(&client.received, bytes);
        let mut named = locked(&client.named);
        named.last = Some((name, Timestamp::now()));
        if named.user.is_none() {
            named.user = user();
        }
        let client_id = short(client_id.unwrap_or_default());
        let same = named.client_id.as_deref() == Some(client_id);
        if !same {
            if let Some(counts) = named.counts.take() {
                counts.connections.dec();
            }
            let counts = self.clients.counts(client_id);
            counts.connections.inc();
            named.counts = Some(counts);
            named.client_id = Some(client_id.into());
        }
        if let Some(counts) = &named.counts {
            counts.requests.inc();
            counts.received.inc_by(bytes);
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        locked(&self.clients.all).remove(&self.client.number);
        if let Some(counts) = locked(&self.client.named).counts.take() {
            counts.connections.dec();
        }
    }
}

impl Client {
    fn count(&self, with: impl FnOnce(&Counts) -> u64) {
        if let Some(counts) = &locked(&self.named).counts {
            let _ = with(counts);
        }
    }

    /// An answer was sent.
    pub(crate) fn sent(&self, bytes: u64) {
        add(&self.sent, bytes);
        self.count(|counts| counts.sent.inc_by(bytes));
    }

    /// Records were written.
    pub(crate) fn produced(&self, records: u64, bytes: u64) {
        let [count, size] = &self.produced;
        add(count, records);
        add(size, bytes);
        self.count(|counts| counts.produced.inc_by(records));
    }

    /// Records were read.
    pub(crate) fn fetched(&self, records: u64, bytes: u64) {
        let [count, size] = &self.fetched;
        add(count, records);
        add(size, bytes);
        self.count(|counts| counts.fetched.inc_by(records));
    }

    /// It says which program it is.
    pub(crate) fn is(&self, software: &str, version: &str) {
        let texts = (short(software).to_owned(), short(version).to_owned());
        locked(&self.named).software = Some(texts);
    }

    /// It is this member of a group, of those that are told of a connection.
    pub(crate) fn is_in(&self, group: &str, member: &str) {
        let groups = &mut locked(&self.named).groups;
        if let Some((_, known)) = groups.iter_mut().find(|(known, _)| known == group) {
            if known != member {
                member.clone_into(known);
            }
        } else if groups.len() < CLIENT_GROUPS_MAX {
            groups.push((group.to_owned(), member.to_owned()));
        }
    }

    /// As people see it. `is_member` says whether somebody is still that member of a group.
    pub(crate) fn shown(&self, mut is_member: impl FnMut(&str, &str) -> bool) -> Shown {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let passed = |[records, bytes]: &[AtomicU64; 2]| Passed {
            records: load(records),
            bytes: load(bytes),
        };
        let named = locked(&self.named);
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let software = named.software.as_ref();
        let last = named.last.as_ref();
        let groups = named.groups.clone();
        let shown = Shown {
            id: self.number,
            door: self.door.to_owned(),
            client_id: named.client_id.as_deref().and_then(text),
            software_name: software.and_then(|(name, _)| text(name)),
            software_version: software.and_then(|(_, version)| text(version)),
            address: self.peer.to_string(),
            user: named.user.as_deref().map(str::to_owned),
            since: self.since,
            requests: load(&self.requests),
            received_bytes: load(&self.received),
            sent_bytes: load(&self.sent),
            produced: passed(&self.produced),
            fetched: passed(&self.fetched),
            last_request: last.map(|(name, at)| LastRequest {
                name: (*name).to_owned(),
                at: *at,
            }),
            groups: Vec::new(),
        };
        drop(named);
        let groups = groups.into_iter();
        let groups = groups.filter(|(group, member)| is_member(group, member));
        Shown {
            groups: groups.map(|(group, _)| group).collect(),
            ..shown
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn here() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1234))
    }

    fn text(clients: &Clients) -> String {
        let mut registry = Registry::default();
        clients.metrics.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn a_client_is_shown_with_what_it_said_and_did_until_it_goes() {
        let clients = Arc::new(Clients::default());
        let entered = clients.enter(7, "kafka", here());
        entered.asks("ApiVersions", 10, Some("billing"), || None);
        entered.client.is("librdkafka", "2.11.0");
        entered.asks("Produce", 90, Some("billing"), || Some("User:ann".into()));
        entered.asks("Produce", 100, Some("billing"), || unreachable!());
        entered.client.sent(50);
        entered.client.produced(3, 70);
        entered.client.fetched(2, 30);
        entered.client.is_in("left", "old");
        entered.client.is_in("orders", "one");
        let [client] = &clients.list(None, 9)[..] else {
            panic!("one is there");
        };
        let shown = client.shown(|group, member| (group, member) == ("orders", "one"));
        assert_eq!((shown.id, shown.requests), (7, 3));
        assert_eq!((shown.received_bytes, shown.sent_bytes), (200, 50));
        assert_eq!((shown.produced.records, shown.produced.bytes), (3, 70));
        assert_eq!((shown.fetched.records, shown.fetched.bytes), (2, 30));
        assert_eq!(shown.client_id.as_deref(), Some("billing"));
        assert_eq!(shown.software_name.as_deref(), Some("librdkafka"));
        assert_eq!(shown.software_version.as_deref(), Some("2.11.0"));
        assert_eq!(shown.user.as_deref(), Some("User:ann"));
        assert_eq!(shown.last_request.unwrap().name, "Produce");
        assert_eq!(shown.groups, ["orders"]);
        drop(entered);
        assert_eq!(clients.len(), 0);
        let text = text(&clients);
        let line = |line: &str| assert!(text.lines().any(|one| one == line), "{line}: {text}");
        line("client_connections{client_id=\"billing\"} 0");
        line("client_requests_total{client_id=\"billing\"} 3");
        line("client_received_bytes_total{client_id=\"billing\"} 200");
        line("client_produced_records_total{client_id=\"billing\"} 3");
    }

    #[test]
    fn so_many_client_ids_are_counted_by_themselves_and_the_rest_together() {
        let clients = Arc::new(Clients::default());
        let enter = |number: usize| {
            let entered = clients.enter(number as u64, "kafka", here());
            let name = format!("client-{number}");
            entered.asks("Fetch", 1, Some(&name), || None);
            entered
        };
        let all: Vec<_> = (0..METRIC_CLIENT_IDS_MAX + 5).map(enter).collect();
        let told = text(&clients);
        assert_eq!(
            told.matches("client_requests_total{").count(),
            METRIC_CLIENT_IDS_MAX + 1
        );
        assert!(
            told.contains("client_connections{client_id=\"other\"} 5\n"),
            "{told}"
        );
        drop(all);
        assert!(text(&clients).contains("client_connections{client_id=\"other\"} 0\n"));
        // One that is known stays so, whoever comes.
        let _again = enter(3);
        assert!(text(&clients).contains("client_connections{client_id=\"client-3\"} 1\n"));
    }

    #[test]
    fn a_client_that_changes_its_name_and_writes_a_long_one_is_bounded() {
        let clients = Arc::new(Clients::default());
        let entered = clients.enter(1, "kafka", here());
        entered.asks("Fetch", 1, None, || None);
        let long = "ä".repeat(CLIENT_NAME_MAX_BYTES);
        entered.asks("Fetch", 1, Some(&long), || None);
        entered.client.is(&long, "1");
        for number in 0..2 * CLIENT_GROUPS_MAX {
            entered.client.is_in(&number.to_string(), "m");
        }
        let shown = entered.client.shown(|_, _| true);
        let name = shown.client_id.unwrap();
        assert!(name.len() <= CLIENT_NAME_MAX_BYTES && name.starts_with("ää"));
        assert!(shown.software_name.unwrap().len() <= CLIENT_NAME_MAX_BYTES);
        assert_eq!(shown.groups.len(), CLIENT_GROUPS_MAX);
        assert!(text(&clients).contains("client_connections{client_id=\"\"} 0\n"));
    }

    #[test]
    fn lists_go_on_behind_a_number() {
        let clients = Arc::new(Clients::default());
        let _all = [3, 5, 9].map(|number| clients.enter(number, "kafka", here()));
        let numbers = |after, most| -> Vec<u64> {
            let listed = clients.list(after, most);
            listed.iter().map(|client| client.number).collect()
        };
        assert_eq!(numbers(None, 2), [3, 5]);
        assert_eq!(numbers(Some(5), 2), [9]);
        assert_eq!(numbers(Some(9), 2), [0; 0]);
    }
}
