//! Socket.IO on the port of HTTP: events reach connected clients, and clients enter and leave
//! rooms.
//!
//! ```text
//! log -> Feed (one task) -> Clients -> Outbox of each client -> its writer task -> socket
//! ```
//!
//! Handlers are set in a connect middleware, which runs before the client hears that it is
//! connected: set later, messages sent at once after connecting would be lost.

mod clients;
mod feed;
mod message;
mod outbox;
mod rooms;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use socketioxide::handler::ConnectHandler;
use socketioxide::layer::SocketIoLayer;
use socketioxide::socket::Socket;
use socketioxide::{SendError, SocketError, SocketIo};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::clients::Client;
pub(crate) use self::clients::Clients;
pub(crate) use self::feed::Feed;
use self::message::{Answer, Handle, Incoming, ack_sender};
use self::outbox::Parcel;
use self::rooms::ClientId;
use crate::http::problem::{Kind, Problem};
use crate::limits;
use crate::metrics::Metrics;

/// Where Socket.IO clients connect.
const PATH: &str = "/socket.io";

/// The layer that answers Socket.IO's requests, and the handle that closes its sessions.
pub(crate) fn layer(clients: &Arc<Clients>) -> (SocketIoLayer, SocketIo) {
    let (layer, io) = SocketIo::builder()
        .req_path(PATH)
        .ping_interval(limits::PING_INTERVAL)
        .ping_timeout(limits::PING_TIMEOUT)
        .max_buffer_size(limits::ENGINE_BUFFER_PACKETS)
        .max_payload(limits::SOCKETIO_MESSAGE_MAX_BYTES as u64)
        .ws_max_message_size(limits::SOCKETIO_MESSAGE_MAX_BYTES)
        .ws_max_frame_size(limits::SOCKETIO_MESSAGE_MAX_BYTES)
        .build_layer();
    let clients = Arc::clone(clients);
    let set_up = move |Handle(socket): Handle| {
        set_handlers(&socket, &clients);
        std::future::ready(Ok::<(), std::convert::Infallible>(()))
    };
    io.ns("/", start_writer.with(set_up));
    (layer, io)
}

/// Takes a client out again when its socket is gone, also one that never came to be connected.
struct Registration {
    clients: Arc<Clients>,
    id: ClientId,
    client: Arc<Client>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.clients.remove(self.id);
    }
}

fn set_handlers(socket: &Arc<Socket>, clients: &Arc<Clients>) {
    let (id, client) = clients.add();
    socket.extensions.insert(Arc::new(Registration {
        clients: Arc::clone(clients),
        id,
        client,
    }));
    let entering = Arc::clone(clients);
    socket.on("subscribe", async move |incoming: Incoming| {
        enter(&entering, id, &incoming);
    });
    let leaving = Arc::clone(clients);
    socket.on("unsubscribe", async move |incoming: Incoming| {
        leave(&leaving, id, &incoming);
    });
    let gone = Arc::clone(clients);
    socket.on_disconnect(async move || gone.remove(id));
}

fn enter(clients: &Clients, id: ClientId, incoming: &Incoming) {
    let Some((room, message)) = incoming.room() else {
        return refuse(clients, id, incoming, expected("subscribe"));
    };
    let confirm = confirmation(clients, incoming, &room, message);
    if let Err(refused) = clients.enter(id, &room, &confirm) {
        refuse(clients, id, incoming, refused.to_string());
    }
}

fn leave(clients: &Clients, id: ClientId, incoming: &Incoming) {
    let Some((room, message)) = incoming.room() else {
        return refuse(clients, id, incoming, expected("unsubscribe"));
    };
    let confirm = confirmation(clients, incoming, &room, message);
    clients.leave(id, &room, &confirm);
}

fn expected(event: &str) -> String {
    format!("{event} takes a message such as {{\"room\": \"orders\"}}; send one with a room")
}

/// The acknowledgement, where one was asked for, and the echo.
fn confirmation(
    clients: &Clients,
    incoming: &Incoming,
    room: &str,
    message: Box<serde_json::value::RawValue>,
) -> Vec<Parcel> {
    let answer = Answer::Success { room }.to_json();
    let ack = incoming
        .ack
        .map(|ack| Parcel::Ack(ack, clients.payload(answer)));
    let echo = Parcel::Event(clients.payload(message));
    ack.into_iter().chain([echo]).collect()
}

fn refuse(clients: &Clients, id: ClientId, incoming: &Incoming, message: String) {
    if let Some(ack) = incoming.ack {
        let answer = Answer::Error { message }.to_json();
        clients.tell(id, Parcel::Ack(ack, clients.payload(answer)));
    }
}

/// Runs for each client from the moment it is connected.
async fn start_writer(Handle(socket): Handle) {
    if let Some(registration) = socket.extensions.get::<Arc<Registration>>() {
        let client = Arc::clone(&registration.client);
        drop(registration);
        write(&socket, &client).await;
    }
}

/// Moves what waits for a client into its socket, until the client is gone or is given up.
async fn write(socket: &Arc<Socket>, client: &Client) {
    while let Some(parcel) = client.outbox.next().await {
        let mut wait = limits::ENGINE_RETRY.0;
        loop {
            let sent = match &parcel {
                Parcel::Event(payload) => socket.emit("event", payload.json()),
                Parcel::Ack(id, payload) => ack_sender(socket, *id).send(payload.json()),
            };
            match sent {
                Ok(()) => break,
                Err(SendError::Socket(SocketError::InternalChannelFull)) => {
                    if client.is_slow() {
                        break;
                    }
                    pause(&mut wait).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "an event did not reach a Socket.IO client");
                    break;
                }
            }
        }
    }
    if client.is_slow() {
        disconnect(socket).await;
    }
}

/// Disconnects a client that was given up. That needs room in its socket too; where there never
/// is any, the ping that does not get through ends the connection.
async fn disconnect(socket: &Arc<Socket>) {
    let mut wait = limits::ENGINE_RETRY.0;
    while socket.connected() && Arc::clone(socket).disconnect().is_err() {
        pause(&mut wait).await;
    }
}

/// Waits twice as long each time.
async fn pause(wait: &mut Duration) {
    tokio::time::sleep(*wait).await;
    *wait = (*wait * 2).min(limits::ENGINE_RETRY.1);
}

/// Bounds the sessions: each holds one of the places until it ends.
#[derive(Clone)]
pub(crate) struct Door {
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// Kept by the library as long as the session, with the request that began it.
#[derive(Clone)]
struct SessionPlace {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Door {
    pub(crate) fn new(most: usize, metrics: Arc<Metrics>) -> Self {
        let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Self { places, metrics }
    }
}

/// The middleware in front of [`layer`]: a request that would begin a session beyond the bound
/// is turned away.
pub(crate) async fn guard(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let begins = request.uri().path().starts_with(PATH)
        && !request
            .uri()
            .query()
            .is_some_and(|query| query.split('&').any(|pair| pair.starts_with("sid=")));
    if begins {
        let Ok(permit) = Arc::clone(&door.places).try_acquire_owned() else {
            door.metrics.clients_refused.inc();
            let detail = "all places for Socket.IO clients are taken; try again later";
            return Problem::new(Kind::Overloaded, detail)
                .retry_later()
                .into_response();
        };
        request.extensions_mut().insert(SessionPlace {
            _permit: Arc::new(permit),
        });
    }
    next.run(request).await
}
