//! What is said of users, and what the user service is asked. No event holds a password: the door
//! makes its hash before it asks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::Message;

messages! {
    /// A user registered.
    UserRegistered = "user_registered" in "users" by "user_id" {
        /// Which user.
        user_id: i64,
        /// The name to log in with.
        name: String,
    }
    /// A user logged in.
    UserLoggedIn = "user_logged_in" in "users" by "user_id" {
        /// Which user.
        user_id: i64,
    }
    /// A user logged out.
    UserLoggedOut = "user_logged_out" in "users" by "user_id" {
        /// Which user.
        user_id: i64,
    }

    /// Question to the order service, answered with [`Followed`](super::Followed) once it has
    /// handled all that was said of the user before.
    UserFollowed = "user_followed" in "users" by "user_id" {
        /// Which user.
        user_id: i64,
    }

    /// Request: a new user. Answered with an [`Answer`](super::Answer) about the [`User`].
    RegisterUser = "register_user" in "user_requests" by "name" {
        /// The name to log in with.
        name: String,
        /// The salt of the hash, 16 bytes as hexadecimal digits.
        salt: String,
        /// The password's hash, 32 bytes as hexadecimal digits.
        hash: String,
    }
    /// Request: what to hash a password with. Answered with a [`Salt`], for unknown names too.
    GetSalt = "get_salt" in "user_requests" by "name" {
        /// The name to log in with.
        name: String,
    }
    /// Request: let a user in. Answered with an [`Answer`](super::Answer) about the [`User`].
    LoginUser = "login_user" in "user_requests" by "name" {
        /// The name to log in with.
        name: String,
        /// The password's hash.
        hash: String,
        /// A digest of the token that the user is given, which alone is kept.
        session: String,
    }
    /// Request: a user leaves. Answered with an [`Answer`](super::Answer) about the [`User`].
    LogoutUser = "logout_user" in "user_requests" by "who" {
        /// The user's id, or the digest of a token.
        who: Leaving,
    }
    /// Request: show a user. Answered with an [`Answer`](super::Answer) about the [`User`].
    GetUser = "get_user" in "user_requests" by "user_id" {
        /// Which user.
        user_id: i64,
    }
}

/// Who leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Leaving {
    /// A user, everywhere.
    User(i64),
    /// A user, where this token's digest was given.
    Session(String),
}

impl std::fmt::Display for Leaving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(id) => write!(f, "user-{id}"),
            Self::Session(digest) => f.write_str(digest),
        }
    }
}

/// What a password is hashed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Salt {
    /// 16 bytes as hexadecimal digits.
    pub salt: String,
}

/// A user, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct User {
    /// Which.
    pub user_id: i64,
    /// The name to log in with.
    pub name: String,
    /// Whether somebody is logged in under it.
    pub logged_in: bool,
}
