//! The native protocol of the WebSocket door, `GET /v1/ws`: its frames, its faults and its bounds,
//! for the server and for every client in Rust. What they mean stands in docs/WEBSOCKET.md.
//!
//! A frame is one JSON object with a member `type`. Events in it are in the CloudEvents JSON
//! format; they are cut out of the frame and put into the next one without being built.
//!
//! This room knows JSON texts. It may not know sockets, or how frames are sent.

mod client;
mod fault;
mod server;
mod text;

pub use client::{Call, ClientFrame, Describe, Numbers, Publish, Request, Settle, Settled};
pub use fault::Fault;
pub use server::{Answer, Delivered, Failed, Limits, News, ServerFrame, Welcome};
pub use text::Malformed;

/// The subprotocol of this version, which a client asks for with `Sec-WebSocket-Protocol`.
pub const SUBPROTOCOL: &str = "tidemill.v1";

/// Where the server speaks it.
pub const PATH: &str = "/v1/ws";

/// The port of the server, unless it is told another one.
pub const DEFAULT_PORT: u16 = 7575;

/// How long a session outlives its connection, unless the client asks for another time, in
/// milliseconds.
pub const KEEP_DEFAULT_MS: u64 = 10_000;

/// How long it does at most.
pub const KEEP_MAX_MS: u64 = 60_000;

/// Most calls of one session that have no answer yet.
pub const CALLS_MAX: usize = 1024;
