//! Share groups on a real broker: their kind, their time, and what is kept of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::time::Duration;

use tidemill_broker::{
    Broker, ConsumerError, CreateTopic, EPOCH_JOIN, EPOCH_LEAVE, FetchBatches, GroupError,
    GroupKind, Isolation, SeekTo, ShareAcknowledgement, ShareBounds, ShareError, ShareGroups,
    ShareHeartbeat, ShareOffsetsError, SharePart, ShareRecords, ShareSettings, ShareVerdict,
};
use tidemill_core::budget::Class;
use tidemill_core::delivery::dead_letter_topic;
use tidemill_core::{
    Commit, Event, EventId, EventType, GroupName, Offset, Order, Partition, Source, Start,
    Subscription, TopicName,
};

const BOUNDS: ShareBounds = ShareBounds {
    records_max: 100,
    bytes_max: 1 << 20,
};

fn group() -> GroupName {
    GroupName::new("g").unwrap()
}

fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

fn join(member: &str) -> ShareHeartbeat {
    ShareHeartbeat {
        member: member.into(),
        epoch: EPOCH_JOIN,
        topics: Some(BTreeSet::from([topic()])),
        ..ShareHeartbeat::default()
    }
}

/// Of handlers of the same group.
fn native() -> Subscription {
    Subscription {
        topics: vec![topic()],
        group: group(),
        order: Order::PerKey,
        start: Start::Beginning,
    }
}

fn leave(member: &str) -> ShareHeartbeat {
    ShareHeartbeat {
        member: member.into(),
        epoch: EPOCH_LEAVE,
        ..ShareHeartbeat::default()
    }
}

/// A broker's topic `t`, whose records the group gets from the first one on.
struct House {
    broker: Broker,
    groups: ShareGroups,
    part: SharePart,
}

impl House {
    async fn of(broker: Broker) -> Self {
        let create = broker.create_topic(topic(), CreateTopic::default());
        create.await.unwrap();
        let groups = broker.share_groups();
        let settings = ShareSettings {
            from_beginning: Some(true),
            ..ShareSettings::default()
        };
        groups.set(&group(), settings).await.unwrap();
        Self::again(broker)
    }

    fn again(broker: Broker) -> Self {
        let topic = broker.topic(&topic()).unwrap().id;
        Self {
            groups: broker.share_groups(),
            broker,
            part: SharePart {
                topic,
                partition: Partition(0),
            },
        }
    }

    async fn publish(&self, words: &[&str]) {
        let event = |(number, word): (usize, &&str)| {
            let (id, ty) = (
                EventId::new(format!("{number}")).unwrap(),
                EventType::new("word").unwrap(),
            );
            let event = Event::builder(id, Source::new("/test").unwrap(), ty);
            event.data("text/plain", word.to_string()).build().unwrap()
        };
        let events = words.iter().enumerate().map(event).collect();
        self.broker.bus().publish(topic(), events).await.unwrap();
    }

    async fn take(&self, member: &str) -> ShareRecords {
        self.wait(member, Duration::ZERO).await
    }

    async fn wait(&self, member: &str, wait: Duration) -> ShareRecords {
        let parts = [self.part];
        let mut room = |_| true;
        let (group, member) = (group(), member.into());
        let taken = self
            .groups
            .take(&group, &member, &parts, BOUNDS, wait, &mut room);
        let mut taken = taken.await.unwrap().remove(0).unwrap();
        std::mem::take(&mut taken.hold).sent();
        taken
    }

    async fn say(
        &self,
        member: &str,
        first: u64,
        last: u64,
        verdict: ShareVerdict,
    ) -> Result<(), ShareError> {
        let said = ShareAcknowledgement {
            first: Offset(first),
            last: Offset(last),
            verdicts: vec![verdict],
        };
        let (group, member) = (group(), member.into());
        let said = vec![(self.part, vec![said])];
        let done = self.groups.acknowledge(&group, &member, said).await;
        done.unwrap().remove(0)
    }

    fn position(&self) -> (Offset, u64, usize) {
        let info = self.broker.group(&group()).unwrap();
        let at = &info.partitions[0];
        (at.position, at.settled_above, at.in_flight)
    }
}

