//! Deterministic simulation: a disk that forgets what was not synced, and what is built on it.

pub mod checker;
pub mod disk;
mod inode;
pub mod ledger;
mod names;
pub mod random;
pub mod scenario;
pub mod simulator;

pub use disk::{Counts, Faults, SimDisk};
pub use inode::{Fate, SECTOR_BYTES};
pub use random::Random;
