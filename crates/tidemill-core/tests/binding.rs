//! The Kafka protocol binding: another implementation's records are read, events survive, and
//! records of strangers become events.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use support::{any_event, golden};
use tidemill_core::binding::{Encoded, Place, RawRecord, decode, decode_foreign};
use tidemill_core::{Event, InvalidEvent, Offset, Partition, TopicId, TopicName, json};
use uuid::Uuid;

/// Owned headers, as a test writes them.
type Owned = Vec<(String, Option<Bytes>)>;
/// Headers that all have values.
type Texts<'a> = &'a [(&'a str, &'a str)];

fn topic() -> TopicName {
    TopicName::new("orders").unwrap()
}

fn place(topic: &TopicName) -> Place<'_> {
    Place {
        topic,
        id: TopicId(Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001)),
        partition: Partition(3),
        offset: Offset(42),
    }
}

fn raw<'a>(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &'a Owned,
) -> RawRecord<impl Iterator<Item = (&'a str, Option<Bytes>)>> {
    RawRecord {
        key: key.map(Bytes::copy_from_slice),
        value: value.map(Bytes::copy_from_slice),
        timestamp_ms: 1_700_000_000_000,
        headers: headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone())),
    }
}

fn read(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(&str, &str)],
) -> Result<Event, InvalidEvent> {
    let headers: Owned = headers
        .iter()
        .map(|(name, value)| {
            (
                (*name).to_owned(),
                Some(Bytes::copy_from_slice(value.as_bytes())),
            )
        })
        .collect();
    decode(raw(key, value, &headers), &place(&topic()))
}

fn owned(encoded: &Encoded<'_>) -> Owned {
    encoded
        .headers()
        .map(|(name, value)| (name.to_owned(), value.map(Bytes::copy_from_slice)))
        .collect()
}

#[test]
fn records_of_another_implementation_are_the_same_events() {
    for case in golden() {
        let headers: Vec<_> = case
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let value = (!case.value.is_empty()).then_some(&case.value[..]);
        let event = read(case.key.as_deref().map(str::as_bytes), value, &headers).unwrap();
        let structured = json::decode(&Bytes::from(case.structured)).unwrap();
        assert_eq!(event, structured);

        let encoded = Encoded::new(&event);
        assert_eq!(encoded.key(), case.key.as_deref().map(str::as_bytes));
        assert_eq!(encoded.value(), value);
        for (name, text) in encoded.headers() {
            let text = std::str::from_utf8(text.unwrap()).unwrap();
            let same = name == "ce_time" || case.headers[name] == text;
            assert!(same, "{name}: {text}");
        }
        assert_eq!(encoded.headers().count(), case.headers.len());
    }
}

#[test]
fn a_plain_record_is_an_event_named_by_its_place() {
    let event = read(Some(b"k-1"), Some(br#"{"n":1}"#), &[("x", "y")]).unwrap();
    assert_eq!(event.id(), &"01920000-0000-7000-8000-000000000001/3/42");
    assert_eq!(event.ty(), &"orders");
    assert_eq!(event.source(), &"orders");
    assert_eq!(event.key(), Some("k-1"));
    assert_eq!(event.time().unwrap().as_millisecond(), 1_700_000_000_000);
    assert_eq!(event.datacontenttype(), Some("application/json"));
    assert_eq!(event.data().unwrap(), br#"{"n":1}"#.as_slice());
}

#[test]
fn plain_data_is_called_what_it_is() {
    type Case<'a> = (Option<&'a [u8]>, Texts<'a>, Option<&'a str>);
    let cases: [Case<'_>; 6] = [
        (None, &[], None),
        (Some(b"12"), &[], Some("application/json")),
        (Some(b"hello"), &[], Some("text/plain; charset=utf-8")),
        (Some(b"\xff"), &[], Some("application/octet-stream")),
        (
            Some(b"12"),
            &[("Content-Type", "text/csv")],
            Some("text/csv"),
        ),
        (
            Some(b"12"),
            &[("content-type", "nonsense")],
            Some("application/json"),
        ),
    ];
    for (value, headers, want) in cases {
        let event = read(None, value, headers).unwrap();
        assert_eq!(event.datacontenttype(), want, "{value:?}");
        assert_eq!(json::decode(&json::to_bytes(&event)).unwrap(), event);
    }
}

#[test]
fn any_key_of_a_stranger_keeps_its_order() {
    let key = |key: &[u8]| {
        let event = read(Some(key), None, &[]).unwrap();
        event.key().map(str::to_owned)
    };
    assert_eq!(key(b""), None);
    assert_eq!(key("ä".as_bytes()).unwrap(), "ä");
    assert_eq!(key(&[0, 0, 0, 7]).unwrap(), "AAAABw==");
    assert_eq!(key(&[b'x'; 4096]).unwrap(), "x".repeat(4096));
    let long = key(&[b'x'; 4097]).unwrap();
    assert!(long.ends_with("-4097"), "{long}");
    assert_eq!(key(&[b'x'; 4097]).unwrap(), long);
    assert_ne!(key(&[b'y'; 4097]).unwrap(), long);
}

#[test]
fn the_records_key_is_the_partition_key_unless_one_is_given() {
    let ce = [
        ("ce_specversion", "1.0"),
        ("ce_id", "1"),
        ("ce_source", "/s"),
        ("ce_type", "t"),
    ];
    assert_eq!(read(Some(b"k"), None, &ce).unwrap().key(), Some("k"));
    let given = [&ce[..], &[("ce_partitionkey", "own")]].concat();
    assert_eq!(read(Some(b"k"), None, &given).unwrap().key(), Some("own"));
    assert_eq!(read(None, None, &ce).unwrap().key(), None);
}

#[test]
fn structured_mode_is_read_too() {
    let value = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":[1]}"#;
    let headers = [(
        "content-type",
        "application/cloudevents+json; charset=utf-8",
    )];
    let event = read(Some(b"k"), Some(value), &headers).unwrap();
    assert_eq!((event.key(), event.data().unwrap().len()), (Some("k"), 3));
    assert!(read(None, None, &headers).is_err());
    assert!(read(None, Some(b"{}"), &headers).is_err());
}

#[test]
fn what_is_meant_as_an_event_and_is_none_is_refused_and_still_readable() {
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("ce_id", "1")], "\"specversion\" is missing"),
        (&[("ce_specversion", "2.0")], "send CloudEvents 1.0"),
        (&[("ce_id", "1"), ("ce_id", "1")], "given twice"),
        (&[("ce_Id", "1")], "a-z 0-9"),
    ];
    for (headers, why) in cases {
        let error = read(None, Some(b"x"), headers).unwrap_err().to_string();
        assert!(error.contains(why), "{headers:?}: {error}");
    }
    let headers = vec![("ce_id".to_owned(), None), ("ce_type".to_owned(), None)];
    let topic = topic();
    let error = decode(raw(None, None, &headers), &place(&topic)).unwrap_err();
    assert!(error.to_string().contains("no value"));
    let event = decode_foreign(raw(Some(b"k"), None, &headers), &place(&topic));
    assert_eq!((event.ty().as_str(), event.key()), ("orders", Some("k")));
}

