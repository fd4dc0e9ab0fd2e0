//! The CloudEvents JSON format: another implementation's events are read, data is verbatim, what
//! is wrong is refused with a reason. The golden events were made with `cloudevents` 2.2.0 of
//! Python (`JSONFormat`, and its Kafka binding for `binding.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use bytes::Bytes;
use proptest::prelude::*;
use support::{any_event, golden};
use tidemill_core::json::{batch_to_bytes, decode, decode_batch, encode, is_json, to_bytes};
use tidemill_core::limits::BATCH_EVENTS_MAX;
use tidemill_core::{Event, ExtensionValue};

fn read(text: &str) -> Event {
    decode(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn refused(text: &str) -> String {
    let error = decode(&Bytes::copy_from_slice(text.as_bytes())).unwrap_err();
    error.to_string()
}

/// A minimal event with these members at its end.
fn with(members: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t",{members}}}"#)
}

#[test]
fn events_of_another_implementation_are_read() {
    let golden = golden();
    assert_eq!(golden.len(), 5);
    for case in &golden {
        let event = read(&case.structured);
        let whole: serde_json::Value = serde_json::from_str(&case.structured).unwrap();
        assert_eq!(event.id().as_str(), whole["id"]);
        assert_eq!(event.ty().as_str(), whole["type"]);
        assert_eq!(
            event.subject().map(|s| s.as_str()),
            whole["subject"].as_str()
        );
        assert_eq!(event.key(), whole["partitionkey"].as_str());
        assert_eq!(event.data().is_some(), !case.value.is_empty());
        assert_eq!(event.data().map_or(&[][..], |data| data), case.value);
        let again: serde_json::Value = serde_json::from_slice(&to_bytes(&event)).unwrap();
        for (name, value) in whole.as_object().unwrap() {
            let same = name == "time" || &again[name] == value;
            assert!(same, "{name}: {value} became {}", again[name]);
        }
    }
}

#[test]
fn json_data_is_kept_verbatim() {
    let data = "[12345678901234567890123, 1.0,1e400 ,\n\"\\u00e4\\/\",{\"a\":1,\"a\":2}]";
    let event = read(&with(&format!("\"data\" : {data} ")));
    assert_eq!(event.data().unwrap(), data.as_bytes());
    let out = to_bytes(&event);
    assert!(
        std::str::from_utf8(&out)
            .unwrap()
            .contains(&format!("\"data\":{data}"))
    );
    assert_eq!(decode(&out).unwrap(), event);
}

#[test]
fn decoding_shares_the_bytes_it_reads() {
    let bytes = Bytes::from(with(r#""subject":"abc","data":{"n":1}"#));
    let range = bytes.as_ptr_range();
    let event = decode(&bytes).unwrap();
    assert!(range.contains(&event.data().unwrap().as_ptr()));
    assert!(range.contains(&event.subject().unwrap().as_str().as_ptr()));
}

#[test]
fn data_follows_its_content_type() {
    let cases: [(&str, Option<&[u8]>, &str); 9] = [
        (r#""data":null"#, Some(b"null"), r#""data":null"#),
        (
            r#""datacontenttype":"text/plain","data":null"#,
            None,
            "plain\"}",
        ),
        (
            r#""datacontenttype":"text/plain","data":"a\n\"b\"""#,
            Some(b"a\n\"b\""),
            r#""data":"a\n\"b\"""#,
        ),
        (
            r#""datacontenttype":"image/svg+xml","data":"<x/>""#,
            Some(b"<x/>"),
            r#""data":"<x/>""#,
        ),
        (
            r#""datacontenttype":"image/png","data_base64":"/wA=""#,
            Some(&[0xff, 0]),
            r#""data_base64":"/wA=""#,
        ),
        (
            r#""datacontenttype":"text/plain","data_base64":"/wA=""#,
            Some(&[0xff, 0]),
            r#""data_base64":"/wA=""#,
        ),
        (
            r#""data_base64":"eyJhIjoxfQ==""#,
            Some(b"{\"a\":1}"),
            r#""data":{"a":1}"#,
        ),
        (
            r#""data_base64":"ew==""#,
            Some(b"{"),
            r#""data_base64":"ew==""#,
        ),
        (r#""data_base64":null"#, None, r#""type":"t"}"#),
    ];
    for (members, data, out) in cases {
        let event = read(&with(members));
        assert_eq!(event.data().map(|data| &**data), data, "{members}");
        let again = to_bytes(&event);
        let text = std::str::from_utf8(&again).unwrap();
        assert!(text.contains(out), "{members} gave {text}");
    }
}

#[test]
fn extensions_keep_their_types() {
    let event = read(&with(r#""flag":true,"count":-7,"text":"7","gone":null"#));
    assert_eq!(
        event.extension("flag"),
        Some(&ExtensionValue::Boolean(true))
    );
    assert_eq!(event.extension("count"), Some(&ExtensionValue::Integer(-7)));
    assert_eq!(event.extension_str("text"), Some("7"));
    assert_eq!(event.extension("gone"), None);
    let out = to_bytes(&event);
    assert!(
        std::str::from_utf8(&out)
            .unwrap()
            .contains(r#""count":-7,"flag":true,"text":"7""#)
    );
}

#[test]
fn what_is_wrong_is_refused_with_its_reason() {
    let whole = [
        ("", "EOF while parsing"),
        ("[]", "an event, which is a JSON object"),
        ("null", "an event, which is a JSON object"),
        ("{", "EOF while parsing"),
        ("{}", "\"specversion\" is missing"),
        (r#"{"specversion":"1.0"}"#, "\"id\" is missing"),
        (r#"{"specversion":"0.3","id":"1"}"#, "send CloudEvents 1.0"),
        (
            r#"{"specversion":1.0,"id":"1"}"#,
            "\"specversion\": it is a JSON string",
        ),
        (r#"{"specversion":"1.0","id":null}"#, "\"id\" is missing"),
        (r#"{"specversion":"1.0","id":""}"#, "may not be empty"),
    ];
    for (text, why) in whole {
        let error = refused(text);
        assert!(error.contains(why), "{text}: {error}");
    }
    let members = [
        (r#""id":"2""#, "\"id\": it is given twice"),
        (r#""data":1,"data":1"#, "\"data\": it is given twice"),
        (r#""data":1,"data_base64":"eA==""#, "not both"),
        (r#""data_base64":"e""#, "base64"),
        (r#""data_base64":7"#, "base64"),
        (
            r#""datacontenttype":"text/plain","data":{}"#,
            "use 'data_base64'",
        ),
        (r#""datacontenttype":"plain""#, "media type"),
        (r#""subject":7"#, "\"subject\": it is a JSON string"),
        (r#""time":"yesterday""#, "RFC 3339"),
        (r#""time":1738324800"#, "\"time\": it is a JSON string"),
        (r#""ext":1.5"#, "an integer of 32 bits"),
        (r#""ext":2147483648"#, "an integer of 32 bits"),
        (r#""ext":{}"#, "put anything else into 'data'"),
        (r#""Ext":"x""#, "a-z 0-9"),
        (r#""ext":"\u0000""#, "control characters"),
        (r#""ext":"\ud800""#, "an extension is"),
        (r#""ext":"x","\u0065xt":"y""#, "given twice"),
        (r#""partitionkey":7"#, "it is a string"),
        (r#""data":tru"#, "the JSON cannot be read"),
    ];
    for (members, why) in members {
        let error = refused(&with(members));
        assert!(error.contains(why), "{members}: {error}");
    }
    let long = format!("\"subject\":\"{}\"", "x".repeat(4097));
    assert!(refused(&with(&long)).contains("4096 bytes"));
    assert!(refused(&(with(r#""ext":"x""#) + "{}")).contains("trailing characters"));
    let error = decode(&Bytes::from_static(b"{\"id\":\"\xff\"}")).unwrap_err();
    assert!(error.to_string().contains("not UTF-8 at byte 7"));
}

#[test]
fn deeply_nested_data_does_no_harm() {
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    let event = read(&with(&format!("\"data\":{deep}")));
    assert_eq!(event.data().unwrap().len(), 400_000);
    assert_eq!(decode(&to_bytes(&event)).unwrap(), event);
    assert!(refused(&with(&format!("\"ext\":{deep}"))).contains("an extension is"));
}

#[test]
fn batches_are_read_whole_or_not_at_all() {
    let one = with(r#""data":1"#);
    let read = |text: String| decode_batch(&Bytes::from(text));
    assert_eq!(read("[]".into()).unwrap(), []);
    let two = read(format!("[{one}, {one}]")).unwrap();
    assert_eq!(two.len(), 2);
    assert_eq!(decode_batch(&batch_to_bytes(&two)).unwrap(), two);
    let error = read(format!("[{one},{{}}]")).unwrap_err().to_string();
    assert!(
        error.contains("event 2 of the batch") && error.contains("specversion"),
        "{error}"
    );
    assert!(
        read(one.clone())
            .unwrap_err()
            .to_string()
            .contains("JSON array")
    );
    assert!(read(format!("[{one}] x")).is_err());
    let many = vec!["{}"; BATCH_EVENTS_MAX + 1].join(",");
    let error = read(format!("[{many}]")).unwrap_err().to_string();
    assert!(error.contains("at most 10000 events"), "{error}");
}

proptest! {
    #[test]
    fn any_event_survives(event in any_event()) {
        let out = to_bytes(&event);
        prop_assert!(is_json(&out));
        prop_assert_eq!(&decode(&out).unwrap(), &event);
        let mut twice = Vec::new();
        encode(&event, &mut twice);
        prop_assert_eq!(&twice[..], &out[..]);
        let batch = [event.clone(), event];
        prop_assert_eq!(&decode_batch(&batch_to_bytes(&batch)).unwrap()[..], &batch[..]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        prop_assert!(decode(&bytes).is_err());
        let _ = decode_batch(&bytes);
    }

    #[test]
    fn arbitrary_members_never_panic(
        name in "[a-z_]{1,8}|data|data_base64|time|id",
        value in concat!(
            r#"null|true|-?[0-9]{1,12}(\.[0-9])?|"#,
            r#""[^"\\]{0,9}"|\{\}|\[[0-9]?\]|"\\u[0-9a-f]{4}""#,
        ),
    ) {
        let text = with(&format!("{name:?}:{value}"));
        if let Ok(event) = decode(&Bytes::from(text)) {
            prop_assert_eq!(&decode(&to_bytes(&event)).unwrap(), &event);
        }
    }
}
