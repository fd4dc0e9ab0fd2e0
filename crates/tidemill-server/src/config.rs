//! What a user may set about the server, and which of it is refused before anything opens.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

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
    /// The folder of the files that the server keeps for itself, such as users; without one it
    /// keeps none.
    pub private: Option<PathBuf>,
    /// Web pages of other machines that may use the doors; without it none may.
    pub cors: Option<Cors>,
    /// How many requests one client address may make; without it there is no such bound.
    pub rate_limit: Option<RateLimit>,
    /// The door for clients of Kafka; without one there is none.
    pub kafka: Option<KafkaConfig>,
}

/// The settings of the door for clients of Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaConfig {
    /// Where it listens; port 0 takes a free one. For 127.0.0.1 it also listens on `[::1]`, at the
    /// same port, as clients take `localhost` for either.
    pub listen: SocketAddr,
    /// Where clients are told to connect to; `None` for the address by which each came.
    pub advertise: Option<Advertised>,
    /// Whether a topic is made when a client asks for it, where it asks so.
    pub auto_create: bool,
    /// Partitions of such a topic, and of one whose creator leaves the number open.
    pub default_partitions: u32,
    /// The number of this only node of the cluster.
    pub node_id: i32,
    /// Largest record batch that a producer may send, in bytes.
    pub message_max_bytes: usize,
    /// Shortest session timeout that a member of a group may ask for; the broker holds it.
    pub session_min: Duration,
    /// How often members of consumer groups are told to be heard of; the broker holds it.
    pub consumer_heartbeat_interval: Duration,
    /// How long a member of a consumer group may be silent; the broker holds it.
    pub consumer_session_timeout: Duration,
    /// What clients are told that the folder of the data is called.
    pub log_dir: String,
    /// How clients log in; without it nobody has to, and nobody can.
    pub sasl: Option<SaslConfig>,
    /// Who may do what; without it everybody may do everything, and rules are refused.
    pub acls: Option<AclConfig>,
    /// The certificate that is shown to clients, which then speak TLS; without it none does.
    pub tls: Option<TlsConfig>,
}

/// How clients of Kafka log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslConfig {
    /// The private folder that has the users.
    pub users: PathBuf,
    /// Whether PLAIN is served where a password travels so that others can read it: without TLS,
    /// from another machine.
    pub cleartext: bool,
}

/// Who may do what over the Kafka protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclConfig {
    /// The private folder that has the rules.
    pub rules: PathBuf,
    /// Whether everybody may do everything with what no rule is about; else nobody may.
    pub open: bool,
    /// Users who may do everything, by their names, or as `User:NAME`. Who did not log in is
    /// `ANONYMOUS`.
    pub super_users: BTreeSet<String>,
}

/// A certificate, in files of PEM that are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate, followed by those that vouch for it.
    pub cert: PathBuf,
    /// Its private key, not encrypted.
    pub key: PathBuf,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9092)),
            advertise: None,
            auto_create: true,
            default_partitions: 1,
            node_id: 1,
            message_max_bytes: limits::KAFKA_MESSAGE_MAX_BYTES,
            session_min: tidemill_broker::limits::CLASSIC_SESSION_MIN,
            consumer_heartbeat_interval: tidemill_broker::limits::CONSUMER_HEARTBEAT_INTERVAL,
            consumer_session_timeout: tidemill_broker::limits::CONSUMER_SESSION_TIMEOUT,
            log_dir: "tidemill-data".to_owned(),
            sasl: None,
            acls: None,
            tls: None,
        }
    }
}

/// Where clients find a server: a name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// A host's name, or an address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
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
            private: None,
            cors: None,
            rate_limit: None,
            kafka: None,
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

    /// Refuses an address that others can reach where nobody has to log in, unless `insecure`
    /// allows it, and settings that contradict each other. A server checks it by itself; a program
    /// may want to know before it opens anything.
    ///
    /// # Errors
    /// [`ServeError::NotLoopback`], [`ServeError::NoLogin`], and [`ServeError::NobodyMay`] where
    /// rules are closed to clients that cannot be told apart.
    pub fn check(&self) -> Result<(), ServeError> {
        let nobody = |kafka: &KafkaConfig| {
            let closed = |acls: &AclConfig| !acls.open && acls.super_users.is_empty();
            kafka.sasl.is_none() && kafka.acls.as_ref().is_some_and(closed)
        };
        if self.kafka.as_ref().is_some_and(nobody) {
            return Err(ServeError::NobodyMay);
        }
        let others = |address: SocketAddr| !address.ip().to_canonical().is_loopback();
        if self.insecure {
            return Ok(());
        }
        if others(self.http) {
            return Err(ServeError::NotLoopback(self.http));
        }
        match &self.kafka {
            Some(kafka) if others(kafka.listen) && kafka.sasl.is_none() => {
                Err(ServeError::NoLogin(kafka.listen))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_are_closed_to_everybody_are_refused() {
        let sasl = Some(SaslConfig {
            users: "private".into(),
            cleartext: false,
        });
        for (open, super_user, sasl, taken) in [
            (false, None, None, false),
            (true, None, None, true),
            (false, Some("ANONYMOUS"), None, true),
            (false, None, sasl, true),
        ] {
            let acls = AclConfig {
                rules: "private".into(),
                open,
                super_users: super_user.into_iter().map(str::to_owned).collect(),
            };
            let kafka = KafkaConfig {
                acls: Some(acls),
                sasl,
                ..KafkaConfig::default()
            };
            let config = Config {
                kafka: Some(kafka),
                insecure: true,
                ..Config::default()
            };
            assert_eq!(config.check().is_ok(), taken, "{config:?}");
        }
    }

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
            let kafka = KafkaConfig {
                listen: address.parse().unwrap(),
                ..KafkaConfig::default()
            };
            let with_login = KafkaConfig {
                sasl: Some(SaslConfig {
                    users: "private".into(),
                    cleartext: false,
                }),
                ..kafka.clone()
            };
            let config = |kafka| Config {
                kafka: Some(kafka),
                ..Config::default()
            };
            assert_eq!(config(kafka).check().is_ok(), alone, "{address}");
            assert!(config(with_login).check().is_ok(), "{address}");
        }
    }
}
