//! What the shop's tests share: the services wired to each other without a bus, so that what
//! happens is decided by the test alone.

#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

pub(crate) mod http;
pub(crate) mod open;
pub(crate) mod process;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemill::core::{Attempt, Offset, Partition, Position};
use tidemill::{App, Bus, Delivery, Event, GroupName, Message, Outcome, TopicName};
use tidemill_shop::replay::{Invoices, Tally};
use tidemill_shop::shop::Shop;
use tidemill_shop::source::{Source, Waiting};

/// Longest wait for a data folder.
const PATIENCE: Duration = Duration::from_secs(20);

/// Hands every event to every service that handles its topic, in turn.
pub(crate) struct Wire {
    apps: Vec<(GroupName, App)>,
    queue: VecDeque<(TopicName, Event)>,
    /// Everything that was published, in its order.
    pub(crate) log: Vec<(TopicName, Event)>,
    /// Hands every delivery over twice, and checks that both give the same events.
    pub(crate) twice: bool,
}

impl Wire {
    pub(crate) fn new(shop: &Shop) -> Self {
        let app = |name: &str, router: tidemill::Router| {
            (
                GroupName::new(name.to_owned()).unwrap(),
                router.finish().unwrap(),
            )
        };
        Self {
            apps: shop
                .routers()
                .into_iter()
                .map(|(name, router)| app(name, router))
                .collect(),
            queue: VecDeque::new(),
            log: Vec::new(),
            twice: false,
        }
    }

    /// Publishes and hands over until nothing follows any more.
    pub(crate) async fn run(&mut self, topic: TopicName, event: Event) {
        self.queue.push_back((topic, event));
        while let Some((topic, event)) = self.queue.pop_front() {
            self.log.push((topic.clone(), event.clone()));
            let offset = Offset(self.log.len() as u64 - 1);
            for at in 0..self.apps.len() {
                if self.apps[at].1.topics().contains(&topic) {
                    self.hand_over(at, &topic, &event, offset).await;
                }
            }
        }
    }

    async fn hand_over(&mut self, at: usize, topic: &TopicName, event: &Event, offset: Offset) {
        let (group, app) = &self.apps[at];
        let delivery = |attempt| Delivery {
            event: Arc::new(event.clone()),
            position: Position {
                topic: topic.clone(),
                partition: Partition(0),
                offset,
            },
            attempt: Attempt(attempt),
            group: group.clone(),
        };
        let first = app.call(delivery(1)).await.commit;
        assert!(matches!(first.outcome, Outcome::Ack), "{:?}", first.outcome);
        // What is described is what is done.
        let info = app
            .describe()
            .iter()
            .find(|info| info.topic == topic.as_str() && info.ty == event.ty().as_str());
        for (to, output) in &first.effects.events {
            let may = info.unwrap().outputs.iter().any(|may| {
                may.topic.as_deref() == Some(to.as_str())
                    && may.ty.as_deref() == Some(output.ty().as_str())
            });
            assert!(may, "{info:?} published {output:?}");
        }
        if self.twice {
            let again = app.call(delivery(2)).await.commit;
            let bare = |events: &[(TopicName, Event)]| -> Vec<_> {
                events
                    .iter()
                    .map(|(t, e)| (t.clone(), e.id().clone(), e.data().cloned()))
                    .collect()
            };
            assert_eq!(bare(&first.effects.events), bare(&again.effects.events));
        }
        self.queue.extend(first.effects.events);
    }

    pub(crate) async fn run_all(&mut self, waiting: &[Waiting]) {
        for one in waiting {
            let (topic, event) = one.request.to_event().unwrap();
            self.run(topic, event).await;
        }
    }

    /// How many events of this type were published.
    pub(crate) fn count<M: Message>(&self) -> usize {
        let of = |(_, event): &&(TopicName, Event)| event.ty().as_str() == M::TYPE;
        self.log.iter().filter(of).count()
    }

    /// Fails if two events share an id and a source.
    pub(crate) fn assert_unique(&self) {
        let mut seen = HashMap::new();
        for (_, event) in &self.log {
            let before = seen.insert((event.source().clone(), event.id().clone()), event);
            assert!(before.is_none(), "published twice: {:?}", event.id());
        }
    }
}

/// Reads a whole file through a source.
pub(crate) async fn replay(source: &Source, wire: &mut Wire, file: &[u8]) -> (Tally, String) {
    let mut rejects = Vec::new();
    let mut invoices = Invoices::new(file, &mut rejects).unwrap();
    while let Some(invoice) = invoices.next().unwrap() {
        let waiting = source.take(vec![invoice]).await.unwrap().waiting;
        wire.run_all(&waiting).await;
        if let Some(last) = waiting.last() {
            source.published(last.seq).await.unwrap();
        }
    }
    let tally = invoices.tally();
    drop(invoices);
    (tally, String::from_utf8(rejects).unwrap())
}

/// The synthetic file that is part of the tree.
pub(crate) fn small_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/orders.csv")
}

/// The shared real file beside the workspace. Where it is missing, says so and gives none, except
/// under `CI=true`, where that is a failure.
pub(crate) fn real_file() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join("../shared/data/online-retail.csv");
    if file.exists() {
        return Some(file);
    }
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "{} is missing", file.display());
    eprintln!("skipped: {} is missing", file.display());
    None
}

/// A bus in memory.
pub(crate) async fn memory_bus() -> Bus {
    tidemill::open("memory:").await.unwrap()
}

/// A bus on disk. One that was dropped in this process, or killed in another, may need a moment
/// to let the folder go.
pub(crate) async fn disk_bus(folder: &Path) -> Bus {
    let folder = folder.join("bus");
    let begun = Instant::now();
    loop {
        match tidemill::open(folder.to_str().unwrap()).await {
            Ok(bus) => return bus,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}
