//! What is under way in the session with the server: calls without an answer, memberships,
//! watches, and what of them is said anew over another connection. Knows no sockets.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemill_core::Catalogue;
use tidemill_core::wire::{
    Answer, Call, ClientFrame, Describe, Failed, Fault, News, ServerFrame, Welcome,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::joined::Joined;
use super::limits::RETRY_MAX;
use super::link::{Again, Answered, Command, Counts, Lost};
use super::watching::Watching;

/// A call without an answer.
struct Pending {
    text: String,
    again: Again,
    /// See [`Command::Call`].
    droppable: bool,
    answered: Answered,
    _place: Option<OwnedSemaphorePermit>,
}

impl Pending {
    /// Nobody waits for it, and it need not be said.
    fn is_dropped(&self) -> bool {
        self.droppable && self.answered.is_closed()
    }
}

/// A membership, and who waits for its beginning.
struct Membership {
    joined: Arc<Joined>,
    begun: Option<oneshot::Sender<Result<(), Fault>>>,
    /// The server was asked, and has not refused it.
    asked: bool,
    /// What its program handles, for the server to know.
    catalogue: Option<Arc<Catalogue>>,
}

/// See the module.
pub(super) struct Session {
    token: Option<String>,
    /// How long it outlives its connection, in milliseconds.
    keep_ms: u64,
    /// Whether the server keeps catalogues of handlers.
    describes: bool,
    counts: Arc<Counts>,
    /// Calls by their numbers, so that they are sent again in their order.
    pending: BTreeMap<u64, Pending>,
    /// Joins under way: whose they are, and their texts.
    joining: BTreeMap<u64, (u64, String)>,
    members: BTreeMap<u64, Membership>,
    watches: BTreeMap<u64, Arc<Watching>>,
    /// Calls for the topics there are, and the watch that compares them.
    comparing: BTreeMap<u64, u64>,
    /// Numbers of its own, apart from those of the link.
    next: u64,
    /// What is to be sent.
    pub(super) outgoing: VecDeque<String>,
}

/// What follows from a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    /// Connect anew, after what the server asks to wait.
    Reconnect(Duration),
}

