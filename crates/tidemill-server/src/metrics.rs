//! What the server counts about itself. What the broker counts is added by `http/metrics.rs` when
//! it is asked for.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::clients::Clients;

/// Upper ends of the buckets of request durations, in seconds.
const DURATION_BUCKETS: [f64; 10] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 30.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    path: String,
    status: u16,
}

/// One of what a gauge counts, until it is dropped.
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn one(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Which requests of the Kafka protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ApiLabels {
    /// The name of the API key.
    pub(crate) api: &'static str,
}

/// What the door for clients of Kafka counts.
#[derive(Default)]
pub(crate) struct KafkaMetrics {
    /// Connections that are open now.
    pub(crate) connections: Gauge,
    /// Connections that were turned away at the bound.
    pub(crate) refused: Counter,
    /// Connections that took none of their bytes for too long.
    pub(crate) stalled: Counter,
    /// Connections that were ended because they sent what is no request, or none that is served.
    pub(crate) malformed: Counter,
    /// TLS handshakes that failed.
    pub(crate) handshakes_failed: Counter,
    /// Logins that failed.
    pub(crate) logins_failed: Counter,
    /// Requests that were answered.
    pub(crate) requests: Family<ApiLabels, Counter>,
    /// Bytes of requests.
    pub(crate) received: Counter,
    /// Bytes of answers.
    pub(crate) sent: Counter,
    /// Sessions of fetches that are kept.
    pub(crate) fetch_sessions: Gauge,
    /// Partitions of all of them.
    pub(crate) fetch_session_partitions: Gauge,
    /// Sessions that made way for others.
    pub(crate) fetch_sessions_evicted: Counter,
    /// Fetches that went on with a session.
    pub(crate) fetches_incremental: Counter,
}

impl KafkaMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "kafka_connections",
            "Connections of the Kafka protocol that are open",
            self.connections.clone(),
        );
        registry.register(
            "kafka_connections_refused",
            "Connections of the Kafka protocol turned away at the bound",
            self.refused.clone(),
        );
        registry.register(
            "kafka_connections_stalled",
            "Connections of the Kafka protocol closed because they took none of their bytes",
            self.stalled.clone(),
        );
        registry.register(
            "kafka_connections_malformed",
            "Connections of the Kafka protocol closed because of what they sent",
            self.malformed.clone(),
        );
        registry.register(
            "kafka_tls_handshakes_failed",
            "Connections of the Kafka protocol closed because their TLS handshake failed",
            self.handshakes_failed.clone(),
        );
        registry.register(
            "kafka_logins_failed",
            "Connections of the Kafka protocol closed because their client could not log in",
            self.logins_failed.clone(),
        );
        registry.register(
            "kafka_requests",
            "Requests of the Kafka protocol that were answered",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "kafka_received",
            "Size of the requests of the Kafka protocol",
            Unit::Bytes,
            self.received.clone(),
        );
        registry.register_with_unit(
            "kafka_sent",
            "Size of the answers of the Kafka protocol",
            Unit::Bytes,
            self.sent.clone(),
        );
        self.register_fetches(registry);
    }

    fn register_fetches(&self, registry: &mut Registry) {
        registry.register(
            "kafka_fetch_sessions",
            "Sessions of fetches that are kept",
            self.fetch_sessions.clone(),
        );
        registry.register(
            "kafka_fetch_session_partitions",
            "Partitions of all sessions of fetches",
            self.fetch_session_partitions.clone(),
        );
        registry.register(
            "kafka_fetch_sessions_evicted",
            "Sessions of fetches that made way for others",
            self.fetch_sessions_evicted.clone(),
        );
        registry.register(
            "kafka_fetches_incremental",
            "Fetches that named what had changed alone",
            self.fetches_incremental.clone(),
        );
    }
}

/// Which webhook.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabels {
    webhook: String,
}

impl WebhookLabels {
    fn of(name: &str) -> Self {
        let webhook = name.to_owned();
        Self { webhook }
    }
}

/// What webhooks count. Clones share it.
#[derive(Clone)]
pub(crate) struct WebhookMetrics {
    deliveries: Family<WebhookLabels, Counter>,
    failures: Family<WebhookLabels, Counter>,
    dead_letters: Family<WebhookLabels, Counter>,
    durations: Family<WebhookLabels, Histogram, fn() -> Histogram>,
    paused: Family<WebhookLabels, Gauge>,
}

impl Default for WebhookMetrics {
    fn default() -> Self {
        Self {
            deliveries: Family::default(),
            failures: Family::default(),
            dead_letters: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            paused: Family::default(),
        }
    }
}

