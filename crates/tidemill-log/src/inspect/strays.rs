//! Names the files that nothing names: an opening puts them aside or removes them.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidemill_core::Offset;

use super::report::Finding;
use super::verify::Look;
use crate::backup::MANIFEST;
use crate::error::OpenError;
use crate::journal::writer::{JOURNAL_DIR, journal_number};
use crate::machine::PartitionId;
use crate::recovery::{is_ours, list};
use crate::segment::{TOPICS_DIR, is_rewritten, partition_dir, paths};
use crate::snapshot::{SNAPSHOTS_DIR, snapshot_number};

const STRAY: &str = "nothing names this file";
const LEFT: &str = "it is no longer needed; an opening removes it";

/// Looks through all folders of the log.
pub(super) fn look(look: &mut Look<'_>, snapshot: u64) -> Result<(), OpenError> {
    let disk = look.disk;
    for name in list(disk, "")? {
        if !is_ours(&name) && name != MANIFEST {
            look.report.add(Finding::note(name, STRAY));
        }
    }
    for name in list(disk, JOURNAL_DIR)? {
        if journal_number(&name).is_none() {
            let path = format!("{JOURNAL_DIR}/{name}");
            look.report.add(Finding::note(path, STRAY));
        }
    }
    for name in list(disk, SNAPSHOTS_DIR)? {
        let path = format!("{SNAPSHOTS_DIR}/{name}");
        match snapshot_number(&name) {
            Some(number) if number == snapshot => {}
            Some(_) => look.report.add(Finding::note(path, LEFT)),
            None => look.report.add(Finding::note(path, STRAY)),
        }
    }
    topics(look)
}

fn topics(look: &mut Look<'_>) -> Result<(), OpenError> {
    let known: BTreeSet<String> = look.tail.ends.keys().map(|id| dir_of(*id)).collect();
    let deleted: BTreeSet<String> = look.tail.deleted.iter().map(|id| dir_of(*id)).collect();
    for topic in list(look.disk, TOPICS_DIR)? {
        let dir = format!("{TOPICS_DIR}/{topic}");
        let Ok(partitions) = list(look.disk, &dir) else {
            // No folder.
            look.report.add(Finding::note(dir, STRAY));
            continue;
        };
        for partition in partitions {
            let path = format!("{dir}/{partition}");
            if deleted.contains(&path) && !known.contains(&path) {
                look.report.add(Finding::note(path, LEFT));
            } else if !known.contains(&path) {
                look.report.add(Finding::note(path, STRAY));
            }
        }
    }
    let ids: Vec<PartitionId> = look.tail.ends.keys().copied().collect();
    ids.into_iter().try_for_each(|id| partition(look, id))
}

fn partition(look: &mut Look<'_>, id: PartitionId) -> Result<(), OpenError> {
    let dir = partition_dir(id);
    let table = look.table.get(&id);
    let synced = table.into_iter().flat_map(|entry| &entry.segments);
    let begun = look
        .tail
        .begun
        .range((id, Offset(0))..=(id, Offset(u64::MAX)));
    let synced = synced.map(|kept| paths(id, kept.base, kept.generation));
    let begun = begun.map(|(_, base)| paths(id, *base, 0));
    let known: BTreeSet<Arc<str>> = synced.chain(begun).flatten().collect();
    let all = look
        .gone
        .range((id, Offset(0), 0)..=(id, Offset(u64::MAX), u32::MAX));
    let gone = all.map(|(_, base, generation)| paths(id, *base, *generation));
    let gone: BTreeSet<Arc<str>> = gone.flatten().collect();
    for name in list(look.disk, &dir)? {
        let path = format!("{dir}/{name}");
        let unfinished = is_rewritten(&name) && !known.contains(path.as_str());
        if gone.contains(path.as_str()) || unfinished {
            look.report.add(Finding::note(path, LEFT).of(id));
        } else if !known.contains(path.as_str()) {
            look.report.add(Finding::note(path, STRAY).of(id));
        }
    }
    Ok(())
}

fn dir_of(id: PartitionId) -> String {
    partition_dir(id).to_string()
}
