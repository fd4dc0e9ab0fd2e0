//! Reading: members of groups, fetches and watches, as core's trait has them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidemill_core::bus::Support;
use tidemill_core::cursor::Cursor;
use tidemill_core::error::Unavailable;
use tidemill_core::{
    BoxFuture, Fetch, FetchError, Fetched, Generation, GroupMember, GroupName, Guarantees, Order,
    PartitionBounds, Start, SubscribeError, Subscriber, Subscription, TopicBounds, TopicId,
    TopicName, Watch,
};
use tidemill_log::CommitError;

use crate::admin::order_name;
use crate::broker::{Broker, Inner};
use crate::group::{Group, JoinRefused, Member};
use crate::limits::{GROUP_MEMBERS_MAX, REROUTES_MAX, SUBSCRIPTION_TOPICS_MAX};
use crate::machine::{GroupId, GroupKind, JoinTopic, Operation, Receipt, Refusal, Topic};

impl Subscriber for Broker {
    fn guarantees(&self) -> Guarantees {
        Guarantees {
            at_least_once: Support::Native,
            order_per_key: Support::Native,
            atomic_handler_commit: Support::Native,
            replay: Support::Native,
        }
    }

    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'static, Result<Box<dyn GroupMember>, SubscribeError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let member = subscribe(inner, subscription).await?;
            Ok(Box::new(member) as Box<dyn GroupMember>)
        })
    }

    fn fetch(&self, fetch: Fetch) -> BoxFuture<'static, Result<Fetched, FetchError>> {
        Box::pin(crate::fetch::fetch(Arc::clone(&self.inner), fetch))
    }

    fn topics(&self) -> BoxFuture<'static, Result<Vec<TopicBounds>, FetchError>> {
        let broker = self.clone();
        Box::pin(async move {
            let topics = Broker::topics(&broker)
                .into_iter()
                .map(|topic| TopicBounds {
                    topic: topic.name,
                    id: Some(topic.id),
                    partitions: topic
                        .partitions
                        .iter()
                        .map(|partition| PartitionBounds {
                            partition: partition.partition,
                            earliest: partition.earliest,
                            end: partition.end,
                        })
                        .collect(),
                });
            Ok(topics.collect())
        })
    }

    fn watch(&self) -> Result<Box<dyn Watch>, FetchError> {
        let inner = &self.inner;
        if inner.closed.load(Ordering::Acquire) {
            return Err(Unavailable::Closed.into());
        }
        let (durable, closed) = (Arc::clone(&inner.durable), Arc::clone(&inner.closed));
        Ok(Box::new(inner.listening.watch(durable, closed)))
    }
}

async fn subscribe(
    inner: Arc<Inner>,
    subscription: Subscription,
) -> Result<Member, SubscribeError> {
    if inner.closed.load(Ordering::Acquire) {
        return Err(Unavailable::Closed.into());
    }
    let Subscription {
        mut topics,
        group,
        order,
        start,
    } = subscription;
    topics.sort_unstable();
    topics.dedup();
    if topics.is_empty() || topics.len() > SUBSCRIPTION_TOPICS_MAX {
        let why = format!("a subscription has 1 to {SUBSCRIPTION_TOPICS_MAX} topics");
        return Err(SubscribeError::Other(why));
    }
    // Looked at again when it joins; here so that a refused one leaves nothing behind.
    let live = inner.groups().get(&group).cloned();
    if let Some(refused) = live.and_then(|live| live.refuses(order)) {
        return Err(join_error(group, order, refused));
    }
    let hold = inner.classics.kinds.hold(&group, GroupKind::Native);
    let hold = hold.map_err(|why| SubscribeError::GroupConflict {
        group: group.clone(),
        why,
    })?;
    let (id, topics) = join_in_log(&inner, &group, &topics, start).await?;
    let read: Vec<_> = topics.iter().map(|(_, topic, _)| topic.id).collect();
    let shared = group_of(&inner, group.clone(), id, order, GroupKind::Native);
    let joined = shared.join(&inner, order, topics);
    let (member, notify) = joined.map_err(|refused| join_error(group, order, refused))?;
    follow_seeks(&inner, &shared, &read);
    tell_if_gone(&inner, &shared, &read);
    Ok(Member::new(inner, shared, member, notify, hold))
}

/// The group's id, and its position in every partition of its topics.
pub(crate) type Joined = (GroupId, Vec<(TopicName, Topic, Vec<Cursor>)>);

