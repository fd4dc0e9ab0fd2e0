//! Checked names: a value of one of these types is valid wherever it is met.
//!
//! Each clones without copying its text.

use std::fmt;
use std::str::FromStr;

use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::{ATTRIBUTE_MAX_BYTES, GROUP_NAME_MAX_BYTES, TOPIC_NAME_MAX_BYTES};

/// A text that cannot be the name it was meant to be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid {what} {text:?}: {why}")]
pub struct InvalidName {
    /// Which kind of name was asked for, as in "topic name".
    pub what: &'static str,
    /// The refused text, cut to 64 characters.
    pub text: String,
    /// What is wrong with it, and what is allowed.
    pub why: &'static str,
}

type Check = fn(&str) -> Result<(), &'static str>;

fn checked(what: &'static str, text: &str, check: Check) -> Result<(), InvalidName> {
    check(text).map_err(|why| InvalidName {
        what,
        text: text.chars().take(64).collect(),
        why,
    })
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(ByteString);

        impl $name {
            /// Checks `text` and keeps it.
            ///
            /// # Errors
            /// [`InvalidName`] says what is wrong with it.
            pub fn new(text: impl Into<ByteString>) -> Result<Self, InvalidName> {
                let text = text.into();
                checked($what, &text, $check)?;
                Ok(Self(text))
            }

            /// The same name in memory of its own.
            #[allow(dead_code, reason = "only those of events need it")]
            pub(crate) fn detached(&self) -> Self {
                Self(ByteString::from(self.as_str()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name as the shared text it is kept in; clones without copying.
            #[must_use]
            pub fn as_byte_string(&self) -> &ByteString {
                &self.0
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "minLength": 1 })
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidName;
            fn try_from(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().to_owned()
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }
    };
}

name! {
    /// The name of a topic: 1 to 249 of the characters `a-z A-Z 0-9 . _ -`, neither `.` nor
    /// `..`. The same rule as Apache Kafka's, so every topic can be met there.
    TopicName, "topic name", topic_name
}
name! {
    /// The name of a consumer group: 1 to 255 bytes without control characters.
    GroupName, "group name", group_name
}
name! {
    /// A CloudEvents `id`: not empty; unique together with the source.
    EventId, "event id", required_text
}
name! {
    /// A CloudEvents `source`: a URI reference that says where events come from; not empty.
    Source, "event source", uri_reference
}
name! {
    /// A CloudEvents `type`: what happened; not empty.
    EventType, "event type", required_text
}
name! {
    /// A CloudEvents `subject`: what the event is about within its source; not empty.
    Subject, "event subject", required_text
}
name! {
    /// The key that decides an event's partition and its order (CloudEvents extension
    /// `partitionkey`); not empty.
    Key, "event key", required_text
}

fn topic_name(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > TOPIC_NAME_MAX_BYTES {
        return Err("a topic name has 1 to 249 characters");
    }
    if text == "." || text == ".." {
        return Err("'.' and '..' are not topic names");
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !text.bytes().all(legal) {
        return Err("a topic name has only the characters a-z A-Z 0-9 . _ -");
    }
    Ok(())
}

fn group_name(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > GROUP_NAME_MAX_BYTES {
        return Err("a group name has 1 to 255 bytes");
    }
    if text.chars().any(char::is_control) {
        return Err("a group name has no control characters");
    }
    Ok(())
}

/// The CloudEvents `String` type: no control characters and no Unicode noncharacters
/// (CloudEvents 1.0.2, "Type System").
pub(crate) fn attribute_text(text: &str) -> Result<(), &'static str> {
    if text.len() > ATTRIBUTE_MAX_BYTES {
        return Err("an attribute has at most 4096 bytes");
    }
    // Nearly every attribute is of these, and this takes an instruction or so a byte.
    if text.bytes().all(|b| matches!(b, 0x20..=0x7e)) {
        return Ok(());
    }
    let forbidden = |c: char| {
        c.is_control() || matches!(c, '\u{fdd0}'..='\u{fdef}') || (c as u32) & 0xfffe == 0xfffe
    };
    if text.chars().any(forbidden) {
        return Err("an attribute has no control characters and no Unicode noncharacters");
    }
    Ok(())
}

fn required_text(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it may not be empty");
    }
    attribute_text(text)
}

/// A URI reference (RFC 3986) has none of the characters that must be percent-encoded.
fn uri_reference(text: &str) -> Result<(), &'static str> {
    required_text(text)?;
    let excluded = |b: u8| {
        matches!(
            b,
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
        )
    };
    if text.bytes().any(excluded) {
        return Err("a source is a URI reference: percent-encode blanks and \" < > \\ ^ ` { | }");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rule() {
        for good in ["a", "orders", "A.b_c-9", &"x".repeat(249)] {
            assert!(TopicName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(TopicName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn attributes_refuse_control_characters_and_noncharacters() {
        for bad in ["", "a\u{0}", "a\u{9f}", "\u{fffe}", "\u{1ffff}", "\u{fdd0}"] {
            assert!(EventId::new(bad).is_err(), "{bad:?}");
        }
        assert!(EventId::new("höh € 😀").is_ok());
    }

    #[test]
    fn the_error_names_the_thing_and_the_rule() {
        let error = TopicName::new("a b").unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid topic name \"a b\": a topic name has only the characters a-z A-Z 0-9 . _ -"
        );
    }
}
