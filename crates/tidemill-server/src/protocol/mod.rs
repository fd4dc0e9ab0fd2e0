//! Wire protocols of other systems: one folder each, whose types stay in it.
//!
//! A protocol needs the embedded broker. This room may not know HTTP.

#[cfg(feature = "kafka")]
pub(crate) mod kafka;
#[cfg(not(feature = "kafka"))]
#[path = "kafka_absent.rs"]
pub(crate) mod kafka;
