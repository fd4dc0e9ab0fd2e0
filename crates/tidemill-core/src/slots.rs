//! Which member of a group gets which part of the work.
//!
//! Keys (or whole partitions) are hashed to a fixed number of slots; each slot belongs to one
//! member. When members come and go as few slots as possible move, and a slot moves only when
//! nothing of it is in flight, so that no event overtakes an earlier one of its key at another
//! member. Pure: this room may not know events, partitions or time.

use std::collections::BTreeMap;

use crate::partition::murmur2;

/// One member of a group, by a number that is never used again in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// One part of a group's work, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// The slot of `key` among `count` (0 is taken as 1). Independent of the partition that the
/// key's hash also decides.
#[must_use]
pub fn slot_of(key: &[u8], count: u32) -> Slot {
    // Fibonacci hashing: the partition uses the hash's low bits, this its mixed high ones.
    let mixed = u64::from(murmur2(key)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    Slot(((mixed * u64::from(count.max(1))) >> 32) as u32)
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Who has, or may be given, what is in flight.
    holder: Option<MemberId>,
    /// Whose it is to become; the same as the holder when it is not moving.
    target: Option<MemberId>,
    in_flight: u32,
}

/// The slots of a group and who has them.
#[derive(Clone, Debug)]
pub struct Slots {
    slots: Vec<State>,
    /// Every member with the number of slots that are, or are to become, its own.
    members: BTreeMap<MemberId, u32>,
}

impl Slots {
    /// `count` slots (at least one) without members.
    #[must_use]
    pub fn new(count: u32) -> Self {
        Self {
            slots: vec![State::default(); count.max(1) as usize],
            members: BTreeMap::new(),
        }
    }

    /// How many slots there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The members, ascending, with the number of slots that are, or are to become, theirs.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, u32)> + '_ {
        self.members.iter().map(|(member, count)| (*member, *count))
    }

    /// How many slots are, or are to become, a member's.
    #[must_use]
    pub fn held_by(&self, member: MemberId) -> u32 {
        self.members.get(&member).copied().unwrap_or_default()
    }

    /// Who may be given events of `slot`; `None` while it is moving, or without members.
    #[must_use]
    pub fn owner(&self, slot: Slot) -> Option<MemberId> {
        let state = self.slots.get(slot.0 as usize)?;
        state.holder.filter(|_| state.holder == state.target)
    }

    /// Takes a member in. Slots go over to it from those who have most, until it has its share.
    /// Answers the slots that have an owner now and had none, or another one.
    pub fn join(&mut self, member: MemberId) -> Vec<Slot> {
        if self.members.contains_key(&member) {
            return Vec::new();
        }
        let share = self.count() / (self.members.len() as u32 + 1);
        self.members.insert(member, 0);
        let mut moved = Vec::new();
        if self.members.len() == 1 {
            for slot in 0..self.count() {
                moved.extend(self.retarget(Slot(slot), member));
            }
            return moved;
        }
        for _ in 0..share {
            let Some(richest) = self.richest_but(member) else {
                break;
            };
            let of_richest = |state: &&State| state.target == Some(richest);
            // Whether it is busy or not: the keys of one that is busy are those that matter.
            let at = self.slots.iter().rposition(|state| of_richest(&state));
            let Some(at) = at else { break };
            moved.extend(self.retarget(Slot(at as u32), member));
        }
        moved
    }

    /// Lets a member go. Its slots go to those who have fewest; each moves when nothing of it
    /// is in flight. Answers the slots that moved at once.
    pub fn leave(&mut self, member: MemberId) -> Vec<Slot> {
        if self.members.remove(&member).is_none() {
            return Vec::new();
        }
        let mut moved = Vec::new();
        for at in 0..self.count() {
            let state = self.slots.get(at as usize).copied().unwrap_or_default();
            if state.target != Some(member) {
                continue;
            }
            match self.poorest() {
                Some(heir) => moved.extend(self.retarget(Slot(at), heir)),
                None => self.orphan(Slot(at)),
            }
        }
        moved
    }

    /// An event of `slot` was given to its owner.
    pub fn given(&mut self, slot: Slot) {
        if let Some(state) = self.slots.get_mut(slot.0 as usize) {
            state.in_flight += 1;
        }
    }

    /// An event of `slot` that was given out is settled or came back. Answers the slot's new
    /// owner where this let it move.
    pub fn returned(&mut self, slot: Slot) -> Option<MemberId> {
        let state = self.slots.get_mut(slot.0 as usize)?;
        state.in_flight = state.in_flight.saturating_sub(1);
        if state.in_flight > 0 || state.holder == state.target {
            return None;
        }
        state.holder = state.target;
        state.holder
    }

    /// Makes it `count` slots, where they were fewer. Each that is new goes to who has fewest.
    pub fn grow(&mut self, count: u32) {
        for at in self.count()..count {
            self.slots.push(State::default());
            if let Some(member) = self.poorest() {
                self.retarget(Slot(at), member);
            }
        }
    }

    fn retarget(&mut self, slot: Slot, member: MemberId) -> Option<Slot> {
        let state = self.slots.get_mut(slot.0 as usize)?;
        if let Some(count) = state.target.and_then(|old| self.members.get_mut(&old)) {
            *count = count.saturating_sub(1);
        }
        state.target = Some(member);
        if let Some(count) = self.members.get_mut(&member) {
            *count += 1;
        }
        if state.in_flight > 0 {
            return None;
        }
        state.holder = Some(member);
        Some(slot)
    }

    fn orphan(&mut self, slot: Slot) {
        if let Some(state) = self.slots.get_mut(slot.0 as usize) {
            state.target = None;
            if state.in_flight == 0 {
                state.holder = None;
            }
        }
    }

    fn richest_but(&self, member: MemberId) -> Option<MemberId> {
        let others = self.members().filter(|(id, _)| *id != member);
        others.max_by_key(|(_, count)| *count).map(|(id, _)| id)
    }

    fn poorest(&self) -> Option<MemberId> {
        self.members()
            .min_by_key(|(_, count)| *count)
            .map(|(id, _)| id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owners(slots: &Slots) -> Vec<Option<u64>> {
        let owner = |slot| slots.owner(Slot(slot)).map(|member| member.0);
        (0..slots.count()).map(owner).collect()
    }

    #[test]
    fn a_newcomer_gets_its_share_and_nothing_else_moves() {
        let mut slots = Slots::new(12);
        assert_eq!(slots.join(MemberId(1)).len(), 12);
        assert_eq!(slots.join(MemberId(2)).len(), 6);
        let before = owners(&slots);
        let moved = slots.join(MemberId(3));
        assert_eq!(moved.len(), 4);
        for (at, (old, new)) in before.iter().zip(owners(&slots)).enumerate() {
            assert!(
                new == Some(3) || *old == new,
                "slot {at} moved from {old:?} to {new:?}"
            );
        }
    }

    #[test]
    fn slots_that_are_added_go_to_who_has_fewest_and_none_moves() {
        let mut slots = Slots::new(3);
        slots.grow(2);
        assert_eq!(slots.count(), 3);
        slots.join(MemberId(1));
        slots.join(MemberId(2));
        let before = owners(&slots);
        slots.grow(8);
        let after = owners(&slots);
        assert_eq!(after[..3], before[..]);
        let of = |member| after.iter().filter(|owner| **owner == Some(member)).count();
        assert_eq!((of(1), of(2)), (4, 4));
        slots.leave(MemberId(1));
        slots.leave(MemberId(2));
        slots.grow(9);
        assert_eq!(slots.owner(Slot(8)), None);
        slots.join(MemberId(3));
        assert_eq!(slots.held_by(MemberId(3)), 9);
    }

    #[test]
    fn a_slot_with_something_in_flight_moves_when_that_is_done() {
        let mut slots = Slots::new(2);
        slots.join(MemberId(1));
        slots.given(Slot(0));
        slots.given(Slot(0));
        slots.given(Slot(1));
        assert_eq!(slots.join(MemberId(2)), []);
        let moving = (0..2)
            .map(Slot)
            .find(|slot| slots.owner(*slot).is_none())
            .unwrap();
        slots.given(moving);
        let first = slots.returned(moving);
        assert_eq!(first, None, "one is still in flight");
        let second = slots.returned(moving).or_else(|| slots.returned(moving));
        assert_eq!(second, Some(MemberId(2)));
        assert_eq!(slots.owner(moving), Some(MemberId(2)));
    }

    #[test]
    fn the_last_one_leaving_leaves_no_owner() {
        let mut slots = Slots::new(3);
        slots.join(MemberId(1));
        slots.given(Slot(1));
        assert_eq!(slots.leave(MemberId(1)), []);
        assert_eq!(owners(&slots), [None, None, None]);
        let mut taken = slots.join(MemberId(2));
        assert_eq!(
            taken,
            [Slot(0), Slot(2)],
            "slot 1 still has something in flight"
        );
        taken.extend(slots.returned(Slot(1)).map(|_| Slot(1)));
        assert_eq!(owners(&slots), [Some(2); 3]);
        assert_eq!(taken.len(), 3);
    }

    #[test]
    fn keys_spread_over_all_slots_also_within_one_partition() {
        let count = 64;
        let keys = (0..4000u32).map(|n| format!("key-{n}"));
        let one = keys.filter(|key| murmur2(key.as_bytes()) & 3 == 0);
        let used: std::collections::BTreeSet<_> =
            one.map(|k| slot_of(k.as_bytes(), count)).collect();
        assert_eq!(used.len(), 64);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Join(u64),
        Leave(u64),
        Give(u32),
        Return(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u64..6).prop_map(Step::Join),
            (0u64..6).prop_map(Step::Leave),
            (0u32..16).prop_map(Step::Give),
            (0u32..16).prop_map(Step::Return),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_in_flight_at_two_members(steps in prop::collection::vec(step(), 0..200)) {
            let mut slots = Slots::new(16);
            let mut flying: Vec<Vec<MemberId>> = vec![Vec::new(); 16];
            for step in steps {
                match step {
                    Step::Join(m) => drop(slots.join(MemberId(m))),
                    Step::Leave(m) => drop(slots.leave(MemberId(m))),
                    Step::Give(at) => {
                        if let Some(owner) = slots.owner(Slot(at)) {
                            let others = &mut flying[at as usize];
                            prop_assert!(others.iter().all(|member| *member == owner));
                            others.push(owner);
                            slots.given(Slot(at));
                        }
                    }
                    Step::Return(at) => {
                        if flying[at as usize].pop().is_some() {
                            slots.returned(Slot(at));
                        }
                    }
                }
                let members: Vec<_> = slots.members().collect();
                let total: u32 = members.iter().map(|(_, count)| count).sum();
                prop_assert_eq!(total, if members.is_empty() { 0 } else { 16 });
                for (at, flying) in flying.iter().enumerate() {
                    let owner = slots.owner(Slot(at as u32));
                    prop_assert!(owner.is_none_or(|o| members.iter().any(|(m, _)| *m == o)));
                    prop_assert!(!flying.is_empty() || members.is_empty() || owner.is_some());
                }
                let most = members.iter().map(|(_, count)| *count).max().unwrap_or(0);
                let least = members.iter().map(|(_, count)| *count).min().unwrap_or(0);
                prop_assert!(most - least <= 16u32.div_ceil(members.len().max(1) as u32));
            }
        }
    }
}
