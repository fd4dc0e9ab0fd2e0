//! The door for clients of Apache Kafka: stock clients work on the same log.
//!
//! ```text
//! listener.rs    accepts, bounds                     knows no requests
//! connection.rs  frames in, answers out, in order    knows no API keys
//! tls.rs         the certificate, and the handshake  knows no requests
//! sasl/          who a client is                     knows no sockets
//! access.rs      what he may do                      knows no files
//! fetch_session/ what fetches go on with             knows no connections
//! share_session.rs the same of share groups' members knows no records
//! frame.rs       one request from a socket           knows no messages
//! shape.rs       walks a request before it is decoded
//! shapes.rs      the tables that it walks by; share_shapes.rs those of share groups
//! registry.rs    which API keys are served, and in which versions
//! apis/          one file an API key                 knows no sockets
//! configs.rs     topic settings by the names that Kafka gives them
//! node_configs.rs the same of the node
//! error.rs       our errors as Kafka's codes, one table
//! consumer.rs    what members of groups say to each other
//! convert.rs     our types as Kafka's, and back
//! fuzzing.rs     what a fuzzer sends, with the feature of that name alone
//! ```
//!
//! # How an API key is added
//!
//! 1. A file `apis/NAME.rs`: its header states the versions that are served, and where we deviate.
//!    It has a unit struct that implements [`Api`](registry::Api): the key, the versions, the
//!    shape, what callers need, the types of request and response, and `answer`, which asks for
//!    what is needed. Everything else that an answer needs comes with the
//!    [`Call`](registry::Call): the [`Door`] with the broker and the settings, the version, who
//!    calls.
//! 2. `pub(super) mod NAME;` in `apis/mod.rs`.
//! 3. The shape of the request is in `shapes.rs`, for all keys that clients use. Its test decodes
//!    random bytes both ways and compares.
//! 4. One line in `registry::APIS`. What is advertised follows from that list.
//!
//! State that outlives a request (a group coordinator's) is a field of [`Door`]. Requests of a
//! connection begin in the order in which they came, one after the other as Kafka has it; only
//! those of an API with `PIPELINED` begin while others of that kind are under way. A request
//! whose connection breaks is dropped: what must happen anyway belongs into a task of its own,
//! or into one operation of the broker.
//!
//! Decoders of the crate `kafka-protocol` take an array's length for granted and would abort the
//! process at a lie: no request is decoded before `shape.rs` has walked it.
//!
//! This room may not know HTTP, nor how events are stored.

mod access;
#[cfg(test)]
mod admin_tests;
mod apis;
#[cfg(test)]
mod client_tests;
mod configs;
mod connection;
pub(crate) mod consumer;
mod convert;
mod error;
mod fetch_session;
#[cfg(test)]
mod fetch_tests;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod group_configs;
mod listener;
mod node_configs;
mod registry;
mod sasl;
mod shape;
mod shapes;
mod share_session;
mod share_shapes;
#[cfg(test)]
mod share_tests;
#[cfg(test)]
mod tests;
mod tls;
#[cfg(test)]
mod transaction_tests;

use std::net::SocketAddr;
use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;
use tidemill_broker::Broker;
use tidemill_core::budget::Budget;
use tokio::sync::watch;

use crate::config::{Advertised, KafkaConfig};
use crate::http::pull::Pullers;
use crate::metrics::Metrics;

use access::Guard;
use fetch_session::Sessions;
pub(crate) use listener::Listening;
use sasl::Sasl;
use share_session::ShareSessions;

/// What all connections share.
pub(super) struct Door {
    /// Where records go to and come from.
    pub(super) broker: Broker,
    /// The memory of all that is on its way.
    pub(super) memory: Budget,
    /// What the user set.
    pub(super) config: KafkaConfig,
    /// The name of the cluster of one: the same at every start.
    pub(super) cluster_id: StrBytes,
    /// How clients log in, where they have to.
    pub(super) sasl: Option<Arc<Sasl>>,
    /// Who may do what, where that is not everybody everything.
    pub(super) guard: Option<Arc<Guard>>,
    /// Counts what passes.
    pub(super) metrics: Arc<Metrics>,
    /// Members without a connection, which make way for those that come here.
    pub(super) pullers: Arc<Pullers>,
    /// Becomes true when the server shuts down; waits end then.
    pub(super) closing: watch::Receiver<bool>,
    /// What fetches go on with.
    fetches: Sessions,
    /// What members of share groups go on with.
    share_sessions: ShareSessions,
}

impl Door {
    fn new(
        broker: Broker,
        config: KafkaConfig,
        metrics: Arc<Metrics>,
        pullers: Arc<Pullers>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self {
            fetches: Sessions::new(broker.memory()),
            share_sessions: ShareSessions::default(),
            memory: broker.memory().clone(),
            cluster_id: convert::cluster_id(broker.id()),
            sasl: config.sasl.as_ref().map(Sasl::new).map(Arc::new),
            guard: config.acls.as_ref().map(Guard::new).map(Arc::new),
            broker,
            config,
            metrics,
            pullers,
            closing,
        }
    }

    /// Where clients find this server again, for one that reached it at `local`.
    pub(super) fn advertised(&self, local: SocketAddr) -> Advertised {
        let set = self.config.advertise.clone();
        set.unwrap_or_else(|| Advertised {
            host: local.ip().to_canonical().to_string(),
            port: local.port(),
        })
    }

    /// Does something with the sessions of fetches.
    fn fetch_sessions<T>(&self, with: impl FnOnce(&Sessions) -> T) -> T {
        let all = &self.fetches;
        let done = with(all);
        let gauge = |count| i64::try_from(count).unwrap_or(i64::MAX);
        let metrics = &self.metrics.kafka;
        metrics.fetch_sessions.set(gauge(all.len()));
        let partitions = gauge(all.partitions());
        metrics.fetch_session_partitions.set(partitions);
        metrics.fetch_sessions_evicted.inc_by(all.take_evicted());
        done
    }

    /// Whether the server shuts down.
    pub(super) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Resolves when the server shuts down.
    pub(super) async fn closed(&self) {
        let mut closing = self.closing.clone();
        // An error means that the server is gone, which is the same.
        let _ = closing.wait_for(|closing| *closing).await;
    }
}
