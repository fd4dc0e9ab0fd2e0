//! Pulling: credit and cancellation.

use tidemill_core::{Event, Order, Start};

use super::Instance;
use super::tools::{Checked, ack, ensure, event, id};

fn spread(count: usize) -> Vec<Event> {
    (0..count)
        .map(|n| event(Some(&format!("key-{n}")), &format!("e{n}")))
        .collect()
}

pub(super) async fn pull_takes_at_most_its_credit(instance: &Instance) -> Checked {
    let topic = instance.topic("credit");
    instance.publish(&topic, spread(30)).await?;
    let mut member = instance
        .join(&topic, "g", Order::None, Start::Beginning)
        .await?;
    let mut left = 30;
    for credit in [1, 2, 7, 100] {
        let taken = member.pull(credit).await?;
        ensure!(
            taken.len() <= credit,
            "a credit of {credit} gave {} events",
            taken.len()
        );
        left -= taken.len();
        for (_, settlement) in taken {
            ack(settlement).await?;
        }
    }
    member.take(left).await.map(drop)
}

pub(super) async fn a_cancelled_pull_took_nothing(instance: &Instance) -> Checked {
    const COUNT: usize = 50;
    let topic = instance.topic("cancelled");
    let mut member = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    let mut seen = Vec::new();
    for n in 0..COUNT {
        // Begun before there is anything, dropped while the event arrives.
        let mut early = Box::pin(member.member.pull(1));
        let at_once = futures_util::poll!(&mut early);
        ensure!(
            at_once.is_pending(),
            "a pull of an empty topic gave {at_once:?}"
        );
        instance
            .publish(&topic, vec![event(Some("k"), &format!("k-{n}"))])
            .await?;
        let taken = match futures_util::poll!(&mut early) {
            std::task::Poll::Ready(taken) => {
                taken.map_err(|error| format!("pull failed: {error}"))?
            }
            std::task::Poll::Pending => Vec::new(),
        };
        drop(early);
        let taken = if taken.is_empty() {
            vec![member.one().await?]
        } else {
            taken
        };
        for (delivery, settlement) in taken {
            ensure!(
                delivery.attempt.0 == 1,
                "{} was taken by a cancelled pull and came in attempt {}",
                id(&delivery),
                delivery.attempt
            );
            seen.push(id(&delivery));
            ack(settlement).await?;
        }
    }
    let expected: Vec<String> = (0..COUNT).map(|n| format!("k-{n}")).collect();
    ensure!(seen == expected, "cancelled pulls left {seen:?}");
    Ok(())
}
