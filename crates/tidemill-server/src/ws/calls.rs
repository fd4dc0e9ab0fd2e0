//! What each call does. A call runs beside the others and is answered when it is done; frames that
//! only set something are done at once, in their order.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidemill_broker::{
    Numbered, ProducerEpoch, ProducerError, ProducerId, ProducerIdentity, Sequence,
};
use tidemill_core::budget::{Class, Share};
use tidemill_core::wire::{
    Answer, Call, ClientFrame, Describe, Failed, Fault, Numbers, Publish, Request, ServerFrame,
    Settle,
};
use tidemill_core::{
    Event, Fetch, GroupName, Offset, Partition, Position, PublishError, SettleError, Subscription,
    TopicName,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{AbortHandle, JoinSet};

use super::once::Known;
use super::outbox::Outbox;
use super::session::Session;
use super::subscription::Begun;
use crate::limits;
use crate::own_groups;

/// A frame that was read, and the memory that it takes until nothing of it is in use.
struct Counted {
    bytes: Bytes,
    _share: Arc<Mutex<Option<Share>>>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The calls of one connection.
pub(super) struct Calls {
    session: Arc<Session>,
    outbox: Outbox,
    /// Reads that nobody waits for once the connection is gone.
    reads: JoinSet<()>,
    watches: HashMap<u64, AbortHandle>,
}

impl Calls {
    pub(super) fn new(session: Arc<Session>, outbox: Outbox) -> Self {
        Self {
            session,
            outbox,
            reads: JoinSet::new(),
            watches: HashMap::new(),
        }
    }

    /// Takes a frame. Breaks where it was the client's last.
    pub(super) async fn take(&mut self, bytes: Bytes) -> ControlFlow<()> {
        let share = Arc::new(Mutex::new(Some(self.memory(bytes.len()).await)));
        let bytes = Bytes::from_owner(Counted {
            bytes,
            _share: Arc::clone(&share),
        });
        while self.reads.try_join_next().is_some() {}
        let decoded = ClientFrame::decode(&bytes);
        drop(bytes);
        let share = match &decoded {
            // Its memory is free when the event is published, and not held for the reply, which
            // needs some, too.
            Ok(ClientFrame::Request(_)) => None,
            _ => share.lock().unwrap_or_else(PoisonError::into_inner).take(),
        };
        let share = share.unwrap_or_else(|| self.session.memory.empty(Class::Requests));
        let call = match decoded {
            Ok(ClientFrame::Call(call)) => call,
            Ok(ClientFrame::Publish(publish)) => {
                let session = Arc::clone(&self.session);
                self.once(publish.id, share, run_publish(session, publish))
                    .await;
                return ControlFlow::Continue(());
            }
            Ok(ClientFrame::Request(request)) => {
                let session = Arc::clone(&self.session);
                self.once(request.id, share, run_request(session, request))
                    .await;
                return ControlFlow::Continue(());
            }
            Ok(ClientFrame::Settle(settle)) => {
                self.settle(settle, share).await;
                return ControlFlow::Continue(());
            }
            Ok(ClientFrame::Describe(describe)) => {
                self.describe(describe).await;
                return ControlFlow::Continue(());
            }
            Err(refused) => {
                self.refuse(refused.id, refused.fault).await;
                return ControlFlow::Continue(());
            }
        };
        drop(share);
        self.call(call).await
    }

    /// Memory for a frame that was read, waited for: the client is not read on meanwhile.
    async fn memory(&self, bytes: usize) -> Share {
        let memory = &self.session.memory;
        loop {
            if let Some(share) = memory.take(Class::Requests, bytes) {
                return share;
            }
            if bytes > memory.max(Class::Requests) && memory.over() == 0 {
                let mut share = memory.empty(Class::Requests);
                share.grow_anyway(bytes);
                return share;
            }
            tokio::time::sleep(limits::MEMORY_LOOK_EVERY).await;
        }
    }

    async fn refuse(&self, id: Option<u64>, fault: Fault) {
        let failed = ServerFrame::Error(Failed::call(id, fault));
        let _ = self.outbox.send(failed.encode()).await;
    }

    /// Does what must not be done twice, unless it is being done or was; it goes on when the
    /// connection breaks.
    async fn once(
        &self,
        id: u64,
        share: Share,
        work: impl Future<Output = ServerFrame> + Send + 'static,
    ) {
        let Some(place) = self.begin(id).await else {
            return;
        };
        let session = Arc::clone(&self.session);
        tokio::spawn(async move {
            let answer = work.await;
            drop(share);
            session.answer(id, answer).await;
            drop(place);
        });
    }

    /// A place for a call that must not be done twice. `None` where it has its answer, or will.
    async fn begin(&self, id: u64) -> Option<OwnedSemaphorePermit> {
        match self.session.begin(id) {
            Known::New => {}
            Known::UnderWay => return None,
            Known::Done(answer) => {
                let _ = self.outbox.send(answer).await;
                return None;
            }
            Known::Forgotten => {
                let why = "it was done, and the answer is not known any longer".to_owned();
                self.refuse(Some(id), Fault::Indeterminate { why }).await;
                return None;
            }
        }
        match self.session.place() {
            Ok(place) => Some(place),
            Err(fault) => {
                // So that it is done when it comes again.
                self.session.forget(id);
                self.refuse(Some(id), fault).await;
                None
            }
        }
    }

    async fn settle(&self, settle: Settle, share: Share) {
        let Settle {
            id,
            subscription,
            delivery,
            commit,
        } = settle;
        let Some(place) = self.begin(id).await else {
            return;
        };
        let session = Arc::clone(&self.session);
        let held = session.subscription(subscription);
        let begun = held.map(|held| (held.begin_settle(delivery), held));
        let (mut right, held) = match begun {
            Some((Begun::Right(right), held)) => (right, held),
            Some((Begun::UnderWay, _)) => {
                let why = "another settlement of this delivery is under way; wait for its answer";
                let why = why.to_owned();
                return session.refuse(id, Fault::Unexpected { why }).await;
            }
            Some((Begun::Stale, _)) | None => return session.refuse(id, Fault::Stale).await,
        };
        tokio::spawn(async move {
            let settled = right.try_settle(commit).await;
            drop(share);
            match &settled {
                Ok(_) | Err(SettleError::Stale | SettleError::Indeterminate(_)) => {
                    held.end_settle(delivery);
                }
                // It may be settled once more.
                Err(_) => held.take_back(delivery, right),
            }
            let answer = match settled {
                Ok(positions) => placed(id, positions),
                Err(error) => ServerFrame::Error(Failed::call(Some(id), error.into())),
            };
            session.answer(id, answer).await;
            drop(place);
        });
    }

    /// Said again, it is the same: so it need not be known whether it was done.
    async fn describe(&mut self, describe: Describe) {
        let Describe {
            id,
            subscription,
            catalogue,
        } = describe;
        let Some(held) = self.session.subscription(subscription) else {
            return self.unknown(Some(id), subscription).await;
        };
        let place = match self.session.place() {
            Ok(place) => place,
            Err(fault) => return self.refuse(Some(id), fault).await,
        };
        let outbox = self.outbox.clone();
        self.reads.spawn(async move {
            let answer = match held.describe(catalogue).await {
                Ok(()) => ServerFrame::Answer(Answer {
                    id,
                    ..Answer::default()
                }),
                Err(fault) => ServerFrame::Error(Failed::call(Some(id), fault)),
            };
            let _ = outbox.send(answer.encode()).await;
            drop(place);
        });
    }

    async fn call(&mut self, call: Call) -> ControlFlow<()> {
        match call {
            Call::Bye {} => return ControlFlow::Break(()),
            Call::Ping {} => {
                let pong = ServerFrame::News(tidemill_core::wire::News::Pong {});
                let _ = self.outbox.send(pong.encode()).await;
            }
            Call::Hello { .. } => {
                let why = "hello is said once, first; connect anew for another session".to_owned();
                self.refuse(None, Fault::Unexpected { why }).await;
            }
            Call::Credit {
                subscription,
                total,
            } => match self.session.subscription(subscription) {
                Some(held) => held.credit(total),
                None => self.unknown(None, subscription).await,
            },
            Call::Unsubscribe { id, subscription } => {
                self.session.unsubscribe(subscription);
                self.done(id).await;
            }
            Call::Abandon {
                id,
                subscription,
                delivery,
            } => {
                if let Some(held) = self.session.subscription(subscription)
                    && let Begun::Right(right) = held.begin_settle(delivery)
                {
                    drop(right);
                    held.end_settle(delivery);
                }
                self.done(id).await;
            }
            Call::Subscribe {
                id,
                subscription,
                topics,
                group,
                order,
                start,
                credit,
            } => {
                let asked = Subscription {
                    topics,
                    group,
                    order,
                    start,
                };
                self.subscribe(id, subscription, asked, credit).await;
            }
            Call::Watch { watch } => self.watch(watch).await,
            Call::Unwatch { watch } => {
                if let Some(task) = self.watches.remove(&watch) {
                    task.abort();
                }
            }
            other => self.read(other).await,
        }
        ControlFlow::Continue(())
    }

    async fn unknown(&self, id: Option<u64>, subscription: u64) {
        let why = format!("there is no subscription {subscription}; subscribe first");
        self.refuse(id, Fault::Unexpected { why }).await;
    }

    async fn done(&self, id: u64) {
        let answer = Answer {
            id,
            ..Answer::default()
        };
        let _ = self.outbox.send(ServerFrame::Answer(answer).encode()).await;
    }

    async fn subscribe(&self, id: u64, number: u64, asked: Subscription, credit: u64) {
        // That it is there is the answer, whatever became of its text.
        if self.session.was_answered(id) && self.session.subscription(number).is_some() {
            return self.done(id).await;
        }
        let Some(place) = self.begin(id).await else {
            return;
        };
        let session = Arc::clone(&self.session);
        // Before the next frame, which may end it.
        if let Err(fault) = session.begin_join(number) {
            return session.refuse(id, fault).await;
        }
        tokio::spawn(async move {
            let joined = match own_groups::of_others(&asked.group) {
                Ok(()) => session.bus.subscribe(asked).await,
                Err(others) => Err(others),
            };
            let joined = joined.map_err(Fault::from);
            let answer = match session.end_join(number, joined, credit) {
                Ok(()) => ServerFrame::Answer(Answer {
                    id,
                    ..Answer::default()
                }),
                Err(fault) => ServerFrame::Error(Failed::call(Some(id), fault)),
            };
            session.answer(id, answer).await;
            drop(place);
        });
    }

    async fn watch(&mut self, number: u64) {
        self.watches.retain(|_, task| !task.is_finished());
        if self.watches.len() >= limits::WS_WATCHES_MAX {
            let why = format!(
                "a connection has at most {} watches",
                limits::WS_WATCHES_MAX
            );
            return self.refuse(None, Fault::Limit { why }).await;
        }
        let watching = match self.session.bus.watch() {
            Ok(watching) => watching,
            Err(error) => {
                let why = error.to_string();
                return self.refuse(None, Fault::Other { why }).await;
            }
        };
        let outbox = self.outbox.clone();
        let mut watching = watching;
        let task = self.reads.spawn(async move {
            while let Ok(partitions) = watching.next().await {
                let news = tidemill_core::wire::News::Advanced {
                    watch: number,
                    partitions,
                };
                if outbox.send(ServerFrame::News(news).encode()).await.is_err() {
                    return;
                }
            }
        });
        if let Some(before) = self.watches.insert(number, task) {
            before.abort();
        }
    }

    /// Calls that change nothing: they end with the connection, and a client that comes back asks
    /// again.
    async fn read(&mut self, call: Call) {
        let (Call::Producer { id }
        | Call::Topic { id, .. }
        | Call::Topics { id }
        | Call::Fetch { id, .. }
        | Call::IsSettled { id, .. }) = call
        else {
            return;
        };
        let place = match self.session.place() {
            Ok(place) => place,
            Err(fault) => return self.refuse(Some(id), fault).await,
        };
        let (session, outbox) = (Arc::clone(&self.session), self.outbox.clone());
        self.reads.spawn(async move {
            let answered = answer(&session, call).await;
            let (frame, share) = answered.unwrap_or_else(|fault| {
                let failed = ServerFrame::Error(Failed::call(Some(id), fault));
                (failed, session.memory.empty(Class::Answers))
            });
            let text = frame.encode();
            drop(frame);
            let _ = outbox.send(text).await;
            drop((share, place));
        });
    }
}

fn placed(id: u64, positions: Vec<Position>) -> ServerFrame {
    ServerFrame::Answer(Answer {
        id,
        positions: Some(positions),
        ..Answer::default()
    })
}

async fn run_publish(session: Arc<Session>, publish: Publish) -> ServerFrame {
    let Publish {
        id,
        topic,
        numbers,
        events,
    } = publish;
    let published = match numbers {
        None => session
            .bus
            .publish(topic, events)
            .await
            .map_err(Fault::from),
        Some(numbers) => publish_numbered(&session, topic, &numbers, &events).await,
    };
    match published {
        Ok(positions) => placed(id, positions),
        Err(fault) => ServerFrame::Error(Failed::call(Some(id), fault)),
    }
}

async fn publish_numbered(
    session: &Session,
    topic: TopicName,
    numbers: &Numbers,
    events: &[Event],
) -> Result<Vec<Position>, Fault> {
    let Some(broker) = &session.broker else {
        return Err(Fault::Unsupported {
            need: "numbered publishes".into(),
            why: "there is no broker of its own behind this server".into(),
        });
    };
    let wrong = |why: &str| Fault::Numbers {
        why: format!("{why}; ask for a producer anew"),
    };
    let producer = numbers
        .producer
        .parse()
        .map_err(|_| wrong("the producer is not a number"))?;
    let sequence = |(partition, number): (&Partition, &i32)| {
        let sequence = Sequence::new(*number).ok_or_else(|| wrong("a sequence is below 0"))?;
        Ok((*partition, sequence))
    };
    let sequences: Result<BTreeMap<_, _>, Fault> = numbers.sequences.iter().map(sequence).collect();
    let numbered = Numbered {
        topic,
        producer: ProducerIdentity {
            id: ProducerId(producer),
            epoch: ProducerEpoch(numbers.epoch),
        },
        partitions: numbers.partitions,
        round: numbers.round,
        sequences: sequences?,
    };
    let published = broker.publish_numbered(numbered, events).await;
    published.map_err(|error| match error {
        ProducerError::UnknownTopic(topic) => Fault::UnknownTopic { topic },
        ProducerError::Changed(topic) => Fault::Changed { topic },
        ProducerError::Event(error) => error.into(),
        ProducerError::Unavailable(why) => why.into(),
        ProducerError::Indeterminate(why) => Fault::Indeterminate { why },
        ProducerError::Other(why) => Fault::Other { why },
        ProducerError::TooMany { .. } => Fault::Limit {
            why: error.to_string(),
        },
        other => wrong(&other.to_string()),
    })
}

async fn run_request(session: Arc<Session>, request: Request) -> ServerFrame {
    let Request {
        id,
        topic,
        timeout,
        event,
    } = request;
    let timeout = timeout.min(limits::WS_REQUEST_TIMEOUT_MAX);
    let replied = tokio::select! {
        replied = session.bus.request(topic, event, timeout) => replied.map_err(Fault::from),
        // Nobody is there to hear of it.
        () = session.ended() => Err(Fault::Closed),
    };
    match replied {
        Ok(event) => ServerFrame::Reply { id, event },
        Err(fault) => ServerFrame::Error(Failed::call(Some(id), fault)),
    }
}

/// The answer to a call that changes nothing, and the memory that it takes.
async fn answer(session: &Session, call: Call) -> Result<(ServerFrame, Share), Fault> {
    let mut answer = Answer::default();
    match call {
        Call::Producer { id } => {
            answer.id = id;
            let broker = session.broker.as_ref().ok_or_else(|| Fault::Unsupported {
                need: "numbered publishes".into(),
                why: "there is no broker of its own behind this server".into(),
            })?;
            let given = broker.init_producer().map_err(|error| Fault::Limit {
                why: error.to_string(),
            })?;
            answer.producer = Some(given.id.to_string());
            answer.epoch = Some(given.epoch.0);
        }
        Call::Topic { id, topic } => {
            answer.id = id;
            answer.partitions = Some(partitions(session, topic).await?);
        }
        Call::Topics { id } => {
            answer.id = id;
            let topics = session.bus.topics().await;
            answer.topics = Some(topics.map_err(|error| Fault::Other {
                why: error.to_string(),
            })?);
        }
        Call::IsSettled {
            id,
            group,
            topic,
            partition,
            offset,
        } => {
            answer.id = id;
            answer.settled = is_settled(session, &group, topic, partition, offset);
        }
        Call::Fetch {
            id,
            topic,
            partition,
            offset,
            max_events,
            max_bytes,
            wait_ms,
        } => {
            let fetch = Fetch {
                topic,
                partition,
                offset,
                max_events: bounded(max_events, limits::FETCH_EVENTS_MAX),
                max_bytes: bounded(max_bytes, limits::FETCH_MAX_BYTES),
                wait: Duration::from_millis(wait_ms).min(limits::FETCH_WAIT_MAX),
            };
            return fetched(session, id, fetch).await;
        }
        _ => {}
    }
    Ok((
        ServerFrame::Answer(answer),
        session.memory.empty(Class::Answers),
    ))
}

fn bounded(asked: u64, most: usize) -> usize {
    usize::try_from(asked).unwrap_or(usize::MAX).clamp(1, most)
}

async fn partitions(session: &Session, topic: TopicName) -> Result<u32, Fault> {
    if let Some(broker) = &session.broker {
        return broker.ensure_topic(&topic).await.map_err(Fault::from);
    }
    let topics = session.bus.topics().await.unwrap_or_default();
    let found = topics.iter().find(|have| have.topic == topic);
    let count = found.map(|found| u32::try_from(found.partitions.len()).unwrap_or(u32::MAX));
    count.ok_or_else(|| PublishError::UnknownTopic(topic).into())
}

fn is_settled(
    session: &Session,
    group: &GroupName,
    topic: TopicName,
    partition: Partition,
    offset: Offset,
) -> Option<bool> {
    let position = Position {
        topic,
        partition,
        offset,
    };
    session.broker.as_ref()?.is_settled(group, &position)
}

/// Reads within the memory that is free. A wait holds none but for what comes first.
async fn fetched(
    session: &Session,
    id: u64,
    mut fetch: Fetch,
) -> Result<(ServerFrame, Share), Fault> {
    let memory = &session.memory;
    if !fetch.wait.is_zero() {
        fetch.max_bytes = fetch.max_bytes.min(limits::FETCH_WAIT_BYTES);
    }
    let free = memory.free(Class::Answers) / (limits::ANSWER_PART * limits::ANSWER_COST);
    fetch.max_bytes = fetch.max_bytes.min(free.max(limits::FETCH_LEAST_BYTES));
    let (topic, partition) = (fetch.topic.clone(), fetch.partition);
    let fetched = session.bus.fetch(fetch).await;
    let fetched = fetched.map_err(|error| Fault::of_fetch(&topic, partition, error))?;
    let sizes = fetched.events.iter();
    let bytes: usize = sizes
        .map(|(_, event)| event.size_bytes() + limits::ANSWER_EVENT_BYTES)
        .sum();
    let mut share = memory.empty(Class::Answers);
    share.grow_anyway(bytes * limits::ANSWER_COST);
    let frame = ServerFrame::Fetched {
        id,
        next: fetched.next,
        end: fetched.end,
        events: fetched.events,
    };
    Ok((frame, share))
}
