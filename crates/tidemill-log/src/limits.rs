//! Every bound of the log, in one place. What a user may change is in [`crate::Options`], whose
//! defaults are here.

use std::time::Duration;

/// Largest record batch in bytes, its header included: room for an event of the largest size.
pub const BATCH_MAX_BYTES: usize = 32 * 1024 * 1024;

/// Most bytes of a batch's records once they are unpacked. Packed ones that are more are refused
/// before they are there: a batch's records never take more memory than unpacked ones may.
pub const UNCOMPRESSED_MAX_BYTES: usize = BATCH_MAX_BYTES;

/// Everything in the journal and every padded block is a multiple of this many bytes.
pub const BLOCK_BYTES: usize = 4096;

/// Writes of at least this many bytes go past the page cache, but for what of them is no whole
/// block; smaller ones do so if they are whole blocks alone.
pub const DIRECT_WRITE_FROM_BYTES: usize = 128 * 1024;

/// Bytes that one such write takes at most. Its memory lies beside the data's own; and a larger
/// one keeps the disk from those who wait for a commit.
pub const DIRECT_PIECE_BYTES: usize = 1280 * 1024;

/// A group takes no further operation once its entries have this many bytes.
pub const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// A group takes at most this many operations.
pub const GROUP_OPERATIONS: usize = 16 * 1024;

/// Largest payload of one commit in bytes that recovery believes in: a group that was just not
/// full, and then one operation with the largest batches.
pub const COMMIT_MAX_BYTES: usize = 512 * 1024 * 1024;

/// Batches up to this many bytes are copied beside their neighbours into one buffer of the
/// commit; larger ones are written from where they lie.
pub const INLINE_BATCH_BYTES: usize = 4096;

/// Bytes that an operation that waits to be sealed counts for, beside its records: what may wait
/// has a part of [`crate::Options::memory`].
pub const OPERATION_BYTES: usize = 512;

/// Places in which the bytes of lanes that wait are counted.
pub const LANES_COUNTED: usize = 1024;

/// How long a lane that was refused has a claim on what it asked for, unless it asks again.
pub const CLAIM_FOR: Duration = Duration::from_secs(2);

/// Most such claims at a time; who is refused beyond them has none.
pub const CLAIMS_MAX: usize = 1024;

/// Bytes that a lane of operations may take before another one has its turn.
pub const LANE_TURN_BYTES: usize = 64 * 1024;

/// Size in bytes of a new log's first journal file; each later one has twice the size of the
/// one before, up to [`JOURNAL_FILE_MAX_BYTES`].
pub const JOURNAL_FILE_FIRST_BYTES: u64 = 1024 * 1024;

/// Size in bytes at which journal files stop growing.
pub const JOURNAL_FILE_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes of all journal files together, unless configured otherwise.
pub const JOURNAL_MAX_BYTES: u64 = 512 * 1024 * 1024;

/// Journal bytes that only operations without records may use, so that settlements live on
/// when publishes are refused.
pub const JOURNAL_RESERVE_BYTES: u64 = 256 * 1024;

/// The part of it that only the log itself uses, for the entries that begin new segments: what
/// is in the journal leaves it through them.
pub const JOURNAL_OWN_RESERVE_BYTES: u64 = 64 * 1024;

/// Bytes of the disk that are kept free beside what the log has promised to write, unless
/// configured otherwise.
pub const SPACE_RESERVE_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes of the disk that the two files of a new segment may take beyond their content.
pub const PARTITION_SPACE_BYTES: u64 = 32 * 1024;

/// New segments that one commit begins at most.
pub const SEGMENTS_AT_ONCE: usize = 1024;

/// A checkpoint begins when this many journal bytes lie behind the last one, unless configured
/// otherwise.
pub const CHECKPOINT_AFTER_BYTES: u64 = 64 * 1024 * 1024;

