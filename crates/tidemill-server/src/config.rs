//! What a user may set about the server, and which of it is refused before anything opens.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::error::ServeError;
use crate::http::cors::Cors;
use crate::http::rate::RateLimit;
use crate::limits;

/// The settings of a [`Server`](crate::Server). The bounds that nobody needs to set are in
/// [`limits`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Where HTTP and Socket.IO listen; port 0 takes a free one.
    pub http: SocketAddr,
    /// Allows an address that other machines can reach, although nobody has to log in.
    pub insecure: bool,
    /// Largest body of a request in bytes; no more than what the broker takes in one publish
    /// and [`limits::ENVELOPE_MAX_BYTES`], whatever is set here.
    pub body_max_bytes: usize,
    /// Most connections at once.
    pub connections_max: usize,
    /// Most Socket.IO clients at once.
    pub socketio_clients_max: usize,
    /// The folder in which clients may let backups be taken, each under a name of its own; without
    /// one they cannot.
    pub backups: Option<PathBuf>,
    /// Web pages of other machines that may use the doors; without it none may.
    pub cors: Option<Cors>,
    /// How many requests one client address may make; without it there is no such bound.
    pub rate_limit: Option<RateLimit>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 7575)),
            insecure: false,
            body_max_bytes: limits::BODY_MAX_BYTES,
            connections_max: limits::CONNECTIONS_MAX,
            socketio_clients_max: limits::SOCKETIO_CLIENTS_MAX,
            backups: None,
            cors: None,
            rate_limit: None,
        }
    }
}

impl Config {
    /// The default settings at another address.
    #[must_use]
    pub fn at(http: SocketAddr) -> Self {
        Self {
            http,
            ..Self::default()
        }
    }

    /// Refuses an address that others can reach, unless `insecure` allows it. A server checks it
    /// by itself; a program may want to know before it opens anything.
    ///
    /// # Errors
    /// [`ServeError::NotLoopback`].
    pub fn check(&self) -> Result<(), ServeError> {
        let alone = self.http.ip().to_canonical().is_loopback();
        if !alone && !self.insecure {
            return Err(ServeError::NotLoopback(self.http));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_taken_without_insecure() {
        for (address, alone) in [
            ("127.0.0.1:0", true),
            ("127.9.9.9:80", true),
            ("[::1]:0", true),
            ("[::ffff:127.0.0.1]:0", true),
            ("0.0.0.0:0", false),
            ("[::]:0", false),
            ("10.0.0.1:7575", false),
        ] {
            let mut config = Config::at(address.parse().unwrap());
            assert_eq!(config.check().is_ok(), alone, "{address}");
            config.insecure = true;
            assert!(config.check().is_ok(), "{address}");
        }
    }
}
