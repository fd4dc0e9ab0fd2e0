//! A small shop on Tidemill: orders, stock and payment as three services, each with its own group
//! and its own database, which talk through events only.
//!
//! May use nothing of Tidemill but the public interface of the crate `tidemill`.

pub mod balance;
pub mod database;
pub mod demo;
mod dice;
pub mod events;
pub mod http;
pub mod inbox;
pub mod limits;
pub mod money;
pub mod orders;
pub mod payment;
pub mod replay;
pub mod service;
pub mod shop;
pub mod source;
pub mod stock;
pub mod tail;
