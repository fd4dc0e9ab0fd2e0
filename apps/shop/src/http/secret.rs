//! What the door makes of passwords and tokens before anything of them reaches the bus: hashes and
//! digests. Knows no user.

use std::fmt::Write as _;
use std::sync::Arc;

use argon2::Argon2;
use blake2::{Blake2s256, Digest as _};
use tokio::sync::Semaphore;

use super::answer::Refusal;
use crate::limits::HASHES_MAX;
use axum::http::StatusCode;

/// Bytes of a salt, of a password's hash, and of a token.
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
const TOKEN_BYTES: usize = 32;

/// Hashes passwords with Argon2id (RFC 9106) at the crate's own cost (19 MiB, two passes), a few at
/// a time. Clones share the bound.
#[derive(Clone)]
pub(super) struct Hasher {
    turns: Arc<Semaphore>,
}

impl Default for Hasher {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(HASHES_MAX)),
        }
    }
}

impl Hasher {
    /// The hash of a password with this salt, as hexadecimal digits. Off the async workers.
    pub(super) async fn hash(&self, password: String, salt: String) -> Result<String, Refusal> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let work = move || {
            let _turn = turn;
            let mut hash = [0; HASH_BYTES];
            Argon2::default()
                .hash_password_into(password.as_bytes(), salt.as_bytes(), &mut hash)
                .map(|()| hex(&hash))
                .map_err(|error| error.to_string())
        };
        let hashed = tokio::task::spawn_blocking(work).await;
        hashed
            .map_err(|error| error.to_string())
            .and_then(|hash| hash)
            .map_err(|why| inner(&why))
    }
}

fn inner(why: &str) -> Refusal {
    let why = format!("the password cannot be hashed: {why}");
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why)
}

/// A new salt, as hexadecimal digits.
pub(super) fn new_salt() -> Result<String, Refusal> {
    random::<SALT_BYTES>()
}

/// A new token, as hexadecimal digits.
pub(super) fn new_token() -> Result<String, Refusal> {
    random::<TOKEN_BYTES>()
}

fn random<const N: usize>() -> Result<String, Refusal> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| inner(&error.to_string()))?;
    Ok(hex(&bytes))
}

/// What is kept of a token: BLAKE2s-256 (RFC 7693). A token is random, so that is enough.
pub(super) fn digest(token: &str) -> String {
    hex(&Blake2s256::digest(token.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the string "abc", as RFC 7693 has it (appendix B).
    #[test]
    fn the_digest_is_blake2s() {
        let known = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982";
        assert_eq!(digest("abc"), known);
    }

    #[tokio::test]
    async fn a_hash_follows_from_password_and_salt_and_from_nothing_else() {
        let hasher = Hasher::default();
        let (one, other) = (new_salt().unwrap(), new_salt().unwrap());
        assert_ne!(one, other);
        let hash = async |word: &str, salt: &String| {
            hasher.hash(word.to_owned(), salt.clone()).await.unwrap()
        };
        let first = hash("correct horse", &one).await;
        assert_eq!(first.len(), 2 * HASH_BYTES);
        assert_eq!(hash("correct horse", &one).await, first);
        assert_ne!(hash("correct horse", &other).await, first);
        assert_ne!(hash("correct Horse", &one).await, first);
    }
}
