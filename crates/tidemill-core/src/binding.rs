//! An event as a record of a log: the CloudEvents Kafka protocol binding 1.0.2 in binary mode.
//!
//! Attributes are `ce_*` headers, `datacontenttype` is the header `content-type`, the key is the
//! extension `partitionkey` (which stays an attribute, as the binding asks), the value is the
//! data. Records of strangers are read too: in structured mode, and without any `ce_` header.
//!
//! This room knows keys, values and headers. It may not know how a batch or a log is laid out.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use jiff::Timestamp;

use crate::attributes::{Assembler, SPEC_VERSION};
use crate::event::{CAUSATION_ID, CORRELATION_ID, PARTITION_KEY, REPLY_TO, TRACE_PARENT};
use crate::event::{Event, ExtensionValue, InvalidEvent, content_type_allowed};
use crate::json;
use crate::name::{EventId, EventType, Key, Source, TopicName};
use crate::partition::murmur2;
use crate::position::{Offset, Partition, TopicId};

/// What the names of attributes begin with.
const PREFIX: &str = "ce_";
/// The header of `datacontenttype`.
const CONTENT_TYPE: &str = "content-type";
/// A header of our own, there only where extensions are not texts: the binding carries texts
/// alone, and this says which were booleans and integers, as in `flag=b count=i`.
const TYPES: &str = "tidemill_types";
/// What a value in structured mode is announced with.
const STRUCTURED: &str = "application/cloudevents";

/// Where a record lies: what a record that is no event is named by.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The topic's name.
    pub topic: &'a TopicName,
    /// The topic's identity.
    pub id: TopicId,
    /// The part of the topic.
    pub partition: Partition,
    /// The place in that part.
    pub offset: Offset,
}

/// A record of the log, taken apart; `headers` in their order.
#[derive(Clone, Debug)]
pub struct RawRecord<H> {
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// When it was written, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Names and values.
    pub headers: H,
}

/// An event in the form of a record; borrows from the event.
#[derive(Clone, Debug)]
pub struct Encoded<'a> {
    key: Option<&'a str>,
    value: Option<&'a [u8]>,
    headers: Vec<(Cow<'static, str>, Cow<'a, str>)>,
}

impl<'a> Encoded<'a> {
    /// The record of `event`.
    #[must_use]
    pub fn new(event: &'a Event) -> Self {
        let mut headers = Vec::with_capacity(event.extensions.len() + 9);
        headers.push(("ce_specversion".into(), SPEC_VERSION.into()));
        for (name, text) in event.attributes() {
            headers.push((header_name(name), text));
        }
        if let Some(content_type) = event.datacontenttype() {
            headers.push((CONTENT_TYPE.into(), content_type.into()));
        }
        let mut types = String::new();
        for (name, value) in event.extensions() {
            let letter = match value {
                ExtensionValue::String(_) => continue,
                ExtensionValue::Boolean(_) => "=b",
                ExtensionValue::Integer(_) => "=i",
            };
            let gap = if types.is_empty() { "" } else { " " };
            types.extend([gap, name, letter]);
        }
        if !types.is_empty() {
            headers.push((TYPES.into(), types.into()));
        }
        Self {
            key: event.key(),
            value: event.data().map(|data| &**data),
            headers,
        }
    }

    /// The record's key.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key.map(str::as_bytes)
    }

    /// The record's value.
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The record's headers, every one with a value.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> + Clone {
        self.headers
            .iter()
            .map(|(name, value)| (&**name, Some(value.as_bytes())))
    }
}

/// `ce_` and the attribute's name; the usual ones are not put together anew.
fn header_name(attribute: &str) -> Cow<'static, str> {
    Cow::Borrowed(match attribute {
        "id" => "ce_id",
        "source" => "ce_source",
        "type" => "ce_type",
        "subject" => "ce_subject",
        "time" => "ce_time",
        "dataschema" => "ce_dataschema",
        PARTITION_KEY => "ce_partitionkey",
        CORRELATION_ID => "ce_correlationid",
        CAUSATION_ID => "ce_causationid",
        REPLY_TO => "ce_replyto",
        TRACE_PARENT => "ce_traceparent",
        other => return Cow::Owned(format!("{PREFIX}{other}")),
    })
}

/// The event that a record is. Shares the record's bytes: neither data nor texts are copied.
///
/// A record with `ce_` headers is read in binary mode, one whose `content-type` begins with
/// `application/cloudevents` in structured mode, any other with [`decode_foreign`].
///
/// # Errors
/// [`InvalidEvent`] where it is meant to be an event and is none. [`decode_foreign`] reads such a
/// record too.
pub fn decode<'a>(
    record: RawRecord<impl Iterator<Item = (&'a str, Option<Bytes>)>>,
    place: &Place<'_>,
) -> Result<Event, InvalidEvent> {
    let mut parts = Assembler::new();
    let mut meant = false;
    let mut content_type = None;
    let mut types = None;
    for (name, value) in record.headers {
        if let Some(attribute) = name.strip_prefix(PREFIX) {
            meant = true;
            parts.set(attribute, header_text(attribute, value)?)?;
        } else if name.eq_ignore_ascii_case(CONTENT_TYPE) {
            content_type = value;
        } else if name == TYPES {
            types = value;
        }
    }
    let structured = content_type.as_ref().is_some_and(|value| {
        value
            .get(..STRUCTURED.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(STRUCTURED.as_bytes()))
    });
    if structured && !meant {
        return decode_structured(record.key, record.value);
    }
    if !meant {
        return Ok(foreign(
            record.key,
            record.value,
            record.timestamp_ms,
            content_type,
            place,
        ));
    }
    if let Some(value) = content_type
        && parts.datacontenttype().is_none()
    {
        parts.set("datacontenttype", header_text(CONTENT_TYPE, Some(value))?)?;
    }
    if let Some(value) = types {
        retype(&mut parts, &value);
    }
    if !parts.has_extension(PARTITION_KEY)
        && let Some(key) = record.key.and_then(key_text)
    {
        parts.set(PARTITION_KEY, key)?;
    }
    parts.finish(record.value)
}

