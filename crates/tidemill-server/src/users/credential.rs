//! What is kept of a password, as RFC 5802 and RFC 7677 have it for SCRAM: a salt, a number of
//! iterations, and two keys from which the password cannot be computed. Cryptography is the crate
//! `ring`'s. Knows no users and no files.

use std::fmt;
use std::num::NonZeroU32;

use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::text;
use crate::limits::{
    SCRAM_ITERATIONS, SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN, SCRAM_SALT_BYTES,
};

/// A way to show that one knows a password without sending it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scram {
    /// With SHA-256.
    Sha256,
    /// With SHA-512.
    Sha512,
}

impl Scram {
    /// Both, the weaker one first.
    pub(crate) const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// Its registered name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// Bytes of its keys.
    pub(crate) fn key_bytes(self) -> usize {
        self.digest().output_len()
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }

    /// `HMAC(key, text)`.
    pub(crate) fn sign(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        let key = hmac::Key::new(algorithm, key);
        hmac::sign(&key, text).as_ref().to_vec()
    }

    /// `H(text)`.
    pub(crate) fn hash(self, text: &[u8]) -> Vec<u8> {
        digest::digest(self.digest(), text).as_ref().to_vec()
    }

    /// `Hi(password, salt, iterations)`, which takes some milliseconds.
    pub(crate) fn salted(self, password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut salted = vec![0; self.key_bytes()];
        pbkdf2::derive(algorithm, iterations, salt, password, &mut salted);
        salted
    }
}

/// What is kept of a password for one of the ways. Its keys are in no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credential {
    /// How often the hash is taken.
    pub(crate) iterations: NonZeroU32,
    /// What no other password has.
    #[serde(with = "text")]
    pub(crate) salt: Vec<u8>,
    /// Recognizes a client.
    #[serde(with = "text")]
    pub(crate) stored_key: Vec<u8>,
    /// Shows a client that this is the server.
    #[serde(with = "text")]
    pub(crate) server_key: Vec<u8>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credential");
        let shown = shown.field("iterations", &self.iterations);
        shown.finish_non_exhaustive()
    }
}

impl Credential {
    /// Of a password, with a new salt.
    pub(crate) fn new(scram: Scram, password: &[u8]) -> Self {
        let iterations = NonZeroU32::new(SCRAM_ITERATIONS).expect("the default is not 0");
        let salt = random::<SCRAM_SALT_BYTES>();
        Self::of_salted(
            scram,
            salt.to_vec(),
            iterations,
            &scram.salted(password, &salt, iterations),
        )
    }

    /// Of what a password with this salt became.
    pub(crate) fn of_salted(
        scram: Scram,
        salt: Vec<u8>,
        iterations: NonZeroU32,
        salted: &[u8],
    ) -> Self {
        Self {
            iterations,
            salt,
            stored_key: scram.hash(&scram.sign(salted, b"Client Key")),
            server_key: scram.sign(salted, b"Server Key"),
        }
    }

    /// Of no password at all.
    pub(crate) fn unknown(scram: Scram) -> Self {
        Self {
            iterations: NonZeroU32::new(SCRAM_ITERATIONS).expect("the default is not 0"),
            salt: Vec::new(),
            stored_key: scram.hash(&random::<32>()),
            server_key: scram.hash(&random::<32>()),
        }
    }

    /// Whether it may be kept: a file that somebody wrote by hand, or an administrator elsewhere,
    /// says what it likes.
    pub(crate) fn is_sound(&self, scram: Scram) -> bool {
        let keys = [&self.stored_key, &self.server_key];
        (SCRAM_ITERATIONS_MIN..=SCRAM_ITERATIONS_MAX).contains(&self.iterations.get())
            && (1..=SCRAM_SALT_BYTES * 8).contains(&self.salt.len())
            && keys.iter().all(|key| key.len() == scram.key_bytes())
    }

    /// Whether this is the password; takes some milliseconds.
    pub(crate) fn is_of(&self, scram: Scram, password: &[u8]) -> bool {
        let salted = scram.salted(password, &self.salt, self.iterations);
        let key = scram.hash(&scram.sign(&salted, b"Client Key"));
        same(&key, &self.stored_key)
    }
}

/// Compares without telling by its time where the first difference is.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.expect("a system that runs servers has random numbers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_what_is_kept_and_no_other_is() {
        for scram in Scram::ALL {
            let kept = Credential::new(scram, b"pencil");
            assert!(kept.is_sound(scram));
            assert!(kept.is_of(scram, b"pencil"));
            // Of a 0 at the end a hash knows nothing: no password may have one.
            for wrong in [&b"Pencil"[..], b"", b"pencil "] {
                assert!(!kept.is_of(scram, wrong), "{wrong:?}");
            }
            let again = Credential::new(scram, b"pencil");
            assert_ne!(kept.salt, again.salt);
            assert_ne!(kept.stored_key, again.stored_key);
            let text = serde_json::to_string(&kept).unwrap();
            assert_eq!(serde_json::from_str::<Credential>(&text).unwrap(), kept);
        }
    }

    #[test]
    fn what_is_shown_of_one_has_no_keys() {
        let kept = Credential::new(Scram::Sha256, b"pencil");
        let expected = format!("Credential {{ iterations: {SCRAM_ITERATIONS}, .. }}");
        assert_eq!(format!("{kept:?}"), expected);
    }

    #[test]
    fn what_is_out_of_bounds_is_not_sound() {
        let good = Credential::new(Scram::Sha256, b"pencil");
        let with = |change: fn(&mut Credential)| {
            let mut changed = good.clone();
            change(&mut changed);
            changed.is_sound(Scram::Sha256)
        };
        assert!(with(|_| ()));
        assert!(!with(|kept| kept.iterations = NonZeroU32::MIN));
        assert!(!with(|kept| kept.iterations = NonZeroU32::MAX));
        assert!(!with(|kept| kept.salt.clear()));
        assert!(!with(|kept| kept.salt.resize(10_000, 0)));
        assert!(!with(|kept| kept.stored_key.truncate(31)));
        assert!(!with(|kept| kept.server_key.clear()));
        assert!(!good.is_sound(Scram::Sha512));
    }
}
