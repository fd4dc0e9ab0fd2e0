//! A small bus whose faults are scripted: it answers settlements with the errors that a test
//! wants, and tells what it was asked. Topics of one partition, groups that share nothing with
//! each other, nothing on a disk.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tidemill::core::bus::Support;
use tidemill::core::dead_letter::DeadLetter;
use tidemill::core::event::{CORRELATION_ID, REPLY_TO};
use tidemill::core::{
    BoxFuture, Commit, Fetch, FetchError, Fetched, Generation, GroupMember, Guarantees,
    PublishError, Publisher, PullError, RequestError, Settle, SettleError, Settlement,
    SubscribeError, Subscriber, Subscription, Ticket, delivery::dead_letter_topic,
};
use tidemill::{
    Attempt, Bus, Delivery, Event, ExtensionValue, GroupName, Offset, Outcome, Partition, Position,
    TopicName,
};
use tokio::sync::{Notify, oneshot};

#[derive(Clone, Default)]
pub(crate) struct TestBus(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    there: Notify,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) topics: BTreeMap<TopicName, Vec<Arc<Event>>>,
    groups: HashMap<GroupName, Group>,
    inboxes: HashMap<String, oneshot::Sender<Result<Event, RequestError>>>,
    /// Answers of the next settlements; when none is left they succeed.
    pub(crate) settle_errors: VecDeque<SettleError>,
    /// Answers of the next pulls, likewise.
    pub(crate) pull_errors: VecDeque<PullError>,
    /// How many settlements were asked for.
    pub(crate) settlements: usize,
    /// How many attempts came back from a handler and were not settled then.
    pub(crate) outlived: usize,
    /// Events of acknowledged commits and of abandoned attempts, in their order.
    pub(crate) acknowledged: Vec<(Position, Attempt)>,
    pub(crate) abandoned: Vec<Position>,
    /// Most events that one member had at once.
    pub(crate) most_held: usize,
    /// What was held when the member left.
    pub(crate) held_at_leave: Option<usize>,
    pub(crate) without_order: bool,
}

#[derive(Default)]
struct Group {
    topics: Vec<TopicName>,
    waiting: VecDeque<(Position, Arc<Event>, u32)>,
    held: BTreeMap<(TopicName, Offset), (Arc<Event>, u32)>,
}

impl TestBus {
    pub(crate) fn bus(&self) -> Bus {
        crate::warnings::listen();
        Bus::new(self.clone())
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// The dead letters of `group`.
    pub(crate) fn dead_letters(&self, group: &str) -> Vec<DeadLetter> {
        let topic = dead_letter_topic(&GroupName::new(group.to_owned()).unwrap());
        let state = self.state();
        let events = state.topics.get(&topic).into_iter().flatten();
        events.map(|e| DeadLetter::from_event(e).unwrap()).collect()
    }
}

impl State {
    fn append(&mut self, topic: &TopicName, event: Event) -> Position {
        let log = self.topics.entry(topic.clone()).or_default();
        let event = Arc::new(event);
        let position = Position {
            topic: topic.clone(),
            partition: Partition(0),
            offset: Offset(log.len() as u64),
        };
        log.push(Arc::clone(&event));
        let readers = self
            .groups
            .values_mut()
            .filter(|g| g.topics.contains(topic));
        for group in readers {
            group
                .waiting
                .push_back((position.clone(), Arc::clone(&event), 1));
        }
        position
    }

    fn commit(&mut self, group: &GroupName, ticket: &Ticket, commit: Commit) -> Vec<Position> {
        let key = (ticket.position.topic.clone(), ticket.position.offset);
        let held = self.groups.get_mut(group).unwrap().held.remove(&key);
        let (event, _) = held.unwrap();
        let inbox = event
            .extension_str(REPLY_TO)
            .and_then(|id| self.inboxes.remove(id));
        match commit.outcome {
            Outcome::Ack => {
                let taken = (ticket.position.clone(), ticket.attempt);
                self.acknowledged.push(taken);
                if let (Some(inbox), Some(reply)) = (inbox, commit.effects.reply) {
                    let _ = inbox.send(Ok(*reply));
                }
                let events = commit.effects.events.into_iter();
                events
                    .map(|(topic, event)| self.append(&topic, event))
                    .collect()
            }
            Outcome::DeadLetter { failure } => {
                if let Some(inbox) = inbox {
                    let _ = inbox.send(Err(RequestError::DeadLettered(failure.error.clone())));
                }
                let dead = DeadLetter {
                    event: (*event).clone(),
                    origin: ticket.position.clone(),
                    group: group.clone(),
                    failure: *failure,
                };
                vec![self.append(&dead_letter_topic(group), dead.to_event().unwrap())]
            }
            Outcome::Retry { .. } => panic!("the dispatcher tries again in place"),
        }
    }
}

impl Publisher for TestBus {
    fn publish(
        &self,
        topic: TopicName,
        events: Vec<Event>,
    ) -> BoxFuture<'static, Result<Vec<Position>, PublishError>> {
        let mut state = self.state();
        let positions = events
            .into_iter()
            .map(|e| state.append(&topic, e))
            .collect();
        drop(state);
        self.0.there.notify_waiters();
        Box::pin(async { Ok(positions) })
    }