/// Reads any record as an event named by its place: `id` is the topic's UUID, partition and
/// offset, `type` the topic's name, `source` the topic, `time` the record's, the data its value.
///
/// The key becomes `partitionkey`: as it is where it is a text, in base64 where it is not, and as
/// its hash where it is too long for an attribute, so that equal keys stay equal. Without a
/// `content-type`, the data is called JSON where it is JSON, text where it is UTF-8, else bytes.
pub fn decode_foreign<'a>(
    record: RawRecord<impl Iterator<Item = (&'a str, Option<Bytes>)>>,
    place: &Place<'_>,
) -> Event {
    let content_type = record
        .headers
        .filter(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE))
        .find_map(|(_, value)| value);
    foreign(
        record.key,
        record.value,
        record.timestamp_ms,
        content_type,
        place,
    )
}

fn foreign(
    key: Option<Bytes>,
    value: Option<Bytes>,
    timestamp_ms: i64,
    content_type: Option<Bytes>,
    place: &Place<'_>,
) -> Event {
    let id = format!("{}/{}/{}", place.id, place.partition, place.offset);
    let topic = place.topic.as_byte_string();
    let stated = content_type
        .and_then(|value| ByteString::try_from(value).ok())
        .filter(|value| content_type_allowed(value).is_ok());
    let datacontenttype = match (&value, stated) {
        (_, Some(stated)) => Some(stated),
        (None, None) => None,
        (Some(value), None) => Some(ByteString::from_static(guessed_type(value))),
    };
    let legal = "a topic's name is a legal text, and so are a UUID and numbers";
    Event {
        id: EventId::new(id).expect(legal),
        source: Source::new(topic.clone()).expect(legal),
        ty: EventType::new(topic.clone()).expect(legal),
        subject: None,
        time: Timestamp::from_millisecond(timestamp_ms).ok(),
        datacontenttype,
        dataschema: None,
        extensions: key
            .and_then(key_text)
            .map(|key| {
                let name = ByteString::from_static(PARTITION_KEY);
                (name, ExtensionValue::String(key))
            })
            .into_iter()
            .collect(),
        data: value,
    }
}

fn decode_structured(key: Option<Bytes>, value: Option<Bytes>) -> Result<Event, InvalidEvent> {
    let missing = || InvalidEvent::Malformed("a structured event needs a value".into());
    let event = json::decode(&value.ok_or_else(missing)?)?;
    match key.and_then(key_text) {
        Some(key) if event.extension(PARTITION_KEY).is_none() => event
            .to_builder()
            .extension(PARTITION_KEY, ExtensionValue::String(key))
            .build(),
        _ => Ok(event),
    }
}

fn header_text(name: &str, value: Option<Bytes>) -> Result<ByteString, InvalidEvent> {
    let wrong = |why| InvalidEvent::attribute(name, why);
    let value = value.ok_or_else(|| wrong("its header has no value"))?;
    ByteString::try_from(value).map_err(|_| wrong("its header is not UTF-8"))
}

fn guessed_type(value: &[u8]) -> &'static str {
    if json::is_json(value) {
        "application/json"
    } else if std::str::from_utf8(value).is_ok() {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}

/// A record's key as the text of an attribute; `None` for an empty one.
fn key_text(key: Bytes) -> Option<ByteString> {
    if key.is_empty() {
        return None;
    }
    let text = ByteString::try_from(key.clone()).ok();
    if let Some(text) = text.filter(|text| Key::new(text.clone()).is_ok()) {
        return Some(text);
    }
    let encoded = ByteString::from(BASE64_STANDARD.encode(&key));
    if Key::new(encoded.clone()).is_ok() {
        return Some(encoded);
    }
    let hash = murmur2(&key);
    Some(ByteString::from(format!("{hash:08x}-{}", key.len())))
}

/// Undoes what [`TYPES`] tells of; whatever does not fit is left a text.
fn retype(parts: &mut Assembler, types: &[u8]) {
    let boolean = |text: &str| match text {
        "true" => Some(ExtensionValue::Boolean(true)),
        "false" => Some(ExtensionValue::Boolean(false)),
        _ => None,
    };
    let integer = |text: &str| {
        let number: i32 = text.parse().ok()?;
        (number.to_string() == text).then_some(ExtensionValue::Integer(number))
    };
    for entry in std::str::from_utf8(types).unwrap_or("").split(' ') {
        match entry.split_once('=') {
            Some((name, "b")) => parts.retype(name, boolean),
            Some((name, "i")) => parts.retype(name, integer),
            _ => {}
        }
    }
}
