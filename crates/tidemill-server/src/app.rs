//! What every door shares. Knows no wire format.

use std::sync::Arc;

use tidemill_core::Bus;
use tidemill_core::error::Unavailable;
use tokio::sync::watch;

use crate::http::body::Bodies;
use crate::metrics::Metrics;

/// The state behind all doors.
pub(crate) struct App {
    /// Where events go to and come from.
    pub(crate) bus: Bus,
    /// Counts what passes.
    pub(crate) metrics: Arc<Metrics>,
    /// The memory that request bodies share.
    pub(crate) bodies: Bodies,
    /// Becomes true when the server shuts down; long polls end then.
    pub(crate) closing: watch::Receiver<bool>,
}

impl App {
    /// Whether events are taken now.
    pub(crate) fn check_ready(&self) -> Result<(), Unavailable> {
        match *self.closing.borrow() {
            true => Err(Unavailable::Closed),
            false => Ok(()),
        }
    }

    /// Resolves when the server shuts down.
    pub(crate) async fn closed(&self) {
        let mut closing = self.closing.clone();
        // An error means that the server is gone, which is the same.
        let _ = closing.wait_for(|closing| *closing).await;
    }
}
