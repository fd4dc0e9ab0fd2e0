//! Text messages on Tidemill: three handlers receive, process and send each, and an HTTP door takes
//! them in and shows what was sent. It has no database: its history is the log.
//!
//! May use nothing of Tidemill but the public interface of the crate `tidemill`.

pub mod events;
pub mod handlers;
mod history;
mod http;
pub mod limits;
mod serve;

pub use serve::{MessagesError, serve};
