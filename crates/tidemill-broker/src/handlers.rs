//! What the members of groups say they handle: the catalogues that are there now. They are in
//! memory alone and go with their members.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tidemill_core::{Catalogue, CatalogueError, GroupName};

use crate::broker::Broker;
use crate::limits::CATALOGUES_MAX_BYTES;

/// A member of a group and what it handles.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServedHandlers {
    /// The group.
    pub group: GroupName,
    /// The member's number in it.
    pub member: u64,
    /// Since when it has handled this.
    pub since: Timestamp,
    /// Its handlers.
    pub catalogue: Arc<Catalogue>,
}

/// All of them. Locked for a look-up.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// What the catalogues take; equal ones are kept once.
    bytes: usize,
    /// In the order in which they came.
    served: BTreeMap<u64, ServedHandlers>,
}

/// One catalogue in the registry, until this is dropped.
pub(crate) struct Registered {
    registry: Arc<Registry>,
    number: u64,
}

impl Registry {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a catalogue as long as what this gives is there.
    pub(crate) fn add(
        self: &Arc<Self>,
        group: GroupName,
        member: u64,
        catalogue: Arc<Catalogue>,
    ) -> Result<Registered, CatalogueError> {
        let mut state = self.state();
        let mut known = state.served.values().map(|served| &served.catalogue);
        let same = known.find(|have| **have == catalogue).map(Arc::clone);
        let catalogue = match same {
            Some(same) => same,
            None => {
                let bytes = state.bytes + catalogue.size_bytes();
                if bytes > CATALOGUES_MAX_BYTES {
                    let max_bytes = CATALOGUES_MAX_BYTES;
                    return Err(CatalogueError::Full { max_bytes });
                }
                state.bytes = bytes;
                catalogue
            }
        };
        state.next += 1;
        let number = state.next;
        let served = ServedHandlers {
            group,
            member,
            since: Timestamp::now(),
            catalogue,
        };
        state.served.insert(number, served);
        Ok(Registered {
            registry: Arc::clone(self),
            number,
        })
    }

    pub(crate) fn list(&self) -> Vec<ServedHandlers> {
        self.state().served.values().cloned().collect()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut state = self.registry.state();
        let Some(gone) = state.served.remove(&self.number) else {
            return;
        };
        let mut others = state.served.values();
        if !others.any(|have| Arc::ptr_eq(&have.catalogue, &gone.catalogue)) {
            state.bytes -= gone.catalogue.size_bytes();
        }
    }
}

impl Broker {
    /// What the members of groups that are there now say they handle, in the order in which they
    /// said so. A member that says nothing is not in it.
    #[must_use]
    pub fn handlers(&self) -> Vec<ServedHandlers> {
        self.inner.handlers.list()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue(name: &str, bytes: usize) -> Arc<Catalogue> {
        let schema = "x".repeat(bytes);
        let text = format!(
            r#"{{"name":"{name}","handlers":[{{"id":"h","topic":"t","type":"e",
            "input":{{"schema":"{schema}"}}}}]}}"#
        );
        Arc::new(Catalogue::from_json(&text).unwrap())
    }

    #[test]
    fn equal_catalogues_are_kept_once_and_go_with_the_last() {
        let registry = Arc::new(Registry::default());
        let group = GroupName::new("g").unwrap();
        let add = |member, name: &str| {
            registry
                .add(group.clone(), member, catalogue(name, 100))
                .unwrap()
        };
        let (one, two, other) = (add(1, "a"), add(2, "a"), add(3, "b"));
        let size = catalogue("a", 100).size_bytes();
        assert_eq!(registry.state().bytes, 2 * size);
        let listed = registry.list();
        assert_eq!(listed.len(), 3);
        assert!(Arc::ptr_eq(&listed[0].catalogue, &listed[1].catalogue));
        drop(one);
        assert_eq!(registry.state().bytes, 2 * size);
        drop(two);
        assert_eq!(registry.state().bytes, size);
        drop(other);
        assert_eq!(registry.state().bytes, 0);
        assert_eq!(registry.list(), []);
    }

    #[test]
    fn the_catalogues_are_bounded_together() {
        let registry = Arc::new(Registry::default());
        let group = GroupName::new("g").unwrap();
        let mut kept = Vec::new();
        let refused = loop {
            let name = kept.len().to_string();
            match registry.add(group.clone(), 1, catalogue(&name, 200_000)) {
                Ok(one) => kept.push(one),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, CatalogueError::Full { .. }));
        assert!(registry.state().bytes <= CATALOGUES_MAX_BYTES);
        assert!(kept.len() * 200_000 > CATALOGUES_MAX_BYTES - 400_000);
        kept.pop();
        assert!(registry.add(group, 1, catalogue("again", 200_000)).is_ok());
    }
}
