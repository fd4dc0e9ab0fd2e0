//! Sessions: what a WebSocket client has beyond one connection. Its subscriptions with what they
//! hold, and the answers that it may not have got, outlive a connection that breaks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_broker::Broker;
use tidemill_core::budget::Budget;
use tidemill_core::wire::{CALLS_MAX, Failed, Fault, ServerFrame};
use tidemill_core::{Bus, GroupMember};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use uuid::Uuid;

use super::once::{Known, Once};
use super::outbox::Outbox;
use super::subscription::Subscription;
use crate::limits::{WS_CALLS_SPARE, WS_SESSIONS_MAX, WS_SUBSCRIPTIONS_MAX};

/// One client.
pub(crate) struct Session {
    /// Names it; who has it may go on with it.
    pub(crate) token: String,
    /// How long it outlives its connection.
    pub(crate) keep: Duration,
    pub(crate) bus: Bus,
    pub(crate) broker: Option<Broker>,
    pub(crate) memory: Budget,
    calls: Arc<Semaphore>,
    state: Mutex<State>,
    /// Turns true when it is over.
    over: watch::Sender<bool>,
}

struct State {
    link: Option<Link>,
    /// Counts the connections that it had.
    links: u64,
    subscriptions: HashMap<u64, Arc<Subscription>>,
    /// Subscriptions that are not taken into their groups yet, and whether they are given up.
    joining: HashMap<u64, bool>,
    once: Once,
    over: bool,
}

/// The session's connection.
struct Link {
    number: u64,
    outbox: Outbox,
    replaced: Arc<Notify>,
}

/// A connection's part in a session.
pub(crate) struct Attached {
    number: u64,
    /// Told when another connection goes on with the session.
    pub(crate) replaced: Arc<Notify>,
}

impl Session {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This connection is the session's from now on. `received` has the client's subscriptions,
    /// each with the last delivery that came; others are ended.
    pub(crate) fn attach(&self, outbox: &Outbox, received: &[(u64, u64)]) -> Option<Attached> {
        let received: HashMap<u64, u64> = received.iter().copied().collect();
        let mut state = self.state();
        if state.over {
            return None;
        }
        state.links += 1;
        let number = state.links;
        let replaced = Arc::new(Notify::new());
        let link = Link {
            number,
            outbox: outbox.clone(),
            replaced: Arc::clone(&replaced),
        };
        if let Some(before) = state.link.replace(link) {
            // What is done for the client must not wait for a connection that may be dead.
            before.outbox.cut();
            before.replaced.notify_one();
        }
        let mut ended = Vec::new();
        state.subscriptions.retain(|number, subscription| {
            match received.get(number) {
                Some(last) => subscription.attach(outbox.clone(), *last),
                None => ended.push(Arc::clone(subscription)),
            }
            received.contains_key(number)
        });
        for (number, given_up) in &mut state.joining {
            *given_up |= !received.contains_key(number);
        }
        drop(state);
        ended.iter().for_each(|subscription| subscription.end());
        Some(Attached { number, replaced })
    }

    /// The connection is gone. Answers whether it was the session's.
    pub(crate) fn detach(&self, attached: &Attached) -> bool {
        let mut state = self.state();
        let ours = state
            .link
            .as_ref()
            .is_some_and(|link| link.number == attached.number);
        if ours {
            state.link = None;
            for subscription in state.subscriptions.values() {
                subscription.detach();
            }
        }
        ours
    }

    /// Ends it, unless another connection came since this one. Answers whether it did.
    fn end_after(&self, attached: &Attached) -> bool {
        let state = self.state();
        let alone = state.links == attached.number;
        if alone {
            self.end_now(state);
        }
        alone
    }

    /// Leaves all groups, and gives back what is held.
    pub(crate) fn end(&self) {
        self.end_now(self.state());
    }

