//! What every door shares. Knows no wire format.

use std::sync::Arc;

use axum::http::Extensions;
use tidemill_broker::{Broker, Health};
use tidemill_core::Bus;
use tidemill_core::budget::Budget;
use tidemill_core::error::Unavailable;
use tokio::sync::watch;

use crate::backups::Backups;
use crate::connections::ConnectionId;
use crate::http::body::Bodies;
use crate::http::problem::{Kind, Problem};
use crate::http::pull::Pullers;
use crate::metrics::Metrics;
use crate::throughput::Throughput;
use crate::webhooks::Webhooks;

/// The state behind all doors.
pub(crate) struct App {
    /// Where events go to and come from.
    pub(crate) bus: Bus,
    /// The broker behind the bus, where there is one: it creates, deletes and describes.
    pub(crate) broker: Option<Broker>,
    /// Backups of that broker, where there is a folder for them.
    pub(crate) backups: Option<Arc<Backups>>,
    /// Counts what passes.
    pub(crate) metrics: Arc<Metrics>,
    /// The memory of all that is on its way.
    pub(crate) memory: Budget,
    /// The part of it that request bodies share.
    pub(crate) bodies: Bodies,
    /// Becomes true when the server shuts down; long polls end then.
    pub(crate) closing: watch::Receiver<bool>,
    /// What passed in the last minutes.
    pub(crate) throughput: Throughput,
    /// The clients that speak the native protocol.
    pub(crate) ws: crate::ws::Door,
    /// Members of groups that have no connection.
    pub(crate) pullers: Arc<Pullers>,
    /// Where events are pushed to.
    pub(crate) webhooks: Arc<Webhooks>,
}

impl App {
    /// The broker, for doors that need more than a bus.
    pub(crate) fn broker(&self) -> Result<&Broker, Problem> {
        self.broker.as_ref().ok_or_else(|| {
            let detail = "there is no broker of its own behind this server; ask the one that is \
                          behind its bus";
            Problem::new(Kind::NotSupported, detail)
        })
    }

    /// Where a connection's events go: who sends much waits behind itself.
    pub(crate) fn publisher(&self, extensions: &Extensions) -> Bus {
        let connection = extensions.get::<ConnectionId>();
        match self.broker.as_ref().zip(connection) {
            Some((broker, ConnectionId(number))) => broker.as_client(*number).bus(),
            None => self.bus.clone(),
        }
    }

    /// Whether events are taken now; if not, the problem says why.
    pub(crate) fn check_ready(&self) -> Result<(), Problem> {
        if *self.closing.borrow() {
            return Err(Unavailable::Closed.into());
        }
        match self.broker.as_ref().map(Broker::health) {
            None | Some(Health::Ready) => Ok(()),
            Some(Health::ReadOnly(why) | Health::Full(why)) => {
                Err(Problem::new(Kind::Unavailable, why).retry_later())
            }
            Some(Health::Closed) => Err(Unavailable::Closed.into()),
        }
    }

    /// Resolves when the server shuts down.
    pub(crate) async fn closed(&self) {
        let mut closing = self.closing.clone();
        // An error means that the server is gone, which is the same.
        let _ = closing.wait_for(|closing| *closing).await;
    }
}
