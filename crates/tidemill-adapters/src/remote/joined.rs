//! One membership, as this side knows it: what came and was not pulled yet, and how much may come.
//! Shared by the member that a program holds and the task that has the connection.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidemill_core::Subscription;
use tidemill_core::wire::{Call, Delivered, Fault};
use tokio::sync::Notify;

/// See the module.
pub(super) struct Joined {
    pub(super) number: u64,
    pub(super) asked: Subscription,
    state: Mutex<State>,
    /// Something came, or it ended.
    pub(super) arrived: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Delivered>,
    /// The number of the last delivery that came in this session.
    received: u64,
    /// How many may have come.
    granted: u64,
    /// What the last pull asked for.
    wanted: u64,
    /// The session that all this is of.
    epoch: u64,
    fault: Option<Fault>,
}

/// What a pull finds.
pub(super) enum Found {
    /// These, of this session.
    Deliveries(Vec<Delivered>, u64),
    /// An error.
    Fault(Fault),
    /// Nothing; the server is to be told of new credit, or not.
    Nothing(bool),
}

impl Joined {
    pub(super) fn new(number: u64, asked: Subscription) -> Self {
        Self {
            number,
            asked,
            state: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes at most `credit` of what came.
    pub(super) fn take(&self, credit: usize) -> Found {
        let mut state = self.state();
        if !state.waiting.is_empty() {
            let most = credit.min(state.waiting.len());
            let taken = state.waiting.drain(..most).collect();
            return Found::Deliveries(taken, state.epoch);
        }
        if let Some(fault) = state.fault.take() {
            return Found::Fault(fault);
        }
        state.wanted = credit as u64;
        let total = state.received + state.wanted;
        let new = total != state.granted;
        state.granted = total;
        Found::Nothing(new)
    }

    /// The session that deliveries are of now.
    pub(super) fn epoch(&self) -> u64 {
        self.state().epoch
    }

    /// Deliveries came.
    pub(super) fn came(&self, deliveries: Vec<Delivered>) {
        let mut state = self.state();
        for delivered in deliveries {
            // One that came before the connection broke may come again.
            if delivered.delivery > state.received {
                state.received = delivered.delivery;
                state.waiting.push_back(delivered);
            }
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// It gives nothing until it is asked again.
    pub(super) fn failed(&self, fault: Fault) {
        let mut state = self.state();
        state.fault = Some(fault);
        // So that the next pull tells the server to go on.
        state.granted = 0;
        drop(state);
        self.arrived.notify_one();
    }

    /// What came until now, for a connection that goes on with the session.
    pub(super) fn received(&self) -> (u64, u64) {
        (self.number, self.state().received)
    }

    /// The call that tells of the credit.
    pub(super) fn credit(&self) -> Call {
        Call::Credit {
            subscription: self.number,
            total: self.state().granted,
        }
    }

    /// The call that joins the group in a new session: what came in the one before is the
    /// server's again.
    pub(super) fn join(&self, id: u64, epoch: u64) -> Call {
        let mut state = self.state();
        state.waiting.clear();
        state.received = 0;
        state.granted = state.wanted;
        state.epoch = epoch;
        let asked = self.asked.clone();
        Call::Subscribe {
            id,
            subscription: self.number,
            topics: asked.topics,
            group: asked.group,
            order: asked.order,
            start: asked.start,
            credit: state.granted,
        }
    }
}
