//! The three orders of a subscription, under concurrency.

use std::collections::BTreeMap;

use tidemill_core::{Event, Order, Partition, Start};

use super::Instance;
use super::tools::{Checked, ack, ensure, event, id, ids};

const KEYS: [&str; 3] = ["a", "b", "c"];

/// Events of three keys, taking turns: a-0, b-0, c-0, a-1 and so on.
fn in_turns(rounds: usize) -> Vec<Event> {
    (0..rounds)
        .flat_map(|n| KEYS.map(|key| event(Some(key), &format!("{key}-{n}"))))
        .collect()
}

pub(super) async fn one_of_a_key_in_flight_while_others_go_on(instance: &Instance) -> Checked {
    const ROUNDS: usize = 12;
    let topic = instance.topic("keys");
    instance.publish(&topic, in_turns(ROUNDS)).await?;
    let mut member = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    // Nothing is settled, so exactly the first of each key can be had.
    let mut held = member.take(KEYS.len()).await?;
    let mut first = ids(&held);
    first.sort();
    ensure!(
        first == ["a-0", "b-0", "c-0"],
        "in flight at once: {first:?}"
    );
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    while count < ROUNDS * KEYS.len() {
        if held.is_empty() {
            held = member.pull(16).await?;
        }
        let mut flying: Vec<_> = held
            .iter()
            .map(|(d, _)| d.event.key().map(str::to_owned))
            .collect();
        flying.sort();
        flying.dedup();
        ensure!(
            flying.len() == held.len(),
            "two of one key in flight: {:?}",
            ids(&held)
        );
        // Settled in another order than delivered, so that a key's next may pass the others.
        let Some((delivery, settlement)) = held.pop() else {
            continue;
        };
        let key = delivery.event.key().unwrap_or_default().to_owned();
        seen.entry(key).or_default().push(id(&delivery));
        ack(settlement).await?;
        count += 1;
    }
    for key in KEYS {
        let expected: Vec<String> = (0..ROUNDS).map(|n| format!("{key}-{n}")).collect();
        ensure!(
            seen.get(key) == Some(&expected),
            "key {key} came as {:?}",
            seen.get(key)
        );
    }
    Ok(())
}

pub(super) async fn one_of_a_partition_in_flight(instance: &Instance) -> Checked {
    const ROUNDS: usize = 5;
    let topic = instance.topic("partitions");
    let positions = instance.publish(&topic, in_turns(ROUNDS)).await?;
    let mut member = instance
        .join(&topic, "g", Order::PerPartition, Start::Beginning)
        .await?;
    let mut seen: BTreeMap<Partition, Vec<u64>> = BTreeMap::new();
    let mut count = 0;
    while count < positions.len() {
        let held = member.pull(16).await?;
        let mut flying: Vec<_> = held.iter().map(|(d, _)| d.position.partition).collect();
        flying.sort();
        flying.dedup();
        ensure!(
            flying.len() == held.len(),
            "two of one partition in flight: {:?}",
            ids(&held)
        );
        for (delivery, settlement) in held {
            let offsets = seen.entry(delivery.position.partition).or_default();
            offsets.push(delivery.position.offset.0);
            ack(settlement).await?;
            count += 1;
        }
    }
    for (partition, offsets) in seen {
        ensure!(
            offsets.is_sorted_by(|a, b| a < b),
            "partition {partition} came as {offsets:?}"
        );
    }
    Ok(())
}

pub(super) async fn without_order_one_key_fills_the_credit(instance: &Instance) -> Checked {
    let topic = instance.topic("free");
    let events: Vec<Event> = (0..8)
        .map(|n| event(Some("k"), &format!("k-{n}")))
        .collect();
    instance.publish(&topic, events).await?;
    let mut member = instance
        .join(&topic, "g", Order::None, Start::Beginning)
        .await?;
    let held = member.take(8).await?;
    let mut seen = ids(&held);
    seen.sort();
    let expected: Vec<String> = (0..8).map(|n| format!("k-{n}")).collect();
    ensure!(seen == expected, "in flight without order: {seen:?}");
    for (_, settlement) in held {
        ack(settlement).await?;
    }
    Ok(())
}