/// Partitions whose files one checkpoint syncs; those that hold the journal's head go first.
pub const CHECKPOINT_PARTITIONS_MAX: usize = 256;

/// Files that are written out together before each is synced. As many are open at a time.
pub const WRITTEN_OUT_AT_ONCE: usize = OPEN_FILES_MAX / 2;

/// Folders that one checkpoint syncs for the names that are gone from them.
pub const CHECKPOINT_FOLDERS_MAX: usize = 256;

/// Segments that one entry deletes at most.
pub const EXPIRY_SEGMENTS_MAX: usize = 64;

/// Bytes that the active segment has at least when it is closed because all of it is settled.
pub const SETTLED_SEGMENT_BYTES_MIN: u64 = 64 * 1024;

/// Entries that delete segments in one commit at most.
pub const EXPIRIES_AT_ONCE: usize = 64;

/// Keys that one compaction notes; more come with the next one. Each takes about 32 bytes.
pub const COMPACTION_KEYS_MAX: usize = 1024 * 1024;

/// Bytes of batches that a step of a compaction reads (one batch may be larger).
pub const COMPACTION_STEP_BYTES: usize = 1024 * 1024;

/// Other steps in the background after which a compaction has its turn.
pub const STEPS_BEFORE_COMPACTION: u32 = 16;

/// Segments that a compaction makes one of at most.
pub const SWAP_SEGMENTS_MAX: usize = 64;

/// A compaction gives up where a segment would grow beyond this.
pub const SEGMENT_GROWN_MAX_BYTES: u64 = 3 * 1024 * 1024 * 1024;

/// Partitions that one look for what is due goes through.
pub const LOOKS_AT_ONCE: usize = 1024;

/// How often is looked for segments that are due, unless configured otherwise.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Shortest time from a checkpoint to one that is made so that something can be compacted by its
/// time, unless configured otherwise. Each takes a snapshot of everything.
pub const NAMING_EVERY: Duration = Duration::from_secs(10);

/// That time is at least so many times as long as the checkpoint took: they take a twentieth of
/// the time at most.
pub const NAMING_PAUSES: u32 = 20;

/// But at most so many times as long as the shortest.
pub const NAMING_LONGEST: u32 = 6;

/// After a look that found something the next one comes so many times as soon.
pub const LOOK_SOONER: u32 = 5;

/// How many times as fast as real time ages may grow while the clock that they are judged by
/// catches up with the wall clock.
pub const AGE_CLOCK_RATE_MAX: i64 = 24;

/// Milliseconds that it may gain on real time at once, however long nobody looked.
pub const AGE_CLOCK_EXTRA_MAX_MS: i64 = 60 * 60 * 1000;

/// Zeros written by one step when a journal file is made.
pub const ZERO_PIECE_BYTES: usize = 1024 * 1024;

/// Batches below this size in bytes are merged with their neighbours on the way to a segment.
pub const MERGE_BELOW_BYTES: usize = 4096;

/// Bytes of batches that are merged into one at most.
pub const MERGED_BATCH_BYTES: usize = 16 * 1024;

/// In a partition whose batches are packed, those below this size in bytes are merged with their
/// neighbours first.
pub const PACK_BELOW_BYTES: usize = 32 * 1024;

/// Bytes of batches that are merged into one that is packed, at most.
pub const PACKED_BATCH_BYTES: usize = 64 * 1024;

/// Batches above this size in bytes are not packed by the log: its thread would be held up.
pub const PACK_MAX_BYTES: usize = 1024 * 1024;

/// To pack a byte on the way to a segment counts like writing so many: the log's thread is held
/// up for about a millisecond a step.
pub const PACKING_COST: usize = 8;

/// Bytes of all partitions' in-memory tails together, unless configured otherwise.
pub const TAIL_MAX_BYTES: usize = 64 * 1024 * 1024;

/// A partition is written out to its segment when this many bytes wait in its tail.
pub const SEGMENT_WRITE_AFTER_BYTES: usize = 256 * 1024;

