//! `tidemill://host:port?keep_ms=...`, and one try to connect there.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use tidemill_core::wire::{DEFAULT_PORT, KEEP_DEFAULT_MS, KEEP_MAX_MS, PATH, SUBPROTOCOL};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::limits::{CONNECT_TIMEOUT, MESSAGE_MAX_BYTES, SETTING_MS, SILENCE_MAX};

/// The scheme of addresses.
pub const SCHEME: &str = "tidemill";

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The address is none.
    #[error("{0:?} is no address of a server; write tidemill://HOST or tidemill://HOST:PORT")]
    Address(String),
    /// What follows the `?` of the address.
    #[error(
        "{address:?}: {why}; an address may end with ?keep_ms=, connect_timeout_ms= and \
         silence_ms=, joined by &"
    )]
    Setting {
        /// The address as it was given.
        address: String,
        /// What is wrong.
        why: String,
    },
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

/// Where a server is, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// `host:port`.
    authority: String,
    pub(super) settings: Settings,
}

/// What an address may say beside the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// How long the session outlives a broken connection: `keep_ms`.
    pub(super) keep: Duration,
    /// How long one try to connect may take: `connect_timeout_ms`.
    pub(super) connect: Duration,
    /// After how long without anything from it a connection is taken for gone: `silence_ms`.
    pub(super) silence: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keep: Duration::from_millis(KEEP_DEFAULT_MS),
            connect: CONNECT_TIMEOUT,
            silence: SILENCE_MAX,
        }
    }
}

impl Settings {
    /// Reads `name=value` pairs joined by `&`.
    fn parse(query: &str) -> Result<Self, String> {
        let mut settings = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (place, bounds) = match name {
                "keep_ms" => (&mut settings.keep, 0..=KEEP_MAX_MS),
                "connect_timeout_ms" => (&mut settings.connect, SETTING_MS),
                "silence_ms" => (&mut settings.silence, SETTING_MS),
                _ => return Err(format!("there is no setting {name:?}")),
            };
            let millis = value.parse().ok().filter(|millis| bounds.contains(millis));
            let (least, most) = (bounds.start(), bounds.end());
            let wrong = || format!("{name} is a number of milliseconds, {least} to {most}");
            *place = Duration::from_millis(millis.ok_or_else(wrong)?);
        }
        Ok(settings)
    }
}

pub(super) type Socket = WebSocketStream<TcpStream>;

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, ConnectError> {
        let wrong = || ConnectError::Address(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
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
        let settings = Settings::parse(query).map_err(|why| ConnectError::Setting {
            address: text.to_owned(),
            why,
        })?;
        Ok(Self {
            authority: format!("{host}:{port}"),
            settings,
        })
    }

    /// One try.
    pub(super) async fn connect(&self) -> Result<Socket, ConnectError> {
        let unreachable = |why: String| ConnectError::Unreachable {
            address: self.to_string(),
            why,
        };
        match tokio::time::timeout(self.settings.connect, self.connect_now()).await {
            Ok(connected) => connected,
            Err(_) => Err(unreachable(format!(
                "no answer within {} ms",
                self.settings.connect.as_millis()
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

    #[test]
    fn an_address_may_say_how_the_server_is_spoken_to() {
        let plain = Address::parse("tidemill://localhost:7?").unwrap();
        assert_eq!(plain.settings, Settings::default());
        let text = "tidemill://localhost:7/?keep_ms=0&connect_timeout_ms=250&silence_ms=3000";
        let address = Address::parse(text).unwrap();
        assert_eq!(address.authority, "localhost:7");
        let settings = Settings {
            keep: Duration::ZERO,
            connect: Duration::from_millis(250),
            silence: Duration::from_secs(3),
        };
        assert_eq!(address.settings, settings);
        for (query, word) in [
            ("keep=5", "no setting \"keep\""),
            ("keep_ms", "0 to 60000"),
            ("keep_ms=60001", "0 to 60000"),
            ("silence_ms=1", "100 to 600000"),
            ("silence_ms=3s", "number of milliseconds"),
        ] {
            let error = Address::parse(&format!("tidemill://localhost?{query}")).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
