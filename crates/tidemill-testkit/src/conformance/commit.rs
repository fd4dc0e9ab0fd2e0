//! The handler's commit: settlement and returned events are one.

use tidemill_core::{Commit, Effects, Order, Outcome, SettleError, Start, TopicName};

use super::Instance;
use super::tools::{Checked, ack, ensure, event, events, id};

pub(super) async fn returned_events_come_with_the_settlement(instance: &Instance) -> Checked {
    let topic = instance.topic("in");
    let (left, right) = (instance.topic("left-out"), instance.topic("right-out"));
    instance.publish(&topic, events("k", 2)).await?;
    let mut member = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    let (_, settlement) = member.one().await?;
    let commit = Commit {
        outcome: Outcome::Ack,
        effects: Effects {
            events: vec![
                (left.clone(), event(Some("k"), "first")),
                (right.clone(), event(Some("k"), "second")),
                (left.clone(), event(Some("k"), "third")),
            ],
            reply: None,
        },
    };
    let settled = instance.within("settle", settlement.settle(commit)).await?;
    let positions = match settled {
        Ok(positions) => positions,
        Err(error) => return Err(format!("a commit was refused: {error}").into()),
    };
    let topics: Vec<_> = positions.iter().map(|p| p.topic.clone()).collect();
    ensure!(
        topics == [left.clone(), right.clone(), left.clone()],
        "the positions of the returned events are {positions:?}"
    );
    for (topic, last, expected) in [
        (&left, "third", vec!["first", "third"]),
        (&right, "second", vec!["second"]),
    ] {
        let mut reader = instance
            .join(topic, "r", Order::PerKey, Start::Beginning)
            .await?;
        let seen = reader.settle_until(last).await?;
        ensure!(
            seen == expected,
            "{expected:?} were returned and {seen:?} came"
        );
    }
    let (next, settlement) = member.one().await?;
    ensure!(
        id(&next) == "k-1",
        "the settled event came again: {}",
        id(&next)
    );
    ack(settlement).await
}

/// A commit of one small event and one that is larger than the bus takes.
fn too_large(instance: &Instance, topic: &TopicName) -> Commit {
    let max_bytes = instance.features.event_max_bytes.unwrap_or_default();
    let large = event(Some("k"), "large")
        .to_builder()
        .untyped_data(vec![b'7'; max_bytes + 1])
        .build()
        .expect("size is not part of being valid");
    Commit {
        outcome: Outcome::Ack,
        effects: Effects {
            events: vec![
                (topic.clone(), event(Some("k"), "beside")),
                (topic.clone(), large),
            ],
            reply: None,
        },
    }
}

pub(super) async fn a_refused_commit_leaves_the_right_to_settle(instance: &Instance) -> Checked {
    let topic = instance.topic("again-in");
    let out = instance.topic("again-out");
    instance.publish(&topic, events("k", 2)).await?;
    let mut member = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    let (_, mut settlement) = member.one().await?;
    let refused = settlement.try_settle(too_large(instance, &out)).await;
    ensure!(
        matches!(refused, Err(SettleError::Effect(_))),
        "a commit with an event that is too large was answered {refused:?}"
    );
    let settled = settlement.try_settle(Commit::ack()).await;
    ensure!(settled.is_ok(), "the second try was answered {settled:?}");
    let again = settlement.try_settle(Commit::ack()).await;
    ensure!(
        matches!(again, Err(SettleError::Stale)),
        "a right that is spent was answered {again:?}"
    );
    let (next, settlement) = member.one().await?;
    ensure!(
        id(&next) == "k-1" && next.attempt.0 == 1,
        "after the second try {} came in attempt {}",
        id(&next),
        next.attempt
    );
    ack(settlement).await
}

pub(super) async fn a_refused_effect_refuses_the_commit(instance: &Instance) -> Checked {
    let topic = instance.topic("refused-in");
    let out = instance.topic("refused-out");
    instance.publish(&topic, events("k", 1)).await?;
    let mut member = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    let (_, settlement) = member.one().await?;
    let commit = too_large(instance, &out);
    let answer = instance.within("settle", settlement.settle(commit)).await?;
    ensure!(
        matches!(answer, Err(SettleError::Effect(_))),
        "a commit with an event that is too large was answered {answer:?}"
    );
    let (again, settlement) = member.one().await?;
    ensure!(
        id(&again) == "k-0" && again.attempt.0 == 2,
        "after a refused commit {} came in attempt {}",
        id(&again),
        again.attempt
    );
    ack(settlement).await?;
    instance
        .publish(&out, vec![event(Some("k"), "after")])
        .await?;
    let mut reader = instance
        .join(&out, "r", Order::PerKey, Start::Beginning)
        .await?;
    let seen = reader.settle_until("after").await?;
    ensure!(
        seen == ["after"],
        "a refused commit left events behind: {seen:?}"
    );
    Ok(())
}
