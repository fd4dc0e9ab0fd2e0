//! What stands in for the Kafka protocol where it was not built: it says so.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use tidemill_broker::Broker;
use tokio::sync::{Semaphore, watch};

use crate::config::KafkaConfig;
use crate::error::ServeError;
use crate::http::pull::Pullers;
use crate::metrics::Metrics;

/// What members of groups say to each other: there are none.
pub(crate) mod consumer {
    /// A member's part, which nobody has.
    pub(crate) fn assignment(_: &str, _: &[u8]) -> Option<Vec<(String, Vec<i32>)>> {
        None
    }
}

/// There is none.
pub(crate) struct Listening(Infallible);

impl Listening {
    pub(crate) async fn bind(_: &KafkaConfig) -> Result<Self, ServeError> {
        Err(ServeError::NotBuilt {
            what: "the Kafka protocol",
            feature: "kafka",
            flag: "--kafka off",
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self.0 {}
    }

    pub(crate) async fn serve(
        self,
        _: Broker,
        _: KafkaConfig,
        _: Arc<Metrics>,
        _: Arc<Pullers>,
        _: Arc<Semaphore>,
        _: watch::Receiver<bool>,
    ) {
        match self.0 {}
    }
}
