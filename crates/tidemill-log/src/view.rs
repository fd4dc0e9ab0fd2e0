//! What the log shows to its readers: for every partition how far it reaches, its tail in
//! memory, and its segments. Everything here is read without a lock.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tidemill_core::Offset;

use crate::machine::PartitionId;
use crate::segment::{Segment, SegmentView};
use crate::settings::PartitionSettings;
use crate::tail::Tail;

/// One partition as readers see it.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) id: PartitionId,
    /// The offset of the next record to be committed: the high watermark.
    end: AtomicU64,
    /// The first offset that is kept.
    earliest: AtomicU64,
    /// Bytes of batches, in segments and in the tail.
    size_bytes: AtomicU64,
    pub(crate) tail: Tail,
    segments: ArcSwap<SegmentList>,
    settings: ArcSwap<PartitionSettings>,
}

/// A partition's segments, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct SegmentList {
    /// Those that are no longer written to.
    closed: Arc<Vec<SegmentView>>,
    /// The last one.
    active: Option<SegmentView>,
}

impl View {
    pub(crate) fn new(
        id: PartitionId,
        tail: Tail,
        earliest: Offset,
        end: Offset,
        settings: PartitionSettings,
    ) -> Self {
        Self {
            settings: ArcSwap::from_pointee(settings),
            id,
            end: AtomicU64::new(end.0),
            earliest: AtomicU64::new(earliest.0),
            size_bytes: AtomicU64::new(0),
            tail,
            segments: ArcSwap::default(),
        }
    }

    pub(crate) fn end(&self) -> Offset {
        Offset(self.end.load(Ordering::Acquire))
    }

    pub(crate) fn earliest(&self) -> Offset {
        Offset(self.earliest.load(Ordering::Acquire))
    }

    pub(crate) fn settings(&self) -> PartitionSettings {
        **self.settings.load()
    }

    pub(crate) fn configure(&self, settings: PartitionSettings) {
        self.settings.store(Arc::new(settings));
    }

    /// Nothing below this offset is kept any more.
    pub(crate) fn raise_earliest(&self, earliest: Offset) {
        self.earliest.fetch_max(earliest.0, Ordering::AcqRel);
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Relaxed)
    }

    /// Shows what was pushed to the tail up to `end`.
    pub(crate) fn set_end(&self, end: Offset) {
        self.end.store(end.0, Ordering::Release);
    }

    pub(crate) fn grow(&self, bytes: u64) {
        self.size_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Batches became smaller when they were merged.
    pub(crate) fn shrink(&self, bytes: u64) {
        self.size_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Shows the segments as they are now. All but the last one never change, so they are
    /// copied only when there is another one.
    pub(crate) fn publish(&self, segments: &[Segment]) {
        let Some((active, closed)) = segments.split_last() else {
            return;
        };
        let mut list = SegmentList::clone(&self.segments.load());
        if list.closed.len() != closed.len() {
            list.closed = Arc::new(closed.iter().map(Segment::view).collect());
        }
        list.active = Some(active.view());
        self.segments.store(Arc::new(list));
    }

    /// The segments that are no longer written to, in order.
    pub(crate) fn closed(&self) -> Arc<Vec<SegmentView>> {
        self.segments.load().closed.clone()
    }

    /// As [`View::publish`], where others than the last one have changed.
    pub(crate) fn publish_all(&self, segments: &[Segment]) {
        let list = segments.split_last().map(|(active, closed)| SegmentList {
            closed: Arc::new(closed.iter().map(Segment::view).collect()),
            active: Some(active.view()),
        });
        self.segments.store(Arc::new(list.unwrap_or_default()));
    }

    /// The written segment that holds `offset`; where the one that did was deleted from between
    /// others, the next one.
    pub(crate) fn segment(&self, offset: Offset) -> Option<SegmentView> {
        let list = self.segments.load();
        let before = |segment: &SegmentView| segment.written.end <= offset;
        let closed = list.closed.get(list.closed.partition_point(before));
        let active = list.active.as_ref();
        let active = active.filter(|segment| !before(segment) && segment.written.bytes > 0);
        closed.or(active).cloned()
    }
}

type Views = HashMap<PartitionId, Arc<View>>;

/// Parts of the registry; a change copies one of them.
const SHARDS: usize = 64;

/// All partitions.
#[derive(Debug)]
pub(crate) struct Registry {
    shards: Box<[ArcSwap<Views>]>,
    hasher: RandomState,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, id: PartitionId) -> &ArcSwap<Views> {
        let at = self.hasher.hash_one(id) as usize % SHARDS;
        self.shards
            .get(at)
            .expect("there are as many shards as the remainder says")
    }

    pub(crate) fn get(&self, id: PartitionId) -> Option<Arc<View>> {
        self.shard(id).load().get(&id).cloned()
    }

    /// All of them, ascending.
    pub(crate) fn ids(&self) -> Vec<PartitionId> {
        let shards = self.shards.iter().map(ArcSwap::load);
        let mut ids: Vec<_> = shards
            .flat_map(|views| views.keys().copied().collect::<Vec<_>>())
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Only the log changes the registry, so nothing is lost between load and store.
    pub(crate) fn insert(&self, view: Arc<View>) {
        let shard = self.shard(view.id);
        let mut map = HashMap::clone(&shard.load());
        map.insert(view.id, view);
        shard.store(Arc::new(map));
    }

    /// Adds many at once.
    pub(crate) fn extend(&self, views: impl Iterator<Item = Arc<View>>) {
        let mut maps: Vec<Views> = self
            .shards
            .iter()
            .map(|shard| Views::clone(&shard.load()))
            .collect();
        for view in views {
            let at = self.hasher.hash_one(view.id) as usize % SHARDS;
            if let Some(map) = maps.get_mut(at) {
                map.insert(view.id, view);
            }
        }
        for (shard, map) in self.shards.iter().zip(maps) {
            shard.store(Arc::new(map));
        }
    }

    pub(crate) fn remove(&self, id: PartitionId) {
        let shard = self.shard(id);
        let mut map = HashMap::clone(&shard.load());
        map.remove(&id);
        shard.store(Arc::new(map));
    }
}
