//! How a line of a dump is printed: for people, and as JSON.

use serde_json::{Map, json};
use tidemill::Bytes;
use tidemill::broker::inspect::{Line, Value};

/// One line of JSON: what it is, how deep it lies, and its fields.
pub(super) fn json(line: &Line, payloads: bool) -> String {
    let mut object = Map::new();
    object.insert("type".into(), line.what.into());
    object.insert("depth".into(), line.depth.into());
    for (name, value) in &line.fields {
        object.insert((*name).into(), json_value(value, payloads));
    }
    serde_json::Value::Object(object).to_string()
}

fn json_value(value: &Value, payloads: bool) -> serde_json::Value {
    match value {
        Value::Number(number) => (*number).into(),
        Value::Signed(number) => (*number).into(),
        Value::Text(text) => text.clone().into(),
        Value::Flag(is_so) => (*is_so).into(),
        Value::Payload(bytes) => json_payload(bytes.as_ref(), payloads),
        Value::Headers(headers) => headers
            .iter()
            .map(|(name, value)| json!([name, json_payload(value.as_ref(), payloads)]))
            .collect(),
        Value::Pairs(pairs) => pairs.iter().map(|(a, b)| json!([a, b])).collect(),
    }
}

fn json_payload(bytes: Option<&Bytes>, payloads: bool) -> serde_json::Value {
    let Some(bytes) = bytes else {
        return serde_json::Value::Null;
    };
    match (payloads, std::str::from_utf8(bytes)) {
        (false, _) => json!({ "bytes": bytes.len() }),
        (true, Ok(text)) => json!({ "bytes": bytes.len(), "text": text }),
        (true, Err(_)) => json!({ "bytes": bytes.len(), "hex": hex(bytes) }),
    }
}

/// One line for people, set in by its depth.
pub(super) fn text(line: &Line, payloads: bool) -> String {
    let mut text = format!("{:indent$}{}", "", line.what, indent = 2 * line.depth);
    for (name, value) in &line.fields {
        text += &format!(" {name}={}", text_value(value, payloads));
    }
    text
}

fn text_value(value: &Value, payloads: bool) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Signed(number) => number.to_string(),
        Value::Text(text) if text.contains(' ') => format!("{text:?}"),
        Value::Text(text) => text.clone(),
        Value::Flag(is_so) => is_so.to_string(),
        Value::Payload(bytes) => text_payload(bytes.as_ref(), payloads),
        Value::Headers(headers) => {
            let each = headers.iter().map(|(name, value)| {
                let value = text_payload(value.as_ref(), payloads);
                format!("{name:?}: {value}")
            });
            format!("[{}]", each.collect::<Vec<_>>().join(", "))
        }
        Value::Pairs(pairs) => {
            let each = pairs.iter().map(|(a, b)| format!("{a}:{b}"));
            format!("[{}]", each.collect::<Vec<_>>().join(", "))
        }
    }
}

fn text_payload(bytes: Option<&Bytes>, payloads: bool) -> String {
    let Some(bytes) = bytes else {
        return "none".to_owned();
    };
    match (payloads, std::str::from_utf8(bytes)) {
        (false, _) => format!("{} bytes", bytes.len()),
        // Control characters of a payload stay out of the terminal.
        (true, Ok(text)) => format!("{text:?}"),
        (true, Err(_)) => hex(bytes),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line {
            depth: 1,
            what: "record",
            fields: vec![
                ("offset", Value::Number(7)),
                ("key", Value::Payload(None)),
                ("value", Value::Payload(Some(Bytes::from_static(b"a\x1bb")))),
                ("raw", Value::Payload(Some(Bytes::from_static(b"\xff\x01")))),
            ],
        }
    }

    #[test]
    fn payloads_are_shown_on_request_alone_and_never_control_a_terminal() {
        assert_eq!(
            text(&line(), false),
            "  record offset=7 key=none value=3 bytes raw=2 bytes"
        );
        assert_eq!(
            text(&line(), true),
            "  record offset=7 key=none value=\"a\\u{1b}b\" raw=ff01"
        );
        let hidden: serde_json::Value = serde_json::from_str(&json(&line(), false)).unwrap();
        assert_eq!(hidden["value"], json!({ "bytes": 3 }));
        let shown: serde_json::Value = serde_json::from_str(&json(&line(), true)).unwrap();
        assert_eq!(shown["value"]["text"], "a\u{1b}b");
        assert_eq!(shown["raw"], json!({ "bytes": 2, "hex": "ff01" }));
        assert_eq!(shown["type"], "record");
    }
}
