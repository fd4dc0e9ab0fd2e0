//! One membership of a session in a group: pulls as far as the client's credit goes, numbers what
//! it delivers, and holds it until it is settled, so that a client that comes back gets again what
//! it missed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_core::wire::{Delivered, Failed, Fault, ServerFrame};
use tidemill_core::{Catalogue, CatalogueError};
use tidemill_core::{Delivery, GroupMember, PullError, Settlement};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use super::outbox::Outbox;
use crate::limits::{WS_CREDIT_MAX, WS_DELIVER_BYTES, WS_PULL_MAX};

/// See the module.
pub(crate) struct Subscription {
    number: u64,
    state: Mutex<State>,
    /// There is something to do, or nothing any longer.
    changed: Notify,
}

struct State {
    /// Deliveries that the client wants in all, and that were given.
    total: u64,
    given: u64,
    /// What is not settled, by its number; without a settlement while that is under way.
    held: BTreeMap<u64, (Delivery, Option<Settlement>)>,
    /// The client has what came until here: what is held beyond is sent again first.
    again_after: Option<u64>,
    /// The way to the client, while it is connected.
    outbox: Option<Outbox>,
    /// It gave an error, and nothing until there is new credit.
    paused: bool,
    /// What the client says it handles, and who is told what became of that.
    described: Option<(Arc<Catalogue>, Told)>,
    over: bool,
    task: Option<AbortHandle>,
}

/// What a settlement of a delivery meets.
pub(crate) enum Begun {
    /// The right to settle.
    Right(Settlement),
    /// Another settlement of it is under way.
    UnderWay,
    /// It is not held.
    Stale,
}

/// Who is told what became of a description.
type Told = oneshot::Sender<Result<(), CatalogueError>>;

/// What to do next.
enum Next {
    /// Send again what is held beyond this number.
    Again(Outbox, u64),
    /// Take at most so many.
    Pull(Outbox, usize),
    /// Tell the group what the client handles.
    Describe(Arc<Catalogue>, Told),
    Wait,
    End,
}

