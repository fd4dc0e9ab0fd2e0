//! What may be set for one share group, and its bytes in the journal (`FORMAT.md`, section 4).

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Serialize;
use tidemill_core::{Start, varint};

use crate::fetch_batches::Isolation;
use crate::limits::SHARE_LOCK;

/// What may be set for one share group; `None` is what holds where nobody sets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShareSettings {
    /// Whether it begins with the oldest record that is kept (Kafka's
    /// `share.auto.offset.reset=earliest`), not with the next one, in a topic that is new to it.
    pub from_beginning: Option<bool>,
    /// How long a member may have a record, in ms: [`ShareSettings::LOCK_MS`].
    pub lock_ms: Option<u32>,
    /// Whether it is given only what is committed.
    pub read_committed: Option<bool>,
}

impl ShareSettings {
    /// How long a member may have a record, in ms.
    pub const LOCK_MS: RangeInclusive<u32> = 1000..=3_600_000;

    pub(crate) fn start(&self) -> Start {
        match self.from_beginning {
            Some(true) => Start::Beginning,
            _ => Start::End,
        }
    }

    /// How long a member may have a record.
    #[must_use]
    pub fn lock(&self) -> Duration {
        let set = self.lock_ms.map(|ms| Duration::from_millis(ms.into()));
        set.unwrap_or(SHARE_LOCK)
    }

    pub(crate) fn isolation(&self) -> Isolation {
        match self.read_committed {
            Some(true) => Isolation::ReadCommitted,
            _ => Isolation::ReadUncommitted,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let flag = |set: Option<bool>| set.map_or(0, |set| 1 + u64::from(set));
        varint::put(out, flag(self.from_beginning));
        varint::put(out, self.lock_ms.map_or(0, u64::from));
        varint::put(out, flag(self.read_committed));
    }

    /// From three numbers as they are written.
    ///
    /// # Errors
    /// Says that one is unknown.
    pub(crate) fn of([start, lock, isolation]: [u64; 3]) -> Result<Self, String> {
        let flag = |number| match number {
            0 => Ok(None),
            1 => Ok(Some(false)),
            2 => Ok(Some(true)),
            _ => Err("a share group's setting has a value of a newer version".to_owned()),
        };
        let lock = u32::try_from(lock).map_err(|_| "a share group's lock is too long")?;
        Ok(Self {
            from_beginning: flag(start)?,
            lock_ms: (lock > 0).then_some(lock),
            read_committed: flag(isolation)?,
        })
    }
}
