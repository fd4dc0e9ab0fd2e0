//! What the end of the process leaves behind in a group whose events are handled in it: which
//! were given out is known afterwards, and one that is in flight at every bad end is given up. A
//! bad end is a copy of the folder of a broker that goes on elsewhere.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use support::{Folder, event, group, id, join, settle, take, topic};
use tidemill_broker::Broker;
use tidemill_broker::inspect::{Dump, Value, dump};
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::{Commit, Delivery, Fetch, GroupMember, Offset, Order, Partition, Settlement};

/// The folder as it is when the process dies now.
fn died(folder: &Folder) -> Folder {
    let left = Folder::new();
    copy(folder.path(), left.path());
    left
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => {
                std::fs::create_dir_all(&to).unwrap();
                copy(&path, &to);
            }
            false => drop(std::fs::copy(&path, to).unwrap()),
        }
    }
}

/// A member of the group `g` whose events are handled in this process.
async fn here(broker: &Broker) -> Box<dyn GroupMember> {
    let mut member = join(broker, "g", "t", Order::PerKey).await;
    member.handled_here();
    member
}

/// What a member gets without settling anything, which is so many and no more: ids and attempts.
async fn all(
    member: &mut dyn GroupMember,
    count: usize,
) -> (Vec<(String, u32)>, Vec<(Delivery, Settlement)>) {
    let mut held: Vec<(Delivery, Settlement)> = Vec::new();
    while held.len() < count {
        held.extend(member.pull(99).await.unwrap());
    }
    let more = tokio::time::timeout(Duration::from_millis(200), member.pull(99)).await;
    held.extend(more.into_iter().flat_map(Result::unwrap));
    let seen = held.iter().map(|(of, _)| (id(of), of.attempt.0));
    (seen.collect(), held)
}

fn seen(of: &[(&str, u32)]) -> Vec<(String, u32)> {
    of.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect()
}

async fn ack((_, settlement): (Delivery, Settlement)) {
    settlement.settle(Commit::ack()).await.unwrap();
}

/// Five events of five keys in `t`; nothing is settled when the process dies.
async fn first_death() -> Folder {
    let folder = Folder::new();
    let broker = folder.open().await;
    let keys = ["a", "b", "c", "d", "e"];
    let events = keys.map(|key| event(key, Some(key)));
    broker
        .bus()
        .publish(topic("t"), events.to_vec())
        .await
        .unwrap();
    let mut member = here(&broker).await;
    let (given, _held) = all(&mut *member, 5).await;
    assert_eq!(given.len(), 5);
    let left = died(&folder);
    broker.close().await;
    assert!(!has_markers(&folder), "nothing is written before a bad end");
    left
}

/// Whether there is an attempt marker in journal or snapshots.
fn has_markers(folder: &Folder) -> bool {
    let mut found = false;
    dump(folder.path(), &Dump::default(), |line| {
        let marker = Value::Text("attempt marker".into());
        found |= line
            .fields
            .iter()
            .any(|(name, value)| *name == "effect" && *value == marker);
        true
    })
    .unwrap();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_at_every_bad_end_is_given_up_and_nothing_else_is() {
    let folder = first_death().await;
    // Nobody knows yet who it was.
    let broker = folder.open().await;
    let mut member = here(&broker).await;
    let (given, mut held) = all(&mut *member, 5).await;
    assert_eq!(
        given,
        seen(&[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)])
    );
    ack(held.remove(0)).await;
    let folder = died(&folder);

    // One by one, and what comes new beside them.
    let broker = folder.open().await;
    let new = vec![event("new", Some("n")), event("behind", Some("d"))];
    broker.bus().publish(topic("t"), new).await.unwrap();
    let mut member = here(&broker).await;
    let (given, mut held) = all(&mut *member, 2).await;
    assert_eq!(given, seen(&[("b", 1), ("new", 1)]));
    ack(held.remove(0)).await;
    ack(held.remove(0)).await;
    let (given, _held) = all(&mut *member, 1).await;
    assert_eq!(given, seen(&[("c", 1)]));
    let folder = died(&folder);

    let broker = folder.open().await;
    let mut member = here(&broker).await;
    let (given, _held) = all(&mut *member, 1).await;
    assert_eq!(given, seen(&[("c", 1)]));
    let folder = died(&folder);

    let broker = folder.open().await;
    let mut member = here(&broker).await;
    let (given, mut held) = all(&mut *member, 1).await;
    assert_eq!(given, seen(&[("d", 1)]), "the culprit is none of them");
    let letter = letter(&broker).await;
    assert_eq!(letter.event.id().as_str(), "c");
    assert_eq!(letter.origin.offset, Offset(2));
    let failure = letter.failure;
    assert_eq!((failure.reason.as_str(), failure.attempts), ("crash", 3));
    assert!(failure.error.contains("ended 3 times"), "{}", failure.error);
    assert!(failure.first.unwrap() < failure.last.unwrap());
    ack(held.remove(0)).await;
    // Of two that may go now, the key of one begins with a suspect and the other was it.
    let mut rest = settle(&mut *member, 2).await;
    rest.sort();
    assert_eq!(rest, ["behind", "e"]);
    assert_eq!(broker.group(&group("g")).unwrap().lag(), 0);
    assert_eq!(broker.metrics().dead_lettered, 1);
    broker.close().await;
    // Nothing is left of all this.
    let broker = folder.open().await;
    assert_eq!(broker.group(&group("g")).unwrap().lag(), 0);
    broker.close().await;
}

