//! What the members of a consumer group read: each subscription is kept once, with the topics that
//! it finds, for all members that have it.
//!
//! It may not know who has which partition.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytestring::ByteString;
use tidemill_core::{TopicId, TopicName};

use super::patterns::{Pattern, Patterns};
use super::types::{ConsumerError, ConsumerHeartbeat, ConsumerSight};
use crate::catalog::Catalog;

/// Bytes of a topic that is read, with the number of its partitions, roughly.
const FOUND_BYTES: usize = 48;

/// A subscription.
#[derive(Debug, Default)]
pub(super) struct Reads {
    pub(super) topics: BTreeSet<TopicName>,
    pub(super) pattern: Option<ByteString>,
    /// `None` sees everything.
    sight: Option<ConsumerSight>,
    /// The topics that are there and seen, with how many partitions they have.
    pub(super) found: Arc<BTreeMap<TopicId, u32>>,
}

impl Reads {
    /// Whether members with the other one read the same, and will.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.topics == other.topics && self.pattern == other.pattern && self.found == other.found
    }

    /// Bytes in memory, roughly, with as many that are lent to assignors.
    pub(super) fn bytes(&self) -> usize {
        let topics = self.topics.iter();
        let topics: usize = topics.map(|name| 64 + name.as_str().len()).sum();
        let pattern = self.pattern.as_ref().map_or(0, |pattern| pattern.len());
        size_of::<Self>() + topics + pattern + self.found.len() * FOUND_BYTES
    }
}

/// The subscriptions of a group.
#[derive(Debug, Default)]
pub(super) struct AllReads {
    pub(super) patterns: Patterns,
    /// With their bytes.
    all: Vec<(Arc<Reads>, usize)>,
}

impl AllReads {
    /// What a member reads that had `have` and says this now; the same where nothing changes.
    /// `pattern` is what its expression matches.
    ///
    /// # Errors
    /// [`ConsumerError::Full`].
    pub(super) fn of(
        &mut self,
        have: &Arc<Reads>,
        beat: &ConsumerHeartbeat,
        pattern: Option<&Arc<Pattern>>,
        catalog: &Arc<Catalog>,
    ) -> Result<Arc<Reads>, ConsumerError> {
        let topics = beat.topics.as_ref().unwrap_or(&have.topics);
        let text = beat.pattern.as_ref().or(have.pattern.as_ref());
        let text = text.filter(|text| !text.is_empty());
        let same = |reads: &Reads| {
            reads.pattern.as_ref() == text && reads.sight == beat.sight && reads.topics == *topics
        };
        if same(have) {
            return Ok(Arc::clone(have));
        }
        if let Some((reads, _)) = self.all.iter().find(|(reads, _)| same(reads)) {
            return Ok(Arc::clone(reads));
        }
        self.keep();
        if let Some(pattern) = pattern {
            self.patterns.add(pattern, catalog)?;
        }
        let mut reads = Reads {
            topics: topics.clone(),
            pattern: text.cloned(),
            sight: beat.sight.clone(),
            found: Arc::default(),
        };
        reads.found = Arc::new(self.find(&reads, catalog));
        let reads = Arc::new(reads);
        self.all.push((Arc::clone(&reads), reads.bytes()));
        Ok(reads)
    }

    fn find(&self, reads: &Reads, catalog: &Catalog) -> BTreeMap<TopicId, u32> {
        let sight = reads.sight.as_ref();
        let seen = |name: &TopicName| sight.is_none_or(|sight| sight.sees(name));
        let matching = self.patterns.topics(reads.pattern.as_ref());
        let matching = matching.filter_map(|id| catalog.name(id));
        let names = reads.topics.iter().chain(matching);
        let topics = names.filter_map(|name| Some((name, catalog.topic(name)?)));
        let topics = topics.filter(|(name, topic)| !catalog.is_queue(topic.id) && seen(name));
        topics
            .map(|(_, topic)| (topic.id, topic.partitions))
            .collect()
    }

    /// The topics are these now. Answers what is read in the place of what, where that changes.
    pub(super) fn look(&mut self, now: &Arc<Catalog>) -> HashMap<*const Reads, Arc<Reads>> {
        self.patterns.look(now);
        let mut all = std::mem::take(&mut self.all);
        let mut others = HashMap::new();
        for (reads, bytes) in &mut all {
            let found = self.find(reads, now);
            if found == *reads.found {
                continue;
            }
            let other = Arc::new(Reads {
                topics: reads.topics.clone(),
                pattern: reads.pattern.clone(),
                sight: reads.sight.clone(),
                found: Arc::new(found),
            });
            others.insert(Arc::as_ptr(reads), Arc::clone(&other));
            *bytes = other.bytes();
            *reads = other;
        }
        self.all = all;
        others
    }

    /// Forgets what nobody reads.
    pub(super) fn keep(&mut self) {
        self.all.retain(|(reads, _)| Arc::strong_count(reads) > 1);
        let used = self.all.iter();
        let used = used.filter_map(|(reads, _)| reads.pattern.as_ref());
        self.patterns.keep(used);
    }

    /// Bytes in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        let all: usize = self.all.iter().map(|(_, bytes)| bytes).sum();
        all + self.patterns.bytes()
    }
}
