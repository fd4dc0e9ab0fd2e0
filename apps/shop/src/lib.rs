//! A shop on Tidemill: catalogue, cart, orders, payment, stock, logistics and users as services,
//! each with its own group and its own database, which talk through events only.
//!
//! May use nothing of Tidemill but the public interface of the crate `tidemill`.

pub mod balance;
pub mod cart;
pub mod catalogue;
pub mod database;
pub mod demo;
mod dice;
pub mod events;
pub mod http;
pub mod inbox;
pub mod limits;
pub mod logistics;
pub mod money;
pub mod orders;
pub mod payment;
pub mod process;
pub mod replay;
pub mod seed;
pub mod service;
pub mod shop;
pub mod source;
pub mod stock;
pub mod tail;
pub mod users;
