//! Ports as the commands with doors meet them: whether one is free, before anything is made.
//!
//! This room may not know what is served there.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use crate::failure::Failure;

/// Checks that somebody may listen there now; `flag` names the address.
///
/// # Errors
/// Another program does, or the system says no: the text names the flag.
pub(crate) fn is_free(flag: &str, address: SocketAddr) -> Result<(), Failure> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(Failure::new(format!(
            "{address} is already in use; stop the other program or choose another address with \
             {flag}"
        ))),
        Err(error) => Err(Failure::new(format!(
            "cannot listen on {address} ({error}); choose another address with {flag}"
        ))),
    }
}
