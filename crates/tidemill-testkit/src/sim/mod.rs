//! Deterministic simulation: a disk that forgets what was not synced, and what is built on it.

pub mod by_hand;
pub mod checker;
pub mod crash;
pub mod damage;
pub mod disk;
mod faults;
pub mod image;
mod inode;
pub mod ledger;
mod names;
mod pages;
pub mod random;
pub mod recording;
mod run;
pub mod scenario;
pub mod simulator;
pub mod truth;
pub mod workload;

pub use disk::{Counts, Faults, SimDisk};
pub use inode::{Fate, SECTOR_BYTES};
pub use random::Random;
