//! The frames of the native protocol: what is written is read as what it was, and whatever else
//! comes is refused by name.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tidemill_core::wire::{
    Answer, Call, ClientFrame, Delivered, Describe, Failed, Fault, News, Numbers, Publish, Request,
    ServerFrame, Settle,
};
use tidemill_core::{
    Attempt, Catalogue, Commit, Effects, Event, EventId, EventType, Failure, Key, Offset, Order,
    Outcome, Partition, Position, Source, Start, TopicName,
};

fn event(id: &str, data: &[u8]) -> Event {
    let builder = Event::builder(
        EventId::new(id.to_owned()).unwrap(),
        Source::new("/wire").unwrap(),
        EventType::new("order_paid").unwrap(),
    );
    let keyed = builder.key(&Key::new("k \"1\"").unwrap());
    let with = keyed.data("application/octet-stream", data.to_vec());
    with.build().unwrap()
}

fn topic() -> TopicName {
    TopicName::new("orders").unwrap()
}

/// Through its text and back; compared by how both show themselves.
fn client_round(frame: &ClientFrame) {
    let text = frame.encode();
    let read = ClientFrame::decode(&Bytes::from(text.clone())).unwrap();
    assert_eq!(format!("{read:?}"), format!("{frame:?}"), "{text}");
    let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(whole["type"].is_string());
    // Another order of the members is the same frame.
    let turned = Bytes::from(serde_json::to_vec(&whole).unwrap());
    let read = ClientFrame::decode(&turned).unwrap();
    assert_eq!(format!("{read:?}"), format!("{frame:?}"), "{text}");
}

fn server_round(frame: &ServerFrame) {
    let text = frame.encode();
    let read = ServerFrame::decode(&Bytes::from(text.clone())).unwrap();
    assert_eq!(format!("{read:?}"), format!("{frame:?}"), "{text}");
}

#[test]
fn calls_come_back_as_they_were() {
    let calls = [
        Call::Hello {
            session: Some("s".into()),
            received: vec![(1, 17), (2, 0)],
            keep_ms: Some(5),
        },
        Call::Producer { id: 1 },
        Call::Subscribe {
            id: 2,
            subscription: 1,
            topics: vec![topic()],
            group: "billing eu".try_into().unwrap(),
            order: Order::PerPartition,
            start: Start::At(Offset(9)),
            credit: 100,
        },
        Call::Credit {
            subscription: 1,
            total: 200,
        },
        Call::Ping {},
        Call::Bye {},
    ];
    for call in calls {
        client_round(&ClientFrame::Call(call));
    }
    let short = Bytes::from_static(
        br#"{"id":1,"topics":["a"],"group":"g","subscription":3,"type":"subscribe"}"#,
    );
    let ClientFrame::Call(Call::Subscribe { order, start, .. }) =
        ClientFrame::decode(&short).unwrap()
    else {
        panic!("another frame");
    };
    assert_eq!((order, start), (Order::PerKey, Start::Beginning));
}

#[test]
fn frames_with_events_come_back_as_they_were() {
    let numbers = Numbers {
        producer: "4294967297".into(),
        epoch: 0,
        partitions: 4,
        round: 7,
        sequences: BTreeMap::from([(Partition(0), 5), (Partition(3), i32::MAX)]),
    };
    for (numbers, count) in [(None, 0), (Some(numbers), 3)] {
        client_round(&ClientFrame::Publish(Publish {
            id: 7,
            topic: topic(),
            numbers,
            events: (0..count)
                .map(|n| event(&n.to_string(), b"\xff\0"))
                .collect(),
        }));
    }
    client_round(&ClientFrame::Request(Request {
        id: 8,
        topic: topic(),
        timeout: Duration::from_millis(1500),
        event: event("r", b"{}"),
    }));
    let failure = Failure {
        reason: "error".into(),
        error: "no \"such\" order".into(),
        attempts: 3,
        first: Some("2026-11-21T10:00:00Z".parse().unwrap()),
        ..Failure::default()
    };
    let ends = [
        Outcome::Ack,
        Outcome::Retry {
            after: Duration::from_millis(20),
        },
        Outcome::DeadLetter {
            failure: Box::new(failure),
        },
    ];
    for outcome in ends {
        for count in [0, 2] {
            let staged = (0..count).map(|n| (topic(), event(&n.to_string(), b"x")));
            client_round(&ClientFrame::Settle(Settle {
                id: 9,
                subscription: 1,
                delivery: 2,
                commit: Commit {
                    outcome: outcome.clone(),
                    effects: Effects {
                        events: staged.collect(),
                        reply: (count > 0).then(|| Box::new(event("reply", b"y"))),
                    },
                },
            }));
        }
    }
}

