//! Every event of the shop: what the services say to each other and what they are asked. Names,
//! topics and payloads are the interface between them; there is no other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident = $ty:literal in $topic:literal by $key:literal {
        $($(#[$doc:meta])* $field:ident: $of:ty,)*
    })+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Message)]
        #[message(type = $ty, topic = $topic, key = $key)]
        #[serde(tag = "type", rename = $ty)]
        pub struct $name {
            $($(#[$doc])* pub $field: $of,)*
        }
    )+};
}

mod cart;
mod catalogue;
mod logistics;
mod orders;
mod payment;
mod stock;
mod topics;
mod users;

pub use self::cart::*;
pub use self::catalogue::*;
pub use self::logistics::*;
pub use self::orders::*;
pub use self::payment::*;
pub use self::stock::*;
pub use self::topics::*;
pub use self::users::*;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Done.
    Done,
    /// There is no such thing.
    Unknown,
    /// It makes no sense.
    Invalid,
    /// Out of turn, or taken already; nothing changed.
    Conflict,
    /// Who asks is not let in.
    Denied,
}

/// The answer to a request: what became of it, and what it was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Answer<T> {
    /// What became of it.
    pub verdict: Verdict,
    /// The same in words.
    pub message: String,
    /// What it was about, as it stands now.
    pub about: Option<T>,
}

impl<T> Answer<T> {
    /// It was done.
    pub fn done(message: impl Into<String>, about: T) -> Self {
        Self {
            verdict: Verdict::Done,
            message: message.into(),
            about: Some(about),
        }
    }

    /// It was not done, and nothing changed.
    pub fn refused(verdict: Verdict, message: impl Into<String>) -> Self {
        Self {
            verdict,
            message: message.into(),
            about: None,
        }
    }
}

/// For members that say nothing while they are zero.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks so
fn is_zero(number: &i64) -> bool {
    *number == 0
}