#[test]
fn types_that_headers_cannot_carry_have_a_header_of_their_own() {
    let text = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","flag":true,"n":-7}"#;
    let event = json::decode(&Bytes::from_static(text)).unwrap();
    let encoded = Encoded::new(&event);
    let headers: Vec<_> = encoded.headers().collect();
    assert!(headers.contains(&("ce_flag", Some(b"true"))));
    assert!(headers.contains(&("ce_n", Some(b"-7"))));
    assert!(headers.contains(&("tidemill_types", Some(b"flag=b n=i"))));
    let ce = [
        ("ce_specversion", "1.0"),
        ("ce_id", "1"),
        ("ce_source", "/s"),
        ("ce_type", "t"),
    ];
    let wrong = [
        ("ce_flag", "maybe"),
        ("ce_n", "007"),
        ("tidemill_types", "flag=b n=i x=b"),
    ];
    let event = read(None, None, &[&ce[..], &wrong[..]].concat()).unwrap();
    assert_eq!(event.extension_str("flag"), Some("maybe"));
    assert_eq!(
        event.extension_str("n"),
        Some("007"),
        "what is no such number stays a text"
    );
}

#[test]
fn decoding_shares_the_records_bytes() {
    let value = Bytes::from_static(b"[1,2]");
    let source = Bytes::from_static(b"/shared");
    let headers = vec![
        (
            "ce_specversion".to_owned(),
            Some(Bytes::from_static(b"1.0")),
        ),
        ("ce_id".to_owned(), Some(Bytes::from_static(b"1"))),
        ("ce_source".to_owned(), Some(source.clone())),
        ("ce_type".to_owned(), Some(Bytes::from_static(b"t"))),
    ];
    let record = RawRecord {
        value: Some(value.clone()),
        ..raw(None, None, &headers)
    };
    let event = decode(record, &place(&topic())).unwrap();
    assert_eq!(event.data().unwrap().as_ptr(), value.as_ptr());
    assert_eq!(event.source().as_str().as_ptr(), source.as_ptr());
}

proptest! {
    #[test]
    fn any_event_survives_with_its_types(event in any_event()) {
        let encoded = Encoded::new(&event);
        let headers = owned(&encoded);
        let record = raw(encoded.key(), encoded.value(), &headers);
        prop_assert_eq!(&decode(record, &place(&topic())).unwrap(), &event);
    }

    #[test]
    fn arbitrary_records_never_panic(
        key in option::of(vec(any::<u8>(), 0..40)),
        value in option::of(vec(any::<u8>(), 0..40)),
        headers in vec(
            ("(ce_)?(id|type|specversion|time|x|partitionkey)|content-type|tidemill_types",
             option::of(prop_oneof![vec(any::<u8>(), 0..9), Just(b"1.0".to_vec()),
                 Just(b"x=i y=b =".to_vec()), Just(b"application/cloudevents".to_vec())])),
            0..6,
        ),
    ) {
        let headers: Owned = headers
            .into_iter()
            .map(|(name, value)| (name, value.map(Bytes::from)))
            .collect();
        // White space around JSON data is not kept by the JSON form.
        let value = value.map(|value| match json::is_json(&value) {
            true => value.trim_ascii().to_vec(),
            false => value,
        });
        let topic = topic();
        let _ = decode(raw(key.as_deref(), value.as_deref(), &headers), &place(&topic));
        let record = raw(key.as_deref(), value.as_deref(), &headers);
        let foreign = decode_foreign(record, &place(&topic));
        prop_assert_eq!(json::decode(&json::to_bytes(&foreign)).unwrap(), foreign);
    }
}
