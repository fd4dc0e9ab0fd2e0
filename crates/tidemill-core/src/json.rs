//! The CloudEvents JSON event format 1.0.2: one event (structured mode) and batches.
//!
//! JSON data is never parsed into a value: its bytes are cut out of the message and put into the
//! next one verbatim, so that a number of 23 digits survives. Decoded events share the bytes
//! that they came in.
//!
//! This room knows JSON texts. It may not know sockets, HTTP, or what the data means.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::attributes::{Assembler, SPEC_VERSION, twice};
use crate::event::{Event, ExtensionValue, InvalidEvent};
use crate::limits::BATCH_EVENTS_MAX;

/// The media type of one event.
pub const EVENT_CONTENT_TYPE: &str = "application/cloudevents+json";
/// The media type of a batch.
pub const BATCH_CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// Whether `bytes` are one JSON text in UTF-8.
#[must_use]
pub fn is_json(bytes: &[u8]) -> bool {
    // Skips over values without building them, and without recursion.
    serde_json::from_slice::<&RawValue>(bytes).is_ok()
}

/// Reads one event. Its data, and each text without escapes, shares `bytes`.
///
/// # Errors
/// [`InvalidEvent`] says which attribute is wrong, or where the JSON is.
pub fn decode(bytes: &Bytes) -> Result<Event, InvalidEvent> {
    let text = utf8(bytes)?;
    event(bytes, text)
}

/// Reads a batch: an array of at most [`BATCH_EVENTS_MAX`] events, possibly empty.
///
/// # Errors
/// [`InvalidEvent`] says which event of the batch (from 1) is wrong and why; nothing of the batch
/// is to be used then.
pub fn decode_batch(bytes: &Bytes) -> Result<Vec<Event>, InvalidEvent> {
    let mut reader = serde_json::Deserializer::from_str(utf8(bytes)?);
    let parts = reader.deserialize_seq(Elements).map_err(malformed)?;
    reader.end().map_err(malformed)?;
    let decoded = parts.into_iter().enumerate().map(|(index, part)| {
        event(bytes, part.get()).map_err(|why| {
            InvalidEvent::Malformed(format!("event {} of the batch: {why}", index + 1))
        })
    });
    decoded.collect()
}

/// Appends `event` in structured mode to `out`.
pub fn encode(event: &Event, out: &mut Vec<u8>) {
    out.reserve(event.size_bytes() + 160);
    out.extend_from_slice(br#"{"specversion":"#);
    put_text(out, SPEC_VERSION);
    for (name, text) in event.attributes() {
        put_name(out, name);
        match event.extension(name) {
            Some(ExtensionValue::Boolean(_) | ExtensionValue::Integer(_)) => {
                out.extend_from_slice(text.as_bytes());
            }
            _ => put_text(out, &text),
        }
    }
    if let Some(content_type) = event.datacontenttype() {
        put_name(out, "datacontenttype");
        put_text(out, content_type);
    }
    if let Some(data) = event.data() {
        put_data(out, event, data);
    }
    out.push(b'}');
}

/// `event` in structured mode.
#[must_use]
pub fn to_bytes(event: &Event) -> Bytes {
    let mut out = Vec::new();
    encode(event, &mut out);
    out.into()
}

/// The events as a batch.
#[must_use]
pub fn batch_to_bytes<'a>(events: impl IntoIterator<Item = &'a Event>) -> Bytes {
    let mut out = vec![b'['];
    for event in events {
        if out.len() > 1 {
            out.push(b',');
        }
        encode(event, &mut out);
    }
    out.push(b']');
    out.into()
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.push(b',');
    put_text(out, name);
    out.push(b':');
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a text is written to memory");
}

/// JSON verbatim, text as a string, anything else (and what only claims to be one of these) in
/// base64.
fn put_data(out: &mut Vec<u8>, event: &Event, data: &Bytes) {
    if event.is_json() {
        if is_json(data) {
            put_name(out, "data");
            out.extend_from_slice(data);
            return;
        }
    } else if is_text(event.datacontenttype())
        && let Ok(text) = std::str::from_utf8(data)
    {
        put_name(out, "data");
        put_text(out, text);
        return;
    }
    put_name(out, "data_base64");
    out.push(b'"');
    out.extend_from_slice(BASE64_STANDARD.encode(data).as_bytes());
    out.push(b'"');
}

/// Whether data of this type is written as a JSON string: `text/*` and XML.
fn is_text(content_type: Option<&str>) -> bool {
    let essence = content_type
        .and_then(|full| full.split(';').next())
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    essence.starts_with("text/") || essence == "application/xml" || essence.ends_with("+xml")
}

fn utf8(bytes: &[u8]) -> Result<&str, InvalidEvent> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        InvalidEvent::Malformed(format!("the JSON is not UTF-8 at byte {at}; send UTF-8"))
    })
}

fn malformed(error: serde_json::Error) -> InvalidEvent {
    InvalidEvent::Malformed(format!("the JSON cannot be read: {error}"))
}

