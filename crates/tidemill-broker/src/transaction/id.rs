//! The name under which a producer goes on after a restart of its own.

use std::fmt;

use bytestring::ByteString;
use serde::{Serialize, Serializer};
use tidemill_core::InvalidName;

use crate::limits::TRANSACTIONAL_ID_MAX_BYTES;

/// The name of a transactional producer: 1 to 1,024 bytes. Whoever takes it over shuts out who
/// had it before.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionalId(ByteString);

impl TransactionalId {
    /// Checks `text` and keeps it.
    ///
    /// # Errors
    /// [`InvalidName`] where it is empty or too long.
    pub fn new(text: impl Into<ByteString>) -> Result<Self, InvalidName> {
        let text = text.into();
        if (1..=TRANSACTIONAL_ID_MAX_BYTES).contains(&text.len()) {
            return Ok(Self(text));
        }
        Err(InvalidName {
            what: "transactional id",
            text: text.chars().take(64).collect(),
            why: "it has 1 to 1024 bytes",
        })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for TransactionalId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Debug for TransactionalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for TransactionalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