impl WebhookMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "webhook_deliveries",
            "Events that an endpoint took",
            self.deliveries.clone(),
        );
        registry.register(
            "webhook_failures",
            "Attempts at an endpoint that failed",
            self.failures.clone(),
        );
        registry.register(
            "webhook_dead_letters",
            "Events that were given up after their last attempt",
            self.dead_letters.clone(),
        );
        registry.register_with_unit(
            "webhook_attempt_duration",
            "Time from the beginning of an attempt to its answer",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "webhook_paused",
            "1 while nothing is sent to an endpoint",
            self.paused.clone(),
        );
    }

    /// An attempt ended.
    pub(crate) fn attempt(&self, name: &str, done: bool, took: Duration) {
        let labels = WebhookLabels::of(name);
        match done {
            true => self.deliveries.get_or_create(&labels).inc(),
            false => self.failures.get_or_create(&labels).inc(),
        };
        let durations = self.durations.get_or_create(&labels);
        durations.observe(took.as_secs_f64());
    }

    /// An event was given up.
    pub(crate) fn dead_lettered(&self, name: &str) {
        self.dead_letters
            .get_or_create(&WebhookLabels::of(name))
            .inc();
    }

    /// It is paused, or it is not.
    pub(crate) fn paused(&self, name: &str, paused: bool) {
        let gauge = self.paused.get_or_create(&WebhookLabels::of(name));
        gauge.set(paused.into());
    }

    /// It was deleted.
    pub(crate) fn forget(&self, name: &str) {
        let labels = WebhookLabels::of(name);
        self.deliveries.remove(&labels);
        self.failures.remove(&labels);
        self.dead_letters.remove(&labels);
        self.durations.remove(&labels);
        self.paused.remove(&labels);
    }
}

/// The server's counters and gauges.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Histogram,
    published: Counter<u64, AtomicU64>,
    /// Connections that are open now.
    pub(crate) connections: Gauge,
    /// Connections that were turned away at the bound.
    pub(crate) connections_refused: Counter,
    /// Connections that took none of their bytes for too long.
    pub(crate) connections_stalled: Counter,
    /// Socket.IO clients that are connected now.
    pub(crate) clients: Gauge,
    /// Socket.IO clients that were turned away at the bound.
    pub(crate) clients_refused: Counter,
    /// Socket.IO clients that were disconnected because they read too slowly.
    pub(crate) clients_slow: Counter,
    /// Events handed to Socket.IO clients, one for each client.
    pub(crate) pushed: Counter,
    /// Bytes of events that wait for Socket.IO clients.
    pub(crate) waiting_bytes: Gauge,
    /// WebSocket clients of the native protocol that are connected now.
    pub(crate) websockets: Gauge,
    /// Streams of server-sent events that are open now.
    pub(crate) streams: Gauge,
    /// What the door for clients of Kafka counts.
    pub(crate) kafka: KafkaMetrics,
    /// What webhooks count.
    pub(crate) webhooks: WebhookMetrics,
    /// Who is connected.
    pub(crate) connected: Arc<Clients>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("tidemill");
        let metrics = Self {
            requests: Family::default(),
            durations: Histogram::new(DURATION_BUCKETS),
            published: Counter::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            connections_stalled: Counter::default(),
            clients: Gauge::default(),
            clients_refused: Counter::default(),
            clients_slow: Counter::default(),
            pushed: Counter::default(),
            waiting_bytes: Gauge::default(),
            websockets: Gauge::default(),
            streams: Gauge::default(),
            kafka: KafkaMetrics::default(),
            webhooks: WebhookMetrics::default(),
            connected: Arc::default(),
            registry: Registry::default(),
        };
        metrics.register_http(&mut registry);
        metrics.register_streams(&mut registry);
        metrics.register_socketio(&mut registry);
        metrics.kafka.register(&mut registry);
        metrics.webhooks.register(&mut registry);
        metrics.connected.metrics.register(&mut registry);
        Self {
            registry,
            ..metrics
        }
    }

    fn register_http(&self, registry: &mut Registry) {
        registry.register("http_requests", "Requests answered", self.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request's head to its answer's head, long polls included",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "http_published_events",
            "Events published over HTTP",
            self.published.clone(),
        );
        registry.register(
            "http_connections",
            "Connections that are open",
            self.connections.clone(),
        );
        registry.register(
            "http_connections_refused",
            "Connections turned away at the bound",
            self.connections_refused.clone(),
        );
        registry.register(
            "http_connections_stalled",
            "Connections closed because they took none of their bytes for too long",
            self.connections_stalled.clone(),
        );
    }

    fn register_streams(&self, registry: &mut Registry) {
        registry.register(
            "websocket_clients",
            "WebSocket clients of the native protocol that are connected",
            self.websockets.clone(),
        );
        registry.register(
            "http_streams",
            "Streams of server-sent events that are open",
            self.streams.clone(),
        );
    }

    fn register_socketio(&self, registry: &mut Registry) {
        registry.register(
            "socketio_clients",
            "Socket.IO clients that are connected",
            self.clients.clone(),
        );
        registry.register(
            "socketio_clients_refused",
            "Socket.IO clients turned away at the bound",
            self.clients_refused.clone(),
        );
        registry.register(
            "socketio_clients_slow",
            "Socket.IO clients disconnected because they read too slowly",
            self.clients_slow.clone(),
        );
        registry.register(
            "socketio_pushed_events",
            "Events handed to Socket.IO clients, one for each client",
            self.pushed.clone(),
        );
        registry.register_with_unit(
            "socketio_waiting",
            "Size of the events that wait for Socket.IO clients",
            Unit::Bytes,
            self.waiting_bytes.clone(),
        );
    }

    /// A request was answered.
    pub(crate) fn answered(&self, method: &str, path: &str, status: u16, took: Duration) {
        let labels = RequestLabels {
            method: method.to_owned(),
            path: path.to_owned(),
            status,
        };
        self.requests.get_or_create(&labels).inc();
        self.durations.observe(took.as_secs_f64());
    }

    /// Events were published over HTTP.
    pub(crate) fn published(&self, events: u64) {
        self.published.inc_by(events);
    }

    /// All of it, in the text form of OpenMetrics without its closing line.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }
}
