//! The child of the `kill -9` test: opens the broker on a folder, publishes and settles as fast
//! as it can, and prints every acknowledgement before it goes on. It never ends by itself.
//!
//! Lines: `ready`, `acked <partition> <offset> <id>`, `settled <id>`.

use std::io::Write;
use std::process::ExitCode;

use tidemill_broker::Broker;
use tidemill_core::{
    Bus, Commit, Event, EventId, EventType, GroupName, Key, Order, Source, Start, Subscription,
    TopicName,
};

const PUBLISHERS: u64 = 8;

/// One line, whole, at once: the parent reads no halves.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A parent that is gone wants nothing more.
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

fn event(round: &str, publisher: u64, number: u64) -> Event {
    let id = format!("{round}-{publisher}-{number}");
    Event::builder(
        EventId::new(id).expect("letters and digits"),
        Source::new("/kill").expect("a legal source"),
        EventType::new("kill").expect("a legal type"),
    )
    .key(&Key::new(format!("key-{publisher}")).expect("a legal key"))
    .untyped_data(vec![b'7'; 10 + (number as usize * 37) % 900])
    .build()
    .expect("every part is legal")
}

async fn publish(bus: Bus, topic: TopicName, round: String, publisher: u64) {
    let mut number = 0;
    loop {
        let count = 1 + number % 3;
        let events: Vec<Event> = (number..number + count)
            .map(|n| event(&round, publisher, n))
            .collect();
        let ids: Vec<String> = events.iter().map(|e| e.id().to_string()).collect();
        match bus.publish(topic.clone(), events).await {
            Ok(positions) => {
                for (position, id) in positions.iter().zip(ids) {
                    say(&format!(
                        "acked {} {} {id}",
                        position.partition, position.offset
                    ));
                }
            }
            Err(error) => return say(&format!("failed to publish: {error}")),
        }
        number += count;
    }
}

async fn settle(bus: Bus, topic: TopicName) {
    let subscription = Subscription {
        topics: vec![topic],
        group: GroupName::new("settlers").expect("a legal name"),
        order: Order::PerKey,
        start: Start::Beginning,
    };
    let mut member = match bus.subscribe(subscription).await {
        Ok(member) => member,
        Err(error) => return say(&format!("failed to subscribe: {error}")),
    };
    loop {
        let taken = match member.pull(32).await {
            Ok(taken) => taken,
            Err(error) => return say(&format!("failed to pull: {error}")),
        };
        for (delivery, settlement) in taken {
            match settlement.settle(Commit::ack()).await {
                Ok(_) => say(&format!("settled {}", delivery.event.id())),
                Err(error) => return say(&format!("failed to settle: {error}")),
            }
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(round)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: publish_until_killed FOLDER ROUND");
        return ExitCode::from(2);
    };
    let broker = match Broker::builder()
        .path(&folder)
        .default_partitions(3)
        .open()
        .await
    {
        Ok(broker) => broker,
        Err(error) => {
            eprintln!("cannot open {folder}: {error}");
            return ExitCode::FAILURE;
        }
    };
    say("ready");
    let topic = TopicName::new("load").expect("a legal name");
    let mut tasks = tokio::task::JoinSet::new();
    for publisher in 0..PUBLISHERS {
        tasks.spawn(publish(
            broker.bus(),
            topic.clone(),
            round.clone(),
            publisher,
        ));
    }
    tasks.spawn(settle(broker.bus(), topic));
    while tasks.join_next().await.is_some() {}
    ExitCode::FAILURE
}
