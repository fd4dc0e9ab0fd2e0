//! What the log has asked of the disk and is under way there, an action at a time. May not know:
//! what it is for.

use tidemill_log::{Action, Files, Io, IoFailure};

/// An [`Io`] on its way through the disk.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) io: Io,
    /// Actions done.
    done: usize,
    pub(super) failure: Option<IoFailure>,
    /// What was promised when it was asked for.
    pub(super) promised: u64,
}

impl Job {
    pub(super) fn new(io: Io, promised: u64) -> Self {
        Self {
            io,
            done: 0,
            failure: None,
            promised,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.failure.is_some() || self.done == self.io.actions.len()
    }

    fn one(&self, at: usize) -> Option<Io> {
        Some(Io {
            id: self.io.id,
            lane: self.io.lane,
            actions: vec![self.io.actions.get(at)?.clone()],
        })
    }

    /// Does the next action. Answers it, where it succeeded.
    pub(super) fn advance(&mut self, files: &Files) -> Option<Action> {
        let one = self.one(self.done)?;
        self.done += 1;
        match one.run(files) {
            Ok(()) => one.actions.into_iter().next(),
            Err(failure) => {
                self.failure = Some(failure);
                None
            }
        }
    }

    /// The actions that are left. Work is left out: it keeps a state of its own, which a copy of
    /// the disk must not see.
    pub(super) fn left(&self) -> usize {
        let left = self.io.actions.get(self.done..).unwrap_or_default();
        let plain = |action: &&Action| !matches!(action, Action::Work(_));
        match self.failure {
            None => left.iter().take_while(plain).count(),
            Some(_) => 0,
        }
    }

    /// Does the next `count` of what is left on a copy of the disk.
    pub(super) fn advance_copy(&self, count: usize, files: &Files) {
        for at in self.done..self.done + count {
            let failed = self.one(at).is_none_or(|one| one.run(files).is_err());
            if failed {
                return;
            }
        }
    }

    /// The next action, in words.
    pub(super) fn describe(&self) -> String {
        let lane = self.io.lane;
        match self.io.actions.get(self.done) {
            Some(Action::Write {
                path,
                position,
                pieces,
            }) => {
                let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
                format!("{lane:?} write {path} {bytes} bytes at {position}")
            }
            other => format!("{lane:?} {other:?}"),
        }
    }
}
