//! Who is to have which partitions: the assignors of consumer groups. Pure, and the same for the
//! same input.
//!
//! It may not know epochs, nor what members have at the moment: only what they were to have.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tidemill_core::{Partition, TopicId};

use super::types::ConsumerParts;

/// A way of sharing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Assignor {
    /// Members have as many partitions as others, and keep what they were to have.
    #[default]
    Uniform,
    /// Of each topic, members have neighbouring partitions.
    Range,
}

impl Assignor {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        let mut all = [Self::Uniform, Self::Range].into_iter();
        all.find(|one| one.name() == name)
    }
}

/// A member as assignors see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reader<'a> {
    /// The topics that it reads, with how many partitions each has. Readers of the same ones
    /// share them.
    pub(crate) topics: Arc<BTreeMap<TopicId, u32>>,
    /// What it was to have.
    pub(crate) had: Option<&'a ConsumerParts>,
}

/// What each reader is to have, in their order: every partition that somebody reads is one's.
pub(super) fn assign(assignor: Assignor, readers: &[Reader<'_>]) -> Vec<ConsumerParts> {
    let topics = Topics::of(readers);
    match assignor {
        Assignor::Range => range(&topics, readers.len()),
        Assignor::Uniform => uniform(&topics, readers),
    }
}

/// What each reader of a share group is to read, in their order: every partition that somebody
/// reads is somebody's, every reader of a topic has one of those that are read like it, and where
/// there are more readers than partitions, they have as many readers as others.
pub(crate) fn spread(readers: &[Reader<'_>]) -> Vec<ConsumerParts> {
    let mut parts = vec![ConsumerParts::new(); readers.len()];
    for (by, alike) in &Topics::of(readers).alike {
        let each = alike.iter();
        let each = each.flat_map(|(topic, count)| (0..*count).map(|n| (*topic, Partition(n))));
        let all: Vec<_> = each.collect();
        let pairs = by.iter().cycle().zip(all.iter().cycle());
        let count = match all.is_empty() {
            true => 0,
            false => by.len().max(all.len()),
        };
        for (reader, part) in pairs.take(count) {
            give(&mut parts, *reader, *part);
        }
    }
    parts
}

/// Who reads each topic.
struct Topics {
    /// Topics that have the same readers, which are named by their places, ascending.
    alike: BTreeMap<Vec<usize>, BTreeMap<TopicId, u32>>,
}

impl Topics {
    fn of(readers: &[Reader<'_>]) -> Self {
        // What several share is looked at once.
        let mut known = HashMap::new();
        let mut shared: Vec<(&BTreeMap<TopicId, u32>, Vec<usize>)> = Vec::new();
        for (place, reader) in readers.iter().enumerate() {
            let at = *known
                .entry(Arc::as_ptr(&reader.topics))
                .or_insert(shared.len());
            match shared.get_mut(at) {
                Some((_, places)) => places.push(place),
                None => shared.push((&reader.topics, vec![place])),
            }
        }
        let mut read: BTreeMap<TopicId, (u32, Vec<usize>)> = BTreeMap::new();
        for (at, (topics, _)) in shared.iter().enumerate() {
            for (topic, partitions) in *topics {
                let entry = read.entry(*topic).or_insert((*partitions, Vec::new()));
                entry.1.push(at);
            }
        }
        let mut alike: BTreeMap<Vec<usize>, BTreeMap<TopicId, u32>> = BTreeMap::new();
        for (topic, (partitions, by)) in read {
            alike.entry(by).or_default().insert(topic, partitions);
        }
        let places = |by: Vec<usize>| {
            let each = by.into_iter().filter_map(|at| shared.get(at));
            let mut places: Vec<usize> = each.flat_map(|(_, places)| places).copied().collect();
            places.sort_unstable();
            places
        };
        let alike = alike.into_iter().map(|(by, topics)| (places(by), topics));
        Self {
            alike: alike.collect(),
        }
    }
}

fn give(parts: &mut [ConsumerParts], to: usize, part: (TopicId, Partition)) {
    if let Some(parts) = parts.get_mut(to) {
        parts.insert(part);
    }
}

fn range(topics: &Topics, readers: usize) -> Vec<ConsumerParts> {
    let mut parts = vec![ConsumerParts::new(); readers];
    for (by, alike) in &topics.alike {
        let count = u32::try_from(by.len()).unwrap_or(u32::MAX);
        for (topic, partitions) in alike {
            let (each, more) = (partitions / count, partitions % count);
            let mut next = 0;
            for (nth, reader) in (0..).zip(by) {
                let end = next + each + u32::from(nth < more);
                for number in next..end {
                    give(&mut parts, *reader, (*topic, Partition(number)));
                }
                next = end;
            }
        }
    }
    parts
}

/// Those who read the same topics, by how much they have.
struct Loads<'a> {
    parts: &'a mut [ConsumerParts],
    order: BTreeSet<(usize, usize)>,
}

impl<'a> Loads<'a> {
    fn of(parts: &'a mut [ConsumerParts], readers: &[usize]) -> Self {
        let load = |reader: &usize| (parts.get(*reader).map_or(0, BTreeSet::len), *reader);
        let order = readers.iter().map(load).collect();
        Self { parts, order }
    }

    /// Gives it to who has the least.
    fn give_to_least(&mut self, part: (TopicId, Partition)) {
        if let Some((load, reader)) = self.order.pop_first() {
            give(self.parts, reader, part);
            self.order.insert((load + 1, reader));
        }
    }

    /// Moves partitions of these topics from those who have the most to those who have the least,
    /// until that makes no difference. Answers whether something moved.
    fn even_out(&mut self, topics: &BTreeMap<TopicId, u32>) -> bool {
        let mut moved = false;
        let mut full: Vec<usize> = self.order.iter().map(|(_, reader)| *reader).collect();
        while let Some(reader) = full.pop() {
            let Some(parts) = self.parts.get(reader) else {
                continue;
            };
            let (mut load, mut movable) = (parts.len(), last_of(parts, topics));
            while let (Some(part), Some((least, to))) = (movable, self.order.first().copied()) {
                if to == reader || least + 1 >= load {
                    break;
                }
                self.order.remove(&(load, reader));
                load -= 1;
                self.order.insert((load, reader));
                if let Some(parts) = self.parts.get_mut(reader) {
                    parts.remove(&part);
                    movable = last_of(parts, topics);
                }
                self.give_to_least(part);
                moved = true;
            }
        }
        moved
    }
}

/// The last partition of one of these topics.
fn last_of(parts: &ConsumerParts, topics: &BTreeMap<TopicId, u32>) -> Option<(TopicId, Partition)> {
    let mut from_the_end = parts.iter().rev();
    from_the_end
        .find(|(topic, _)| topics.contains_key(topic))
        .copied()
}

fn uniform(topics: &Topics, readers: &[Reader<'_>]) -> Vec<ConsumerParts> {
    // Everybody keeps what it was to have and still reads.
    let keeps = |reader: &Reader<'_>| {
        let had = reader.had.into_iter().flatten();
        let there = |(topic, number): &&(TopicId, Partition)| {
            let partitions = reader.topics.get(topic);
            partitions.is_some_and(|partitions| number.0 < *partitions)
        };
        had.filter(there).copied().collect()
    };
    let mut parts: Vec<ConsumerParts> = readers.iter().map(keeps).collect();
    let held: BTreeSet<_> = parts.iter().flatten().copied().collect();
    // Topics that few read first: the others have more ways to make up for it.
    let mut alike: Vec<_> = topics.alike.iter().collect();
    alike.sort_by_key(|(by, _)| by.len());
    for (by, topics) in &alike {
        let mut loads = Loads::of(&mut parts, by);
        for (topic, partitions) in *topics {
            for number in 0..*partitions {
                let part = (*topic, Partition(number));
                if !held.contains(&part) {
                    loads.give_to_least(part);
                }
            }
        }
    }
    // What moves between the readers of some topics may make room among those of others. Each
    // move makes the loads more even, so this ends; it is bounded for the time that it takes.
    for _ in 0..=alike.len().min(EVEN_OUT_ROUNDS) {
        let even = |(by, topics): &(&Vec<usize>, &BTreeMap<TopicId, u32>)| {
            Loads::of(&mut parts, by).even_out(topics)
        };
        if alike.iter().map(even).filter(|moved| *moved).count() == 0 {
            break;
        }
    }
    parts
}

/// How often what some give is looked at from the others' side.
const EVEN_OUT_ROUNDS: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn topic(number: usize) -> TopicId {
        TopicId(Uuid::from_u128(number as u128))
    }

    fn reader(topics: &[(usize, u32)]) -> Reader<'static> {
        let topics = topics
            .iter()
            .map(|(number, count)| (topic(*number), *count));
        Reader {
            topics: Arc::new(topics.collect()),
            had: None,
        }
    }

    fn again<'a>(readers: &[Reader<'_>], had: &'a [ConsumerParts]) -> Vec<Reader<'a>> {
        let with = |(at, reader): (usize, &Reader<'_>)| Reader {
            topics: Arc::clone(&reader.topics),
            had: had.get(at),
        };
        readers.iter().enumerate().map(with).collect()
    }

    fn sizes(parts: &[ConsumerParts]) -> Vec<usize> {
        parts.iter().map(BTreeSet::len).collect()
    }

    #[test]
    fn ranges_are_neighbours_of_each_topic() {
        let readers = vec![reader(&[(1, 5), (2, 2)]), reader(&[(1, 5), (2, 2)])];
        let parts = assign(Assignor::Range, &readers);
        let of = |who: usize, topic: usize| -> Vec<u32> {
            let those = parts[who]
                .iter()
                .filter(|(id, _)| *id == self::topic(topic));
            those.map(|(_, part)| part.0).collect()
        };
        assert_eq!((of(0, 1), of(1, 1)), (vec![0, 1, 2], vec![3, 4]));
        assert_eq!((of(0, 2), of(1, 2)), (vec![0], vec![1]));
    }

    #[test]
    fn who_comes_gets_its_part_and_nothing_else_moves() {
        let two = vec![reader(&[(1, 6)]), reader(&[(1, 6)])];
        let had = assign(Assignor::Uniform, &two);
        assert_eq!(sizes(&had), [3, 3]);
        let three = vec![two[0].clone(), two[1].clone(), reader(&[(1, 6)])];
        let now = assign(Assignor::Uniform, &again(&three, &had));
        assert_eq!(sizes(&now), [2, 2, 2]);
        assert!(now[0].is_subset(&had[0]) && now[1].is_subset(&had[1]));
    }

    #[test]
    fn topics_that_one_alone_reads_are_made_up_for() {
        let readers = vec![reader(&[(1, 4), (2, 4)]), reader(&[(1, 4)])];
        let parts = assign(Assignor::Uniform, &readers);
        assert_eq!(sizes(&parts), [4, 4]);
    }

    proptest! {
        #[test]
        fn spread_leaves_no_partition_and_no_reader_without_the_other(
            all in prop::collection::vec(
                prop::collection::btree_map(0..6usize, Just(()), 0..6), 1..9),
            counts in prop::collection::vec(1..9u32, 6),
        ) {
            let reads = |topics: &BTreeMap<usize, ()>| {
                let topics: Vec<_> = topics.keys().map(|n| (*n, counts[*n])).collect();
                reader(&topics)
            };
            let readers: Vec<_> = all.iter().map(reads).collect();
            let parts = spread(&readers);
            let mut of: BTreeMap<(TopicId, Partition), usize> = BTreeMap::new();
            for (reader, parts) in readers.iter().zip(&parts) {
                prop_assert_eq!(reader.topics.is_empty(), parts.is_empty());
                for part in parts {
                    prop_assert!(part.1.0 < reader.topics[&part.0]);
                    *of.entry(*part).or_default() += 1;
                }
            }
            let wanted: BTreeSet<_> = all.iter().flat_map(|one| one.keys()).collect();
            let wanted: u32 = wanted.into_iter().map(|n| counts[*n]).sum();
            prop_assert_eq!(of.len(), wanted as usize);
            if readers.windows(2).all(|two| two[0].topics == two[1].topics) && !of.is_empty() {
                let (most, least) = (of.values().max(), of.values().min());
                prop_assert!(most.unwrap() - least.unwrap() <= 1, "{:?}", of);
                let sizes = sizes(&parts);
                let (most, least) = (sizes.iter().max(), sizes.iter().min());
                prop_assert!(most.unwrap() - least.unwrap() <= 1, "{:?}", sizes);
            }
        }

        #[test]
        fn every_partition_that_is_read_is_one_readers(
            all in prop::collection::vec(
                prop::collection::btree_map(0..6usize, Just(()), 0..6), 1..7),
            counts in prop::collection::vec(1..9u32, 6),
            range in any::<bool>(),
        ) {
            let reads = |topics: &BTreeMap<usize, ()>| {
                let topics: Vec<_> = topics.keys().map(|n| (*n, counts[*n])).collect();
                reader(&topics)
            };
            let readers: Vec<_> = all.iter().map(reads).collect();
            let assignor = if range { Assignor::Range } else { Assignor::Uniform };
            let parts = assign(assignor, &readers);
            let mut seen = BTreeSet::new();
            for (reader, parts) in readers.iter().zip(&parts) {
                for part in parts {
                    prop_assert!(seen.insert(*part), "two have {part:?}");
                    prop_assert!(part.1.0 < reader.topics[&part.0]);
                }
            }
            let wanted: BTreeSet<_> = all.iter().flat_map(|one| one.keys()).collect();
            let wanted: u32 = wanted.into_iter().map(|n| counts[*n]).sum();
            prop_assert_eq!(seen.len(), wanted as usize);
            let same = assign(assignor, &again(&readers, &parts));
            prop_assert_eq!(&same, &parts, "nothing has changed");
            let alike = readers.windows(2).all(|two| two[0].topics == two[1].topics);
            if alike && !range {
                let sizes = sizes(&parts);
                let (most, least) = (sizes.iter().max(), sizes.iter().min());
                prop_assert!(most.unwrap() - least.unwrap() <= 1, "{:?}", sizes);
            }
        }
    }
}
