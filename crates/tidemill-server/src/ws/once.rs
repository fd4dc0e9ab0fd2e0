//! Calls that must not be done twice when a client sends them again: which are under way, and how
//! the last ones were answered. Pure; knows no frames.

use std::collections::{HashMap, HashSet, VecDeque};

use tidemill_core::budget::{Budget, Class, Share};

use crate::limits::WS_ANSWERS_KEPT;

/// What is to become of a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is to be done.
    New,
    /// It is being done: the answer comes by itself.
    UnderWay,
    /// It was done, and this was the answer.
    Done(String),
}

/// See the module.
pub(crate) struct Once {
    under_way: HashSet<u64>,
    answers: HashMap<u64, String>,
    /// The answered calls, oldest first.
    order: VecDeque<u64>,
    /// What the answers take.
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
            share: memory.empty(Class::Answers),
            memory: memory.clone(),
        }
    }

    /// A call came.
    pub(crate) fn begin(&mut self, id: u64) -> Known {
        if let Some(answer) = self.answers.get(&id) {
            return Known::Done(answer.clone());
        }
        match self.under_way.insert(id) {
            true => Known::New,
            false => Known::UnderWay,
        }
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
        while self.order.len() >= WS_ANSWERS_KEPT
            || self.is_short()
            || !self.share.grow(answer.len())
        {
            // Without anything to forget there is no memory for this one either.
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            let forgotten = self.answers.remove(&oldest).map_or(0, |text| text.len());
            self.share.shrink(forgotten);
        }
        self.order.push_back(id);
        self.answers.insert(id, answer);
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
        assert_eq!(memory.used(Class::Answers), WS_ANSWERS_KEPT);
        assert_eq!(once.begin(1), Known::New, "the oldest is forgotten first");
        drop(once);
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
        assert!(memory.used(Class::Answers) <= half + answer.len());
        assert!(memory.used(Class::Answers) > half / 2, "it is used, too");
        assert!(memory.take(Class::Answers, half - answer.len()).is_some());
    }
}
