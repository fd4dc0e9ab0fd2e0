//! Transactions: several partitions and positions of groups, whole or not at all.
//!
//! Producers with a transactional id, what their open transactions hold, and how far partitions
//! are decided for those who read. The states are pure and belong to the machine; the rest is
//! the broker's interface, which a wire protocol's door uses as well as a program. This room may
//! not know the types of a wire protocol.

mod aborted;
mod alarm;
mod api;
mod ask;
mod handle;
mod id;
mod info;
mod stable;
mod state;

pub(crate) use self::aborted::Aborted;
pub use self::aborted::AbortedRange;
pub(crate) use self::alarm::Alarm;
pub use self::api::{Begins, InitTransactional, TransactionEnd};
pub(crate) use self::ask::{Ask, Caller, Done, TransactionOperation};
pub use self::handle::Transactional;
pub use self::id::TransactionalId;
pub use self::info::{TransactionInfo, TransactionPartition, TransactionSummary};
pub(crate) use self::stable::{Decided, Passing, Stability, Stable};
pub use self::state::TransactionStatus;
pub(crate) use self::state::{Given, Head, Transaction, Transactions};

use tidemill_core::limits::GROUP_NAME_MAX_BYTES;

use crate::limits::{TRANSACTIONAL_ID_MAX_BYTES, TRANSACTIONAL_IDS_FORGOTTEN_AT_ONCE};

/// Bytes of the journal that the effects and the control record for one partition, or the effect
/// for one position, take at most.
const PART_BYTES: usize = 256;

/// Bytes that the effect of a transactional producer's state takes at most.
const STATE_BYTES: usize = TRANSACTIONAL_ID_MAX_BYTES + PART_BYTES;

/// Bytes of the effects by which a transactional batch begins a transaction or joins it.
pub(crate) const BEGIN_BYTES: usize = STATE_BYTES + 2 * PART_BYTES;

/// Bytes that the effects of a question take at most beside those of its parts.
pub(crate) fn ask_bytes(ask: &Ask) -> usize {
    match ask {
        // Others may be forgotten for it.
        Ask::Init { .. } => (1 + TRANSACTIONAL_IDS_FORGOTTEN_AT_ONCE) * STATE_BYTES,
        Ask::Offsets { caller, .. } => {
            caller.id.as_str().len() + GROUP_NAME_MAX_BYTES + 2 * PART_BYTES
        }
        Ask::Add { caller, .. } | Ask::End { caller, .. } => caller.id.as_str().len() + PART_BYTES,
        Ask::Abort { id, .. } => id.as_str().len() + PART_BYTES,
        Ask::Overdue => 0,
    }
}

/// Bytes of the journal that ending a transaction takes at most.
pub(crate) fn end_bytes(transaction: &Transaction) -> usize {
    let parts = transaction.partitions.len() + transaction.offsets.len();
    parts_bytes(parts) + notes_bytes(transaction.offsets.values())
}

/// Bytes that what clients keep beside positions adds to the effects for them: one that names
/// the transaction's position, one that commits it.
pub(crate) fn notes_bytes<'a>(given: impl Iterator<Item = &'a Given>) -> usize {
    let noted = given.filter_map(|given| given.note.as_ref());
    noted.map(|note| PART_BYTES + note.metadata.len()).sum()
}

/// Bytes of the journal that a question about so many partitions or positions takes at most.
pub(crate) fn parts_bytes(parts: usize) -> usize {
    PART_BYTES * parts
}