    fn end_now(&self, mut state: MutexGuard<'_, State>) {
        state.over = true;
        state.link = None;
        let subscriptions = std::mem::take(&mut state.subscriptions);
        drop(state);
        self.over.send_replace(true);
        subscriptions
            .values()
            .for_each(|subscription| subscription.end());
    }

    /// Waits until it is over.
    pub(crate) async fn ended(&self) {
        // An error is its end, too.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    /// Sends a frame, if the client is connected.
    pub(crate) async fn say(&self, text: String) {
        let outbox = self.state().link.as_ref().map(|link| link.outbox.clone());
        if let Some(outbox) = outbox {
            // One that is gone gets its answers again when it is back.
            let _ = outbox.send(text).await;
        }
    }

    /// A call came that must not be done twice.
    pub(crate) fn begin(&self, id: u64) -> Known {
        self.state().once.begin(id)
    }

    /// Whether such a call has its answer.
    pub(crate) fn was_answered(&self, id: u64) -> bool {
        self.state().once.was_answered(id)
    }

    /// It was refused before it began.
    pub(crate) fn forget(&self, id: u64) {
        self.state().once.forget(id);
    }

    /// The answer to such a call.
    pub(crate) async fn answer(&self, id: u64, frame: ServerFrame) {
        let text = frame.encode();
        self.state().once.end(id, text.clone());
        self.say(text).await;
    }

    /// A call was not done.
    pub(crate) async fn refuse(&self, id: u64, fault: Fault) {
        self.answer(id, ServerFrame::Error(Failed::call(Some(id), fault)))
            .await;
    }

    /// A place for one more call without an answer.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, Fault> {
        Arc::clone(&self.calls)
            .try_acquire_owned()
            .map_err(|_| Fault::Limit {
                why: format!("more than {CALLS_MAX} calls have no answer yet; wait for some"),
            })
    }

    pub(crate) fn subscription(&self, number: u64) -> Option<Arc<Subscription>> {
        self.state().subscriptions.get(&number).cloned()
    }

    /// A subscription begins to join its group, if one more may have this number.
    pub(crate) fn begin_join(&self, number: u64) -> Result<(), Fault> {
        let mut state = self.state();
        if state.subscriptions.contains_key(&number) || state.joining.contains_key(&number) {
            let why = format!("subscription {number} is there already; number the next one anew");
            return Err(Fault::Unexpected { why });
        }
        if state.subscriptions.len() + state.joining.len() >= WS_SUBSCRIPTIONS_MAX {
            let why = format!("a session has at most {WS_SUBSCRIPTIONS_MAX} subscriptions");
            return Err(Fault::Limit { why });
        }
        state.joining.insert(number, false);
        Ok(())
    }

    /// It was taken into its group, or not. It leaves at once if it was given up meanwhile.
    pub(crate) fn end_join(
        &self,
        number: u64,
        joined: Result<Box<dyn GroupMember>, Fault>,
        credit: u64,
    ) -> Result<(), Fault> {
        let mut state = self.state();
        let given_up = state.joining.remove(&number).unwrap_or(true);
        let member = joined?;
        if given_up || state.over {
            drop(state);
            // Leaving takes other locks.
            drop(member);
            let why = format!("subscription {number} was ended before it began; subscribe anew");
            return Err(Fault::Unexpected { why });
        }
        let outbox = state.link.as_ref().map(|link| link.outbox.clone());
        let subscription = Subscription::begin(number, member, outbox, credit);
        state.subscriptions.insert(number, subscription);
        Ok(())
    }

    /// Ends a subscription, also one that is joining.
    pub(crate) fn unsubscribe(&self, number: u64) {
        let mut state = self.state();
        if let Some(given_up) = state.joining.get_mut(&number) {
            *given_up = true;
        }
        let removed = state.subscriptions.remove(&number);
        drop(state);
        if let Some(removed) = removed {
            removed.end();
        }
    }
}

/// All sessions, by their tokens.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

