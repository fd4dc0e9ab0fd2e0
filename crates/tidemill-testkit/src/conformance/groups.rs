//! Groups: each gets everything, its members share it, and it starts where it was told to.

use std::collections::BTreeSet;

use tidemill_core::{Delivery, Event, Order, Settlement, Start};

use super::tools::{Checked, ack, ensure, event, events, id, ids};
use super::{Instance, Violation};

pub(super) async fn every_group_gets_everything(instance: &Instance) -> Checked {
    let topic = instance.topic("all");
    let mut one = instance
        .join(&topic, "one", Order::PerKey, Start::Beginning)
        .await?;
    let mut expected = Vec::new();
    for n in 0..10 {
        instance
            .publish(&topic, vec![event(Some("k"), &format!("k-{n}"))])
            .await?;
        expected.push(format!("k-{n}"));
    }
    let mut two = instance
        .join(&topic, "two", Order::PerKey, Start::Beginning)
        .await?;
    for member in [&mut one, &mut two] {
        let seen = member.settle_until("k-9").await?;
        ensure!(
            seen == expected,
            "a group got {seen:?} instead of {expected:?}"
        );
    }
    Ok(())
}

fn spread(count: usize) -> Vec<Event> {
    (0..count)
        .map(|n| event(Some(&format!("key-{n}")), &format!("e{n}")))
        .collect()
}

pub(super) async fn members_share(instance: &Instance) -> Checked {
    const COUNT: usize = 60;
    let topic = instance.topic("shared");
    let mut one = instance
        .join(&topic, "g", Order::None, Start::Beginning)
        .await?;
    let mut two = instance
        .join(&topic, "g", Order::None, Start::Beginning)
        .await?;
    instance.publish(&topic, spread(COUNT)).await?;
    let mut held: Vec<(Delivery, Settlement)> = one.pull(10).await?;
    let ones = held.len();
    held.extend(two.pull(10).await?);
    ensure!(held.len() > ones, "the second member got nothing");
    let mut seen = BTreeSet::new();
    while !held.is_empty() {
        for (delivery, settlement) in held.drain(..) {
            let fresh = seen.insert(id(&delivery));
            ensure!(fresh, "{} went to two members", id(&delivery));
            ack(settlement).await?;
        }
        if seen.len() < COUNT {
            let Instance { patience, .. } = instance;
            held = tokio::select! {
                taken = one.member.pull(10) => taken,
                taken = two.member.pull(10) => taken,
                () = tokio::time::sleep(*patience) => Ok(Vec::new()),
            }
            .map_err(|error| Violation(format!("pull failed: {error}")))?;
            ensure!(
                !held.is_empty(),
                "{} of {COUNT} events came, then none",
                seen.len()
            );
        }
    }
    Ok(())
}

pub(super) async fn a_group_goes_on_where_it_was(instance: &Instance) -> Checked {
    let topic = instance.topic("resumed");
    instance.publish(&topic, events("k", 6)).await?;
    let mut first = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    let seen = first.settle_until("k-2").await?;
    ensure!(
        seen == ["k-0", "k-1", "k-2"],
        "the group began with {seen:?}"
    );
    drop(first);
    // A start is for a new group alone.
    for start in [Start::Beginning, Start::End] {
        let mut again = instance.join(&topic, "g", Order::PerKey, start).await?;
        let (delivery, settlement) = again.one().await?;
        let expected = if start == Start::Beginning {
            "k-3"
        } else {
            "k-4"
        };
        ensure!(
            id(&delivery) == expected,
            "the group settled what is before {expected} and went on with {}",
            id(&delivery)
        );
        ack(settlement).await?;
    }
    Ok(())
}

pub(super) async fn a_new_group_starts_at_the_end(instance: &Instance) -> Checked {
    let topic = instance.topic("late");
    instance.publish(&topic, events("old", 5)).await?;
    let mut member = instance
        .join(&topic, "g", Order::PerKey, Start::End)
        .await?;
    instance.publish(&topic, events("new", 2)).await?;
    let seen = ids(&member.pull(1).await?);
    ensure!(
        seen == ["new-0"],
        "a group that starts at the end got {seen:?}"
    );
    Ok(())
}

pub(super) async fn a_new_group_starts_at_an_offset(instance: &Instance) -> Checked {
    let topic = instance.topic("from");
    let positions = instance.publish(&topic, events("k", 6)).await?;
    let Some(from) = positions.get(4) else {
        return Err(Violation("six events have six positions".to_owned()));
    };
    let start = Start::At(from.offset);
    let mut member = instance.join(&topic, "g", Order::PerKey, start).await?;
    let seen = member.settle_until("k-5").await?;
    ensure!(
        seen == ["k-4", "k-5"],
        "a group that starts at {} got {seen:?}",
        from.offset
    );
    Ok(())
}