/// Bytes that one segment step writes at most, of all partitions in it together (one batch may
/// be larger).
pub const SEGMENT_STEP_BYTES: usize = 4 * 1024 * 1024;

/// Size in bytes at which a segment is rolled, unless configured otherwise. Positions in a
/// segment are 32-bit numbers, so it stays below 4 GiB less one batch.
pub const SEGMENT_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// How long a compacted record without a value is kept in milliseconds, unless set otherwise.
pub const DELETE_RETENTION_MS: u64 = 24 * 60 * 60 * 1000;

/// The least bytes at which a segment is closed for the sake of its partition's retention.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;

/// The shortest time in milliseconds after which a segment is closed for its age, unless set
/// otherwise.
pub const SEGMENT_AGE_MIN_MS: u64 = 1000;

/// The longest such time in milliseconds, unless set otherwise.
pub const SEGMENT_AGE_MAX_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// A partition that has so many segments makes no more of them by settings of its own: they are
/// closed as those of others are, so that what is kept of its segments stays small.
pub const OWN_SEGMENTS_MAX: usize = 4096;

/// Largest chunk of a snapshot in bytes.
pub const SNAPSHOT_CHUNK_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of the partition table that go into one chunk of a snapshot.
pub const TABLE_CHUNK_BYTES: usize = 512 * 1024;

/// Bytes that a read from disk gives at least once there is so much, and takes at most at once
/// (one batch may be larger).
pub const DISK_READ_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Bytes that a search for a time reads at once, or one batch.
pub const SEARCH_READ_BYTES: usize = 256 * 1024;

/// How often a search by time looks again where the segments that it is in are deleted or written
/// anew.
pub const SEARCH_TRIES_MAX: usize = 24;

/// Bytes that are copied at once for a backup.
pub const COPY_PIECE_BYTES: usize = 1024 * 1024;

/// What is added to the epoch of a backup when it is restored: more than the log has been opened
/// since the backup was taken.
pub const RESTORE_EPOCHS: u64 = 1024;

/// Bytes after which one read of a scrubbing ends (one batch may be larger).
pub const SCRUB_STEP_BYTES: u64 = 256 * 1024;

/// A scrubbing begins a pass at most this often, however little there is to read.
pub const SCRUB_PASS_EVERY: Duration = Duration::from_secs(60 * 60);

/// Damaged places that a scrubbing names; those beyond are counted alone.
pub const SCRUB_DAMAGE_MAX: usize = 1000;

/// Files that readers keep open, and that the log's own threads keep open.
pub const OPEN_FILES_MAX: usize = 128;

/// Slots of a tail's first block, and of its largest.
pub const TAIL_BLOCK_SLOTS: (usize, usize) = (8, 512);

/// After this time without a commit a marker is written, so that damage in the last
/// acknowledged group can be told from a torn write.
pub const MARKER_AFTER: Duration = Duration::from_secs(1);

/// After a write was refused for want of space, how long until it is tried again.
pub const FULL_RETRY_AFTER: Duration = Duration::from_millis(500);

const _: () = assert!(INLINE_BATCH_BYTES <= BLOCK_BYTES);
const _: () = assert!(GROUP_BYTES + 2 * BATCH_MAX_BYTES <= COMMIT_MAX_BYTES);
const _: () = assert!(SEGMENT_MAX_BYTES + BATCH_MAX_BYTES as u64 <= u32::MAX as u64);
const _: () = assert!(JOURNAL_FILE_FIRST_BYTES.is_multiple_of(BLOCK_BYTES as u64));

/// Names that an opening looks at in what is none of the log's, before it puts it aside: what holds
/// more stays where it is.
pub const HELD_LOOK_MAX: usize = 10_000;

/// Findings that a verification keeps; those beyond are counted alone.
pub const FINDINGS_MAX: usize = 10_000;
