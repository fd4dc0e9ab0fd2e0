//! A remote bus whose connection is cut at every frame, in both directions, before the frame and
//! within it: nothing is lost and nothing is done twice, neither publishes nor commits with their
//! effects, nor are requests.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::Running;
use support::cutter::{Cut, Cutter};
use tidemill_adapters::remote::Remote;
use tidemill_broker::Broker;
use tidemill_core::{
    Bus, Commit, Effects, Event, EventId, EventType, Fetch, GroupName, Key, Offset, Order, Outcome,
    Partition, Source, Start, Subscription, TopicName,
};
use tokio::task::JoinSet;

const PUBLISHES: usize = 3;
const PARTITIONS: u32 = 2;
/// Sessions are kept for longer than a run may last: however busy the machine, none is over before.
const KEEP_MS: u64 = 60_000;

fn topic(name: &str) -> TopicName {
    TopicName::new(name.to_owned()).unwrap()
}

/// One with a key and one without.
fn event(id: &str, key: Option<&str>) -> Event {
    let builder = Event::builder(
        EventId::new(id.to_owned()).unwrap(),
        Source::new("/cuts").unwrap(),
        EventType::new("cut").unwrap(),
    );
    let builder = match key {
        Some(key) => builder.key(&Key::new(key.to_owned()).unwrap()),
        None => builder,
    };
    builder.build().unwrap()
}

fn out_of(event: &Event) -> Commit {
    let made = self::event(&format!("made of {}", event.id()), None);
    let reply = self::event("reply", None);
    Commit {
        outcome: Outcome::Ack,
        effects: Effects {
            events: vec![(topic("out"), made)],
            reply: Some(Box::new(reply)),
        },
    }
}

/// Publishes, handles what was published and a request, each with a staged event.
async fn work(bus: &Bus) {
    for n in 0..PUBLISHES {
        let events = vec![
            event(&format!("{n}a"), Some("k")),
            event(&format!("{n}b"), None),
        ];
        let positions = bus.publish(topic("in"), events).await.unwrap();
        assert_eq!(positions.len(), 2);
    }
    let subscription = Subscription {
        topics: vec![topic("in")],
        group: GroupName::new("g").unwrap(),
        order: Order::PerKey,
        start: Start::Beginning,
    };
    let mut member = bus.subscribe(subscription).await.unwrap();
    let mut left = 2 * PUBLISHES + 1;
    let asking = bus.clone();
    let asked = tokio::spawn(async move {
        let timeout = Duration::from_secs(20);
        asking
            .request(topic("in"), event("question", Some("q")), timeout)
            .await
    });
    while left > 0 {
        for (delivery, settlement) in member.pull(2).await.unwrap() {
            assert_eq!(delivery.attempt.0, 1, "{delivery:?} was given out twice");
            let settled = settlement.settle(out_of(&delivery.event)).await;
            assert_eq!(settled.unwrap().len(), 1);
            left -= 1;
        }
    }
    assert_eq!(asked.await.unwrap().unwrap().id().as_str(), "reply");
}

async fn ids(broker: &Broker, name: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for partition in 0..PARTITIONS {
        let fetch = Fetch {
            topic: topic(name),
            partition: Partition(partition),
            offset: Offset(0),
            max_events: 1000,
            max_bytes: 1 << 20,
            wait: Duration::ZERO,
        };
        let fetched = broker.bus().fetch(fetch).await.unwrap();
        ids.extend(
            fetched
                .events
                .iter()
                .map(|(_, event)| event.id().to_string()),
        );
    }
    ids
}

/// Frames of the client and of the server, and connections.
async fn run(cut: Option<Cut>) -> (usize, usize, usize) {
    let builder = Broker::builder()
        .in_memory(64 << 20)
        .default_partitions(PARTITIONS);
    let broker = builder.open().await.unwrap();
    let config = tidemill_server::Config::at("127.0.0.1:0".parse().unwrap());
    let running = Running::over(broker.clone(), config).await;
    let cutter = Cutter::start(running.address, cut).await;
    let address = format!("tidemill://{}?keep_ms={KEEP_MS}", cutter.address);
    let remote = match Remote::connect(&address).await {
        Ok(remote) => remote,
        // The first connection is told of, and nothing else tried.
        Err(_) => Remote::connect(&address).await.unwrap(),
    };
    let worked = tokio::time::timeout(Duration::from_secs(30), work(&remote.bus())).await;
    assert!(worked.is_ok(), "{cut:?}: it hangs");
    for (name, count) in [("in", 2 * PUBLISHES + 1), ("out", 2 * PUBLISHES + 1)] {
        let ids = ids(&broker, name).await;
        let different: BTreeSet<&String> = ids.iter().collect();
        assert_eq!(
            (ids.len(), different.len()),
            (count, count),
            "{cut:?}: {name} has {ids:?}"
        );
    }
    cutter.counts()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_at_any_frame_loses_and_doubles_nothing() {
    let (of_client, of_server, connections) = run(None).await;
    assert_eq!(connections, 1);
    assert!(
        of_client > 15 && of_server > 15,
        "{of_client} and {of_server} frames"
    );
    let mut cuts = Vec::new();
    for half in [false, true] {
        let cut = |from_client| {
            move |frame| Cut {
                frame,
                from_client,
                half,
            }
        };
        cuts.extend((0..of_client).map(cut(true)));
        cuts.extend((0..of_server).map(cut(false)));
    }
    let mut running = JoinSet::new();
    let mut again = 0;
    for cut in cuts {
        if running.len() >= 8 {
            again += usize::from(running.join_next().await.unwrap().unwrap() > 1);
        }
        running.spawn(async move { run(Some(cut)).await.2 });
    }
    while let Some(connections) = running.join_next().await {
        again += usize::from(connections.unwrap() > 1);
    }
    // All but a few frames at the end of a run come in each run.
    assert!(
        again > 3 * (of_client + of_server) / 2,
        "{again} runs were cut"
    );
}
