//! Calls that must not be done twice when a client sends them again: which are under way, and how
//! the last ones were answered. Pure; knows no frames.

use std::collections::{HashMap, HashSet, VecDeque};

use tidemill_core::budget::{Budget, Class, Share};

use crate::limits::{WS_ANSWER_ID_BYTES, WS_ANSWERS_KEPT};

/// What is to become of a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is to be done.
    New,
    /// It is being done: the answer comes by itself.
    UnderWay,
    /// It was done, and this was the answer.
    Done(String),
    /// It was done, and its answer is not known any longer.
    Forgotten,
}

/// See the module.
pub(crate) struct Once {
    under_way: HashSet<u64>,
    /// The answered calls; where memory is short without the answer, so that none is done again.
    answers: HashMap<u64, Option<String>>,
    /// Those, oldest first.
    order: VecDeque<u64>,
    /// How many of the oldest have no answer any longer.
    forgotten: usize,
    /// What they take.
    share: Share,
    memory: Budget,
}

impl Once {
    /// Its answers are counted in `memory`.
    pub(crate) fn new(memory: &Budget) -> Self {
        Self {
            under_way: HashSet::new(),
            answers: HashMap::new(),
            order: VecDeque::new(),
            forgotten: 0,
            share: memory.empty(Class::Answers),
            memory: memory.clone(),
        }
    }

    /// A call came.
    pub(crate) fn begin(&mut self, id: u64) -> Known {
        match self.answers.get(&id) {
            Some(Some(answer)) => return Known::Done(answer.clone()),
            Some(None) => return Known::Forgotten,
            None => {}
        }
        match self.under_way.insert(id) {
            true => Known::New,
            false => Known::UnderWay,
        }
    }

    /// Whether a call was answered, as far as that is known.
    pub(crate) fn was_answered(&self, id: u64) -> bool {
        self.answers.contains_key(&id)
    }

    /// It is not done, and nothing is known of it.
    pub(crate) fn forget(&mut self, id: u64) {
        self.under_way.remove(&id);
    }

    /// It was answered.
    pub(crate) fn end(&mut self, id: u64, answer: String) {
        if !self.under_way.remove(&id) {
            return;
        }
        if self.order.len() >= WS_ANSWERS_KEPT {
            self.drop_oldest();
        }
        while !self.share.grow(WS_ANSWER_ID_BYTES) {
            if !self.forget_oldest() {
                self.share.grow_anyway(WS_ANSWER_ID_BYTES);
                break;
            }
        }
        while self.is_short() || !self.share.grow(answer.len()) {
            if !self.forget_oldest() {
                // Without anything to forget there is no memory for this one either.
                self.order.push_back(id);
                self.answers.insert(id, None);
                self.forgotten += 1;
                return;
            }
        }
        self.order.push_back(id);
        self.answers.insert(id, Some(answer));
    }

    /// Nothing is known of the oldest call any longer: its client has its answer.
    fn drop_oldest(&mut self) {
        let Some(oldest) = self.order.pop_front() else {
            return;
        };
        self.forgotten = self.forgotten.saturating_sub(1);
        let answer = self.answers.remove(&oldest).flatten();
        let bytes = answer.map_or(0, |text| text.len());
        self.share.shrink(WS_ANSWER_ID_BYTES + bytes);
    }

    /// Forgets the oldest answer that is kept, but not that there was one. Answers whether there
    /// was one to forget.
    fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.order.get(self.forgotten) else {
            return false;
        };
        self.forgotten += 1;
        let answer = self.answers.get_mut(oldest).and_then(Option::take);
        self.share.shrink(answer.map_or(0, |text| text.len()));
        true
    }

    /// Whether half of the memory for answers is taken: the rest is for those that are on their
    /// way.
    fn is_short(&self) -> bool {
        self.memory.used(Class::Answers) >= self.memory.max(Class::Answers) / 2
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::limits::MEMORY_MIN_BYTES;

    use super::*;

    #[test]
    fn a_call_is_done_once_while_its_answer_is_kept() {
        let memory = Budget::default();
        let mut once = Once::new(&memory);
        assert_eq!(once.begin(1), Known::New);
        assert_eq!(once.begin(1), Known::UnderWay);
        once.forget(1);
        assert_eq!(once.begin(1), Known::New, "it was not done");
        once.end(1, "one".into());
        once.end(1, "another".into());
        assert_eq!(once.begin(1), Known::Done("one".into()));
        for id in 2..(WS_ANSWERS_KEPT as u64 + 2) {
            assert_eq!(once.begin(id), Known::New);
            once.end(id, "x".into());
        }
        let each = WS_ANSWER_ID_BYTES + "x".len();
        assert_eq!(memory.used(Class::Answers), WS_ANSWERS_KEPT * each);
        assert_eq!(once.begin(1), Known::New, "the oldest is forgotten first");
        drop(once);
        assert_eq!(memory.used(Class::Answers), 0);
    }

    #[test]
    fn a_call_is_not_done_again_where_there_is_no_memory_for_its_answer() {
        let memory = Budget::new(MEMORY_MIN_BYTES);
        let mut once = Once::new(&memory);
        let half = memory.max(Class::Answers) / 2;
        let answer = "x".repeat(half / 4);
        for id in 0..10 {
            assert_eq!(once.begin(id), Known::New);
            once.end(id, answer.clone());
        }
        assert_eq!(once.begin(9), Known::Done(answer.clone()), "the last one");
        assert_eq!(once.begin(0), Known::Forgotten);
        let others = memory.take(Class::Answers, memory.free(Class::Answers));
        assert!(others.is_some());
        assert_eq!(once.begin(10), Known::New);
        once.end(10, answer);
        for id in 0..=10 {
            assert_eq!(once.begin(id), Known::Forgotten, "{id}");
        }
        for id in 11..(WS_ANSWERS_KEPT as u64 + 11) {
            assert_eq!(once.begin(id), Known::New);
            once.end(id, "x".into());
            assert_eq!(once.begin(id), Known::Forgotten);
        }
        assert_eq!(once.begin(10), Known::New, "they are bounded");
        drop((once, others));
        assert_eq!(memory.used(Class::Answers), 0);
    }

    #[test]
    fn what_is_kept_for_clients_leaves_half_of_the_memory_to_others() {
        let memory = Budget::new(MEMORY_MIN_BYTES);
        let mut sessions: Vec<Once> = (0..20).map(|_| Once::new(&memory)).collect();
        let answer = "x".repeat(10_000);
        for id in 0..100 {
            for once in &mut sessions {
                assert_eq!(once.begin(id), Known::New);
                once.end(id, answer.clone());
            }
        }
        let half = memory.max(Class::Answers) / 2;
        let ids = 20 * 100 * WS_ANSWER_ID_BYTES;
        assert!(memory.used(Class::Answers) <= half + answer.len() + ids);
        assert!(memory.used(Class::Answers) > half / 2, "it is used, too");
        assert!(memory.take(Class::Answers, half - answer.len()).is_some());
    }
}
