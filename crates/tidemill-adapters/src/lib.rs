//! Outside engines as a bus: each is one module behind a feature of its name, and implements
//! core's `Publisher` and `Subscriber`.
//!
//! This crate may not know the broker, the server, or what handlers do.

#[cfg(feature = "remote")]
pub mod remote;