impl Subscription {
    /// Begins to pull for `member`; needs a runtime.
    pub(crate) fn begin(
        number: u64,
        member: Box<dyn GroupMember>,
        outbox: Option<Outbox>,
        credit: u64,
    ) -> Arc<Self> {
        let state = State {
            total: credit,
            given: 0,
            held: BTreeMap::new(),
            again_after: None,
            outbox,
            paused: false,
            described: None,
            over: false,
            task: None,
        };
        let begun = Arc::new(Self {
            number,
            state: Mutex::new(state),
            changed: Notify::new(),
        });
        let task = tokio::spawn(Arc::clone(&begun).run(member));
        begun.state().task = Some(task.abort_handle());
        begun
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client wants so many in all. Less than were given already is no more than that.
    pub(crate) fn credit(&self, total: u64) {
        let mut state = self.state();
        state.total = total;
        state.paused = false;
        drop(state);
        self.changed.notify_one();
    }

    /// What the client does with its events, from now on. Answers [`Fault::Gone`] where the
    /// subscription ends meanwhile.
    pub(crate) async fn describe(&self, catalogue: Arc<Catalogue>) -> Result<(), Fault> {
        let (told, answer) = oneshot::channel();
        self.state().described = Some((catalogue, told));
        self.changed.notify_one();
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fault::Limit {
                why: error.to_string(),
            }),
            // It ended, or a newer description took the place of this one.
            Err(_) => Err(Fault::Gone),
        }
    }

    /// The client is there again, and has what came until delivery `received`.
    pub(crate) fn attach(&self, outbox: Outbox, received: u64) {
        let mut state = self.state();
        state.outbox = Some(outbox);
        state.again_after = Some(received);
        drop(state);
        self.changed.notify_one();
    }

    /// The client is gone for now.
    pub(crate) fn detach(&self) {
        self.state().outbox = None;
        self.changed.notify_one();
    }

    /// Leaves the group, and gives back what is held.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.over = true;
        state.outbox = None;
        state.described = None;
        let held = std::mem::take(&mut state.held);
        let task = state.task.take();
        drop(state);
        if let Some(task) = task {
            task.abort();
        }
        // Giving back takes other locks.
        drop(held);
    }

    /// A delivery is to be settled.
    pub(crate) fn begin_settle(&self, delivery: u64) -> Begun {
        match self.state().held.get_mut(&delivery) {
            None => Begun::Stale,
            Some((_, settlement)) => settlement.take().map_or(Begun::UnderWay, Begun::Right),
        }
    }

    /// It is settled, or nobody's any longer.
    pub(crate) fn end_settle(&self, delivery: u64) {
        let mut state = self.state();
        let was_full = state.held.len() >= WS_CREDIT_MAX;
        state.held.remove(&delivery);
        drop(state);
        if was_full {
            self.changed.notify_one();
        }
    }

    /// It was not settled, and may be once more.
    pub(crate) fn take_back(&self, delivery: u64, settlement: Settlement) {
        let mut state = self.state();
        // Given back where it is not held any longer.
        if let Some((_, slot)) = state.held.get_mut(&delivery) {
            *slot = Some(settlement);
            return;
        }
        drop(state);
        drop(settlement);
    }

    fn next(&self) -> Next {
        let mut state = self.state();
        if state.over {
            return Next::End;
        }
        if let Some((catalogue, told)) = state.described.take() {
            return Next::Describe(catalogue, told);
        }
        let Some(outbox) = state.outbox.clone() else {
            return Next::Wait;
        };
        if let Some(after) = state.again_after.take() {
            return Next::Again(outbox, after);
        }
        let room = WS_CREDIT_MAX.saturating_sub(state.held.len());
        let wanted = state.total.saturating_sub(state.given);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        match wanted.min(room).min(WS_PULL_MAX) {
            _ if state.paused => Next::Wait,
            0 => Next::Wait,
            most => Next::Pull(outbox, most),
        }
    }

    async fn run(self: Arc<Self>, mut member: Box<dyn GroupMember>) {
        loop {
            match self.next() {
                Next::End => return,
                Next::Wait => self.changed.notified().await,
                Next::Describe(catalogue, told) => {
                    // Who asked may be gone.
                    let _ = told.send(member.describe(catalogue));
                }
                Next::Again(outbox, after) => {
                    let missed = self.held_beyond(after);
                    self.deliver(&outbox, missed).await;
                }
                Next::Pull(outbox, most) => {
                    let pulled = tokio::select! {
                        biased;
                        () = self.changed.notified() => continue,
                        pulled = member.pull(most) => pulled,
                    };
                    match pulled {
                        Ok(pulled) => {
                            let new = self.hold(pulled);
                            self.deliver(&outbox, new).await;
                        }
                        Err(error) => self.tell(&outbox, error).await,
                    }
                }
            }
        }
    }

    fn held_beyond(&self, after: u64) -> Vec<Delivered> {
        let state = self.state();
        let missed = state.held.range(after.saturating_add(1)..);
        missed
            .map(|(number, (delivery, _))| delivered(*number, delivery))
            .collect()
    }

    fn hold(&self, pulled: Vec<(Delivery, Settlement)>) -> Vec<Delivered> {
        let mut state = self.state();
        let mut new = Vec::with_capacity(pulled.len());
        for (delivery, settlement) in pulled {
            state.given += 1;
            let number = state.given;
            new.push(delivered(number, &delivery));
            if !state.over {
                state.held.insert(number, (delivery, Some(settlement)));
            }
        }
        new
    }

    /// Sends deliveries in frames of a moderate size. What does not get through is held, and sent
    /// again when the client is back.
    async fn deliver(&self, outbox: &Outbox, mut deliveries: Vec<Delivered>) {
        while !deliveries.is_empty() {
            let mut bytes = 0;
            let fits = deliveries.iter().take_while(|one| {
                let first = bytes == 0;
                bytes += one.event.size_bytes();
                first || bytes <= WS_DELIVER_BYTES
            });
            let fits = fits.count();
            let rest = deliveries.split_off(fits);
            let frame = ServerFrame::Deliver {
                subscription: self.number,
                deliveries,
            };
            if outbox.send(frame.encode()).await.is_err() {
                return;
            }
            deliveries = rest;
        }
    }

    async fn tell(&self, outbox: &Outbox, error: PullError) {
        self.state().paused = true;
        let failed = Failed::subscription(self.number, Fault::from(error));
        let _ = outbox.send(ServerFrame::Error(failed).encode()).await;
    }
}

fn delivered(number: u64, delivery: &Delivery) -> Delivered {
    Delivered {
        delivery: number,
        position: delivery.position.clone(),
        attempt: delivery.attempt,
        event: Arc::clone(&delivery.event),
    }
}