/// First and last offsets of what was taken, and how often each was.
fn told(records: &ShareRecords) -> Vec<(u64, u64, u16)> {
    let each = records.acquired.iter();
    each.map(|of| (of.first.0, of.last.0, of.deliveries))
        .collect()
}

#[tokio::test]
async fn what_was_settled_never_comes_again_after_a_restart_and_all_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Broker::builder().path(folder.path()).open();
    let house = House::of(open().await.unwrap()).await;
    house.groups.heartbeat(&group(), join("a")).await.unwrap();
    house.publish(&["0", "1", "2", "3", "4", "5"]).await;
    assert_eq!(told(&house.take("a").await), [(0, 5, 1)]);
    house.say("a", 0, 1, ShareVerdict::Accept).await.unwrap();
    house.say("a", 4, 4, ShareVerdict::Accept).await.unwrap();
    house.say("a", 5, 5, ShareVerdict::Reject).await.unwrap();
    assert_eq!(house.position(), (Offset(2), 2, 2));
    house.broker.close().await;
    drop(house);
    let house = House::again(open().await.unwrap());
    assert_eq!(house.position(), (Offset(2), 2, 0));
    let kind = house.broker.group(&group()).unwrap().kind;
    assert_eq!(kind, GroupKind::Share);
    assert_eq!(house.groups.settings(&group()).from_beginning, Some(true));
    let late = house.say("a", 2, 2, ShareVerdict::Accept).await;
    assert!(matches!(late, Err(ShareError::NotAcquired)), "{late:?}");
    // Members that do not know of the restart yet are served.
    assert_eq!(told(&house.take("a").await), [(2, 3, 1)]);
    let letters = house.broker.dead_letters(&group(), None, 10).await.unwrap();
    assert_eq!(letters.letters.len(), 1);
    let letter = &letters.letters[0].letter;
    assert_eq!(letter.origin.offset, Offset(5));
    assert_eq!(letter.failure.reason, "rejected");
    assert_eq!(letter.event.data().unwrap(), "5");
}

