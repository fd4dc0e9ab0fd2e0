//! The event: a validated CloudEvents 1.0 envelope around bytes.

use bytes::Bytes;
use bytestring::ByteString;
use jiff::Timestamp;
use thiserror::Error;

use crate::limits::{EXTENSION_NAME_MAX_BYTES, EXTENSIONS_MAX};
use crate::name::{EventId, EventType, InvalidName, Key, Source, Subject, attribute_text};

/// The extension that carries an event's key (CloudEvents "Partitioning" extension).
pub const PARTITION_KEY: &str = "partitionkey";
/// The extension that matches a reply with its request.
pub const CORRELATION_ID: &str = "correlationid";
/// The extension that names the event which caused this one.
pub const CAUSATION_ID: &str = "causationid";
/// The extension that names the inbox which waits for a reply.
pub const REPLY_TO: &str = "replyto";
/// The extension of W3C Trace Context.
pub const TRACE_PARENT: &str = "traceparent";

/// Why something is not a valid event.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidEvent {
    /// One of the named attributes is wrong.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A required attribute is not there.
    #[error("the required attribute {0:?} is missing")]
    Missing(&'static str),
    /// An attribute's value is wrong.
    #[error("attribute {name:?}: {why}")]
    Attribute {
        /// Which one, cut to 64 characters.
        name: String,
        /// What is wrong, and what is allowed.
        why: String,
    },
    /// The envelope itself cannot be read.
    #[error("{0}")]
    Malformed(String),
}

impl InvalidEvent {
    /// For decoders: the attribute `name` is wrong because of `why`.
    pub fn attribute(name: &str, why: impl Into<String>) -> Self {
        Self::Attribute {
            name: name.chars().take(64).collect(),
            why: why.into(),
        }
    }
}

/// The value of an extension attribute, in the CloudEvents type system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtensionValue {
    /// `Boolean`.
    Boolean(bool),
    /// `Integer`: 32 bits, signed.
    Integer(i32),
    /// `String`, `URI`, `URI-reference` and `Timestamp` in their text form.
    String(ByteString),
}

impl ExtensionValue {
    /// The value in its canonical text form.
    #[must_use]
    pub fn to_text(&self) -> ByteString {
        match self {
            Self::Boolean(true) => ByteString::from_static("true"),
            Self::Boolean(false) => ByteString::from_static("false"),
            Self::Integer(number) => ByteString::from(number.to_string()),
            Self::String(text) => text.clone(),
        }
    }
}

/// A CloudEvents 1.0 event. Always valid; unique by (`source`, `id`); clones share their bytes.
///
/// `data` is kept verbatim: what was published as JSON text comes back byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub(crate) id: EventId,
    pub(crate) source: Source,
    pub(crate) ty: EventType,
    pub(crate) subject: Option<Subject>,
    pub(crate) time: Option<Timestamp>,
    pub(crate) datacontenttype: Option<ByteString>,
    pub(crate) dataschema: Option<ByteString>,
    /// Sorted by name, without doubles.
    pub(crate) extensions: Vec<(ByteString, ExtensionValue)>,
    pub(crate) data: Option<Bytes>,
}

impl Event {
    /// Begins an event of the type `ty` from `source`. Without an id given, the builder makes
    /// none: ids come from the caller, as randomness does.
    pub fn builder(id: EventId, source: Source, ty: EventType) -> EventBuilder {
        EventBuilder {
            event: Event {
                id,
                source,
                ty,
                subject: None,
                time: None,
                datacontenttype: None,
                dataschema: None,
                extensions: Vec::new(),
                data: None,
            },
            error: None,
        }
    }

    /// Goes on building from this event, under another id if one is set.
    pub fn to_builder(&self) -> EventBuilder {
        EventBuilder {
            event: self.clone(),
            error: None,
        }
    }

    /// `id`.
    #[must_use]
    pub fn id(&self) -> &EventId {
        &self.id
    }

