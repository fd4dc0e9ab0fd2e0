//! Handlers and door together, until they are told to stop. Knows neither.

use std::future::{Future, IntoFuture as _};

use thiserror::Error;
use tidemill::{Bus, ServeError};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::handlers::{GROUP, router};
use crate::http;
use crate::limits::HANDLERS_MAX;

/// Why the text messages ended by themselves.
#[derive(Debug, Error)]
pub enum MessagesError {
    /// The handlers.
    #[error("the handlers of the text messages ended: {0}")]
    Handlers(#[from] ServeError),
    /// The door.
    #[error("the door of the text messages ended: {0}")]
    Door(#[from] std::io::Error),
}

/// Serves handlers on `bus` and the door on `listener` until `shutdown`; then requests that were
/// taken are answered, and what is being handled is finished.
///
/// # Errors
/// [`MessagesError`] when handlers or door ended by themselves.
pub async fn serve(
    bus: Bus,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), MessagesError> {
    let (close, closing) = watch::channel(false);
    let (stop, stopping) = watch::channel(false);
    let until = |mut told: watch::Receiver<bool>| async move {
        // An error means that this future was dropped, which stops too.
        let _ = told.wait_for(|told| *told).await;
    };
    let door = axum::serve(listener, http::router(bus.clone()))
        .with_graceful_shutdown(until(closing))
        .into_future();
    let handlers = tidemill::serve(bus, router())
        .group(GROUP)
        .concurrency(HANDLERS_MAX)
        .with_graceful_shutdown(until(stopping))
        .into_future();
    tokio::pin!(door, handlers, shutdown);
    tokio::select! {
        () = &mut shutdown => {}
        ended = &mut door => return Ok(ended?),
        ended = &mut handlers => return Ok(ended.map(|_| ())?),
    }
    close.send_replace(true);
    // The handlers go on while the last requests are answered.
    tokio::select! {
        ended = &mut door => ended?,
        ended = &mut handlers => return Ok(ended.map(|_| ())?),
    }
    stop.send_replace(true);
    handlers.await?;
    Ok(())
}