#[tokio::test]
async fn what_a_member_has_for_too_long_comes_to_who_waits_until_it_is_a_dead_letter() {
    let house = House::of(Broker::in_memory()).await;
    house.groups.heartbeat(&group(), join("a")).await.unwrap();
    house.publish(&["0"]).await;
    tokio::time::pause();
    assert_eq!(told(&house.take("a").await), [(0, 0, 1)]);
    assert_eq!(told(&house.take("b").await), []);
    for deliveries in 2..=5 {
        let second = house.wait("b", Duration::from_secs(31)).await;
        assert_eq!(told(&second), [(0, 0, deliveries)]);
    }
    assert_eq!(told(&house.wait("c", Duration::from_secs(60)).await), []);
    // That is written by the log's own thread, which knows no paused time.
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while house.position() != (Offset(1), 0, 0) {
        assert!(std::time::Instant::now() < end, "it is not given up");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let letters = house.broker.dead_letters(&group(), None, 10).await.unwrap();
    let failure = &letters.letters[0].letter.failure;
    assert_eq!(
        (failure.reason.as_str(), failure.attempts),
        ("max_deliveries", 5)
    );
}

#[tokio::test]
async fn who_waits_gets_what_comes_what_is_released_and_what_a_member_leaves() {
    let house = House::of(Broker::in_memory()).await;
    for member in ["a", "b"] {
        let joined = house.groups.heartbeat(&group(), join(member)).await;
        joined.unwrap();
    }
    // The other one waits by then, or is late, which is the same.
    let minute = Duration::from_secs(60);
    let publish = async {
        tokio::task::yield_now().await;
        house.publish(&["0", "1"]).await;
    };
    let (first, ()) = tokio::join!(house.wait("a", minute), publish);
    assert_eq!(told(&first), [(0, 1, 1)]);
    let release = async {
        tokio::task::yield_now().await;
        house.say("a", 1, 1, ShareVerdict::Release).await.unwrap();
    };
    let (second, ()) = tokio::join!(house.wait("b", minute), release);
    assert_eq!(told(&second), [(1, 1, 2)]);
    let leaves = async {
        tokio::task::yield_now().await;
        let left = house.groups.heartbeat(&group(), leave("a")).await;
        left.unwrap();
    };
    let (third, ()) = tokio::join!(house.wait("b", minute), leaves);
    assert_eq!(told(&third), [(0, 0, 2)]);
}

#[tokio::test]
async fn a_member_that_is_silent_is_taken_out() {
    let house = House::of(Broker::in_memory()).await;
    let joined = house.groups.heartbeat(&group(), join("a")).await;
    joined.unwrap();
    // Not before: paused time runs ahead of the log's own thread.
    tokio::time::pause();
    let members = || house.groups.describe(&group()).unwrap().members.len();
    assert_eq!(members(), 1);
    tokio::time::sleep(Duration::from_secs(46)).await;
    assert_eq!(members(), 0);
}

#[tokio::test]
async fn a_seek_makes_what_is_out_stale_and_is_followed() {
    let house = House::of(Broker::in_memory()).await;
    house.groups.heartbeat(&group(), join("a")).await.unwrap();
    house.publish(&["0", "1", "2"]).await;
    assert_eq!(told(&house.take("a").await), [(0, 2, 1)]);
    house.say("a", 0, 1, ShareVerdict::Accept).await.unwrap();
    let broker = &house.broker;
    let seek = || {
        let to = SeekTo::Beginning;
        async move { broker.seek(&group(), &topic(), Partition(0), to).await }
    };
    let in_use = seek().await;
    assert!(matches!(in_use, Err(GroupError::InUse { members: 1, .. })));
    house.groups.heartbeat(&group(), leave("a")).await.unwrap();
    seek().await.unwrap();
    let stale = house.say("a", 2, 2, ShareVerdict::Accept).await;
    assert!(matches!(stale, Err(ShareError::NotAcquired)));
    assert_eq!(told(&house.take("b").await), [(0, 2, 1)]);
}

#[tokio::test]
async fn what_was_taken_and_not_sent_comes_to_others_at_once_and_does_not_count() {
    let house = House::of(Broker::in_memory()).await;
    house.groups.heartbeat(&group(), join("a")).await.unwrap();
    house.publish(&["0", "1"]).await;
    let (name, parts, minute) = (group(), [house.part], Duration::from_secs(60));
    let (who, mut room) = ("a".into(), |_| true);
    // More often than a record may be given out.
    for _ in 0..9 {
        let taking = house
            .groups
            .take(&name, &who, &parts, BOUNDS, minute, &mut room);
        let taken = taking.await.unwrap();
        assert_eq!(told(taken[0].as_ref().unwrap()), [(0, 1, 1)]);
        drop(taken);
        assert_eq!(house.position(), (Offset(0), 0, 0));
    }
    let taking = house
        .groups
        .take(&name, &who, &parts, BOUNDS, minute, &mut room);
    let taken = taking.await.unwrap();
    let lose = async {
        tokio::task::yield_now().await;
        drop(taken);
    };
    // Also for who waits already.
    let (second, ()) = tokio::join!(house.wait("b", minute), lose);
    assert_eq!(told(&second), [(0, 1, 1)]);
    house.say("b", 0, 1, ShareVerdict::Accept).await.unwrap();
    assert_eq!(house.position(), (Offset(2), 0, 0));
}

#[tokio::test]
async fn a_group_has_one_kind_and_what_is_deleted_is_told() {
    let house = House::of(Broker::in_memory()).await;
    house.publish(&["0", "1"]).await;
    house.groups.heartbeat(&group(), join("a")).await.unwrap();
    assert!(house.broker.bus().subscribe(native()).await.is_err());
    assert_eq!(house.broker.classic_groups().describe(&group()), None);
    assert_eq!(told(&house.take("a").await), [(0, 1, 1)]);
    house.say("a", 0, 0, ShareVerdict::Accept).await.unwrap();
    house.groups.heartbeat(&group(), leave("a")).await.unwrap();
    // Handlers go on where it was.
    let mut member = house.broker.bus().subscribe(native()).await.unwrap();
    let refused = house.groups.heartbeat(&group(), join("a")).await;
    assert!(matches!(refused, Err(ConsumerError::OtherKind(_))));
    let given = member.pull(10).await.unwrap();
    assert_eq!(given[0].0.position.offset, Offset(1));
    drop((given, member));
    house.groups.heartbeat(&group(), join("b")).await.unwrap();
    house.broker.delete_topic(&topic()).await.unwrap();
    let (name, member) = (group(), "b".into());
    let (parts, mut room) = ([house.part], |_| true);
    let none = Duration::ZERO;
    let taken = house
        .groups
        .take(&name, &member, &parts, BOUNDS, none, &mut room);
    let gone = taken.await.unwrap().remove(0);
    assert!(matches!(gone, Err(ShareError::UnknownTopic)));
    house.broker.delete_group(&group()).await.unwrap();
    assert_eq!(house.groups.describe(&group()), None);
    let taken = house
        .groups
        .take(&name, &member, &parts, BOUNDS, none, &mut room);
    assert!(matches!(taken.await, Err(ShareError::UnknownGroup)));
}

#[tokio::test]
async fn what_handlers_settled_between_two_members_does_not_come_again() {
    let house = House::of(Broker::in_memory()).await;
    house.publish(&["0", "1", "2", "3"]).await;
    house.groups.heartbeat(&group(), join("a")).await.unwrap();
    assert_eq!(told(&house.take("a").await), [(0, 3, 1)]);
    house.groups.heartbeat(&group(), leave("a")).await.unwrap();
    let mut member = house.broker.bus().subscribe(native()).await.unwrap();
    // Who still asks has nothing to do with them.
    let (name, parts, mut room) = (group(), [house.part], |_| true);
    let (who, none) = ("a".into(), Duration::ZERO);
    let late = house
        .groups
        .take(&name, &who, &parts, BOUNDS, none, &mut room)
        .await;
    assert!(matches!(late, Err(ShareError::UnknownGroup)), "{late:?}");
    let mut settled = 0;
    while settled < 3 {
        for (_, settlement) in member.pull(3 - settled).await.unwrap() {
            settlement.settle(Commit::ack()).await.unwrap();
            settled += 1;
        }
    }
    drop(member);
    house.groups.heartbeat(&group(), join("b")).await.unwrap();
    assert_eq!(told(&house.take("b").await), [(3, 3, 1)]);
}

#[tokio::test]
async fn what_was_deleted_before_anybody_had_it_is_passed() {
    let house = House::of(Broker::in_memory()).await;
    house.groups.heartbeat(&group(), join("a")).await.unwrap();
    house.publish(&["0", "1", "2", "3"]).await;
    house
        .broker
        .trim_topic(&topic(), Partition(0), Offset(2))
        .await
        .unwrap();
    house.publish(&["4"]).await;
    let taken = house.take("a").await;
    assert_eq!(told(&taken), [(2, 4, 1)]);
    house.say("a", 2, 4, ShareVerdict::Accept).await.unwrap();
    assert_eq!(house.position(), (Offset(5), 0, 0));
}

#[tokio::test]
async fn letters_are_written_a_few_at_a_time() {
    let house = House::of(Broker::in_memory()).await;
    house.groups.heartbeat(&group(), join("a")).await.unwrap();
    let word = "w".repeat(400 << 10);
    house.publish(&[word.as_str(); 6]).await;
    assert_eq!(told(&house.take("a").await), [(0, 5, 1)]);
    let name = dead_letter_topic(&group());
    house.say("a", 0, 5, ShareVerdict::Reject).await.unwrap();
    assert_eq!(house.position(), (Offset(6), 0, 0));
    let letters = house.broker.dead_letters(&group(), None, 10).await.unwrap();
    assert_eq!(letters.letters.len(), 6);
    let topic = house.broker.topic(&name).unwrap();
    let mut batches = 0;
    for partition in topic.partitions {
        let mut offset = Offset(0);
        // One fetch gives what is in segments, or what is not there yet.
        while offset < partition.end {
            let fetch = FetchBatches {
                topic: name.clone(),
                partition: partition.partition,
                offset,
                max_bytes: 8 << 20,
                isolation: Isolation::ReadCommitted,
                wait: Duration::ZERO,
            };
            let found = house.broker.fetch_batches(fetch).await.unwrap().batches;
            batches += found.len();
            offset = found.last().unwrap().next_offset();
        }
    }
    assert!(batches >= 3, "{batches} batches of 2400 KiB");
}

#[tokio::test]
async fn a_batch_with_many_letters_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::of(Broker::open(folder.path()).await.unwrap()).await;
    house.publish(&["word"; 300]).await;
    house.broker.close().await;
    let house = House::again(Broker::open(folder.path()).await.unwrap());
    house.groups.heartbeat(&group(), join("a")).await.unwrap();
    let taken = told(&house.take("a").await);
    assert_eq!(taken, [(0, 299, 1)]);
    let before = house.broker.metrics().disk_reads;
    assert!(before > 0, "it lies on the disk");
    house.say("a", 0, 299, ShareVerdict::Reject).await.unwrap();
    let metrics = house.broker.metrics();
    assert_eq!(
        (metrics.disk_reads, metrics.dead_lettered),
        (before + 1, 300)
    );
    assert_eq!(house.broker.memory().used(Class::Reads), 0);
    house.broker.close().await;
}

