//! Every bound of the vocabulary, in one place. Other crates have a `limits.rs` of their own.

/// Longest topic name in bytes; the same bound as Apache Kafka's.
pub const TOPIC_NAME_MAX_BYTES: usize = 249;

/// Longest consumer group name in bytes.
pub const GROUP_NAME_MAX_BYTES: usize = 255;

/// Longest value of one context attribute (`id`, `source`, `type`, `subject`, ...) in bytes.
pub const ATTRIBUTE_MAX_BYTES: usize = 4096;

/// Longest name of an extension attribute in bytes (CloudEvents recommends at most 20).
pub const EXTENSION_NAME_MAX_BYTES: usize = 64;

/// Most extension attributes that one event may carry.
pub const EXTENSIONS_MAX: usize = 64;

/// Largest data of one event in bytes, when nothing else is configured.
pub const EVENT_DATA_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Longest pattern over topic names and event types in bytes.
pub const PATTERN_MAX_BYTES: usize = 512;

/// Most settled ranges above a group's position in one partition.
pub const CURSOR_RANGES_MAX: usize = 4096;

/// Farthest distance in offsets of a settled event above a group's position.
pub const CURSOR_WINDOW_MAX: u64 = 1 << 20;

/// How many times in a row an event may become a dead letter, as where a group reads the dead
/// letters of another one. The next failure keeps no further letter: the newest stays.
pub const DEAD_LETTER_HOPS_MAX: u32 = 4;

/// Most events of one CloudEvents batch.
pub const BATCH_EVENTS_MAX: usize = 10_000;

/// Bytes of memory for what is on its way, unless configured otherwise: see
/// [`crate::budget::Budget`].
pub const MEMORY_DEFAULT_BYTES: usize = 512 * 1024 * 1024;

/// The least that it can be.
pub const MEMORY_MIN_BYTES: usize = 4 * 1024 * 1024;

/// Most bytes of one catalogue of handlers, as JSON: see [`crate::catalogue::Catalogue`].
pub const CATALOGUE_MAX_BYTES: usize = 256 * 1024;

/// Most handlers of one catalogue.
pub const CATALOGUE_HANDLERS_MAX: usize = 256;

/// Most outputs of one handler in a catalogue.
pub const CATALOGUE_OUTPUTS_MAX: usize = 64;

/// How deep a JSON Schema in a catalogue may be nested.
pub const CATALOGUE_SCHEMA_DEPTH_MAX: usize = 64;

/// Longest id, name or version in a catalogue, in bytes.
pub const CATALOGUE_NAME_MAX_BYTES: usize = 1024;