    /// `source`.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// `type`.
    #[must_use]
    pub fn ty(&self) -> &EventType {
        &self.ty
    }

    /// `subject`.
    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        self.subject.as_ref()
    }

    /// `time`.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        self.time
    }

    /// `datacontenttype`; where it is missing, the data is JSON.
    #[must_use]
    pub fn datacontenttype(&self) -> Option<&str> {
        self.datacontenttype.as_deref()
    }

    /// `dataschema`.
    #[must_use]
    pub fn dataschema(&self) -> Option<&str> {
        self.dataschema.as_deref()
    }

    /// The payload, verbatim.
    #[must_use]
    pub fn data(&self) -> Option<&Bytes> {
        self.data.as_ref()
    }

    /// Whether the content type says JSON: none given, a subtype `json`, or a suffix `+json`.
    #[must_use]
    pub fn is_json(&self) -> bool {
        let Some(full) = self.datacontenttype() else {
            return true;
        };
        if full == "application/json" {
            return true;
        }
        let essence = full
            .split(';')
            .next()
            .unwrap_or("")
            .trim()
            .to_ascii_lowercase();
        let subtype = essence.split('/').nth(1).unwrap_or("");
        subtype == "json" || subtype.ends_with("+json")
    }

    /// The extension attributes, sorted by name.
    pub fn extensions(&self) -> impl Iterator<Item = (&str, &ExtensionValue)> {
        self.extensions.iter().map(|(name, value)| (&**name, value))
    }

    /// One extension attribute.
    #[must_use]
    pub fn extension(&self, name: &str) -> Option<&ExtensionValue> {
        let at = self
            .extensions
            .binary_search_by(|(have, _)| (**have).cmp(name))
            .ok()?;
        self.extensions.get(at).map(|(_, value)| value)
    }

    /// One extension attribute, where it is a text.
    #[must_use]
    pub fn extension_str(&self, name: &str) -> Option<&str> {
        match self.extension(name)? {
            ExtensionValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// The key (`partitionkey`) that decides partition and order.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.extension_str(PARTITION_KEY)
    }

    /// The same event in memory of its own. An event that was read from a log shares the
    /// memory of everything that was read with it; one that is kept for long should not.
    #[must_use]
    pub fn detached(&self) -> Self {
        let text = |text: &ByteString| ByteString::from(&**text);
        let value = |value: &ExtensionValue| match value {
            ExtensionValue::String(have) => ExtensionValue::String(text(have)),
            other => other.clone(),
        };
        Self {
            id: self.id.detached(),
            source: self.source.detached(),
            ty: self.ty.detached(),
            subject: self.subject.as_ref().map(Subject::detached),
            time: self.time,
            datacontenttype: self.datacontenttype.as_ref().map(text),
            dataschema: self.dataschema.as_ref().map(text),
            extensions: self
                .extensions
                .iter()
                .map(|(name, have)| (text(name), value(have)))
                .collect(),
            data: self.data.as_ref().map(|data| Bytes::copy_from_slice(data)),
        }
    }

    /// Roughly how many bytes this event needs in memory and in the log.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let text = |t: &Option<ByteString>| t.as_ref().map_or(0, |t| t.len());
        let extensions: usize = self
            .extensions
            .iter()
            .map(|(name, value)| name.len() + value.to_text().len() + 8)
            .sum();
        self.id.as_str().len()
            + self.source.as_str().len()
            + self.ty.as_str().len()
            + self.subject.as_ref().map_or(0, |s| s.as_str().len())
            + text(&self.datacontenttype)
            + text(&self.dataschema)
            + extensions
            + self.data.as_ref().map_or(0, Bytes::len)
            + 64
    }
}

/// Builds an [`Event`]; the first wrong value is reported by [`EventBuilder::build`].
#[derive(Clone, Debug)]
#[must_use]
pub struct EventBuilder {
    event: Event,
    error: Option<InvalidEvent>,
}

impl EventBuilder {
    fn fail(&mut self, error: impl Into<InvalidEvent>) {
        self.error.get_or_insert(error.into());
    }

