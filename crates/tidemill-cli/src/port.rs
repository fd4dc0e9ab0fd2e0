//! Ports as the commands with doors meet them: whether one is free, before anything is made.
//!
//! This room may not know what is served there.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use crate::failure::Failure;

/// Checks that no two doors want the same port of the same address; each is named by its flag.
///
/// # Errors
/// Two do.
pub(crate) fn are_apart(doors: &[(&str, SocketAddr)]) -> Result<(), Failure> {
    let same = |one: SocketAddr, other: SocketAddr| {
        let (here, there) = (one.ip(), other.ip());
        let meet = here == there || here.is_unspecified() || there.is_unspecified();
        one.port() == other.port() && one.port() != 0 && meet
    };
    for (number, (flag, address)) in doors.iter().enumerate() {
        let mut before = doors.iter().take(number);
        if let Some((other, _)) = before.find(|(_, other)| same(*other, *address)) {
            return Err(Failure::usage(format!(
                "{other} and {flag} cannot both be port {}; choose another for one of them",
                address.port()
            )));
        }
    }
    Ok(())
}

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
