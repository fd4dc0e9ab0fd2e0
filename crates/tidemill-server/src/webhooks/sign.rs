//! Signatures as Standard Webhooks 1.0.0 has them: HMAC-SHA256 with a secret that both sides know
//! (`v1`). Pure, but for making a new secret.
//!
//! This room may not know requests, or where secrets are kept.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::rand::SecureRandom as _;
use ring::{digest, hmac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidemill_core::Event;

/// What the text of a secret begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a secret that is made here.
const SECRET_BYTES: usize = 32;
/// Bytes that a secret may have, as the specification says.
const SECRET_ALLOWED: std::ops::RangeInclusive<usize> = 24..=64;
/// Bytes of the hash that an id has.
const ID_BYTES: usize = 16;

/// A secret. Its text is shown where it is asked for by [`Secret::text`], and nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// A new one, of the system's randomness.
    ///
    /// # Errors
    /// The system gives none.
    pub(crate) fn random() -> Result<Self, String> {
        let mut bytes = vec![0; SECRET_BYTES];
        let filled = ring::rand::SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| "the system gives no randomness; try again".to_owned())?;
        Ok(Self(bytes))
    }

    /// One that was given as text.
    ///
    /// # Errors
    /// It is none, or too short or too long.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (min, max) = (SECRET_ALLOWED.start(), SECRET_ALLOWED.end());
        let wrong = || format!("a secret is {PREFIX} and {min} to {max} bytes in base64");
        let text = text.strip_prefix(PREFIX).ok_or_else(wrong)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| wrong())?;
        match SECRET_ALLOWED.contains(&bytes.len()) {
            true => Ok(Self(bytes)),
            false => Err(wrong()),
        }
    }

    /// The text that a receiver needs.
    pub(crate) fn text(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(&self.0))
    }

    fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut signing = hmac::Context::with_key(&key);
        signing.update(format!("{id}.{seconds}.").as_bytes());
        signing.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(signing.sign()))
    }
}

/// The value of `webhook-signature`: a signature of each secret, separated by blanks.
pub(crate) fn signatures<'a>(
    secrets: impl IntoIterator<Item = &'a Secret>,
    id: &str,
    seconds: i64,
    body: &[u8],
) -> String {
    let each = secrets
        .into_iter()
        .map(|secret| secret.sign(id, seconds, body));
    each.collect::<Vec<_>>().join(" ")
}

/// The value of `webhook-id`: the same for every attempt at an event, and for an event that was
/// published twice. It is made of `source` and `id`, which name an event together, as a hash: the
/// texts are the publisher's, and with a dot in one what is signed could be read in two ways.
pub(crate) fn message_id(event: &Event) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    let source = event.source().as_str();
    hash.update(&(source.len() as u64).to_be_bytes());
    hash.update(source.as_bytes());
    hash.update(event.id().as_str().as_bytes());
    let hash = hash.finish();
    let hex = hash.as_ref().iter().take(ID_BYTES);
    let hex: String = hex.map(|byte| format!("{byte:02x}")).collect();
    format!("msg_{hex}")
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}...")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that the libraries of the specification share.
    #[test]
    fn a_signature_is_as_the_specification_has_it() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#);
        let signed = signatures([&secret], id, 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let other = Secret::random().unwrap();
        let both = signatures([&other, &secret], id, 1_614_265_330, body);
        let (first, second) = both.split_once(' ').unwrap();
        assert_eq!(second, signed);
        assert_ne!(first, signed);
    }

    #[test]
    fn only_secrets_of_the_right_size_are_taken() {
        let text = |bytes: usize| format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]));
        for bytes in [24, 32, 64] {
            let secret = Secret::parse(&text(bytes)).unwrap();
            assert_eq!(secret.text(), text(bytes));
        }
        let plain = text(32).replace("whsec_", "");
        for bad in [
            &text(23),
            &text(65),
            &plain,
            "whsec_",
            "whsec_!!",
            "",
            "whsk_AAAA",
        ] {
            assert!(Secret::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn new_secrets_differ_and_are_not_told() {
        let [a, b] = [(); 2].map(|()| Secret::random().unwrap());
        assert_ne!(a, b);
        assert_eq!(Secret::parse(&a.text()).unwrap(), a);
        assert_eq!(format!("{a:?}"), "whsec_...");
    }

    #[test]
    fn an_id_names_an_event_by_source_and_id_and_has_no_dot() {
        use tidemill_core::{EventId, EventType, Source};
        let id = |source: &str, id: &str| {
            let (id, ty) = (EventId::new(id).unwrap(), EventType::new("t").unwrap());
            let event = Event::builder(id, Source::new(source).unwrap(), ty).build();
            message_id(&event.unwrap())
        };
        let one = id("/shop", "4.2");
        assert_eq!(one, id("/shop", "4.2"));
        assert_ne!(one, id("/shop", "4.3"));
        assert_ne!(id("/ab", "c"), id("/a", "bc"));
        assert!(one.starts_with("msg_") && one.len() == 36 && !one.contains('.'));
    }
}
