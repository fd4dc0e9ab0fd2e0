//! Why a server does not start.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// Why a [`Server`](crate::Server) did not start or did not go on.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Other machines could reach the address, and nobody has to log in.
    #[error(
        "{0} can be reached by other machines and there is no authentication; bind to 127.0.0.1, \
         or allow it with --insecure"
    )]
    NotLoopback(SocketAddr),
    /// Other machines could reach the Kafka protocol there, and nobody has to log in.
    #[error(
        "{0} can be reached by other machines and clients of Kafka need not log in; let them log \
         in with --kafka-sasl required, bind to 127.0.0.1, or allow it with --insecure"
    )]
    NoLogin(SocketAddr),
    /// Clients cannot be told apart, and none of them may do anything.
    #[error(
        "with --kafka-acls closed clients need names, and nobody logs in; let them log in with \
         --kafka-sasl required, or let all do everything with --kafka-super-user ANONYMOUS"
    )]
    NobodyMay,
    /// The rules about who may do what cannot be read.
    #[error("{0}")]
    Permissions(String),
    /// The users who may log in cannot be read.
    #[error("{0}")]
    Users(String),
    /// A certificate or its key is not as it must be.
    #[error("{flag} {path}: {why}")]
    Certificate {
        /// The flag that names the file.
        flag: &'static str,
        /// The file.
        path: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// Another program listens there.
    #[error(
        "{address} is already in use; stop the other program or choose another address with {flag}"
    )]
    Taken {
        /// Where it was to listen.
        address: SocketAddr,
        /// The flag that says where.
        flag: &'static str,
    },
    /// The operating system refused the address for another reason.
    #[error("cannot listen on {address} ({source}); choose another address with {flag}")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// The flag that says where.
        flag: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The program was built without it.
    #[error(
        "this program was built without {what}; use {flag}, or build it with the feature {feature}"
    )]
    NotBuilt {
        /// What is not there.
        what: &'static str,
        /// The feature that brings it.
        feature: &'static str,
        /// The flag to do without.
        flag: &'static str,
    },
    /// A door needs the broker itself, and there is only a bus.
    #[error("{0} needs a broker of its own behind this server; leave it out")]
    NeedsBroker(&'static str),
    /// The definitions of webhooks cannot be read.
    #[error("{0}")]
    Webhooks(String),
    /// The bus cannot be read for Socket.IO.
    #[error("cannot follow the log for Socket.IO: {0}")]
    Feed(#[from] tidemill_core::FetchError),
}

impl ServeError {
    pub(crate) fn listen(flag: &'static str, address: SocketAddr, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::AddrInUse {
            return Self::Taken { address, flag };
        }
        Self::Listen {
            address,
            flag,
            source,
        }
    }
}
