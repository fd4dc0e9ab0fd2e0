//! One webhook at work: a member of its group that sends what it gets, and settles it.
//!
//! ```text
//! pull ──► memory for the body ──► attempt ──► 2xx: settled
//!                                          ├─► else: given out again later, or a dead letter
//!                                          └─► 410: the webhook is paused
//! ```
//!
//! It knows the traits of a bus alone. This room may not know where definitions are kept.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tidemill_core::budget::{Budget, Class, Share};
use tidemill_core::catalogue::{Catalogue, HandlerEntry, InputEntry, RetryEntry};
use tidemill_core::error::Unavailable;
use tidemill_core::{
    Bus, Commit, Delivery, Effects, Failure, GroupMember, Order, Outcome, PullError, Settlement,
    Start, SubscribeError, Subscription, json,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::definition::Definition;
use super::send::{Failed, Sender, Verdict};
use super::stats::{Flying, Stats};
use super::{retry, sign};
use crate::limits::{ANSWER_PART, MEMORY_LOOK_EVERY, WEBHOOK_REJOIN, WEBHOOK_STOP_GRACE};
use crate::metrics::WebhookMetrics;

/// A member of a webhook's group.
pub(crate) type Member = Box<dyn GroupMember>;

/// Why a webhook ended to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to, or the bus is closed.
    Stopped,
    /// Nothing is to be sent until somebody looks, for this reason.
    Paused(String),
}

/// One webhook at work.
pub(crate) struct Worker {
    pub(crate) definition: Arc<Definition>,
    pub(crate) sender: Sender,
    pub(crate) stats: Arc<Stats>,
    pub(crate) metrics: WebhookMetrics,
    pub(crate) bus: Bus,
    pub(crate) memory: Budget,
    pub(crate) random: RandomState,
}

/// Joins a webhook's group, which is made where it is not there.
///
/// # Errors
/// As the bus says.
pub(crate) async fn join(
    bus: &Bus,
    definition: &Definition,
    start: Start,
) -> Result<Member, SubscribeError> {
    let subscription = Subscription {
        topics: definition.topics.clone(),
        group: definition.group(),
        order: Order::PerKey,
        start,
    };
    let mut member = bus.subscribe(subscription).await?;
    // A bus that keeps no more of them shows the group without it.
    let _ = member.describe(Arc::new(described(definition)));
    Ok(member)
}

/// What the webhook does, for listings and the flow graph.
fn described(definition: &Definition) -> Catalogue {
    let every = ["**".to_owned()];
    let types = match definition.types.is_empty() {
        true => &every[..],
        false => &definition.types[..],
    };
    let pairs = definition
        .topics
        .iter()
        .flat_map(|topic| types.iter().map(move |ty| (topic, ty)));
    let entry = |(topic, ty): (&tidemill_core::TopicName, &String)| HandlerEntry {
        id: format!("webhook {} {topic} {ty}", definition.name),
        name: format!("webhook {}", definition.name),
        version: String::new(),
        source: None,
        topic: topic.clone(),
        ty: ty.clone(),
        pattern: ty.contains('*'),
        input: InputEntry::default(),
        outputs: Vec::new(),
        needs: Some(Order::PerKey),
        retry: Some(RetryEntry {
            retries: definition.attempts - 1,
            first_ms: definition.retry_first_ms,
            max_ms: definition.retry_max_ms,
        }),
        timeout_ms: Some(definition.timeout_ms),
    };
    Catalogue {
        name: format!("webhook {}", definition.name),
        handlers: pairs.map(entry).collect(),
    }
}