#[test]
fn a_description_comes_back_as_it_was() {
    let text = r#"{"name":"shop","handlers":[{"id":"charge","name":"f","version":"1",
        "topic":"orders",
        "type":"order_*","pattern":true,"input":{"type":"order","schema":{"a":1,"b":["}"]}},
        "outputs":[{"kind":"event","type":"paid","topic":"money","schema":true}]}]}"#;
    client_round(&ClientFrame::Describe(Describe {
        id: 3,
        subscription: 7,
        catalogue: Arc::new(Catalogue::from_json(text).unwrap()),
    }));
    let bad = br#"{"type":"describe","id":3,"subscription":7,"catalogue":{"name":"shop"}}"#;
    let refused = ClientFrame::decode(&Bytes::from_static(bad)).unwrap_err();
    assert_eq!(refused.id, Some(3));
}

#[test]
fn an_older_servers_welcome_is_understood() {
    let text = r#"{"type":"welcome","session":"s","resumed":false,"keep_ms":0,"numbered":true,
        "guarantees":{"at_least_once":"native","order_per_key":"native",
        "atomic_handler_commit":"native","replay":"native"},"limits":{"frame_max_bytes":1,
        "calls_max":1,"subscriptions_max":1,"credit_max":1,"idle_ms":1}}"#;
    let ServerFrame::Welcome(welcome) = ServerFrame::decode(&Bytes::from(text)).unwrap() else {
        panic!("it is a welcome");
    };
    assert!(!welcome.describes, "it says nothing of catalogues");
}

#[test]
fn what_the_server_says_comes_back_as_it_was() {
    let position = |offset| Position {
        topic: topic(),
        partition: Partition(1),
        offset: Offset(offset),
    };
    server_round(&ServerFrame::Answer(Answer {
        id: 4,
        positions: Some(vec![position(1), position(2)]),
        ..Answer::default()
    }));
    server_round(&ServerFrame::Deliver {
        subscription: 1,
        deliveries: (1..3)
            .map(|n| Delivered {
                delivery: n,
                position: position(n),
                attempt: Attempt(1),
                event: Arc::new(event(&n.to_string(), b"{\"n\":1}")),
            })
            .collect(),
    });
    server_round(&ServerFrame::Fetched {
        id: 5,
        next: Offset(3),
        end: Offset(4),
        events: vec![(Offset(2), Arc::new(event("f", b"\xfe")))],
    });
    server_round(&ServerFrame::News(News::Bye {
        retry_ms: 500,
        why: "closing".into(),
    }));
    let faults = [
        Fault::Stale,
        Fault::TooLarge {
            size_bytes: 5,
            max_bytes: 4,
        },
        Fault::Staged {
            fault: Box::new(Fault::UnknownTopic { topic: topic() }),
        },
        Fault::OutOfRange {
            offset: Offset(9),
            earliest: Offset(1),
            end: Offset(3),
            topic: Some(topic()),
            partition: Some(Partition(0)),
        },
    ];
    for fault in faults {
        server_round(&ServerFrame::Error(Failed::call(Some(1), fault.clone())));
        server_round(&ServerFrame::Error(Failed::subscription(2, fault)));
    }
    let newer = Bytes::from_static(br#"{"type":"error","id":1,"code":"of_tomorrow","x":1}"#);
    let ServerFrame::Error(failed) = ServerFrame::decode(&newer).unwrap() else {
        panic!("another frame");
    };
    assert_eq!(failed.fault, Fault::Unknown);
}

#[test]
fn a_bad_frame_is_refused_and_names_its_call() {
    let bad: [(&[u8], Option<u64>); 9] = [
        (b"", None),
        (b"\xff", None),
        (b"[]", None),
        (b"{\"type\":5}", None),
        (b"{\"type\":\"nothing\",\"id\":3}", Some(3)),
        (b"{\"type\":\"publish\",\"id\":4}", Some(4)),
        (
            b"{\"type\":\"settle\",\"id\":5,\"subscription\":-1,\"delivery\":1}",
            Some(5),
        ),
        (
            b"{\"type\":\"publish\",\"id\":6,\"topic\":\"t\",\"events\":[{\"id\":1}]}",
            Some(6),
        ),
        (b"{\"type\":\"fetch\",\"id\":7,\"topic\":\"a b\"}", Some(7)),
    ];
    for (bytes, id) in bad {
        let refused = ClientFrame::decode(&Bytes::from_static(bytes)).unwrap_err();
        assert_eq!(refused.id, id, "{}", String::from_utf8_lossy(bytes));
    }
}

proptest! {
    #[test]
    fn no_bytes_break_the_decoders(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = ClientFrame::decode(&Bytes::from(bytes.clone()));
        let _ = ServerFrame::decode(&Bytes::from(bytes));
    }

    #[test]
    fn no_change_of_a_frame_breaks_the_decoders(
        at in 0..400_usize, to in any::<u8>(), cut in 0..400_usize,
    ) {
        let frame = ClientFrame::Settle(Settle {
            id: 9,
            subscription: 1,
            delivery: 2,
            commit: Commit {
                outcome: Outcome::Ack,
                effects: Effects { events: vec![(topic(), event("e", b"x"))], reply: None },
            },
        });
        let mut bytes = frame.encode().into_bytes();
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = ClientFrame::decode(&Bytes::from(bytes.clone()));
        bytes.truncate(cut);
        let _ = ClientFrame::decode(&Bytes::from(bytes));
    }
}