impl Session {
    pub(super) fn new(counts: Arc<Counts>, keep_ms: u64) -> Self {
        Self {
            token: None,
            keep_ms,
            describes: false,
            counts,
            pending: BTreeMap::new(),
            joining: BTreeMap::new(),
            members: BTreeMap::new(),
            watches: BTreeMap::new(),
            comparing: BTreeMap::new(),
            // The link's numbers never come so far.
            next: 1 << 52,
            outgoing: VecDeque::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn say(&mut self, call: Call) {
        self.outgoing.push_back(ClientFrame::Call(call).encode());
    }

    /// The first frame of a connection.
    pub(super) fn hello(&self) -> String {
        let members = self.members.values();
        ClientFrame::Call(Call::Hello {
            session: self.token.clone(),
            received: members.map(|member| member.joined.received()).collect(),
            keep_ms: Some(self.keep_ms),
        })
        .encode()
    }

    /// A connection is there: says what the server may not have heard.
    pub(super) fn welcomed(&mut self, welcome: &Welcome) {
        self.counts.connection.fetch_add(1, Ordering::AcqRel);
        self.outgoing.clear();
        self.token = Some(welcome.session.clone());
        self.describes = welcome.describes;
        match welcome.resumed {
            true => self.go_on(),
            false => self.begin_anew(),
        }
        self.comparing.clear();
        for number in self.watches.keys().copied().collect::<Vec<_>>() {
            self.say(Call::Watch { watch: number });
            let id = self.number();
            self.comparing.insert(id, number);
            self.say(Call::Topics { id });
        }
        self.pending.retain(|_, pending| !pending.is_dropped());
        let texts = self.pending.values().map(|pending| pending.text.clone());
        self.outgoing.extend(texts);
    }

    fn go_on(&mut self) {
        // A join without an answer is asked for again: the server takes it once.
        let joining = self.joining.values();
        let texts: Vec<_> = joining.map(|(_, text)| text.clone()).collect();
        let members = self
            .members
            .values()
            .filter(|member| !self.is_joining(member.joined.number));
        let members = members.map(|member| (member.joined.number, member.joined.credit()));
        let members: Vec<_> = members.collect();
        self.outgoing.extend(texts);
        for (number, credit) in members {
            self.say(credit);
            // The server may not have heard it.
            self.describe(number);
        }
    }

    /// Tells the server what the program of a member that has joined handles.
    fn describe(&mut self, number: u64) {
        let member = self.members.get(&number).filter(|member| member.asked);
        let catalogue = member.and_then(|member| member.catalogue.clone());
        if let Some(catalogue) = catalogue.filter(|_| self.describes && !self.is_joining(number)) {
            let described = ClientFrame::Describe(Describe {
                id: self.number(),
                subscription: number,
                catalogue,
            });
            self.outgoing.push_back(described.encode());
        }
    }

    fn is_joining(&self, number: u64) -> bool {
        self.joining.values().any(|(have, _)| *have == number)
    }

    fn begin_anew(&mut self) {
        self.counts.epoch.fetch_add(1, Ordering::AcqRel);
        let lost = self
            .pending
            .extract_if(.., |_, pending| pending.again != Again::Always);
        for (_, pending) in lost.collect::<Vec<_>>() {
            let _ = pending.answered.send(Err(Lost));
        }
        self.joining.clear();
        let members: Vec<_> = self
            .members
            .values()
            .map(|m| Arc::clone(&m.joined))
            .collect();
        members.iter().for_each(|joined| self.join(joined));
    }

    /// Asks for a membership; what was known of it in an earlier session is over.
    fn join(&mut self, joined: &Arc<Joined>) {
        self.joining
            .retain(|_, (number, _)| *number != joined.number);
        let id = self.number();
        if let Some(member) = self.members.get_mut(&joined.number) {
            member.asked = true;
        }
        let call = joined.join(id, self.counts.epoch.load(Ordering::Acquire));
        let text = ClientFrame::Call(call).encode();
        self.joining.insert(id, (joined.number, text.clone()));
        self.outgoing.push_back(text);
    }

    fn call(&mut self, id: u64, pending: Pending) {
        let epoch = self.counts.epoch.load(Ordering::Acquire);
        if matches!(pending.again, Again::InSession(of) if of != epoch) {
            let _ = pending.answered.send(Err(Lost));
        } else if !pending.is_dropped() {
            self.outgoing.push_back(pending.text.clone());
            self.pending.insert(id, pending);
        }
    }

    /// A command of the program.
    pub(super) fn take(&mut self, command: Command) {
        match command {
            Command::Call {
                id,
                text,
                again,
                droppable,
                answered,
                place,
            } => {
                let pending = Pending {
                    text,
                    again,
                    droppable,
                    answered,
                    _place: place,
                };
                self.call(id, pending);
            }
            Command::Join(joined, begun) => {
                let member = Membership {
                    joined: Arc::clone(&joined),
                    begun: Some(begun),
                    asked: true,
                    catalogue: None,
                };
                self.members.insert(joined.number, member);
                self.join(&joined);
            }
            Command::Rejoin(number) => {
                let member = self.members.get(&number).filter(|member| !member.asked);
                if let Some(joined) = member.map(|member| Arc::clone(&member.joined)) {
                    self.join(&joined);
                }
            }
            Command::Leave(number) => {
                self.members.remove(&number);
                self.joining.retain(|_, (have, _)| *have != number);
                let id = self.number();
                self.say(Call::Unsubscribe {
                    id,
                    subscription: number,
                });
            }
            Command::Credit(number) => {
                let member = self.members.get(&number).filter(|member| member.asked);
                let joining = self.is_joining(number);
                // One that is joining tells its credit once it has joined.
                if let Some(call) = member.filter(|_| !joining).map(|m| m.joined.credit()) {
                    self.say(call);
                }
            }
            Command::Describe(number, catalogue) => {
                if let Some(member) = self.members.get_mut(&number) {
                    member.catalogue = Some(catalogue);
                }
                self.describe(number);
            }
            Command::Watch(watching) => {
                let watch = watching.number;
                self.watches.insert(watch, watching);
                self.say(Call::Watch { watch });
            }
            Command::Unwatch(watch) => {
                self.watches.remove(&watch);
                self.say(Call::Unwatch { watch });
            }
        }
    }

    /// A frame of the server.
    pub(super) fn heard(&mut self, frame: ServerFrame) -> Then {
        let id = match &frame {
            ServerFrame::Answer(answer) => Some(answer.id),
            ServerFrame::Fetched { id, .. } | ServerFrame::Reply { id, .. } => Some(*id),
            ServerFrame::Error(failed) => failed.id,
            _ => None,
        };
        if let Some(id) = id {
            return self.answered(id, frame);
        }
        match frame {
            ServerFrame::Deliver {
                subscription,
                deliveries,
            } => {
                if let Some(member) = self.members.get(&subscription) {
                    member.joined.came(deliveries);
                }
            }
            ServerFrame::Error(Failed {
                subscription: Some(number),
                fault,
                ..
            }) => {
                if fault == Fault::Closed {
                    return Then::Reconnect(Duration::ZERO);
                }
                if let Some(member) = self.members.get(&number) {
                    member.joined.failed(fault);
                }
            }
            ServerFrame::Error(Failed { fault, .. }) => {
                tracing::warn!(%fault, "the server refuses a frame");
            }
            ServerFrame::News(News::Advanced { watch, partitions }) => {
                if let Some(watching) = self.watches.get(&watch) {
                    watching.came(partitions);
                }
            }
            ServerFrame::News(News::Bye { why, retry_ms }) => {
                tracing::debug!(why, retry_ms, "the server takes its leave");
                return Then::Reconnect(Duration::from_millis(retry_ms).min(RETRY_MAX));
            }
            _ => {}
        }
        Then::GoOn
    }

    fn answered(&mut self, id: u64, frame: ServerFrame) -> Then {
        // A server that closes is waited for, until it or another one is there.
        if let ServerFrame::Error(Failed {
            fault: Fault::Closed,
            ..
        }) = frame
        {
            return Then::Reconnect(Duration::ZERO);
        }
        if let Some(pending) = self.pending.remove(&id) {
            // Nobody may wait any longer.
            let _ = pending.answered.send(Ok(frame));
        } else if let Some((number, _)) = self.joining.remove(&id) {
            self.join_answered(number, frame);
        } else if let Some(number) = self.comparing.remove(&id) {
            self.compared(number, frame);
        } else if let ServerFrame::Error(Failed { fault, .. }) = frame {
            tracing::warn!(%fault, "the server refuses a call");
        }
        Then::GoOn
    }

    fn compared(&self, number: u64, frame: ServerFrame) {
        if let ServerFrame::Answer(Answer {
            topics: Some(topics),
            ..
        }) = frame
            && let Some(watching) = self.watches.get(&number)
        {
            watching.compare(&topics);
        }
    }

    fn join_answered(&mut self, number: u64, frame: ServerFrame) {
        let Some(member) = self.members.get_mut(&number) else {
            return;
        };
        let begun = member.begun.take();
        match (frame, begun) {
            (ServerFrame::Error(Failed { fault, .. }), Some(begun)) => {
                self.members.remove(&number);
                let _ = begun.send(Err(fault));
            }
            // It had joined before, and could not again.
            (ServerFrame::Error(Failed { fault, .. }), None) => {
                member.asked = false;
                member.joined.failed(fault);
            }
            (_, begun) => {
                let credit = member.joined.credit();
                self.say(credit);
                if let Some(begun) = begun
                    && begun.send(Ok(())).is_err()
                {
                    // Who asked is gone.
                    self.take(Command::Leave(number));
                }
                self.describe(number);
            }
        }
    }

    /// The runtime or the bus ends.
    pub(super) fn end(&mut self) {
        for (_, pending) in std::mem::take(&mut self.pending) {
            let _ = pending.answered.send(Err(Lost));
        }
        for watching in self.watches.values() {
            watching.failed(Fault::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::limits::WAITING_CALLS_MAX;
    use super::super::link::Link;
    use super::*;

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_said_but_settlements_are() {
        let counts = Arc::new(Counts::default());
        let (link, mut commands) = Link::new(Arc::clone(&counts));
        let mut session = Session::new(counts, 0);
        for (again, said) in [(Again::Always, 0), (Again::InSession(0), 1)] {
            let call = link.call(link.number(), "a frame".into(), again);
            assert!(call.now_or_never().is_none(), "it is given up");
            session.take(commands.try_recv().unwrap());
            assert_eq!(
                (session.outgoing.len(), session.pending.len()),
                (said, said)
            );
        }
        let request = link.wait(link.number(), "a frame".into(), Again::InSession(0));
        assert!(request.now_or_never().is_none(), "it is given up");
        session.take(commands.try_recv().unwrap());
        assert_eq!(session.pending.len(), 1);
    }

    #[test]
    fn a_server_that_takes_its_leave_is_left_alone_as_long_as_it_asks() {
        let mut session = Session::new(Arc::default(), 0);
        let (second, year) = (Duration::from_secs(1), 365 * 86_400_000);
        for (retry_ms, wait) in [(0, Duration::ZERO), (1_000, second), (year, RETRY_MAX)] {
            let why = "so".to_owned();
            let bye = ServerFrame::News(News::Bye { retry_ms, why });
            assert_eq!(session.heard(bye), Then::Reconnect(wait));
        }
    }

    fn welcome(describes: bool) -> Welcome {
        let support = tidemill_core::bus::Support::Native;
        Welcome {
            session: "s".to_owned(),
            resumed: false,
            keep_ms: 0,
            numbered: true,
            describes,
            guarantees: tidemill_core::Guarantees {
                at_least_once: support,
                order_per_key: support,
                atomic_handler_commit: support,
                replay: support,
            },
            limits: tidemill_core::wire::Limits {
                frame_max_bytes: 1,
                calls_max: 1,
                subscriptions_max: 1,
                credit_max: 1,
                idle_ms: 1,
            },
        }
    }

    #[test]
    fn only_a_server_that_knows_of_catalogues_is_told_one_and_it_may_refuse() {
        for describes in [false, true] {
            let mut session = Session::new(Arc::new(Counts::default()), 0);
            session.welcomed(&welcome(describes));
            let asked = tidemill_core::Subscription {
                topics: vec![],
                group: tidemill_core::GroupName::new("g").unwrap(),
                order: Default::default(),
                start: Default::default(),
            };
            let joined = Arc::new(Joined::new(7, asked));
            session.take(Command::Join(joined, oneshot::channel().0));
            let text = r#"{"name":"n","handlers":[{"id":"h","topic":"t","type":"e"}]}"#;
            let catalogue = Arc::new(Catalogue::from_json(text).unwrap());
            session.take(Command::Describe(7, catalogue));
            let said = |session: &Session| {
                let mut texts = session.outgoing.iter();
                texts.any(|text| text.contains("\"describe\""))
            };
            assert!(!said(&session), "it has not joined yet");
            let id = *session.joining.keys().next().unwrap();
            // Who asked is gone in this test: the membership is kept all the same.
            session.members.get_mut(&7).unwrap().begun = None;
            session.heard(ServerFrame::Answer(Answer {
                id,
                ..Answer::default()
            }));
            assert_eq!(said(&session), describes);
            let fault = Fault::Malformed { why: "?".into() };
            let refused = ServerFrame::Error(Failed::call(Some(session.next), fault));
            assert_eq!(session.heard(refused), Then::GoOn);
            assert!(session.members.contains_key(&7));
            // It is said again over the next connection.
            session.welcomed(&Welcome {
                resumed: true,
                ..welcome(describes)
            });
            assert_eq!(said(&session), describes);
        }
    }

    #[tokio::test]
    async fn calls_that_are_given_up_have_their_places_until_they_are_known() {
        let counts = Arc::new(Counts::default());
        let (link, mut commands) = Link::new(Arc::clone(&counts));
        let mut session = Session::new(counts, 0);
        for _ in 0..2 {
            for _ in 0..WAITING_CALLS_MAX + 10 {
                let fetch = link.wait(link.number(), "a frame".into(), Again::Always);
                let given_up = tokio::task::unconstrained(fetch).now_or_never();
                assert!(given_up.is_none());
            }
            assert_eq!(commands.len(), WAITING_CALLS_MAX);
            while let Ok(command) = commands.try_recv() {
                session.take(command);
            }
        }
    }
}
