//! Tests: what a group does about a read that found its file deleted.

use std::ops::Range;

use tidemill_core::{
    Event, EventId, EventType, GroupMember, GroupName, Offset, Order, Partition, PullError, Source,
    Start, Subscription, TopicName,
};
use tidemill_log::ReadError;
use tidemill_log::driver::MemoryDisk;

use super::*;
use crate::Broker;

fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

async fn publish(broker: &Broker, numbers: Range<u32>) {
    let event = |n: u32| {
        let (id, ty) = (EventId::new(n.to_string()), EventType::new("made"));
        let builder = Event::builder(id.unwrap(), Source::new("/test").unwrap(), ty.unwrap());
        builder.data("application/json", "{}").build().unwrap()
    };
    let events = numbers.map(event).collect();
    broker.bus().publish(topic(), events).await.unwrap();
}

/// A member that has taken nothing of six events, and a read that is planned for it.
async fn planned(broker: &Broker) -> (Box<dyn GroupMember>, Arc<Group>, ReadPlan) {
    let name = GroupName::new("g").unwrap();
    let subscription = Subscription {
        topics: vec![topic()],
        group: name.clone(),
        order: Order::PerKey,
        start: Start::Beginning,
    };
    let member = broker.bus().subscribe(subscription).await.unwrap();
    let group = broker.inner.groups().get(&name).cloned().unwrap();
    let mut locked = group.locked();
    let id = *locked.core.members.keys().next().unwrap();
    let plan = locked.core.plan_read(id, |_| Some(Offset(6))).unwrap();
    drop(locked);
    (member, group, plan)
}

async fn trim(broker: &Broker, before: u64) {
    let trimmed = broker
        .trim_topic(&topic(), Partition(0), Offset(before))
        .await;
    assert_eq!(trimmed, Ok(Offset(before)));
}

async fn offsets(member: &mut dyn GroupMember) -> Vec<u64> {
    let given = member.pull(9).await.unwrap();
    given.iter().map(|(d, _)| d.position.offset.0).collect()
}

#[tokio::test]
async fn what_was_trimmed_while_it_was_read_is_passed_and_counted() {
    let broker = Broker::in_memory();
    publish(&broker, 0..6).await;
    let (mut member, group, plan) = planned(&broker).await;
    trim(&broker, 4).await;
    group.unreadable(&broker.inner, plan, ReadError::Gone(plan.id));
    assert_eq!(offsets(&mut *member).await, [4, 5]);
    assert_eq!(broker.metrics().missed, 4);
    broker.close().await;
}

#[tokio::test]
async fn a_read_whose_segment_goes_meanwhile_goes_on_where_the_topic_begins() {
    let disk = Arc::new(MemoryDisk::new(64 << 20));
    let often = Broker::builder().retention_look_every(Duration::from_millis(1));
    let broker = often.clone().disk(disk.clone()).open().await.unwrap();
    publish(&broker, 0..6).await;
    broker.close().await;
    let broker = often.disk(disk).open().await.unwrap();
    let (mut member, group, plan) = planned(&broker).await;
    let held = group.memory.reserve(READ_LEAST_BYTES).unwrap();
    let (read, stable, held) = group.look(&broker.inner, &plan, held, None).unwrap();
    trim(&broker, 6).await;
    let mut end = 6;
    while read.run().is_ok() {
        publish(&broker, end..end + 1).await;
        end += 1;
        assert!(end < 5000, "the segment stays");
    }
    publish(&broker, end..end + 1).await;
    group.read_disk(&broker.inner, plan, read, stable, held);
    assert_eq!(offsets(&mut *member).await.first(), Some(&6));
    let metrics = broker.metrics();
    assert_eq!((metrics.missed, metrics.damaged_reads), (6, 0));
    broker.close().await;
}

#[tokio::test]
async fn members_of_a_topic_that_was_deleted_while_it_was_read_are_told() {
    let broker = Broker::in_memory();
    publish(&broker, 0..6).await;
    let (mut member, group, plan) = planned(&broker).await;
    let deleted = Operation::DeleteTopic { name: topic() };
    broker.inner.submit(deleted).await.unwrap();
    group.unreadable(&broker.inner, plan, ReadError::Gone(plan.id));
    assert_eq!(member.pull(9).await.unwrap_err(), PullError::Gone);
    broker.close().await;
}

#[tokio::test]
async fn a_file_that_nobody_of_ours_deleted_is_told_as_damage() {
    let broker = Broker::in_memory();
    publish(&broker, 0..6).await;
    let (_member, group, plan) = planned(&broker).await;
    group.unreadable(&broker.inner, plan, ReadError::Gone(plan.id));
    assert!(group.overview().partitions[0].damage.is_some());
    let metrics = broker.metrics();
    assert_eq!((metrics.damaged_reads, metrics.missed), (1, 0));
    broker.close().await;
}
