//! Chooses a bus by its address.
//!
//! This file may not know what a bus is made of.

use thiserror::Error;
use tidemill_core::Bus;

use crate::message::BoxError;

/// Why an address gave no bus.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Nothing in this build speaks that.
    #[error(
        "{address:?}: this build has no bus for {scheme}: addresses; give the path of a data \
         folder, memory: for one that is gone with the process, or tidemill://HOST:PORT for a \
         server"
    )]
    UnknownScheme {
        /// The address as it was given.
        address: String,
        /// Its scheme.
        scheme: String,
    },
    /// The part that could is not in this build.
    #[error(
        "{address:?}: this build has no bus of that kind; switch the feature {feature:?} of the \
         crate tidemill on"
    )]
    NotBuilt {
        /// The address as it was given.
        address: String,
        /// The cargo feature of the crate `tidemill`.
        feature: &'static str,
    },
    /// The bus is there and cannot be opened.
    #[error("cannot open {address:?}: {why}")]
    Refused {
        /// The address as it was given.
        address: String,
        /// What the bus said.
        #[source]
        why: BoxError,
    },
}

/// Opens the bus at `address`: the path of a data folder for the embedded broker, which is made
/// where there is none; `file:` and such a path; or `memory:` for a broker that keeps nothing
/// once the process ends; or `tidemill://HOST:PORT` for a server (`tidemill serve`) there, with
/// the feature `remote`. A server must be there at this moment; later the connection is made anew
/// by itself. `tidemill://HOST:PORT?keep_ms=30000` has settings: `keep_ms`, for how long what was
/// being handled stays this program's when the connection breaks (10 s); `connect_timeout_ms`
/// (5 s); and `silence_ms`, after how long a server that says nothing is taken for gone (30 s).
///
/// A broker with other options than the usual ones comes from its own builder and gives a
/// [`Bus`] with `Broker::bus`.
///
/// # Errors
/// [`OpenError`] says what to do.
pub async fn open(address: impl AsRef<str>) -> Result<Bus, OpenError> {
    let address = address.as_ref();
    match scheme(address) {
        None => folder(address, address).await,
        Some(("file", path)) => folder(address, path.strip_prefix("//").unwrap_or(path)).await,
        Some(("memory", _)) => memory(address),
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("tidemill") => remote(address).await,
        Some((scheme, _)) => Err(OpenError::UnknownScheme {
            address: address.to_owned(),
            scheme: scheme.to_owned(),
        }),
    }
}

/// What stands before and after the first `:`, where that is a scheme (RFC 3986, section 3.1) of
/// more than one letter; one alone is a drive of Windows.
fn scheme(address: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = address.split_once(':')?;
    let begins = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (begins && scheme.len() > 1 && scheme.chars().all(legal)).then_some((scheme, rest))
}

#[cfg(feature = "broker")]
async fn folder(address: &str, path: &str) -> Result<Bus, OpenError> {
    match tidemill_broker::Broker::open(path).await {
        Ok(broker) => Ok(broker.bus()),
        Err(why) => Err(OpenError::Refused {
            address: address.to_owned(),
            why: why.into(),
        }),
    }
}

#[cfg(feature = "broker")]
fn memory(_: &str) -> Result<Bus, OpenError> {
    Ok(tidemill_broker::Broker::in_memory().bus())
}

#[cfg(not(feature = "broker"))]
async fn folder(address: &str, _: &str) -> Result<Bus, OpenError> {
    memory(address)
}

#[cfg(not(feature = "broker"))]
fn memory(address: &str) -> Result<Bus, OpenError> {
    Err(OpenError::NotBuilt {
        address: address.to_owned(),
        feature: "broker",
    })
}

#[cfg(feature = "remote")]
async fn remote(address: &str) -> Result<Bus, OpenError> {
    match tidemill_adapters::remote::Remote::connect(address).await {
        Ok(remote) => Ok(remote.bus()),
        Err(why) => Err(OpenError::Refused {
            address: address.to_owned(),
            why: why.into(),
        }),
    }
}

#[cfg(not(feature = "remote"))]
async fn remote(address: &str) -> Result<Bus, OpenError> {
    Err(OpenError::NotBuilt {
        address: address.to_owned(),
        feature: "remote",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_no_scheme() {
        for path in ["./data", "/var/lib/x", "data", "C:\\data", "./a:b", ""] {
            assert_eq!(scheme(path), None, "{path}");
        }
        assert_eq!(scheme("memory:"), Some(("memory", "")));
        assert_eq!(scheme("kafka://host"), Some(("kafka", "//host")));
    }

    #[tokio::test]
    async fn an_unknown_scheme_says_what_to_do() {
        let error = open("kafka://localhost").await.unwrap_err().to_string();
        assert!(error.contains("no bus for kafka: addresses"), "{error}");
        assert!(error.contains("memory:"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_at_once() {
        let error = open("tidemill://127.0.0.1:1")
            .await
            .unwrap_err()
            .to_string();
        let expected = match cfg!(feature = "remote") {
            true => "is `tidemill serve` running there?",
            false => "switch the feature \"remote\"",
        };
        assert!(error.contains(expected), "{error}");
    }
}
