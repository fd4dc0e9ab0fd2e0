//! Of which kind the members of each group are that has some. A group has one kind of members at
//! a time; another is refused, naming both.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_core::GroupName;

use crate::machine::GroupKind;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    /// The kind of each group with members, and how many hold it. Locked for a look-up.
    held: Mutex<HashMap<GroupName, (GroupKind, usize)>>,
}

/// While it is there, the group has no members of another kind.
#[derive(Debug)]
pub(crate) struct KindHold {
    kinds: Arc<Kinds>,
    group: GroupName,
}

impl Kinds {
    fn held(&self) -> MutexGuard<'_, HashMap<GroupName, (GroupKind, usize)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kind of the group's members, where it has some.
    pub(crate) fn of(&self, group: &GroupName) -> Option<GroupKind> {
        self.held().get(group).map(|(kind, _)| *kind)
    }

    /// Keeps members of other kinds away from a group.
    ///
    /// # Errors
    /// The kind of those it has, in words for who asked.
    pub(crate) fn hold(
        self: &Arc<Self>,
        group: &GroupName,
        kind: GroupKind,
    ) -> Result<KindHold, String> {
        let mut held = self.held();
        match held.entry(group.clone()) {
            Entry::Occupied(have) if have.get().0 != kind => {
                let have = have.get().0;
                tracing::warn!(
                    group = %group, has = have.name(), refused = kind.name(),
                    "a group has one kind of members at a time"
                );
                return Err(format!(
                    "its members are of the kind {}, this one is of the kind {}; stop them, or \
                     use another group",
                    have.name(),
                    kind.name()
                ));
            }
            Entry::Occupied(mut have) => have.get_mut().1 += 1,
            Entry::Vacant(none) => {
                none.insert((kind, 1));
            }
        }
        Ok(KindHold {
            kinds: Arc::clone(self),
            group: group.clone(),
        })
    }
}

impl Drop for KindHold {
    fn drop(&mut self) {
        let mut held = self.kinds.held();
        if let Some((_, count)) = held.get_mut(&self.group) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_one_kind_until_the_last_one_is_gone() {
        let kinds = Arc::new(Kinds::default());
        let group = GroupName::new("g").unwrap();
        let one = kinds.hold(&group, GroupKind::Native).unwrap();
        let two = kinds.hold(&group, GroupKind::Native).unwrap();
        drop(one);
        let why = kinds.hold(&group, GroupKind::Classic).unwrap_err();
        assert!(why.contains("native") && why.contains("classic"), "{why}");
        drop(two);
        assert_eq!(kinds.of(&group), None);
        let _hold = kinds.hold(&group, GroupKind::Classic).unwrap();
        assert_eq!(kinds.of(&group), Some(GroupKind::Classic));
    }
}
