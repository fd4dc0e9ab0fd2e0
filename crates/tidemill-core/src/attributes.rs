//! The attributes of an event as names and texts: what the HTTP binding, the Kafka binding and
//! the adapters share.
//!
//! This room knows the names, the types and the rules of CloudEvents 1.0.2 attributes. It may not
//! know how a transport spells them (prefixes, percent-encoding, letter case).

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use jiff::Timestamp;

use crate::event::{Event, ExtensionValue, InvalidEvent};
use crate::event::{content_type_allowed, extension_allowed, present_text};
use crate::limits::EXTENSIONS_MAX;
use crate::name::{EventId, EventType, Source, Subject};

/// The one version of the specification that is spoken.
pub const SPEC_VERSION: &str = "1.0";

impl Event {
    /// The attributes in their canonical text form: `id`, `source`, `type`, then `subject`,
    /// `time` and `dataschema` where they are set, then the extensions by name. Neither
    /// `specversion`, which is always [`SPEC_VERSION`], nor `datacontenttype`, which transports
    /// carry elsewhere.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        let required = [
            ("id", Cow::Borrowed(self.id.as_str())),
            ("source", Cow::Borrowed(self.source.as_str())),
            ("type", Cow::Borrowed(self.ty.as_str())),
        ];
        let subject = self
            .subject
            .as_ref()
            .map(|subject| ("subject", Cow::Borrowed(subject.as_str())));
        let time = self.time.map(|time| ("time", Cow::Owned(time.to_string())));
        let schema = self
            .dataschema
            .as_deref()
            .map(|schema| ("dataschema", Cow::Borrowed(schema)));
        let extensions = self
            .extensions
            .iter()
            .map(|(name, value)| (&**name, value_text(value)));
        required
            .into_iter()
            .chain(subject)
            .chain(time)
            .chain(schema)
            .chain(extensions)
    }
}

fn value_text(value: &ExtensionValue) -> Cow<'_, str> {
    match value {
        ExtensionValue::String(text) => Cow::Borrowed(text),
        ExtensionValue::Boolean(true) => Cow::Borrowed("true"),
        ExtensionValue::Boolean(false) => Cow::Borrowed("false"),
        ExtensionValue::Integer(number) => Cow::Owned(number.to_string()),
    }
}

/// Puts an event together from attributes that come one by one, in any order, each at most once.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    versioned: bool,
    id: Option<EventId>,
    source: Option<Source>,
    ty: Option<EventType>,
    subject: Option<Subject>,
    time: Option<Timestamp>,
    datacontenttype: Option<ByteString>,
    dataschema: Option<ByteString>,
    /// Sorted by name, without doubles.
    extensions: Vec<(ByteString, ExtensionValue)>,
}

impl Assembler {
    /// Nothing set yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the attribute `name` from its text form; `specversion` and `datacontenttype` too. An
    /// extension becomes a [`ExtensionValue::String`].
    ///
    /// # Errors
    /// [`InvalidEvent`] where the value is wrong, the name is not one, or it was set before.
    pub fn set(&mut self, name: &str, text: ByteString) -> Result<(), InvalidEvent> {
        match name {
            "specversion" => self.set_version(&text),
            "id" => once(&mut self.id, name, EventId::new(text)?),
            "source" => once(&mut self.source, name, Source::new(text)?),
            "type" => once(&mut self.ty, name, EventType::new(text)?),
            "subject" => once(&mut self.subject, name, Subject::new(text)?),
            "time" => once(&mut self.time, name, parse_time(&text)?),
            "datacontenttype" => {
                content_type_allowed(&text)?;
                once(&mut self.datacontenttype, name, text)
            }
            "dataschema" => {
                present_text(name, &text)?;
                once(&mut self.dataschema, name, text)
            }
            _ => self.set_extension(name, ExtensionValue::String(text)),
        }
    }

    /// Sets an extension attribute of any type.
    ///
    /// # Errors
    /// As [`Assembler::set`].
    pub fn set_extension(&mut self, name: &str, value: ExtensionValue) -> Result<(), InvalidEvent> {
        extension_allowed(name, &value)?;
        let place = self
            .extensions
            .binary_search_by(|(have, _)| (**have).cmp(name));
        match place {
            Ok(_) => Err(twice(name)),
            Err(_) if self.extensions.len() >= EXTENSIONS_MAX => {
                let why = "an event has at most 64 extensions";
                Err(InvalidEvent::attribute(name, why))
            }
            Err(at) => {
                self.extensions.insert(at, (ByteString::from(name), value));
                Ok(())
            }
        }
    }

    /// Whether the extension `name` was set.
    #[must_use]
    pub fn has_extension(&self, name: &str) -> bool {
        self.extensions.iter().any(|(have, _)| &**have == name)
    }

    /// `datacontenttype`, where it was set.
    #[must_use]
    pub fn datacontenttype(&self) -> Option<&str> {
        self.datacontenttype.as_deref()
    }

    /// Gives extensions of string form back the type that they had; what is not the canonical
    /// text of that type stays a string.
    pub(crate) fn retype(&mut self, name: &str, make: fn(&str) -> Option<ExtensionValue>) {
        let found = self.extensions.iter_mut().find(|(have, _)| &**have == name);
        if let Some((_, value)) = found
            && let Some(typed) = make(&value.to_text())
        {
            *value = typed;
        }
    }

