//! Deterministic simulation: a disk that forgets what was not synced, and what is built on it.

pub mod disk;
mod inode;
mod names;
pub mod random;

pub use disk::{Counts, Faults, SimDisk};
pub use inode::{Fate, SECTOR_BYTES};
pub use random::Random;
