//! The WebSocket door, `GET /v1/ws`: the native protocol, with which a program or a browser is a
//! member of a group as a handler inside of the process is. docs/WEBSOCKET.md describes it; its
//! frames are core's `wire`.
//!
//! ```text
//! connection.rs    one socket: hello, reading, writing, its end
//! session.rs       what outlives a connection            once.rs   calls that come again
//! subscription.rs  one membership, and what it holds     calls.rs  what each call does
//! outbox.rs        what waits to be sent
//! ```

mod calls;
mod connection;
mod once;
mod outbox;
mod session;
mod subscription;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tidemill_core::wire::SUBPROTOCOL;
use tokio::sync::Semaphore;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use self::session::Sessions;
use crate::app::App;
use crate::connections::ConnectionId;
use crate::http::doors::Methods;
use crate::http::openapi::Operation;
use crate::http::problem::{Kind, Problem};
use crate::limits::{SHUTDOWN_GRACE, WS_CONNECTIONS_MAX, WS_FRAME_MAX_BYTES};
use crate::metrics::Counted;

/// What the connections of this door share.
pub(crate) struct Door {
    places: Arc<Semaphore>,
    sessions: Arc<Sessions>,
}

impl Door {
    pub(crate) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(WS_CONNECTIONS_MAX)),
            sessions: Arc::default(),
        }
    }

    /// Waits for the connections to take their leave, and ends all sessions. The server is
    /// closing already.
    pub(crate) async fn close(&self) {
        let all = u32::try_from(WS_CONNECTIONS_MAX).unwrap_or(u32::MAX);
        let left = tokio::time::timeout(SHUTDOWN_GRACE, self.places.acquire_many(all)).await;
        if left.is_err() {
            tracing::warn!("some WebSocket clients did not take their leave in time");
        }
        self.sessions.end_all();
    }
}

/// The methods of the path.
pub(crate) fn methods() -> Methods {
    let operation = Operation::new("connect", "The native protocol, over a WebSocket")
        .described("See docs/WEBSOCKET.md for its frames.")
        .answers_nothing(101, "The connection is a WebSocket now")
        .problems(&[Kind::UpgradeRequired, Kind::Unavailable, Kind::Overloaded]);
    Methods::new().get(upgrade, operation)
}

/// Takes the connection over from HTTP.
async fn upgrade(State(app): State<Arc<App>>, mut request: Request) -> Result<Response, Problem> {
    let accepted = accept(request.headers())?;
    if *app.closing.borrow() {
        let detail = "the server is closing; come back later";
        return Err(Problem::new(Kind::Unavailable, detail).retry_later());
    }
    let Ok(place) = Arc::clone(&app.ws.places).try_acquire_owned() else {
        let detail = "all places for WebSocket clients are taken; try again later";
        return Err(Problem::new(Kind::Overloaded, detail).retry_later());
    };
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return Err(not_an_upgrade("this connection cannot be upgraded"));
    };
    let number = request
        .extensions()
        .get::<ConnectionId>()
        .map_or(0, |id| id.0);
    tokio::spawn(async move {
        // Held until the connection has ended.
        let _place = (place, Counted::one(&app.metrics.websockets));
        match upgrade.await {
            Ok(upgraded) => {
                let mut config = WebSocketConfig::default();
                config.read_buffer_size = 16 * 1024;
                config.max_message_size = Some(WS_FRAME_MAX_BYTES);
                config.max_frame_size = Some(WS_FRAME_MAX_BYTES);
                let io = TokioIo::new(upgraded);
                let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
                connection::run(&app, socket, number).await;
            }
            Err(error) => tracing::debug!(%error, "an upgrade did not come about"),
        }
    });
    let headers = [
        (CONNECTION, HeaderValue::from_static("upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, accepted),
        (
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        ),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// What the handshake of RFC 6455, section 4.2.1, has to say; answers the key to send back.
fn accept(headers: &HeaderMap) -> Result<HeaderValue, Problem> {
    let has = |name: HeaderName, word: &str| {
        let values = headers.get_all(name).iter();
        let mut words = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        words.any(|have| have.trim().eq_ignore_ascii_case(word))
    };
    if !has(CONNECTION, "upgrade") || !has(UPGRADE, "websocket") {
        return Err(not_an_upgrade("it takes WebSocket connections alone"));
    }
    if !has(SEC_WEBSOCKET_VERSION, "13") {
        return Err(not_an_upgrade("it takes version 13 of WebSocket alone"));
    }
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
        return Err(not_an_upgrade("the header Sec-WebSocket-Key is missing"));
    };
    if !has(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        let why = format!("ask for the subprotocol {SUBPROTOCOL} in Sec-WebSocket-Protocol");
        return Err(not_an_upgrade(&why));
    }
    let accepted = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    Ok(accepted.expect("base64 is a header's value"))
}

fn not_an_upgrade(why: &str) -> Problem {
    Problem::upgrade(format!("{why}; see docs/WEBSOCKET.md for how to connect"))
}