impl Sessions {
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, token: &str) -> Option<Arc<Session>> {
        self.sessions().get(token).cloned()
    }

    /// A new session; `None` where there are too many.
    pub(crate) fn open(
        &self,
        bus: Bus,
        broker: Option<Broker>,
        memory: &Budget,
        keep: Duration,
    ) -> Option<Arc<Session>> {
        let mut sessions = self.sessions();
        if sessions.len() >= WS_SESSIONS_MAX {
            return None;
        }
        // 148 random bits.
        let token = format!("{}{}", Uuid::now_v7().simple(), Uuid::now_v7().simple());
        let session = Arc::new(Session {
            token: token.clone(),
            keep,
            bus,
            broker,
            memory: memory.clone(),
            calls: Arc::new(Semaphore::new(CALLS_MAX + WS_CALLS_SPARE)),
            state: Mutex::new(State {
                link: None,
                links: 0,
                subscriptions: HashMap::new(),
                joining: HashMap::new(),
                once: Once::new(memory),
                over: false,
            }),
            over: watch::Sender::new(false),
        });
        sessions.insert(token, Arc::clone(&session));
        Some(session)
    }

    /// The session is over.
    pub(crate) fn end(&self, session: &Session) {
        self.sessions().remove(&session.token);
        session.end();
    }

    /// The session is over, unless another connection came since this one.
    fn end_after(&self, session: &Session, attached: &Attached) {
        // One that finds it until it is removed is told that it has ended.
        if session.end_after(attached) {
            self.sessions().remove(&session.token);
        }
    }

    pub(crate) fn end_all(&self) {
        let all = std::mem::take(&mut *self.sessions());
        all.values().for_each(|session| session.end());
    }

    /// The connection of a session is gone: it ends at once, or when its time is over and no other
    /// connection came.
    pub(crate) fn leave(
        self: &Arc<Self>,
        session: Arc<Session>,
        attached: Attached,
        at_once: bool,
    ) {
        if !session.detach(&attached) {
            return;
        }
        if at_once || session.keep.is_zero() {
            return self.end_after(&session, &attached);
        }
        let sessions = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(session.keep).await;
            sessions.end_after(&session, &attached);
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::limits::WS_OUTBOX_BYTES;

    #[tokio::test]
    async fn nothing_waits_for_the_old_connection_once_another_goes_on_with_the_session() {
        let broker = Broker::builder().in_memory(64 << 20).open().await.unwrap();
        let (memory, sessions) = (Budget::default(), Sessions::default());
        let keep = Duration::from_secs(10);
        let session = sessions.open(broker.bus(), None, &memory, keep).unwrap();
        let (old, _unread) = Outbox::new(memory.clone());
        let _first = session.attach(&old, &[]).unwrap();
        session.say("x".repeat(WS_OUTBOX_BYTES)).await;
        let mut saying = Box::pin(session.say("y".to_owned()));
        assert_eq!((&mut saying).now_or_never(), None, "there is no room");
        let (new, _parcels) = Outbox::new(memory.clone());
        let _second = session.attach(&new, &[]).unwrap();
        assert_eq!(saying.now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn a_session_does_not_end_under_a_connection_that_goes_on_with_it() {
        let broker = Broker::builder().in_memory(64 << 20).open().await.unwrap();
        let (memory, sessions) = (Budget::default(), Sessions::default());
        let opened = sessions.open(broker.bus(), None, &memory, Duration::ZERO);
        let session = opened.unwrap();
        let (outbox, _parcels) = Outbox::new(memory.clone());
        let first = session.attach(&outbox, &[]).unwrap();
        assert!(session.detach(&first));
        let second = session.attach(&outbox, &[]).unwrap();
        sessions.end_after(&session, &first);
        assert!(sessions.find(&session.token).is_some());
        assert_eq!(session.ended().now_or_never(), None);
        sessions.end_after(&session, &second);
        assert_eq!(session.ended().now_or_never(), Some(()));
        assert!(sessions.find(&session.token).is_none());
        assert!(session.attach(&outbox, &[]).is_none(), "it is over");
    }
}
