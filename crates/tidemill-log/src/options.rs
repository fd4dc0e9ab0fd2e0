//! What a user may change about a log, with defaults from [`crate::limits`].

use std::time::Duration;

use tidemill_core::budget::Budget;

use crate::error::OpenError;
use crate::limits::{
    BLOCK_BYTES, CHECKPOINT_AFTER_BYTES, JOURNAL_FILE_FIRST_BYTES, JOURNAL_FILE_MAX_BYTES,
    JOURNAL_MAX_BYTES, JOURNAL_RESERVE_BYTES, LOOK_EVERY, NAMING_EVERY, SEGMENT_MAX_BYTES,
    SEGMENT_WRITE_AFTER_BYTES, SPACE_RESERVE_BYTES, TAIL_MAX_BYTES,
};

/// When an operation is acknowledged and readers see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushPolicy {
    /// When its commit is synced. Neither a killed process nor a power cut loses what was
    /// acknowledged.
    #[default]
    EveryCommit,
    /// When its commit is written; the journal is synced this often, where something was
    /// written. A killed process loses nothing that was acknowledged, a power cut what came
    /// after the last sync.
    Interval(Duration),
    /// When its commit is written; the operating system decides when it reaches the media. A
    /// killed process loses nothing that was acknowledged, a power cut everything since the
    /// last checkpoint.
    Os,
}

/// A fault planted at its real site, for tests of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A commit's sync is left out.
    SkipSync,
    /// Operations are acknowledged when their group is sealed.
    AcknowledgeEarly,
    /// Recovery takes what it reads from the page cache for durable and does not sync the
    /// journal's surviving tail again.
    TrustPageCache,
    /// A sync of the journal file before is left out when commits go on in another one.
    SkipSyncAtSwitch,
    /// A new journal file is used before its name is durable.
    SkipJournalName,
    /// A recovery's fresh journal file is named before its name is durable.
    SkipFreshName,
    /// A snapshot names segments that were not synced.
    SkipSegmentSync,
    /// A superblock names a snapshot that was not synced.
    SkipSnapshotSync,
    /// The superblocks are not synced.
    SkipSuperblockSync,
    /// A snapshot is named before what it holds is synced in the journal.
    NameSnapshotEarly,
    /// The head moves over records that no synced segment holds.
    MoveHeadTooFar,
    /// Files are removed before the entry that gives them up is durable.
    RemoveEarly,
    /// Recovery takes damage for a torn end.
    IgnoreWitnesses,
    /// A checkpoint syncs no full segment whose next one is begun and still empty.
    PassOverFullSegment,
    /// The head moves by what is not written when the snapshot is named, not when it was taken.
    NeedByLaterDirt,
    /// A compaction leaves out the latest record of a key, too.
    DropLatest,
    /// A compaction forgets records without a value as soon as it meets them.
    ForgetEarly,
    /// A segment that was written anew takes its place before it is synced.
    SwapUnsynced,
    /// A segment that was written anew takes its place without an entry of the journal.
    SwapUnjournaled,
    /// Retention removes the files of one segment more than its entry says.
    ExpireOneMore,
    /// Segments of which something is not settled are deleted like settled ones.
    DropUnsettled,
    /// A segment is deleted from between others although no snapshot names one behind it.
    DropUnnamed,
    /// A backup is taken without holding its moment.
    SkipPin,
    /// Recovery applies the first half of an entry's parts.
    HalfAnEntry,
}

