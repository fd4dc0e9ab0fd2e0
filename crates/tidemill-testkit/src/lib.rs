//! For tests alone: the conformance suite that every bus runs, the simulated disk, and the
//! simulator that drives the log on it from one seed.
//!
//! This crate may not be a dependency of anything but tests. The suite may not know which bus it
//! is given; the simulator may not know the clock or the machine it runs on.

pub mod conformance;
pub mod sim;
