//! `tidemill://host:port`, and one try to connect there.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use tidemill_core::wire::{DEFAULT_PORT, PATH, SUBPROTOCOL};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::limits::{CONNECT_TIMEOUT, MESSAGE_MAX_BYTES};

/// The scheme of addresses.
pub const SCHEME: &str = "tidemill";

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The address is none.
    #[error("{0:?} is no address of a server; write tidemill://HOST or tidemill://HOST:PORT")]
    Address(String),
    /// Nobody answers there.
    #[error("cannot reach {address}: {why}; is `tidemill serve` running there?")]
    Unreachable {
        /// Where.
        address: String,
        /// What the system said.
        why: String,
    },
    /// Who answers does not speak the protocol.
    #[error("{address} does not speak {SUBPROTOCOL}: {why}; is it a Tidemill server?")]
    Protocol {
        /// Where.
        address: String,
        /// What it did instead.
        why: String,
    },
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// `host:port`.
    authority: String,
}

pub(super) type Socket = WebSocketStream<TcpStream>;

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, ConnectError> {
        let wrong = || ConnectError::Address(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let legal = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
        if !scheme.eq_ignore_ascii_case(SCHEME) || rest.is_empty() || !rest.chars().all(legal) {
            return Err(wrong());
        }
        // A colon within brackets is a part of an IPv6 address.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
        if host.is_empty() || !bare {
            return Err(wrong());
        }
        let port = match port {
            Some(port) => port.parse::<u16>().map_err(|_| wrong())?,
            None => DEFAULT_PORT,
        };
        Ok(Self {
            authority: format!("{host}:{port}"),
        })
    }

    /// One try.
    pub(super) async fn connect(&self) -> Result<Socket, ConnectError> {
        let unreachable = |why: String| ConnectError::Unreachable {
            address: self.to_string(),
            why,
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, self.connect_now()).await {
            Ok(connected) => connected,
            Err(_) => Err(unreachable(format!(
                "no answer within {}",
                seconds(CONNECT_TIMEOUT)
            ))),
        }
    }

    async fn connect_now(&self) -> Result<Socket, ConnectError> {
        let stream = TcpStream::connect(&self.authority).await;
        let stream = stream.map_err(|why| ConnectError::Unreachable {
            address: self.to_string(),
            why: why.to_string(),
        })?;
        let _ = stream.set_nodelay(true);
        let protocol = |why: String| ConnectError::Protocol {
            address: self.to_string(),
            why,
        };
        let request = format!("ws://{}{PATH}", self.authority).into_client_request();
        let mut request = request.map_err(|error| protocol(error.to_string()))?;
        let name = HeaderValue::from_static(SUBPROTOCOL);
        request.headers_mut().insert("Sec-WebSocket-Protocol", name);
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(MESSAGE_MAX_BYTES);
        config.max_frame_size = Some(MESSAGE_MAX_BYTES);
        let connected = client_async_with_config(request, stream, Some(config)).await;
        let (socket, _) = connected.map_err(|error| protocol(error.to_string()))?;
        Ok(socket)
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_a_host_and_perhaps_a_port() {
        for (text, authority) in [
            ("tidemill://localhost", "localhost:7575"),
            ("tidemill://127.0.0.1:80/", "127.0.0.1:80"),
            ("TIDEMILL://[::1]", "[::1]:7575"),
            ("tidemill://[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(Address::parse(text).unwrap().authority, authority);
        }
        for text in [
            "tidemill://",
            "tidemill:host",
            "http://host",
            "tidemill://host:port",
            "tidemill://host:99999",
            "tidemill://::1",
            "tidemill://:80",
            "tidemill://host/path",
            "tidemill://user@host",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
