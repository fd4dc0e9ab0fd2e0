//! Settling: what comes again, how it is counted, what a stale right can do, retry and dead
//! letter.

use std::time::{Duration, Instant};

use tidemill_core::delivery::dead_letter_topic;
use tidemill_core::{
    Commit, Delivery, Effects, Failure, Order, Outcome, SettleError, Start, TopicName,
};

use super::Instance;
use super::tools::{Checked, ack, ensure, event, events, group, id};

fn expect_attempt(delivery: &Delivery, name: &str, attempt: u32) -> Checked {
    ensure!(
        id(delivery) == name && delivery.attempt.0 == attempt,
        "{name} in attempt {attempt} was due, {} in attempt {} came",
        id(delivery),
        delivery.attempt
    );
    Ok(())
}

pub(super) async fn a_dropped_settlement_comes_again(instance: &Instance) -> Checked {
    let topic = instance.topic("dropped");
    instance.publish(&topic, events("k", 2)).await?;
    let mut member = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    for attempt in 1..=3 {
        let (delivery, settlement) = member.one().await?;
        expect_attempt(&delivery, "k-0", attempt)?;
        drop(settlement);
    }
    let (delivery, settlement) = member.one().await?;
    expect_attempt(&delivery, "k-0", 4)?;
    ack(settlement).await?;
    let (delivery, settlement) = member.one().await?;
    expect_attempt(&delivery, "k-1", 1)?;
    ack(settlement).await
}

pub(super) async fn a_dropped_member_gives_back(instance: &Instance) -> Checked {
    let topic = instance.topic("left");
    instance.publish(&topic, events("k", 2)).await?;
    let mut gone = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    let (delivery, settlement) = gone.one().await?;
    expect_attempt(&delivery, "k-0", 1)?;
    let mut heir = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    drop(gone);
    let (delivery, inherited) = heir.one().await?;
    expect_attempt(&delivery, "k-0", 2)?;
    drop(settlement);
    ack(inherited).await?;
    let (delivery, settlement) = heir.one().await?;
    expect_attempt(&delivery, "k-1", 1)?;
    ack(settlement).await
}

fn with_event(topic: &TopicName, name: &str) -> Commit {
    Commit {
        outcome: Outcome::Ack,
        effects: Effects {
            events: vec![(topic.clone(), event(Some("k"), name))],
            reply: None,
        },
    }
}

pub(super) async fn a_stale_settlement_is_refused_whole(instance: &Instance) -> Checked {
    let topic = instance.topic("stale");
    let out = instance.topic("stale-out");
    instance.publish(&topic, events("k", 1)).await?;
    let mut gone = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    let (_, stale) = gone.one().await?;
    drop(gone);
    let mut heir = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    let (_, fresh) = heir.one().await?;
    let answer = stale.settle(with_event(&out, "from the stale one")).await;
    ensure!(
        matches!(answer, Err(SettleError::Stale)),
        "a settlement whose event another member has was answered {answer:?}"
    );
    let settled = fresh.settle(with_event(&out, "from the fresh one")).await;
    ensure!(
        settled.is_ok(),
        "the fresh settlement was answered {settled:?}"
    );
    let mut reader = instance
        .join(&out, "r", Order::PerKey, Start::Beginning)
        .await?;
    let seen = reader.settle_until("from the fresh one").await?;
    ensure!(
        seen.len() == 1,
        "a stale commit left events behind: {seen:?}"
    );
    Ok(())
}

pub(super) async fn a_retry_waits_and_counts(instance: &Instance) -> Checked {
    const AFTER: Duration = Duration::from_millis(150);
    let topic = instance.topic("retried");
    instance.publish(&topic, events("k", 1)).await?;
    let mut member = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    let (_, settlement) = member.one().await?;
    let asked = Instant::now();
    let retry = Commit {
        outcome: Outcome::Retry { after: AFTER },
        effects: Effects::default(),
    };
    let answer = settlement.settle(retry).await;
    ensure!(answer.is_ok(), "a retry was answered {answer:?}");
    instance
        .publish(&topic, vec![event(Some("other"), "other")])
        .await?;
    let (other, settlement) = member.one().await?;
    expect_attempt(&other, "other", 1)?;
    ack(settlement).await?;
    let (again, settlement) = member.one().await?;
    let waited = asked.elapsed();
    expect_attempt(&again, "k-0", 2)?;
    ensure!(
        waited >= AFTER,
        "a retry after {AFTER:?} came after {waited:?}"
    );
    ack(settlement).await
}

pub(super) fn given_up() -> Outcome {
    Outcome::DeadLetter {
        failure: Box::new(Failure {
            reason: "rejected".to_owned(),
            error: "no such order".to_owned(),
            attempts: 1,
            first: None,
            last: None,
            handler: Some("check".to_owned()),
            version: Some("1".to_owned()),
        }),
    }
}

pub(super) async fn a_dead_letter_is_kept_and_settled(instance: &Instance) -> Checked {
    let topic = instance.topic("poison");
    instance.publish(&topic, events("k", 2)).await?;
    let mut member = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    let (dead, settlement) = member.one().await?;
    let answer = settlement
        .settle(Commit {
            outcome: given_up(),
            effects: Effects::default(),
        })
        .await;
    ensure!(answer.is_ok(), "a dead letter was answered {answer:?}");
    let (next, settlement) = member.one().await?;
    expect_attempt(&next, "k-1", 1)?;
    ack(settlement).await?;
    let letters = dead_letter_topic(&group(&format!("{}g", instance.prefix)));
    let mut reader = instance
        .join(&letters, "r", Order::PerKey, Start::Beginning)
        .await?;
    let (letter, settlement) = reader.one().await?;
    ensure!(
        letter.event.data() == dead.event.data() && letter.event.key() == dead.event.key(),
        "the dead letter of {:?} is {:?}",
        dead.event,
        letter.event
    );
    let says = |name| {
        letter
            .event
            .extension_str(name)
            .unwrap_or_default()
            .to_owned()
    };
    ensure!(
        says("deadletterreason") == "rejected" && says("deadlettererror") == "no such order",
        "a dead letter says why: {:?}",
        letter.event
    );
    ack(settlement).await
}
