//! Groups that are the server's own: clients may look at them, and not read as them.
//!
//! This room may not know any door.

use tidemill_core::delivery::is_for_dead_letters;
use tidemill_core::{GroupName, SubscribeError, TopicName};

use crate::webhooks::{self, GROUP_PREFIX};

/// Whether others may read as a group: not as that of a webhook, nor as one that says which dead
/// letters are done with, of which whatever it passed would be done with.
///
/// # Errors
/// They may not; says what to do instead.
pub(crate) fn of_others(group: &GroupName) -> Result<(), SubscribeError> {
    let topic = TopicName::new(group.as_str().to_owned());
    let why = if let Some(name) = webhooks::of_group(group) {
        format!(
            "groups that begin with {GROUP_PREFIX} are those of webhooks, which alone read as \
             them, also while they are paused; take another group, which reads the same topics \
             with a place of its own, and for what {name} could not deliver `tidemill deadletter \
             list {group}`"
        )
    } else if topic.is_ok_and(|topic| is_for_dead_letters(&topic)) {
        format!(
            "a group that is called as a topic of dead letters, as {group} is, says which of them \
             were redriven or deleted; take another group to read them, or `tidemill deadletter`"
        )
    } else {
        return Ok(());
    };
    let group = group.clone();
    Err(SubscribeError::GroupConflict { group, why })
}