/// The settings of a log. Begin with [`Options::default`] and change fields.
#[derive(Clone, Debug)]
pub struct Options {
    /// When an operation is acknowledged.
    pub flush: FlushPolicy,
    /// Size in bytes of a new log's first journal file; later ones are twice as large each.
    pub journal_file_first_bytes: u64,
    /// Size in bytes at which journal files stop growing.
    pub journal_file_max_bytes: u64,
    /// Bytes of all journal files together.
    pub journal_max_bytes: u64,
    /// Journal bytes behind the last checkpoint at which the next one begins.
    pub checkpoint_after_bytes: u64,
    /// The memory for tails and for what waits. Whoever reads the log may take theirs from it
    /// too. Clones of these options share it.
    pub memory: Budget,
    /// Bytes of all partitions' in-memory tails together, where the memory has them; publishes
    /// wait at this bound.
    pub tail_max_bytes: usize,
    /// Bytes of the disk that are kept free, beside what the log has promised to write, so
    /// that settlements go on when records are refused for want of space.
    pub space_reserve_bytes: u64,
    /// Bytes at which a segment is rolled.
    pub segment_max_bytes: u64,
    /// Bytes of a partition that wait in its tail before they are written to its segment.
    pub segment_write_after_bytes: usize,
    /// Bytes of closed segments that are read again and checked each second, on the average; 0
    /// for none.
    pub scrub_bytes_per_second: u64,
    /// How often is looked for segments whose time has come.
    pub look_every: Duration,
    /// Shortest time from a checkpoint to one that is made for the sake of compactions alone. It is
    /// up to six times as long where checkpoints take long.
    pub naming_every: Duration,
    fault: Option<Fault>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            flush: FlushPolicy::EveryCommit,
            journal_file_first_bytes: JOURNAL_FILE_FIRST_BYTES,
            journal_file_max_bytes: JOURNAL_FILE_MAX_BYTES,
            journal_max_bytes: JOURNAL_MAX_BYTES,
            checkpoint_after_bytes: CHECKPOINT_AFTER_BYTES,
            memory: Budget::default(),
            tail_max_bytes: TAIL_MAX_BYTES,
            space_reserve_bytes: SPACE_RESERVE_BYTES,
            segment_max_bytes: SEGMENT_MAX_BYTES,
            segment_write_after_bytes: SEGMENT_WRITE_AFTER_BYTES,
            scrub_bytes_per_second: 0,
            look_every: LOOK_EVERY,
            naming_every: NAMING_EVERY,
            fault: None,
        }
    }
}

impl Options {
    /// Settings for a disk in memory of `max_bytes`: journal and tails stay small beside it.
    #[must_use]
    pub fn in_memory(max_bytes: u64) -> Self {
        let part = |divisor: u64, least: u64, most: u64| {
            let bytes = (max_bytes / divisor).clamp(least, most);
            bytes - bytes % BLOCK_BYTES as u64
        };
        Self {
            journal_file_first_bytes: part(64, 64 * 1024, 1024 * 1024),
            journal_file_max_bytes: part(32, 64 * 1024, 4 * 1024 * 1024),
            journal_max_bytes: part(4, 1024 * 1024, 64 * 1024 * 1024),
            checkpoint_after_bytes: part(16, 256 * 1024, 8 * 1024 * 1024),
            tail_max_bytes: part(8, 256 * 1024, 16 * 1024 * 1024) as usize,
            space_reserve_bytes: part(16, 64 * 1024, 8 * 1024 * 1024),
            ..Self::default()
        }
    }

    /// Plants a fault.
    #[cfg(feature = "planted-faults")]
    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Whether this fault was planted; never without the feature.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let wrong = |name, value, why| Err(OpenError::Option { name, value, why });
        let block = BLOCK_BYTES as u64;
        for (name, value) in [
            ("journal_file_first_bytes", self.journal_file_first_bytes),
            ("journal_file_max_bytes", self.journal_file_max_bytes),
        ] {
            if value < 4 * block || !value.is_multiple_of(block) {
                return wrong(name, value, "it must be a multiple of 4096, 16384 or more");
            }
        }
        if self.journal_max_bytes < 3 * self.journal_file_first_bytes + JOURNAL_RESERVE_BYTES {
            let why = "it must hold three first journal files and 256 KiB";
            return wrong("journal_max_bytes", self.journal_max_bytes, why);
        }
        if self.segment_max_bytes == 0 || self.segment_max_bytes > 2 * 1024 * 1024 * 1024 {
            let why = "it must be between 1 byte and 2 GiB";
            return wrong("segment_max_bytes", self.segment_max_bytes, why);
        }
        Ok(())
    }
}
