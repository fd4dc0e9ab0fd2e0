//! Request and reply: what a requester may rely on, whichever bus answers.

use std::time::Duration;

use tidemill_core::{Commit, Effects, Event, Order, Outcome, RequestError, Start};

use super::settle::given_up;
use super::tools::{Checked, ack, bus, ensure, event, id};
use super::{Instance, Violation};

fn answer(reply: Event) -> Commit {
    Commit {
        outcome: Outcome::Ack,
        effects: Effects {
            events: Vec::new(),
            reply: Some(Box::new(reply)),
        },
    }
}

/// Two requests at once, answered in the other order: each gets its own reply.
pub(super) async fn a_request_gets_the_handlers_reply(instance: &Instance) -> Checked {
    let topic = instance.topic("asked");
    let mut member = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    let ask = |name: &'static str| {
        bus(instance).request(topic.clone(), event(Some(name), name), instance.patience)
    };
    let handle = async {
        let mut held = member.take(2).await?;
        held.reverse();
        for (delivery, settlement) in held {
            let reply = event(None, &format!("reply to {}", id(&delivery)));
            let settled = settlement.settle(answer(reply)).await;
            ensure!(settled.is_ok(), "a reply was answered {settled:?}");
        }
        Ok(())
    };
    let (one, two, handled) = tokio::join!(ask("one"), ask("two"), handle);
    handled?;
    for (name, reply) in [("one", one), ("two", two)] {
        let reply = reply.map_err(|error| Violation(format!("request {name}: {error}")))?;
        let data = format!("{{\"id\":\"reply to {name}\"}}");
        ensure!(
            reply.data().is_some_and(|d| d == data.as_bytes()),
            "request {name} was answered with {reply:?}"
        );
    }
    Ok(())
}

pub(super) async fn a_request_times_out(instance: &Instance) -> Checked {
    const TIMEOUT: Duration = Duration::from_millis(60);
    let topic = instance.topic("unanswered");
    let request = bus(instance).request(topic.clone(), event(Some("k"), "k-0"), TIMEOUT);
    let reply = instance
        .within("the end of a request's wait", request)
        .await?;
    ensure!(
        matches!(reply, Err(RequestError::Timeout(_))),
        "a request that nobody handles was answered {reply:?}"
    );
    // It stays an event like any other, and a late reply harms nobody.
    let mut member = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    let (delivery, settlement) = member.one().await?;
    ensure!(
        id(&delivery) == "k-0",
        "{} came instead of the request",
        id(&delivery)
    );
    let late = settlement.settle(answer(event(None, "late"))).await;
    ensure!(late.is_ok(), "a late reply was answered {late:?}");
    instance
        .publish(&topic, vec![event(Some("k"), "after")])
        .await?;
    let (delivery, settlement) = member.one().await?;
    ensure!(
        id(&delivery) == "after",
        "after a late reply {} came",
        id(&delivery)
    );
    ack(settlement).await
}

pub(super) async fn a_dead_lettered_request_says_so(instance: &Instance) -> Checked {
    let topic = instance.topic("hopeless");
    let mut member = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    let ask = bus(instance).request(topic.clone(), event(Some("k"), "k-0"), instance.patience);
    let handle = async {
        let (_, settlement) = member.one().await?;
        let commit = Commit {
            outcome: given_up(),
            effects: Effects::default(),
        };
        let settled = settlement.settle(commit).await;
        ensure!(settled.is_ok(), "a dead letter was answered {settled:?}");
        Ok(())
    };
    let (reply, handled) = tokio::join!(ask, handle);
    handled?;
    ensure!(
        matches!(&reply, Err(RequestError::DeadLettered(why)) if why.contains("no such order")),
        "a request that was given up was answered {reply:?}"
    );
    Ok(())
}