async fn letter(broker: &Broker) -> DeadLetter {
    let bus = broker.bus();
    // Whoever gives the event up writes beside the pull that met it.
    let there = async {
        while broker.topic(&topic("g.deadletter")).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let there = tokio::time::timeout(Duration::from_secs(60), there).await;
    there.expect("a topic of dead letters");
    let fetched = bus.fetch(Fetch {
        topic: topic("g.deadletter"),
        partition: Partition(0),
        offset: Offset(0),
        max_events: 9,
        max_bytes: 1 << 20,
        wait: Duration::from_secs(60),
    });
    let events = fetched.await.unwrap().events;
    assert_eq!(events.len(), 1);
    DeadLetter::from_event(&events[0].1).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_end_does_not_count_and_begins_anew() {
    let folder = first_death().await;
    let broker = folder.open().await;
    let mut member = here(&broker).await;
    assert_eq!(all(&mut *member, 5).await.0.len(), 5);
    drop(member);
    broker.close().await;
    assert!(has_markers(&folder));
    for _ in 0..5 {
        let broker = folder.open().await;
        let mut member = here(&broker).await;
        let (given, held) = all(&mut *member, 5).await;
        assert_eq!(given.len(), 5, "{given:?}");
        assert!(given.iter().all(|(_, attempt)| *attempt == 1), "{given:?}");
        drop(held);
        drop(member);
        broker.close().await;
    }
    // What was known before is not known after the next bad end either.
    let broker = folder.open().await;
    let folder = died(&folder);
    broker.close().await;
    let broker = folder.open().await;
    let mut member = here(&broker).await;
    let (given, _held) = all(&mut *member, 5).await;
    assert_eq!((given.len(), given[4].1), (5, 1));
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_handles_nothing_has_not_ended_well_in_the_place_of_who_died() {
    let folder = first_death().await;
    let broker = folder.open().await;
    let mut member = here(&broker).await;
    assert_eq!(all(&mut *member, 5).await.0.len(), 5);
    let folder = died(&folder);
    // As a command does that lists topics.
    for _ in 0..2 {
        let broker = folder.open().await;
        assert!(broker.topic(&topic("t")).is_some());
        broker.close().await;
    }
    let broker = folder.open().await;
    let mut member = here(&broker).await;
    let (given, _held) = all(&mut *member, 1).await;
    assert_eq!(given.len(), 1, "the others wait for this one: {given:?}");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_handle_here_is_told_of_nothing() {
    let mut folder = first_death().await;
    for _ in 0..4 {
        let broker = folder.open().await;
        let mut member = join(&broker, "g", "t", Order::PerKey).await;
        let held = take(&mut *member, 5).await;
        assert!(held.iter().all(|(of, _)| of.attempt.0 == 1));
        let left = died(&folder);
        broker.close().await;
        assert!(!has_markers(&folder));
        folder = left;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_that_is_off_an_event_is_given_out_for_ever() {
    let mut folder = first_death().await;
    for _ in 0..5 {
        let broker = folder.builder().crashes_max(0).open().await.unwrap();
        let mut member = here(&broker).await;
        assert_eq!(all(&mut *member, 5).await.0.len(), 5);
        let left = died(&folder);
        broker.close().await;
        folder = left;
    }
    assert!(!has_markers(&folder));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_is_dropped_while_its_events_are_marked_loses_and_counts_nothing() {
    let folder = first_death().await;
    let broker = folder.open().await;
    let mut member = here(&broker).await;
    // Polled once.
    let polled = futures_poll(std::pin::pin!(member.pull(9))).await;
    if let std::task::Poll::Ready(given) = polled {
        let given = given.unwrap();
        assert_eq!(given.len(), 5);
        return;
    }
    // The next one may want less.
    let mut given = Vec::new();
    for _ in 0..5 {
        let next = member.pull(1).await.unwrap();
        assert_eq!(next.len(), 1);
        given.extend(next);
    }
    let given: Vec<_> = given.iter().map(|(of, _)| (id(of), of.attempt.0)).collect();
    let each = seen(&[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)]);
    assert_eq!(given, each);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspect_that_is_tried_again_in_place_holds_up_no_other() {
    let folder = first_death().await;
    let broker = folder.open().await;
    let mut member = here(&broker).await;
    assert_eq!(all(&mut *member, 5).await.0.len(), 5);
    let folder = died(&folder);
    let broker = folder.open().await;
    let mut member = here(&broker).await;
    let (given, first) = all(&mut *member, 1).await;
    assert_eq!(given, seen(&[("a", 1)]));
    first[0].1.outlived();
    let (given, _second) = all(&mut *member, 1).await;
    assert_eq!(given, seen(&[("b", 1)]));
    broker.close().await;
}

/// Polls once.
async fn futures_poll<F: Future>(mut of: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|context| std::task::Poll::Ready(of.as_mut().poll(context))).await
}
