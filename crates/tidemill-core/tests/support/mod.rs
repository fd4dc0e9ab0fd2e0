//! What the tests of the JSON format and of the Kafka binding share: golden events and arbitrary
//! ones.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use tidemill_core::attributes::Assembler;
use tidemill_core::{Event, ExtensionValue};

/// One event of the golden file in both of its forms.
#[allow(dead_code, reason = "each test file reads the form that it is for")]
pub(crate) struct Golden {
    pub(crate) structured: String,
    pub(crate) key: Option<String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) value: Vec<u8>,
}

pub(crate) fn golden() -> Vec<Golden> {
    let text = include_str!("../golden/cloudevents-python.json");
    let all: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
    let one = |case: serde_json::Value| Golden {
        structured: case["structured"].as_str().unwrap().to_owned(),
        key: case["key"].as_str().map(str::to_owned),
        headers: serde_json::from_value(case["headers"].clone()).unwrap(),
        value: BASE64_STANDARD
            .decode(case["value_base64"].as_str().unwrap())
            .unwrap(),
    };
    all.into_iter().map(one).collect()
}

/// Content types with data that fits each.
fn any_data() -> impl Strategy<Value = (Option<&'static str>, Option<Vec<u8>>)> {
    let json = || {
        prop_oneof![
            Just("null".to_owned()),
            "-?[1-9][0-9]{0,40}(\\.[0-9]{1,30})?",
            "[a-z0-9 äöü😀]{0,20}".prop_map(|text| format!("{text:?}")),
            "[a-z]{1,5}".prop_map(|name| format!("{{ \"{name}\" : [1, true ,null]}}")),
        ]
        .prop_map(String::into_bytes)
    };
    prop_oneof![
        Just((None, None)),
        json().prop_map(|data| (None, Some(data))),
        json().prop_map(|data| (Some("application/json; charset=utf-8"), Some(data))),
        json().prop_map(|data| (Some("application/vnd.x+json"), Some(data))),
        ".{0,40}".prop_map(|text| (Some("text/plain"), Some(text.into_bytes()))),
        vec(any::<u8>(), 0..60).prop_map(|data| (Some("text/plain"), Some(data))),
        vec(any::<u8>(), 0..60).prop_map(|data| (Some("image/png"), Some(data))),
        vec(any::<u8>(), 0..60).prop_map(|data| (None, Some(data))),
    ]
}

fn any_extension() -> impl Strategy<Value = ExtensionValue> {
    prop_oneof![
        any::<bool>().prop_map(ExtensionValue::Boolean),
        any::<i32>().prop_map(ExtensionValue::Integer),
        "[ -~äöü😀]{0,20}".prop_map(|text| ExtensionValue::String(text.into())),
        Just(ExtensionValue::String("true".into())),
        Just(ExtensionValue::String("7".into())),
    ]
}

pub(crate) fn any_event() -> impl Strategy<Value = Event> {
    let text = || "[ -~äöü😀]{1,30}";
    let time = option::of(0i64..4_000_000_000_000);
    let attributes = (
        text(),
        "[a-z/:.%0-9]{1,30}",
        text(),
        option::of(text()),
        time,
        option::of("[a-z/:]{1,20}"),
    );
    let extensions = btree_map("x[a-z0-9]{1,12}", any_extension(), 0..6);
    (attributes, extensions, option::of(text()), any_data()).prop_map(
        |((id, source, ty, subject, time, schema), extensions, key, (content_type, data))| {
            let mut all = Assembler::new();
            let mut set = |name: &str, text: Option<String>| {
                if let Some(text) = text {
                    all.set(name, text.into()).unwrap();
                }
            };
            set("specversion", Some("1.0".into()));
            set("id", Some(id));
            set("source", Some(source));
            set("type", Some(ty));
            set("subject", subject);
            let stamp = |ms| jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
            set("time", time.map(stamp));
            set("dataschema", schema);
            set("partitionkey", key);
            set("datacontenttype", content_type.map(str::to_owned));
            for (name, value) in extensions {
                all.set_extension(&name, value).unwrap();
            }
            all.finish(data.map(Into::into)).unwrap()
        },
    )
}