    fn request(
        &self,
        topic: TopicName,
        event: Event,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Event, RequestError>> {
        let (sender, inbox) = oneshot::channel();
        let id = event.id().to_string();
        self.state().inboxes.insert(id.clone(), sender);
        let text = |text: String| ExtensionValue::String(text.into());
        let event = event
            .to_builder()
            .extension(REPLY_TO, text(id.clone()))
            .extension(CORRELATION_ID, text(id));
        drop(self.publish(topic, vec![event.build().unwrap()]));
        Box::pin(async move {
            match tokio::time::timeout(timeout, inbox).await {
                Ok(answer) => answer.unwrap(),
                Err(_) => Err(RequestError::Timeout(timeout)),
            }
        })
    }
}

impl Subscriber for TestBus {
    fn guarantees(&self) -> Guarantees {
        Guarantees {
            at_least_once: Support::Native,
            order_per_key: match self.state().without_order {
                true => Support::Refused,
                false => Support::Emulated,
            },
            atomic_handler_commit: Support::Native,
            replay: Support::Refused,
        }
    }

    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'static, Result<Box<dyn GroupMember>, SubscribeError>> {
        let name = subscription.group.clone();
        let mut group = Group::default();
        let mut state = self.state();
        for topic in &subscription.topics {
            for (offset, event) in state.topics.get(topic).into_iter().flatten().enumerate() {
                let position = Position {
                    topic: topic.clone(),
                    partition: Partition(0),
                    offset: Offset(offset as u64),
                };
                group.waiting.push_back((position, Arc::clone(event), 1));
            }
        }
        group.topics = subscription.topics;
        state.groups.insert(name.clone(), group);
        let bus = self.clone();
        Box::pin(async move {
            let member: Box<dyn GroupMember> = Box::new(Member { bus, group: name });
            Ok(member)
        })
    }

    fn fetch(&self, _: Fetch) -> BoxFuture<'static, Result<Fetched, FetchError>> {
        Box::pin(async { Err(FetchError::Other("this bus is not read by offset".into())) })
    }
}

struct Member {
    bus: TestBus,
    group: GroupName,
}

impl Member {
    fn take(&self, credit: usize) -> Result<Vec<(Delivery, Settlement)>, PullError> {
        let mut state = self.bus.state();
        if let Some(error) = state.pull_errors.pop_front() {
            return Err(error);
        }
        let group = state.groups.get_mut(&self.group).unwrap();
        let count = group.waiting.len().min(credit);
        let taken: Vec<_> = group.waiting.drain(..count).collect();
        for (position, event, attempt) in &taken {
            let key = (position.topic.clone(), position.offset);
            group.held.insert(key, (Arc::clone(event), *attempt));
        }
        let held = group.held.len();
        state.most_held = state.most_held.max(held);
        let settler = Arc::new(Settler(self.bus.clone(), self.group.clone()));
        let given = taken.into_iter().map(|(position, event, attempt)| {
            let ticket = Ticket {
                position: position.clone(),
                generation: Generation(1),
                attempt: Attempt(attempt),
            };
            let delivery = Delivery {
                event,
                position,
                attempt: Attempt(attempt),
                group: self.group.clone(),
            };
            (delivery, Settlement::new(settler.clone(), ticket))
        });
        Ok(given.collect())
    }
}

impl GroupMember for Member {
    fn pull(
        &mut self,
        credit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Delivery, Settlement)>, PullError>> {
        assert!(credit > 0);
        Box::pin(async move {
            loop {
                let there = self.bus.0.there.notified();
                let taken = self.take(credit)?;
                if !taken.is_empty() {
                    return Ok(taken);
                }
                there.await;
            }
        })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.bus.state();
        let held = state.groups.get(&self.group).map(|g| g.held.len());
        state.held_at_leave = held;
    }
}

struct Settler(TestBus, GroupName);

impl Settle for Settler {
    fn settle(
        &self,
        ticket: Ticket,
        commit: Commit,
    ) -> BoxFuture<'static, Result<Vec<Position>, SettleError>> {
        let mut state = self.0.state();
        state.settlements += 1;
        let result = match state.settle_errors.pop_front() {
            Some(error) => Err(error),
            None => Ok(state.commit(&self.1, &ticket, commit)),
        };
        drop(state);
        self.0.0.there.notify_waiters();
        Box::pin(async { result })
    }

    fn abandon(&self, ticket: Ticket) {
        let mut state = self.0.state();
        let key = (ticket.position.topic.clone(), ticket.position.offset);
        let group = state.groups.get_mut(&self.1).unwrap();
        if let Some((event, attempt)) = group.held.remove(&key) {
            let again = (ticket.position.clone(), event, attempt + 1);
            group.waiting.push_front(again);
            state.abandoned.push(ticket.position);
        }
    }

    fn outlived(&self, _: &Ticket) {
        self.0.state().outlived += 1;
    }
}