    /// Replaces `id`.
    pub fn id(mut self, id: EventId) -> Self {
        self.event.id = id;
        self
    }

    /// Replaces `source`.
    pub fn source(mut self, source: Source) -> Self {
        self.event.source = source;
        self
    }

    /// Replaces `type`.
    pub fn ty(mut self, ty: EventType) -> Self {
        self.event.ty = ty;
        self
    }

    /// Sets `subject`.
    pub fn subject(mut self, subject: Subject) -> Self {
        self.event.subject = Some(subject);
        self
    }

    /// Sets `time`.
    pub fn time(mut self, time: Timestamp) -> Self {
        self.event.time = Some(time);
        self
    }

    /// Sets the key (`partitionkey`) that decides partition and order.
    pub fn key(self, key: &Key) -> Self {
        self.extension(
            PARTITION_KEY,
            ExtensionValue::String(key.as_byte_string().clone()),
        )
    }

    /// Sets `dataschema`.
    pub fn dataschema(mut self, uri: impl Into<ByteString>) -> Self {
        let uri = uri.into();
        if let Err(error) = present_text("dataschema", &uri) {
            self.fail(error);
        }
        self.event.dataschema = Some(uri);
        self
    }

    /// Sets the payload and its `datacontenttype`.
    pub fn data(mut self, content_type: impl Into<ByteString>, data: impl Into<Bytes>) -> Self {
        let content_type = content_type.into();
        if let Err(error) = content_type_allowed(&content_type) {
            self.fail(error);
        }
        self.event.datacontenttype = Some(content_type);
        self.event.data = Some(data.into());
        self
    }

    /// Sets the payload, of no stated content type (which means JSON).
    pub fn untyped_data(mut self, data: impl Into<Bytes>) -> Self {
        self.event.datacontenttype = None;
        self.event.data = Some(data.into());
        self
    }

    /// Sets one extension attribute: a name of `a-z 0-9`, at most 64 long.
    pub fn extension(mut self, name: &str, value: ExtensionValue) -> Self {
        if let Err(error) = extension_allowed(name, &value) {
            self.fail(error);
            return self;
        }
        let extensions = &mut self.event.extensions;
        match extensions.binary_search_by(|(have, _)| (**have).cmp(name)) {
            Ok(at) => {
                if let Some(slot) = extensions.get_mut(at) {
                    slot.1 = value;
                }
            }
            Err(at) => extensions.insert(at, (extension_name(name), value)),
        }
        // What a dead letter adds is not counted, so that every event can become one.
        let own = |name: &str| !crate::dead_letter::EXTENSIONS.contains(&name);
        let count = extensions.iter().filter(|(have, _)| own(have)).count();
        if count > EXTENSIONS_MAX {
            self.fail(InvalidEvent::attribute(
                name,
                "an event has at most 64 extensions",
            ));
        }
        self
    }

    /// Takes one extension attribute away.
    pub fn without_extension(mut self, name: &str) -> Self {
        self.event.extensions.retain(|(have, _)| &**have != name);
        self
    }

    /// Finishes the event.
    ///
    /// # Errors
    /// The first wrong value that was set.
    pub fn build(self) -> Result<Event, InvalidEvent> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.event),
        }
    }
}

/// A text that is not empty and has only allowed characters.
pub(crate) fn present_text(name: &str, text: &str) -> Result<(), InvalidEvent> {
    let empty = text.is_empty().then_some("it may not be empty");
    empty
        .map_or_else(|| attribute_text(text), Err)
        .map_err(|why| InvalidEvent::attribute(name, why))
}

/// A media type (RFC 2046): a type, one slash, a subtype, and whatever parameters.
pub(crate) fn content_type_allowed(text: &str) -> Result<(), InvalidEvent> {
    present_text("datacontenttype", text)?;
    let essence = text.split(';').next().unwrap_or("");
    match essence.split_once('/') {
        Some((ty, sub))
            if !ty.trim().is_empty() && !sub.trim().is_empty() && !sub.contains('/') =>
        {
            Ok(())
        }
        _ => {
            let why = "it is a media type such as application/json";
            Err(InvalidEvent::attribute("datacontenttype", why))
        }
    }
}