    /// The event, with its data verbatim.
    ///
    /// # Errors
    /// [`InvalidEvent::Missing`] names the first required attribute that was not set.
    pub fn finish(self, data: Option<Bytes>) -> Result<Event, InvalidEvent> {
        if !self.versioned {
            return Err(InvalidEvent::Missing("specversion"));
        }
        Ok(Event {
            id: self.id.ok_or(InvalidEvent::Missing("id"))?,
            source: self.source.ok_or(InvalidEvent::Missing("source"))?,
            ty: self.ty.ok_or(InvalidEvent::Missing("type"))?,
            subject: self.subject,
            time: self.time,
            datacontenttype: self.datacontenttype,
            dataschema: self.dataschema,
            extensions: self.extensions,
            data,
        })
    }

    fn set_version(&mut self, text: &str) -> Result<(), InvalidEvent> {
        if text != SPEC_VERSION {
            let why = format!(
                "{:?} is not supported; send CloudEvents 1.0",
                text.chars().take(16).collect::<String>()
            );
            return Err(InvalidEvent::attribute("specversion", why));
        }
        if std::mem::replace(&mut self.versioned, true) {
            return Err(twice("specversion"));
        }
        Ok(())
    }
}

fn once<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), InvalidEvent> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(twice(name)),
    }
}

pub(crate) fn twice(name: &str) -> InvalidEvent {
    InvalidEvent::attribute(name, "it is given twice; give it once")
}

/// RFC 3339 with a zone, kept as the instant it names. Stricter than jiff, which also takes other
/// separators and zone names.
fn parse_time(text: &str) -> Result<Timestamp, InvalidEvent> {
    let why = "it is a date and time of RFC 3339 with a zone, such as 2026-01-31T12:00:00Z";
    let wrong = || InvalidEvent::attribute("time", why);
    let shape = b"dddd-dd-ddtdd:dd:dd";
    let fits = |(have, want): (&u8, &u8)| match want {
        b'd' => have.is_ascii_digit(),
        b't' => have.eq_ignore_ascii_case(want),
        _ => have == want,
    };
    let rest = text.as_bytes().get(shape.len()..).unwrap_or_default();
    let legal = |b: &u8| b.is_ascii_digit() || matches!(b, b'.' | b'Z' | b'z' | b'+' | b'-' | b':');
    let shaped = text.as_bytes().iter().zip(shape).all(fits);
    if !shaped || rest.is_empty() || !rest.iter().all(legal) {
        return Err(wrong());
    }
    text.parse().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> Assembler {
        let mut all = Assembler::new();
        for (name, text) in [
            ("specversion", "1.0"),
            ("id", "1"),
            ("source", "/s"),
            ("type", "t"),
        ] {
            all.set(name, text.into()).unwrap();
        }
        all
    }

    #[test]
    fn attributes_come_out_as_they_went_in() {
        let pairs = [
            ("id", "1"),
            ("source", "/s"),
            ("type", "t"),
            ("subject", "höh"),
            ("time", "2026-01-31T12:00:00.25Z"),
            ("dataschema", "https://example.com/s"),
            ("partitionkey", "k"),
            ("zz9", ""),
        ];
        let mut all = Assembler::new();
        all.set("specversion", "1.0".into()).unwrap();
        for (name, text) in pairs.iter().rev() {
            all.set(name, (*text).into()).unwrap();
        }
        let event = all.finish(None).unwrap();
        let out: Vec<_> = event.attributes().collect();
        assert_eq!(out, pairs.map(|(name, text)| (name, Cow::from(text))));
    }

    #[test]
    fn nothing_is_given_twice_and_nothing_required_is_missing() {
        for name in ["specversion", "id", "source", "type"] {
            let mut all = minimal();
            let text = if name == "specversion" { "1.0" } else { "x" };
            let error = all.set(name, text.into()).unwrap_err().to_string();
            assert!(error.contains("given twice"), "{error}");
        }
        let mut all = minimal();
        all.set("ext", "a".into()).unwrap();
        assert!(all.set("ext", "a".into()).is_err());
        let mut all = Assembler::new();
        all.set("specversion", "1.0".into()).unwrap();
        assert_eq!(all.finish(None), Err(InvalidEvent::Missing("id")));
        assert_eq!(
            Assembler::new().finish(None),
            Err(InvalidEvent::Missing("specversion"))
        );
    }

    #[test]
    fn wrong_values_say_what_is_right() {
        let cases = [
            ("specversion", "0.3", "send CloudEvents 1.0"),
            ("id", "", "may not be empty"),
            ("source", "a b", "percent-encode"),
            ("subject", "", "may not be empty"),
            ("dataschema", "", "may not be empty"),
            ("datacontenttype", "json", "media type"),
            ("datacontenttype", "a/b/c", "media type"),
            ("datacontenttype", "/", "media type"),
            ("Ext", "x", "a-z 0-9"),
            ("data", "x", "not free"),
            ("ext", "a\nb", "control characters"),
            ("ext", &"x".repeat(4097), "4096 bytes"),
        ];
        for (name, text, why) in cases {
            let error = Assembler::new()
                .set(name, text.into())
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
        let mut full = minimal();
        for n in 0..EXTENSIONS_MAX {
            full.set(&format!("e{n}"), "x".into()).unwrap();
        }
        let error = full.set("onemore", "x".into()).unwrap_err();
        assert!(error.to_string().contains("at most 64"));
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        for good in [
            "2026-01-31T12:00:00Z",
            "2026-01-31t12:00:00.123456789z",
            "2026-01-31T12:00:00+02:00",
            "2016-12-31T23:59:60Z",
        ] {
            assert!(parse_time(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-01-31 12:00:00Z",
            "2026-01-31T12:00Z",
            "2026-02-30T12:00:00Z",
            "2026-01-31T12:00:00Z[UTC]",
            "2026-01-31T12:00:00.1234567890Z",
            "+002026-01-31T12:00:00Z",
            "1738324800",
        ] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }
}