/// One event, whose `text` lies within `bytes`.
fn event(bytes: &Bytes, text: &str) -> Result<Event, InvalidEvent> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let mut members = Members {
        bytes,
        parts: Assembler::new(),
        data: None,
        data_base64: None,
        wrong: None,
    };
    let read = reader.deserialize_map(&mut members);
    if let Some(wrong) = members.wrong {
        return Err(wrong);
    }
    read.map_err(malformed)?;
    reader.end().map_err(malformed)?;
    let Members {
        parts,
        data,
        data_base64,
        ..
    } = members;
    let mut event = parts.finish(None)?;
    event.data = match (data, data_base64) {
        (None, None) => None,
        (Some(raw), None) => data_member(bytes, &event, raw)?,
        (None, Some(raw)) => base64_member(bytes, raw)?,
        (Some(_), Some(_)) => {
            let why = "an event has 'data' or 'data_base64', not both";
            return Err(InvalidEvent::Malformed(why.into()));
        }
    };
    Ok(event)
}

/// What the member `data` says: its JSON verbatim, or the text in it where the content type is
/// not JSON.
fn data_member(
    bytes: &Bytes,
    event: &Event,
    raw: &RawValue,
) -> Result<Option<Bytes>, InvalidEvent> {
    if event.is_json() {
        return Ok(Some(bytes.slice_ref(raw.get().as_bytes())));
    }
    if raw.get() == "null" {
        return Ok(None);
    }
    let text = text_of(bytes, raw).ok_or_else(|| {
        let why = "where datacontenttype is not JSON, it is a string; use 'data_base64' for bytes";
        InvalidEvent::attribute("data", why)
    })?;
    Ok(Some(text.into_bytes()))
}

fn base64_member(bytes: &Bytes, raw: &RawValue) -> Result<Option<Bytes>, InvalidEvent> {
    if raw.get() == "null" {
        return Ok(None);
    }
    let wrong = || {
        let why = "it is a string in base64 (RFC 4648, with padding)";
        InvalidEvent::attribute("data_base64", why)
    };
    let text = text_of(bytes, raw).ok_or_else(wrong)?;
    let decoded = BASE64_STANDARD.decode(&*text).map_err(|_| wrong())?;
    Ok(Some(decoded.into()))
}

/// The text of a JSON string, shared where it has no escapes. `None` for any other value.
fn text_of(bytes: &Bytes, raw: &RawValue) -> Option<ByteString> {
    let quoted = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if quoted.contains('\\') {
        let text: String = serde_json::from_str(raw.get()).ok()?;
        return Some(text.into());
    }
    ByteString::try_from(bytes.slice_ref(quoted.as_bytes())).ok()
}

/// Takes the members of an event's object one by one.
struct Members<'a> {
    bytes: &'a Bytes,
    parts: Assembler,
    data: Option<&'a RawValue>,
    data_base64: Option<&'a RawValue>,
    /// The first member that is wrong; serde has no room for it.
    wrong: Option<InvalidEvent>,
}

impl<'a> Members<'a> {
    fn take(&mut self, name: &str, raw: &'a RawValue) -> Result<(), InvalidEvent> {
        let data = match name {
            "data" => Some(&mut self.data),
            "data_base64" => Some(&mut self.data_base64),
            _ => None,
        };
        if let Some(slot) = data {
            return match slot.replace(raw) {
                None => Ok(()),
                Some(_) => Err(twice(name)),
            };
        }
        let text = raw.get();
        // An attribute that is null is one that is not set (JSON format 1.0.2, section 2.2).
        if text == "null" {
            return Ok(());
        }
        if let Some(text) = text_of(self.bytes, raw) {
            return self.parts.set(name, text);
        }
        if is_context(name) {
            return Err(InvalidEvent::attribute(name, "it is a JSON string"));
        }
        let value = match text {
            "true" => ExtensionValue::Boolean(true),
            "false" => ExtensionValue::Boolean(false),
            number => number.parse().map(ExtensionValue::Integer).map_err(|_| {
                let why = "an extension is a string, a boolean, or an integer of 32 bits; \
                           put anything else into 'data'";
                InvalidEvent::attribute(name, why)
            })?,
        };
        self.parts.set_extension(name, value)
    }
}

fn is_context(name: &str) -> bool {
    matches!(
        name,
        "specversion"
            | "id"
            | "source"
            | "type"
            | "subject"
            | "time"
            | "datacontenttype"
            | "dataschema"
    )
}

impl<'de> Visitor<'de> for &mut Members<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event, which is a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            let raw: &'de RawValue = map.next_value()?;
            if let Err(wrong) = self.take(&name, raw) {
                self.wrong = Some(wrong);
                return Err(A::Error::custom("a member is wrong"));
            }
        }
        Ok(())
    }
}

/// A member's name, copied only where it has escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        reader.deserialize_str(Text)
    }
}

/// The elements of a batch, unread.
struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a batch, which is a JSON array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while elements.len() < BATCH_EVENTS_MAX {
            match seq.next_element()? {
                Some(element) => elements.push(element),
                None => return Ok(elements),
            }
        }
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(elements),
            Some(_) => Err(A::Error::custom(format_args!(
                "a batch has at most {BATCH_EVENTS_MAX} events; send several"
            ))),
        }
    }
}
