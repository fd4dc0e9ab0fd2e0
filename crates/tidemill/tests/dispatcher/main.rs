//! The dispatcher at work: order, parallelism, bounds, failures, and its end.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod bus;
mod delays;
mod drain;
#[cfg(feature = "broker")]
mod engine;
mod failures;
mod order;
mod serve;
mod tools;
mod warnings;