/// Has the log make the group, its topics and its positions where they are missing.
pub(crate) async fn join_in_log(
    inner: &Inner,
    group: &GroupName,
    topics: &[TopicName],
    start: Start,
) -> Result<Joined, SubscribeError> {
    for _ in 0..REROUTES_MAX {
        let catalog = inner.durable.catalog();
        if let Some(queue) = topics.iter().find(|name| inner.is_queue(&catalog, name)) {
            return Err(SubscribeError::IsQueue(queue.clone()));
        }
        let create = inner.settings.auto_create_topics;
        let topics = topics.iter().map(|name| {
            // One that is known may be gone by then.
            let create = create.then(|| inner.fresh_topic());
            let either = [catalog.topic(name), create].into_iter().flatten();
            JoinTopic {
                name: name.clone(),
                partitions_max: either.map(|topic| topic.partitions).max().unwrap_or(0),
                create,
            }
        });
        let operation = Operation::Join {
            group: group.clone(),
            kind: GroupKind::Native,
            topics: topics.collect(),
            start,
        };
        match inner.submit(operation).await {
            Ok(Receipt::Joined { group, topics }) => return Ok((group, topics)),
            Ok(_) => break,
            // The refusal came when what it is about was durable: the catalog knows it now.
            Err(CommitError::Refused(Refusal::Rerouted { .. })) => {}
            Err(error) => return Err(subscribe_error(error)),
        }
    }
    let why = "the topics keep changing; try again";
    Err(SubscribeError::Other(why.into()))
}

/// A position that was set after the journal took the member in, and before the group did, had
/// nobody to follow it: the group learns of it here. Whoever seeks looks for the group after that
/// is durable, so that one of both sees the other.
fn follow_seeks(inner: &Inner, group: &Group, topics: &[TopicId]) {
    let state = inner.durable.state();
    let cursors = state.group(group.id).map(|kept| kept.cursors.iter());
    let sought = cursors
        .into_iter()
        .flatten()
        .filter(|(id, cursor)| cursor.epoch() > 0 && topics.contains(&id.topic));
    let sought: Vec<_> = sought.map(|(id, cursor)| (*id, cursor.clone())).collect();
    drop(state);
    group.follow(sought);
}

/// A group or topic that was deleted after the journal took the member in, and before the
/// group did, had nobody to tell: the member learns of it here. Whoever deletes tells the
/// members after that is durable, so that one of both sees the other.
fn tell_if_gone(inner: &Inner, group: &Group, topics: &[TopicId]) {
    if inner.durable.state().group(group.id).is_none() {
        group.group_gone();
        inner.groups().retain(|_, have| have.id != group.id);
    }
    let catalog = inner.durable.catalog();
    for topic in topics
        .iter()
        .filter(|topic| catalog.name(**topic).is_none())
    {
        group.topic_gone(*topic);
        inner.listening.forget(|id, _| id.topic != *topic);
    }
}

/// The group of this identity; one made anew under its name takes the place of the old one.
pub(crate) fn group_of(
    inner: &Inner,
    name: GroupName,
    id: GroupId,
    order: Order,
    kind: GroupKind,
) -> Arc<Group> {
    let mut groups = inner.groups();
    let have = groups.get(&name);
    if let Some(group) = have.filter(|group| group.id == id) {
        return Arc::clone(group);
    }
    // Ids ascend: an older group is gone, and must not take the place of a newer one.
    let newest = have.is_none_or(|group| group.id < id);
    if let Some(old) = have.filter(|_| newest) {
        old.group_gone();
    }
    // Above every generation of an earlier opening, and of an earlier group of this name.
    let generation = Generation((inner.handle.epoch() << 40) | (id.0 << 20));
    let memory = &inner.settings.memory;
    let group = Group::new(memory, name.clone(), id, order, generation);
    let group = Arc::new(group.of_kind(kind));
    if newest {
        groups.insert(name, Arc::clone(&group));
    }
    group
}

fn join_error(group: GroupName, order: Order, refused: JoinRefused) -> SubscribeError {
    let why = match refused {
        JoinRefused::Order(have) => format!(
            "its members keep the order {}, this one asks for {}; use one order, or another group",
            order_name(have),
            order_name(order)
        ),
        JoinRefused::Members => format!("it has {GROUP_MEMBERS_MAX} members already"),
    };
    SubscribeError::GroupConflict { group, why }
}

fn subscribe_error(error: CommitError<Refusal>) -> SubscribeError {
    match error {
        CommitError::Unavailable(why) => SubscribeError::Unavailable(why),
        CommitError::Refused(Refusal::UnknownTopic(topic)) => SubscribeError::UnknownTopic(topic),
        CommitError::Refused(Refusal::IsQueue(name)) => SubscribeError::IsQueue(name),
        CommitError::Refused(Refusal::GroupOfQueue(group)) => SubscribeError::GroupConflict {
            why: "it is the one of the queue of this name; use another group".to_owned(),
            group,
        },
        CommitError::Refused(Refusal::OutOfRange(outside)) => SubscribeError::OutOfRange(outside),
        CommitError::Refused(other) => SubscribeError::Other(other.to_string()),
        CommitError::Indeterminate(why) => SubscribeError::Other(format!(
            "it is not known whether the group was kept ({why}); check after a restart"
        )),
    }
}
