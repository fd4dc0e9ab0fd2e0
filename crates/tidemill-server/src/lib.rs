//! The front doors of Tidemill: HTTP, WebSocket and Socket.IO on one port, the Kafka protocol on
//! another.
//!
//! ```text
//! clients.rs      who is connected, and what each did  knows no door
//! connections.rs  accepts, bounds, times out       knows no paths
//! http/           one file a door                  knows no sockets
//! socketio/       pushes what the log gets         knows no HTTP but its own
//! ws/             the native protocol              knows no HTTP but its upgrade
//! webhooks/       pushes events to endpoints         knows no HTTP but its own
//! protocol/       wire protocols: Kafka             knows no HTTP
//! own_groups.rs   groups that are not for others  knows no door
//! private_file.rs small files of its own           knows not what is in them
//! users/          who may log in                   knows no network
//! permissions/    who may do what                  knows no network
//! app.rs          what they share                  knows no wire format
//! graph/          who sends what to whom           knows no HTTP
//! ```
//!
//! The doors publish and read through the traits of `tidemill-core`; only those that create,
//! delete and describe need the broker. This crate may not know how events are stored, and it
//! never runs a handler. Every endpoint is described in `docs/HTTP.md`.

mod app;
mod backups;
mod clients;
mod config;
mod connections;
mod envelope;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    //! What a fuzzer calls.

    /// Sends what the bytes make of the requests of a client of Kafka to the door for such clients,
    /// over a broker in memory, and looks at what is held when the client is gone.
    ///
    /// # Panics
    /// The door does, or holds memory for a client that is gone: that is what a fuzzer looks for.
    pub fn kafka_requests(bytes: &[u8]) {
        crate::protocol::kafka::fuzzing::requests(bytes);
    }
}
mod graph;
mod http;
pub mod limits;
mod memory;
mod metrics;
mod own_groups;
#[cfg(feature = "kafka")]
pub mod permissions;
#[allow(dead_code, reason = "some of its users are features")]
mod private_file;
mod protocol;
mod server;
mod socketio;
mod stall;
mod throughput;
#[cfg(feature = "kafka")]
pub mod users;
mod webhooks;
mod ws;

pub use config::{AclConfig, Advertised, Config, KafkaConfig, SaslConfig, TlsConfig};
pub use error::ServeError;
pub use http::cors::Cors;
pub use http::rate::RateLimit;
pub use server::Server;
