//! What stands in for the Kafka protocol where it was not built: it says so.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use tidemill_broker::Broker;
use tokio::sync::{Semaphore, watch};

use crate::config::KafkaConfig;
use crate::error::ServeError;
use crate::metrics::Metrics;

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
        _: Arc<Semaphore>,
        _: watch::Receiver<bool>,
    ) {
        match self.0 {}
    }
}
