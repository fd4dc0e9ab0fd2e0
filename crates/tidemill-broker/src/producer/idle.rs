//! Who was not heard of for how long: by monotonic time, in memory only. A restart begins the
//! waiting anew. Pure.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// What is used again within this time is not put in order anew.
const GRAIN: Duration = Duration::from_secs(1);

/// When each of many was last used.
#[derive(Clone, Debug)]
pub(crate) struct Idle<K> {
    used: HashMap<K, Duration>,
    order: BTreeSet<(Duration, K)>,
}

impl<K> Default for Idle<K> {
    fn default() -> Self {
        Self {
            used: HashMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Clone + Ord + Hash> Idle<K> {
    /// It is used now.
    pub(crate) fn touch(&mut self, key: &K, now: Duration) {
        if let Some(used) = self.used.get_mut(key) {
            if now < used.saturating_add(GRAIN) {
                return;
            }
            self.order.remove(&(*used, key.clone()));
            *used = now;
        } else {
            self.used.insert(key.clone(), now);
        }
        self.order.insert((now, key.clone()));
    }

    pub(crate) fn forget(&mut self, key: &K) {
        if let Some(used) = self.used.remove(key) {
            self.order.remove(&(used, key.clone()));
        }
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.used.retain(|key, _| keep(key));
        self.order.retain(|(_, key)| keep(key));
    }

    /// Those that were not used for this long, the longest first.
    pub(crate) fn since(&self, now: Duration, idle: Duration) -> impl Iterator<Item = &K> {
        let order = self.order.iter();
        let over = order.take_while(move |(used, _)| used.saturating_add(idle) <= now);
        over.map(|(_, key)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_comes_first_and_use_begins_anew() {
        let mut idle = Idle::default();
        let at = Duration::from_secs;
        for (key, used) in [(1, 0), (2, 5), (3, 9)] {
            idle.touch(&key, at(used));
        }
        idle.touch(&1, at(7));
        let since = |idle: &Idle<i32>, now, time| -> Vec<i32> {
            idle.since(at(now), at(time)).copied().collect()
        };
        assert_eq!(since(&idle, 14, 5), [2, 1, 3]);
        assert_eq!(since(&idle, 13, 5), [2, 1]);
        idle.forget(&2);
        idle.retain(|key| *key != 3);
        assert_eq!(since(&idle, 99, 5), [1]);
    }
}
