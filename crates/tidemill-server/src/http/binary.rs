//! The binary content mode: attributes are headers (`ce-id`, ...), the body is the data.
//! See the CloudEvents HTTP protocol binding 1.0.2, section 3.1.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use bytestring::ByteString;
use percent_encoding::percent_decode_str;
use serde::de::IgnoredAny;
use tidemill_core::attributes::Assembler;
use tidemill_core::{Event, InvalidEvent};

use super::problem::{Kind, Problem};

const PREFIX: &str = "ce-";

/// Whether a request has an event in the binary mode: at least one header of it is there.
pub(crate) fn is_binary(headers: &HeaderMap) -> bool {
    ["ce-specversion", "ce-id", "ce-source", "ce-type"]
        .iter()
        .any(|name| headers.contains_key(*name))
}

/// The event of a request.
pub(crate) fn decode(headers: &HeaderMap, body: &Bytes) -> Result<Event, Problem> {
    let mut parts = Assembler::new();
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix(PREFIX) else {
            continue;
        };
        if attribute == "datacontenttype" {
            let why = "in the binary mode it is the header content-type";
            return Err(InvalidEvent::attribute(attribute, why).into());
        }
        parts.set(attribute, attribute_text(attribute, value)?)?;
    }
    let data = (!body.is_empty()).then(|| body.clone());
    if data.is_some()
        && let Some(stated) = headers.get(CONTENT_TYPE)
    {
        let why = "it is a media type such as application/json";
        let wrong = |_| InvalidEvent::attribute("datacontenttype", why);
        let stated = std::str::from_utf8(stated.as_bytes()).map_err(wrong)?;
        parts.set("datacontenttype", stated.into())?;
    }
    let event = parts.finish(data)?;
    if event.is_json()
        && let Some(data) = event.data()
    {
        check_json(data)?;
    }
    Ok(event)
}

fn check_json(data: &[u8]) -> Result<(), Problem> {
    let text = std::str::from_utf8(data).map_err(|error| error.to_string());
    let checked = text.and_then(|text| {
        let parsed = serde_json::from_str::<IgnoredAny>(text);
        parsed.map_err(|error| error.to_string())
    });
    checked.map(|_| ()).map_err(|why| {
        let detail =
            format!("the data is not JSON ({why}); send JSON, or state another content type");
        Problem::new(Kind::InvalidJson, detail)
    })
}

/// The text of an attribute: quotes are taken off, then percent-encoding is undone (section
/// 3.1.3.2 of the binding).
fn attribute_text(attribute: &str, value: &HeaderValue) -> Result<ByteString, InvalidEvent> {
    let not_utf8 = |_| InvalidEvent::attribute(attribute, "it is not UTF-8");
    let text = std::str::from_utf8(value.as_bytes()).map_err(not_utf8)?;
    let bare = unquote(text.trim());
    let decoded = percent_decode_str(&bare).decode_utf8().map_err(not_utf8)?;
    Ok(decoded.into_owned().into())
}

/// Some senders put the value between double quotes; backslashes escape inside of them.
fn unquote(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    let Some(inner) = inner else {
        return text.to_owned();
    };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let base = [
            ("ce-specversion", "1.0"),
            ("ce-id", "7"),
            ("ce-source", "/s"),
            ("ce-type", "t"),
        ];
        let all = base.iter().chain(pairs);
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.insert(*name, value.parse().unwrap());
        }
        headers
    }

    fn decoded(pairs: &[(&'static str, &'static str)], body: &'static str) -> Event {
        decode(&headers(pairs), &Bytes::from_static(body.as_bytes())).unwrap()
    }

    #[test]
    fn attributes_are_unquoted_and_percent_decoded() {
        let event = decoded(
            &[
                ("ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
                ("ce-quoted", "\"a \\\"b\\\" %25\""),
                ("ce-time", "2026-01-31T12:00:00.5+01:00"),
                ("content-type", "text/plain"),
            ],
            "hello",
        );
        assert_eq!(*event.subject().unwrap(), *"Euro € 😀");
        assert_eq!(event.extension_str("quoted"), Some("a \"b\" %"));
        assert_eq!(event.time().unwrap().to_string(), "2026-01-31T11:00:00.5Z");
        assert_eq!(event.datacontenttype(), Some("text/plain"));
        assert_eq!(event.data().unwrap(), "hello");
    }

    #[test]
    fn a_body_without_a_content_type_is_json() {
        let event = decoded(&[], "[1,2]");
        assert!(event.is_json() && event.datacontenttype().is_none());
        assert!(decoded(&[], "").data().is_none());
    }

    #[test]
    fn wrong_events_are_refused() {
        for (pairs, body) in [
            (&[("ce-specversion", "0.3")][..], ""),
            (&[("ce-id", "")], ""),
            (&[("ce-source", "a%20b c")], ""),
            (&[("ce-time", "yesterday")], ""),
            (&[("ce-bad_name", "x")], ""),
            (&[("ce-datacontenttype", "text/plain")], ""),
            (&[("ce-subject", "%ff")], ""),
            (&[("content-type", "nonsense")], "x"),
            (&[("content-type", "application/json")], "{"),
        ] {
            let body = Bytes::from_static(body.as_bytes());
            assert!(decode(&headers(pairs), &body).is_err(), "{pairs:?}");
        }
        let mut missing = headers(&[]);
        missing.remove("ce-type");
        let problem = decode(&missing, &Bytes::new()).unwrap_err();
        assert!(format!("{problem:?}").contains("\\\"type\\\""));
    }

    proptest! {
        #[test]
        fn any_header_is_an_attribute_or_refused(
            name in "[a-z0-9_-]{1,8}",
            value in prop::collection::vec(0x20u8..=0xff, 0..24),
        ) {
            let value = value.into_iter().filter(|byte| *byte != 0x7f).collect::<Vec<_>>();
            let mut headers = headers(&[]);
            let name: axum::http::HeaderName = format!("ce-{name}").parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(&value).unwrap());
            if let Ok(event) = decode(&headers, &Bytes::new()) {
                prop_assert_eq!(event.id().as_str(), "7");
                let control = event.attributes().any(|(_, text)| text.contains(char::is_control));
                prop_assert!(!control);
            }
        }
    }
}
