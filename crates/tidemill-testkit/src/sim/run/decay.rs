//! Damage at rest while the log lives on: a bit of a segment or its sidecar, or a sidecar that is
//! another one's. The journal, snapshots and superblocks are damaged in images alone, since a log
//! that is refused has no next life. May not know: what the files hold.

use super::Run;
use crate::sim::ledger::partition_id;

/// Crashes of a million after which a file is damaged.
const DECAY_PER_MILLION: u32 = 300_000;

impl Run {
    /// The partition whose file this is.
    pub(super) fn partition_of(&self, path: &str) -> Option<u64> {
        let rest = path.strip_prefix("topics/")?;
        let (dir, _) = rest.rsplit_once('/')?;
        let mut ever = self.checker.ever();
        ever.find(|number| {
            let id = partition_id(*number);
            dir == format!("{}/{}", id.topic, id.partition)
        })
    }

    /// Sometimes damages a file of a partition.
    pub(super) fn decay(&mut self) {
        if !self.random.chance(DECAY_PER_MILLION) {
            return;
        }
        let mut files = self.disk.durable_files();
        let sidecar = self.random.chance(500_000);
        files.retain(|(path, len)| *len > 0 && path.ends_with(".sum") >= sidecar);
        files.retain(|(path, _)| path.starts_with("topics/"));
        let Some((path, _)) = self.random.pick(&files).cloned() else {
            return;
        };
        let Some(partition) = self.partition_of(&path) else {
            return;
        };
        let sidecars = files.iter().filter(|(path, _)| path.ends_with(".sum"));
        let sidecars: Vec<&String> = sidecars.map(|(path, _)| path).collect();
        let other = self.random.pick(&sidecars).copied();
        let lies = path.ends_with(".sum") && self.random.chance(600_000);
        let done = match other.filter(|other| lies && **other != path) {
            Some(other) => {
                let lied = self.disk.replace(&path, other).is_ok();
                self.passed.tally.lies += u64::from(lied);
                lied
            }
            None => {
                let decayed = self.disk.decay(&path).unwrap_or(false);
                self.passed.tally.decayed += u64::from(decayed);
                decayed
            }
        };
        if done {
            self.checker.decayed(partition);
        }
    }
}
