//! A watch over the network: one entry a partition that has news. After a connection broke, the
//! ends of all partitions are compared with what was told, so that none is missed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_core::wire::Fault;
use tidemill_core::{
    Advanced, BoxFuture, FetchError, Offset, Partition, TopicBounds, TopicId, TopicName, Watch,
};
use tokio::sync::Notify;

use super::link::{Command, Link};

/// What the program's handle and the connection's task share.
pub(super) struct Watching {
    pub(super) number: u64,
    state: Mutex<State>,
    arrived: Notify,
}

type Place = (TopicName, Partition);

#[derive(Default)]
struct State {
    news: BTreeMap<Place, Advanced>,
    /// The newest end of each partition that was told of.
    known: HashMap<Place, (Option<TopicId>, Offset)>,
    fault: Option<Fault>,
}

impl Watching {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            state: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server told of these.
    pub(super) fn came(&self, partitions: Vec<Advanced>) {
        let mut state = self.state();
        for advanced in partitions {
            let place = (advanced.topic.clone(), advanced.partition);
            let now = (advanced.id, advanced.end);
            // What was looked up may be older than what was told since.
            let known = state.known.get(&place);
            if known.is_none_or(|(id, end)| *id != now.0 || *end < now.1) {
                state.known.insert(place.clone(), now);
                state.news.insert(place, advanced);
            }
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// What there is after a connection broke: what went further meanwhile is news, also where it
    /// cannot be known whether it did.
    pub(super) fn compare(&self, topics: &[TopicBounds]) {
        let all = topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|bounds| Advanced {
                topic: topic.topic.clone(),
                id: topic.id,
                partition: bounds.partition,
                end: bounds.end,
            })
        });
        self.came(all.filter(|advanced| advanced.end > Offset(0)).collect());
    }

    /// It gives nothing.
    pub(super) fn failed(&self, fault: Fault) {
        self.state().fault = Some(fault);
        self.arrived.notify_one();
    }
}

/// What a program holds.
pub(super) struct RemoteWatch {
    pub(super) link: Link,
    pub(super) watching: Arc<Watching>,
}

impl Watch for RemoteWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Advanced>, FetchError>> {
        Box::pin(async {
            loop {
                {
                    let mut state = self.watching.state();
                    if !state.news.is_empty() {
                        let news = std::mem::take(&mut state.news);
                        return Ok(news.into_values().collect());
                    }
                    if let Some(fault) = state.fault.take() {
                        return Err(fault.into_fetch());
                    }
                }
                self.watching.arrived.notified().await;
            }
        })
    }
}

impl Drop for RemoteWatch {
    fn drop(&mut self) {
        self.link.tell(Command::Unwatch(self.watching.number));
    }
}
