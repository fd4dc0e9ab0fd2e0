//! Reading outside of groups: by offset, the long poll, errors, listing and watching.

use std::time::Duration;

use tidemill_core::{FetchError, Fetched, Offset, Partition};

use super::tools::{Checked, bus, ensure, event, events, fetch};
use super::{Instance, Violation};

fn offsets(fetched: &Fetched) -> Vec<u64> {
    fetched.events.iter().map(|(offset, _)| offset.0).collect()
}

fn failed(error: &FetchError) -> Violation {
    Violation(format!("fetch failed: {error}"))
}

pub(super) async fn fetch_reads_by_offset_within_its_bounds(instance: &Instance) -> Checked {
    let topic = instance.topic("offsets");
    let positions = instance.publish(&topic, events("k", 10)).await?;
    let given: Vec<u64> = positions.iter().map(|p| p.offset.0).collect();
    let (Some(first), Some(fourth)) = (positions.first(), positions.get(3)) else {
        return Err(Violation("ten events have ten positions".to_owned()));
    };
    let mut read = fetch(&topic, first.partition, fourth.offset);
    read.max_events = 4;
    let some = bus(instance)
        .fetch(read.clone())
        .await
        .map_err(|e| failed(&e))?;
    ensure!(
        given.get(3..7) == Some(&offsets(&some)),
        "4 events from {} on were asked for, {:?} came",
        fourth.offset,
        offsets(&some)
    );
    read.offset = some.next;
    read.max_events = 100;
    let rest = bus(instance)
        .fetch(read.clone())
        .await
        .map_err(|e| failed(&e))?;
    ensure!(
        given.get(7..) == Some(&offsets(&rest)),
        "reading on from `next` gave {:?} of {given:?}",
        offsets(&rest)
    );
    ensure!(
        rest.next == rest.end && Some(rest.end.0) == given.last().map(|last| last + 1),
        "after the last of {given:?}, next is {} and end is {}",
        rest.next,
        rest.end
    );
    read.offset = first.offset;
    read.max_bytes = 1;
    let least = bus(instance).fetch(read).await.map_err(|e| failed(&e))?;
    ensure!(
        least.events.len() == 1,
        "a bound of one byte gave {} events instead of one",
        least.events.len()
    );
    Ok(())
}

pub(super) async fn fetch_waits_for_the_first_event(instance: &Instance) -> Checked {
    let topic = instance.topic("poll");
    let positions = instance.publish(&topic, events("k", 1)).await?;
    let Some(first) = positions.first() else {
        return Err(Violation("one event has a position".to_owned()));
    };
    let mut read = fetch(&topic, first.partition, first.offset.next());
    let empty = bus(instance)
        .fetch(read.clone())
        .await
        .map_err(|e| failed(&e))?;
    ensure!(
        empty.events.is_empty(),
        "{:?} came out of nothing",
        offsets(&empty)
    );
    read.wait = instance.patience.saturating_mul(4);
    let mut waiting = Box::pin(bus(instance).fetch(read.clone()));
    let at_once = futures_util::poll!(&mut waiting);
    ensure!(
        at_once.is_pending(),
        "a fetch at the end did not wait: {at_once:?}"
    );
    let next = instance
        .publish(&topic, vec![event(Some("k"), "next")])
        .await?;
    let woken = instance.within("a waiting fetch", waiting).await?;
    let woken = woken.map_err(|e| failed(&e))?;
    let expected: Vec<u64> = next.iter().map(|p| p.offset.0).collect();
    ensure!(
        offsets(&woken) == expected,
        "a waiting fetch gave {:?} instead of {expected:?}",
        offsets(&woken)
    );
    read.offset = woken.next;
    read.wait = Duration::from_millis(20);
    let over = instance
        .within("a fetch whose wait is over", bus(instance).fetch(read))
        .await?;
    let over = over.map_err(|e| failed(&e))?;
    ensure!(
        over.events.is_empty(),
        "{:?} came out of nothing",
        offsets(&over)
    );
    Ok(())
}

pub(super) async fn fetch_says_what_is_wrong(instance: &Instance) -> Checked {
    let topic = instance.topic("wrong");
    let positions = instance.publish(&topic, events("k", 3)).await?;
    let Some(last) = positions.last() else {
        return Err(Violation("three events have positions".to_owned()));
    };
    let beyond = fetch(&topic, last.partition, Offset(last.offset.0 + 100));
    let answer = bus(instance).fetch(beyond).await;
    let end = last.offset.next();
    ensure!(
        matches!(&answer, Err(FetchError::OutOfRange { end: e, .. }) if *e == end),
        "a fetch beyond {end} was answered {answer:?}"
    );
    let nowhere = fetch(&topic, Partition(4_000_000), Offset(0));
    let answer = bus(instance).fetch(nowhere).await;
    ensure!(
        matches!(answer, Err(FetchError::UnknownPartition { .. })),
        "a fetch of partition 4,000,000 was answered {answer:?}"
    );
    let unknown = fetch(&instance.topic("never-made"), Partition(0), Offset(0));
    let answer = bus(instance).fetch(unknown).await;
    ensure!(
        matches!(answer, Err(FetchError::UnknownTopic(_))),
        "a fetch of an unknown topic was answered {answer:?}"
    );
    Ok(())
}

pub(super) async fn topics_are_listed_with_their_bounds(instance: &Instance) -> Checked {
    let names = ["listed-b", "listed-a"].map(|name| instance.topic(name));
    let mut last = Vec::new();
    for name in &names {
        last.extend(instance.publish(name, events("k", 3)).await?.pop());
    }
    let listed = bus(instance).topics().await.map_err(|e| failed(&e))?;
    ensure!(
        listed.is_sorted_by(|a, b| a.topic < b.topic),
        "topics are not sorted by name: {listed:?}"
    );
    for position in last {
        let topic = listed.iter().find(|bounds| bounds.topic == position.topic);
        let mut parts = topic.iter().flat_map(|bounds| &bounds.partitions);
        let part = parts.find(|bounds| bounds.partition == position.partition);
        ensure!(
            part.is_some_and(|b| b.earliest == Offset(0) && b.end == position.offset.next()),
            "{position} was published and {part:?} listed"
        );
    }
    Ok(())
}

pub(super) async fn a_watch_tells_of_every_new_end(instance: &Instance) -> Checked {
    let topic = instance.topic("watched");
    instance.publish(&topic, events("before", 2)).await?;
    let mut watch = bus(instance).watch().map_err(|e| failed(&e))?;
    for _ in 0..3 {
        let mut positions = instance.publish(&topic, events("k", 2)).await?;
        let Some(last) = positions.pop() else {
            return Err(Violation("two events have two positions".to_owned()));
        };
        loop {
            let told = instance.within("a watch", watch.next()).await?;
            let told = told.map_err(|e| failed(&e))?;
            let mine: Vec<_> = told.iter().filter(|t| t.topic == topic).collect();
            ensure!(
                mine.len() <= 1,
                "one partition was told of twice at once: {mine:?}"
            );
            let end = mine.first().map(|advanced| advanced.end);
            ensure!(
                end.is_none_or(|end| end <= last.offset.next()),
                "a watch told of {mine:?}, and {last} is the last event"
            );
            if end == Some(last.offset.next()) {
                break;
            }
        }
    }
    Ok(())
}
