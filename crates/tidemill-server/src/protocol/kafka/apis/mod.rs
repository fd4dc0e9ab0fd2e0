//! One file an API key: what is asked, and what is answered. How one is added is said in the
//! module above.
//!
//! This room may not know sockets.

pub(super) mod api_versions;
pub(super) mod fetch;
mod fetch_reply;
pub(super) mod init_producer_id;
pub(super) mod list_offsets;
pub(super) mod metadata;
pub(super) mod produce;
