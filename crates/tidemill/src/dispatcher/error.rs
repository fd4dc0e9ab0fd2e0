//! Why serving did not begin, or ended by itself.

use thiserror::Error;
use tidemill_core::{InvalidName, Order, Position, PullError, SettleError, SubscribeError};

use crate::router::BuildError;

/// Why a dispatcher did not start, or why it ended without being asked to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ServeError {
    /// The handlers are in each other's way, or there are none.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// No group was named.
    #[error("no consumer group is named; name one with `.group(\"...\")`")]
    NoGroup,
    /// The group's name is not one.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A handler relies on more order than is kept.
    #[error(
        "the handler {handler:?} needs the order {needs:?}, but {given:?} is kept; change it with \
         `.ordering(...)`"
    )]
    Order {
        /// The handler's id.
        handler: String,
        /// What it relies on.
        needs: Order,
        /// What would be kept.
        given: Order,
    },
    /// The bus does not give what is needed.
    #[error("this bus does not give {need}, which {what} needs; use another bus, or {instead}")]
    Guarantee {
        /// The guarantee.
        need: &'static str,
        /// Who needs it.
        what: String,
        /// What else helps.
        instead: &'static str,
    },
    /// A dispatcher runs once.
    #[error("this dispatcher was started before; build another one")]
    Started,
    /// The subscription was refused.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// The bus gives no events any more.
    #[error("no more events can be taken: {0}")]
    Pull(PullError),
    /// The bus takes no settlements any more.
    #[error("no more events can be settled: {0}")]
    Settle(SettleError),
    /// The bus can never keep this dead letter; its event is not settled.
    #[error(
        "the dead letter of the event at {position} can never be kept: {error}; raise the limits \
         of the bus, or have a handler for it that succeeds"
    )]
    DeadLetter {
        /// Where the event is.
        position: Position,
        /// Why its dead letter is refused.
        error: SettleError,
    },
    /// A worker ended by a panic outside of every handler.
    #[error("a worker of the dispatcher panicked: {0}; this is a fault of the bus or of a hook")]
    Worker(String),
}
