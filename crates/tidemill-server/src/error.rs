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
    /// Another program listens there.
    #[error("{0} is already in use; stop the other program or choose another address with --http")]
    Taken(SocketAddr),
    /// The operating system refused the address for another reason.
    #[error("cannot listen on {address} ({source}); choose another address with --http")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The bus cannot be read for Socket.IO.
    #[error("cannot follow the log for Socket.IO: {0}")]
    Feed(#[from] tidemill_core::FetchError),
}

impl ServeError {
    pub(crate) fn listen(address: SocketAddr, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::AddrInUse {
            return Self::Taken(address);
        }
        Self::Listen { address, source }
    }
}
