//! Events, a dispatcher that runs beside the test, and a gate that handlers wait at.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tidemill::dispatcher::{Dispatcher, ServeError, Served};
use tidemill::{Bus, Event, EventId, EventType, Key, Router, Serve, Source, TopicName, serve};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinHandle;

pub(crate) fn topic() -> TopicName {
    TopicName::new("work").unwrap()
}

/// An event of the type `job`; a key of "" is none.
pub(crate) fn job(id: impl ToString, key: &str) -> Event {
    let event = Event::builder(
        EventId::new(id.to_string()).unwrap(),
        Source::new("/test").unwrap(),
        EventType::new("job").unwrap(),
    );
    let event = match key {
        "" => event,
        key => event.key(&Key::new(key.to_owned()).unwrap()),
    };
    event.untyped_data("{}").build().unwrap()
}

pub(crate) async fn publish(bus: &Bus, events: impl IntoIterator<Item = Event>) {
    let events = events.into_iter().collect();
    bus.publish(topic(), events).await.unwrap();
}

/// A dispatcher at work on a task of its own.
pub(crate) struct Running {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<Result<Served, ServeError>>,
}

pub(crate) fn start(bus: &Bus, router: Router, set: impl FnOnce(Serve) -> Serve) -> Running {
    crate::warnings::listen();
    let plan = serve(bus.clone(), router).group("workers").jitter_seed(1);
    let dispatcher = set(plan).build().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = dispatcher.clone();
    let task = tokio::spawn(async move {
        running
            .run(async {
                let _ = stopped.await;
            })
            .await
    });
    Running {
        dispatcher,
        stop,
        task,
    }
}

impl Running {
    pub(crate) async fn stop(self) -> Served {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap()
    }
}

/// What handlers did, and a gate where they wait until the test lets them on.
#[derive(Clone)]
pub(crate) struct Floor(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    changed: Notify,
    gate: Semaphore,
}

#[derive(Clone, Default, Debug)]
pub(crate) struct State {
    /// Ids in the order in which their handlers began, and ended.
    pub(crate) begun: Vec<String>,
    pub(crate) ended: Vec<String>,
    pub(crate) most_at_once: usize,
    running: BTreeMap<String, usize>,
    /// Keys that two handlers ran for at once.
    pub(crate) clashes: Vec<String>,
}

impl Floor {
    /// `open` handlers may pass the gate at first.
    pub(crate) fn new(open: usize) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::default(),
            changed: Notify::new(),
            gate: Semaphore::new(open),
        }))
    }

    pub(crate) fn open(&self, count: usize) {
        self.0.gate.add_permits(count);
    }

    pub(crate) fn begin(&self, event: &Event) {
        let mut state = self.0.state.lock().unwrap();
        state.begun.push(event.id().to_string());
        let key = event.key().unwrap_or_default().to_owned();
        let same = state.running.entry(key.clone()).or_default();
        *same += 1;
        if *same > 1 && !key.is_empty() {
            state.clashes.push(key);
        }
        let at_once = state.running.values().sum();
        state.most_at_once = state.most_at_once.max(at_once);
        drop(state);
        self.0.changed.notify_waiters();
    }

    pub(crate) fn end(&self, event: &Event) {
        let mut state = self.0.state.lock().unwrap();
        state.ended.push(event.id().to_string());
        let key = event.key().unwrap_or_default();
        *state.running.get_mut(key).unwrap() -= 1;
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// What a handler does: begins, waits at the gate, ends.
    pub(crate) async fn pass(&self, event: &Event) {
        self.begin(event);
        self.0.gate.acquire().await.unwrap().forget();
        self.end(event);
    }

    pub(crate) fn state(&self) -> State {
        self.0.state.lock().unwrap().clone()
    }

    /// Waits until `there` holds.
    pub(crate) async fn until(&self, there: impl Fn(&State) -> bool) -> State {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            let state = self.state();
            if there(&state) {
                return state;
            }
            changed.await;
        }
    }
}