impl Worker {
    /// Works until told to stop; joins the group where it has no member yet.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut member: Option<Member>,
        mut stop: watch::Receiver<bool>,
    ) -> Ended {
        let mut flights = JoinSet::new();
        let ended = loop {
            let mut ready = match member.take() {
                Some(member) => member,
                None => {
                    let joined = self.rejoin();
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => break Ended::Stopped,
                        joined = joined => match joined {
                            Some(member) => member,
                            None => break Ended::Stopped,
                        },
                    }
                }
            };
            match self.work(&mut ready, &mut flights, &mut stop).await {
                Some(ended) => {
                    member = Some(ready);
                    break ended;
                }
                None => tracing::warn!(webhook = self.definition.name, "it joins its group anew"),
            }
        };
        // What is under way may come to its end, and is settled while there is a member; what does
        // not is sent again later.
        let rest = async { while flights.join_next().await.is_some() {} };
        let _ = timeout(WEBHOOK_STOP_GRACE, rest).await;
        drop(member);
        ended
    }

    /// A member, once there is one; `None` where the bus is closed.
    async fn rejoin(&self) -> Option<Member> {
        loop {
            // A group that is there goes on where it was.
            match join(&self.bus, &self.definition, Start::End).await {
                Ok(member) => {
                    self.stats.out_of_trouble();
                    return Some(member);
                }
                Err(SubscribeError::Unavailable(Unavailable::Closed)) => return None,
                Err(why) => self.trouble(format!("its topics cannot be read: {why}")),
            }
            sleep(WEBHOOK_REJOIN).await;
        }
    }

    fn trouble(&self, why: String) {
        tracing::warn!(
            webhook = self.definition.name,
            why,
            "a webhook is in trouble"
        );
        self.stats.trouble(Timestamp::now(), why);
    }

    /// Sends what the member gets, until something is to be done about it: `None` to join anew.
    async fn work(
        self: &Arc<Self>,
        member: &mut Member,
        flights: &mut JoinSet<Option<String>>,
        stop: &mut watch::Receiver<bool>,
    ) -> Option<Ended> {
        loop {
            let free = self.definition.concurrency.saturating_sub(flights.len());
            let rest = self.stats.rest();
            let pull = async {
                if let Some(until) = rest {
                    sleep_until(until).await;
                }
                member.pull(free).await
            };
            let pulled = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Some(Ended::Stopped),
                Some(flown) = flights.join_next() => {
                    match flown {
                        Ok(Some(gone)) => return Some(Ended::Paused(gone)),
                        // The rest may be another one now.
                        Ok(None) | Err(_) => continue,
                    }
                }
                pulled = pull, if free > 0 => pulled,
            };
            match pulled {
                Ok(pulled) => {
                    for (delivery, settlement) in pulled {
                        flights.spawn(Arc::clone(self).deliver(delivery, settlement));
                    }
                }
                Err(PullError::Gone) => {
                    let why = "its group or one of its topics was deleted; resume it to read \
                               what is published from then on";
                    return Some(Ended::Paused(why.to_owned()));
                }
                Err(PullError::Unavailable(Unavailable::Closed)) => return Some(Ended::Stopped),
                Err(why) => {
                    self.trouble(format!("its topics cannot be read: {why}"));
                    sleep(WEBHOOK_REJOIN).await;
                    return None;
                }
            }
        }
    }

    /// Sends one event and settles it; answers why, where the endpoint wants no more.
    async fn deliver(
        self: Arc<Self>,
        delivery: Delivery,
        settlement: Settlement,
    ) -> Option<String> {
        let event = &delivery.event;
        if !self.definition.wants(event.ty()) {
            settle(settlement, Commit::ack()).await;
            return None;
        }
        // Base64 is a third longer, and attributes are written twice at most.
        let most = event.size_bytes() + event.size_bytes() / 2;
        let _flying = self.room(most).await;
        let (id, body) = (sign::message_id(event), json::to_bytes(event));
        let began = Instant::now();
        let sent = self
            .sender
            .send(&self.definition, &id, body, Timestamp::now());
        let verdict = sent.await;
        let done = matches!(verdict, Verdict::Done(_));
        self.metrics
            .attempt(&self.definition.name, done, began.elapsed());
        let now = Timestamp::now();
        match verdict {
            Verdict::Done(_) => {
                self.stats.delivered(now);
                settle(settlement, Commit::ack()).await;
                None
            }
            Verdict::Gone(why) => {
                self.stats.failed(now, &why, None, 0);
                Some(why)
            }
            Verdict::Failed(failed) => {
                let after = failed.retry_after;
                self.stats
                    .failed(now, &failed.text, after, self.random(&delivery));
                self.failed(&delivery, settlement, failed, now).await;
                None
            }
        }
    }

    /// The event is to be sent again later, or was tried often enough.
    async fn failed(
        &self,
        delivery: &Delivery,
        settlement: Settlement,
        failed: Failed,
        now: Timestamp,
    ) {
        let definition = &self.definition;
        let attempt = delivery.attempt.0;
        let outcome = if attempt < definition.attempts {
            let first = Duration::from_millis(definition.retry_first_ms);
            let max = Duration::from_millis(definition.retry_max_ms);
            let wait = retry::wait(attempt, first, max, self.random(delivery));
            let after = wait.max(failed.retry_after.unwrap_or_default());
            Outcome::Retry { after }
        } else {
            self.stats.dead_lettered();
            self.metrics.dead_lettered(&definition.name);
            let failure = Failure {
                reason: failed.reason.to_owned(),
                error: failed.text,
                attempts: attempt,
                first: None,
                last: Some(now),
                handler: Some(format!("webhook {}", definition.name)),
                version: None,
            };
            Outcome::DeadLetter {
                failure: Box::new(failure),
            }
        };
        let effects = Effects::default();
        settle(settlement, Commit { outcome, effects }).await;
    }

    fn random(&self, delivery: &Delivery) -> u64 {
        let position = &delivery.position;
        self.random
            .hash_one((position.offset.0, delivery.attempt.0))
    }

    /// Memory for one body, counted as on its way. A webhook always gets it for one event; for more
    /// of them only a part of what is free, so that endpoints that hang leave room to others.
    async fn room(&self, bytes: usize) -> (Share, Flying<'_>) {
        loop {
            let flying = self.stats.fly(bytes, |first| {
                let may = first || bytes <= self.memory.free(Class::Outboxes) / ANSWER_PART;
                may.then(|| self.memory.take(Class::Outboxes, bytes))?
            });
            if let Some(flying) = flying {
                return flying;
            }
            sleep(MEMORY_LOOK_EVERY).await;
        }
    }
}

/// What cannot be settled is given out again.
async fn settle(settlement: Settlement, commit: Commit) {
    if let Err(why) = settlement.settle(commit).await {
        tracing::warn!(%why, "what a webhook sent was not settled; it is sent again");
    }
}
