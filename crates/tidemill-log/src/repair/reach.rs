//! What the files of segments show of offsets that were given out and that neither the snapshot
//! nor the readable part of the journal knows: segments are written on between checkpoints.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_core::{Offset, Partition, TopicId};
use uuid::Uuid;

use super::segment::batch_at;
use crate::batch::Batch;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::machine::PartitionId;
use crate::recovery::list;
use crate::segment::{TOPICS_DIR, partition_dir, paths};

/// The offset after the last one that the files of each partition show, of those in `ends` and of
/// those that nothing knows, `deleted` ones left out.
///
/// # Errors
/// A folder cannot be listed. What of a file cannot be read shows nothing.
pub(super) fn in_files(
    disk: &dyn Disk,
    ends: &BTreeMap<PartitionId, Offset>,
    deleted: &BTreeSet<PartitionId>,
) -> Result<BTreeMap<PartitionId, Offset>, OpenError> {
    let mut found = BTreeMap::new();
    for id in partitions(disk)? {
        if deleted.contains(&id) && !ends.contains_key(&id) {
            continue;
        }
        let end = ends.get(&id).copied().unwrap_or(Offset(0));
        let names = list(disk, &partition_dir(id))?;
        let mut bases: Vec<Offset> = names.iter().filter_map(|name| base(name)).collect();
        bases.sort_unstable();
        // Those before the one that holds the end hold nothing behind it.
        let first = bases.partition_point(|base| *base <= end).saturating_sub(1);
        let shown = bases.iter().skip(first);
        let shown = shown.map(|base| shown_by(disk, id, *base)).max();
        if let Some(shown) = shown.filter(|shown| *shown > end) {
            found.insert(id, shown);
        }
    }
    Ok(found)
}

/// The partitions that have a folder.
fn partitions(disk: &dyn Disk) -> Result<Vec<PartitionId>, OpenError> {
    let mut all = Vec::new();
    for topic in list(disk, TOPICS_DIR)? {
        let Ok(id) = Uuid::try_parse(&topic) else {
            continue;
        };
        // No folder has no partitions.
        let numbers = disk.list(&format!("{TOPICS_DIR}/{topic}"));
        let numbers = numbers.unwrap_or_default().into_iter();
        let ids = numbers
            .filter_map(|number| number.parse().ok())
            .map(|number| PartitionId {
                topic: TopicId(id),
                partition: Partition(number),
            });
        all.extend(ids);
    }
    Ok(all)
}

/// The first offset of a segment that is written to, by its file's name.
fn base(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".log").filter(|stem| stem.len() == 20)?;
    digits.parse().ok().map(Offset)
}

/// The offset after the last whole batch of a segment's file; its first one where there is none: up
/// to there they were given out.
fn shown_by(disk: &dyn Disk, id: PartitionId, base: Offset) -> Offset {
    let [path, _] = paths(id, base, 0);
    let Ok(file) = disk.open(&path) else {
        return base;
    };
    let (mut end, mut position) = (base, 0);
    let is_whole = |batch: &Batch| batch.check_records().is_ok();
    while let Some(batch) = batch_at(file.as_ref(), position, u64::MAX).filter(is_whole)
        && batch.base_offset() >= end
    {
        end = batch.next_offset();
        position += batch.size_bytes() as u64;
    }
    end
}