/// The name as it is kept; the usual ones without a copy of their own.
fn extension_name(name: &str) -> ByteString {
    const USUAL: [&str; 5] = [
        PARTITION_KEY,
        CORRELATION_ID,
        CAUSATION_ID,
        REPLY_TO,
        TRACE_PARENT,
    ];
    match USUAL.into_iter().find(|usual| *usual == name) {
        Some(usual) => ByteString::from_static(usual),
        None => ByteString::from(name),
    }
}

pub(crate) fn extension_allowed(name: &str, value: &ExtensionValue) -> Result<(), InvalidEvent> {
    const CONTEXT: [&str; 10] = [
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "datacontenttype",
        "dataschema",
        "data",
        "data_base64",
    ];
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if name.is_empty() || name.len() > EXTENSION_NAME_MAX_BYTES || !name.bytes().all(legal) {
        let why = "an extension's name has 1 to 64 of the characters a-z 0-9";
        return Err(InvalidEvent::attribute(name, why));
    }
    if CONTEXT.contains(&name) {
        return Err(InvalidEvent::attribute(
            name,
            "this name is not free for an extension",
        ));
    }
    if name == PARTITION_KEY && !matches!(value, ExtensionValue::String(_)) {
        return Err(InvalidEvent::attribute(name, "it is a string"));
    }
    if let ExtensionValue::String(text) = value {
        if name == PARTITION_KEY && text.is_empty() {
            return Err(InvalidEvent::attribute(name, "it may not be empty"));
        }
        attribute_text(text).map_err(|why| InvalidEvent::attribute(name, why))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> EventBuilder {
        let id = EventId::new("1").unwrap();
        Event::builder(
            id,
            Source::new("/test").unwrap(),
            EventType::new("t").unwrap(),
        )
    }

    #[test]
    fn extensions_are_sorted_and_found() {
        let event = builder()
            .extension("zz", ExtensionValue::Integer(7))
            .extension("aa", ExtensionValue::String("x".into()))
            .extension("zz", ExtensionValue::Integer(8))
            .build()
            .unwrap();
        assert_eq!(
            event.extensions().map(|(n, _)| n).collect::<Vec<_>>(),
            ["aa", "zz"]
        );
        assert_eq!(event.extension("zz"), Some(&ExtensionValue::Integer(8)));
    }

    #[test]
    fn wrong_values_are_reported_by_name() {
        let error = builder()
            .extension("Upper", ExtensionValue::Boolean(true))
            .build();
        assert!(error.unwrap_err().to_string().contains("\"Upper\""));
        assert!(
            builder()
                .extension("data", ExtensionValue::Boolean(true))
                .build()
                .is_err()
        );
        assert!(builder().data("nonsense", "x").build().is_err());
    }

    #[test]
    fn a_detached_event_is_the_same_and_shares_nothing() {
        let shared = Bytes::from(vec![b'1'; 1000]);
        let event = builder()
            .subject(Subject::new("s").unwrap())
            .extension("n", ExtensionValue::Integer(7))
            .extension("partitionkey", ExtensionValue::String("k".into()))
            .data("application/json", shared.slice(3..7))
            .build()
            .unwrap();
        let detached = event.detached();
        assert_eq!(detached, event);
        drop(event);
        assert!(shared.is_unique());
    }

    #[test]
    fn json_is_recognised_by_content_type() {
        let of = |ct: &'static str| builder().data(ct, "{}").build().unwrap().is_json();
        assert!(of("application/json; charset=utf-8"));
        assert!(of("application/cloudevents+json"));
        assert!(!of("text/plain"));
        assert!(builder().untyped_data("{}").build().unwrap().is_json());
    }
}
