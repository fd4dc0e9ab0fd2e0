//! What a JSON value says about itself at its top level: `topic` (or `room`) and `type`.
//!
//! Only these members are looked at; everything else is passed over without being built, however
//! deep or large it is, so the value itself stays what it was, byte for byte.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A top-level member of a JSON object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Member {
    /// Not there, or `null`.
    #[default]
    Absent,
    /// A string.
    Text(String),
    /// Anything else.
    Other,
}

impl Member {
    fn of(raw: &RawValue) -> Self {
        match raw.get().as_bytes().first() {
            Some(b'n') => Self::Absent,
            Some(b'"') => serde_json::from_str(raw.get()).map_or(Self::Other, Self::Text),
            _ => Self::Other,
        }
    }
}

/// The members that the doors look at. Of doubled members the last one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) topic: Member,
    pub(crate) room: Member,
    pub(crate) ty: Member,
}

impl Envelope {
    /// Reads the envelope of any JSON value; one that is not an object has an empty one.
    ///
    /// # Errors
    /// The text is not one JSON value.
    pub(crate) fn read(json: &str) -> Result<Self, serde_json::Error> {
        if !json.trim_start().starts_with('{') {
            serde_json::from_str::<IgnoredAny>(json)?;
            return Ok(Self::default());
        }
        serde_json::from_str(json)
    }

    /// The member that names the topic: `topic`, or `room`, which is another word for it.
    pub(crate) fn target(&self) -> &Member {
        match &self.topic {
            Member::Absent => &self.room,
            given => given,
        }
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(name) = map.next_key::<String>()? {
            let slot = match name.as_str() {
                "topic" => &mut envelope.topic,
                "room" => &mut envelope.room,
                "type" => &mut envelope.ty,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *slot = Member::of(map.next_value::<&RawValue>()?);
        }
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Member {
        Member::Text(text.to_owned())
    }

    #[test]
    fn only_the_top_level_counts() {
        let json = r#" {"a":{"topic":"inner"},"room":"r","type":"t","type":"u"} "#;
        let envelope = Envelope::read(json).unwrap();
        assert_eq!(envelope.target(), &text("r"));
        assert_eq!(envelope.ty, text("u"));
    }

    #[test]
    fn topic_goes_before_room_and_null_is_absent() {
        let envelope = Envelope::read(r#"{"topic":"t","room":"r"}"#).unwrap();
        assert_eq!(envelope.target(), &text("t"));
        let envelope = Envelope::read(r#"{"topic":null,"room":"r","type":5}"#).unwrap();
        assert_eq!(envelope.target(), &text("r"));
        assert_eq!(envelope.ty, Member::Other);
    }

    #[test]
    fn any_value_is_taken_and_nonsense_is_not() {
        for json in ["1", "\"x\"", "[{\"topic\":1}]", "null", " true "] {
            assert_eq!(Envelope::read(json).unwrap(), Envelope::default(), "{json}");
        }
        for bad in ["", "{", "{}x", "[1,]", "{\"a\":01}", "nul"] {
            assert!(Envelope::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Envelope::read(&deep).is_ok());
        assert!(Envelope::read(&deep.replacen("{\"a\":", "", 1).replace('}', "")).is_ok());
    }

    /// What the envelope of a value is, told by a parser that builds the whole of it.
    fn by_value(json: &str) -> Option<Envelope> {
        let value: serde_json::Value = serde_json::from_str(json).ok()?;
        let member = |name: &str| match value.get(name) {
            None | Some(serde_json::Value::Null) => Member::Absent,
            Some(serde_json::Value::String(text)) => Member::Text(text.clone()),
            Some(_) => Member::Other,
        };
        Some(Envelope {
            topic: member("topic"),
            room: member("room"),
            ty: member("type"),
        })
    }

    const NAMES: &str = r"(topic|room|type|\\u0074opic|x|)";
    const VALUES: &str = r#"(null|true|-1\.5e3|"[a-c]?"|"\\n"|"\\u00e9"|\[\]|\{"topic":1\})"#;

    proptest! {
        #[test]
        fn it_agrees_with_a_whole_parser(
            names in prop::collection::vec(NAMES, 0..5),
            values in prop::collection::vec(VALUES, 5),
            blank in "[ \n\t]{0,2}",
        ) {
            let member = |(name, value)| format!("{blank}\"{name}\"{blank}:{blank}{value}{blank}");
            let members: Vec<_> = names.iter().zip(&values).map(member).collect();
            let json = format!("{blank}{{{}}}{blank}", members.join(","));
            let read = Envelope::read(&json).ok();
            prop_assert!(read.is_some(), "{}", json);
            prop_assert_eq!(read, by_value(&json), "{}", json);
        }

        #[test]
        fn any_text_is_read_or_refused_as_a_whole_parser_does(
            json in r#"[\[\]{}:,"a1 \\n-]{0,12}"#,
        ) {
            prop_assert_eq!(Envelope::read(&json).ok(), by_value(&json));
        }
    }
}