#[tokio::test]
async fn where_a_group_without_members_goes_on_is_set_and_forgotten_and_that_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Broker::builder().path(folder.path()).open();
    let house = House::of(open().await.unwrap()).await;
    house.groups.heartbeat(&group(), join("a")).await.unwrap();
    house.publish(&["0", "1", "2", "3", "4", "5"]).await;
    assert_eq!(told(&house.take("a").await), [(0, 5, 1)]);
    house.say("a", 0, 1, ShareVerdict::Accept).await.unwrap();
    house.say("a", 4, 4, ShareVerdict::Accept).await.unwrap();
    let places = |offset| [(house.part, Offset(offset))];
    let in_use = house.groups.seek(&group(), &places(3)).await;
    let members = |why| matches!(why, Err(ShareOffsetsError::InUse { members: 1, .. }));
    assert!(members(in_use));
    assert!(members(
        house.groups.forget(&group(), &[house.part.topic]).await
    ));
    let there = house.groups.positions(&group()).unwrap();
    assert_eq!(there, places(2), "nothing was done");
    house.groups.heartbeat(&group(), leave("a")).await.unwrap();
    house.groups.seek(&group(), &places(3)).await.unwrap();
    let stale = house.say("a", 2, 2, ShareVerdict::Accept).await;
    assert!(matches!(stale, Err(ShareError::NotAcquired)), "{stale:?}");
    house.broker.close().await;
    let part = house.part;
    drop(house);
    let house = House::again(open().await.unwrap());
    let there = house.groups.positions(&group()).unwrap();
    assert_eq!(there, [(part, Offset(3))]);
    house.groups.heartbeat(&group(), join("b")).await.unwrap();
    // What was settled above it is not any more.
    assert_eq!(told(&house.take("b").await), [(3, 5, 1)]);
    house.groups.heartbeat(&group(), leave("b")).await.unwrap();
    let forgotten = house.groups.forget(&group(), &[part.topic]).await;
    forgotten.unwrap();
    assert_eq!(house.groups.positions(&group()), Some(Vec::new()));
    assert_eq!(told(&house.take("b").await), []);
    // It begins as in a topic that is new to it.
    house.groups.heartbeat(&group(), join("c")).await.unwrap();
    assert_eq!(told(&house.take("c").await), [(0, 5, 1)]);
    let other = GroupName::new("other").unwrap();
    assert_eq!(house.groups.positions(&other), None);
    let none = house.groups.seek(&other, &[(part, Offset(0))]).await;
    assert!(matches!(none, Err(ShareOffsetsError::UnknownGroup(_))));
    assert!(house.broker.group(&other).is_none(), "it is not made");
}
