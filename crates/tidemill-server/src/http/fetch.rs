//! `GET /v1/topics/{topic}/events`: reads events by offset, from one partition or from all, and
//! waits for the first one if asked to (long poll).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use tidemill_broker::PartitionInfo;
use tidemill_core::budget::{Class, Share};
use tidemill_core::{
    Event, Fetch, FetchError, Fetched, Offset, Partition, PartitionBounds, TopicName, json,
};
use tokio::time::Instant;

use super::answer::counted_json;
use super::openapi::{Operation, Parameter, types};
use super::path::Named;
use super::problem::{Kind, Problem};
use super::query::Query;
use crate::app::App;
use crate::limits::{self, ANSWER_COST};
use crate::memory;

const QUERY: &[Parameter] = &[
    Parameter::number("partition", "Reads only this one", (0, u32::MAX as u64)),
    Parameter::text(
        "offset",
        "A number, `beginning` (where nothing is said), `end`, or pairs such as `0:17,1:4`",
    ),
    Parameter::text(
        "since",
        "In place of `offset`, a time (RFC 3339): begins with what was published then or later",
    ),
    Parameter::number("max", "Most events", (1, limits::FETCH_EVENTS_MAX as u64))
        .or(limits::FETCH_EVENTS_DEFAULT as u64),
    Parameter::number(
        "wait_ms",
        "Where there is no event yet: how long to wait for one",
        (0, limits::FETCH_WAIT_MAX.as_millis() as u64),
    )
    .or(0),
];

/// What is said of `GET /v1/topics/{topic}/events`.
pub(super) fn operation() -> Operation {
    Operation::new("fetch_events", "Reads events by offset")
        .described("Waits for the first one if asked to. `next` can be given back as `offset`.")
        .query(QUERY)
        .answers::<types::Fetched>(200, "Events, and where to read on")
        .problems(&[
            Kind::InvalidQuery,
            Kind::InvalidName,
            Kind::UnknownTopic,
            Kind::UnknownPartition,
            Kind::OffsetOutOfRange,
            Kind::Damaged,
        ])
}

/// Answers with events and with where to read on.
pub(crate) async fn fetch(
    State(app): State<Arc<App>>,
    Named(topic): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let topic = TopicName::new(topic)?;
    let wanted = Wanted::parse(query.as_deref())?;
    let bounds = bounds_of(&app, &topic, wanted.partition).await?;
    let from = match wanted.from {
        From::Since(since) => since_in_each(&app, &topic, &bounds, since).await?,
        from => from,
    };
    let share = app.memory.empty(Class::Answers);
    let mut reading = Reading::begin(topic, &from, &bounds, share)?;
    reading.read(&app, wanted.max).await?;
    if reading.page.is_empty() && !wanted.wait.is_zero() {
        tokio::select! {
            waited = reading.wait(&app, wanted.max, wanted.wait) => waited?,
            // The answer is empty then, and the client reads on elsewhere.
            () = app.closed() => {}
        }
    }
    let (text, share) = reading.into_json();
    Ok(counted_json(text, share))
}

/// What the query asks for.
struct Wanted {
    partition: Option<Partition>,
    from: From,
    max: usize,
    wait: Duration,
}

/// Where reading begins.
pub(super) enum From {
    Beginning,
    End,
    /// In every partition read.
    Offset(Offset),
    /// In each partition its own; what is not named begins at the beginning.
    Each(BTreeMap<Partition, Offset>),
    /// With what was published at this time or later.
    Since(Timestamp),
}

impl Wanted {
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let query = Query::parse(query, &["partition", "offset", "since", "max", "wait_ms"])?;
        let wait_max = limits::FETCH_WAIT_MAX.as_millis() as u64;
        let max = query.number("max", 1..=limits::FETCH_EVENTS_MAX)?;
        let wait = query.number("wait_ms", 0..=wait_max)?.unwrap_or(0);
        Ok(Self {
            partition: query.number("partition", 0..=u32::MAX)?.map(Partition),
            from: From::parse(query.text("offset"), query.text("since"), "offset")?,
            max: max.unwrap_or(limits::FETCH_EVENTS_DEFAULT),
            wait: Duration::from_millis(wait),
        })
    }
}

impl From {
    /// Reads a place; `name` is what it is called where it comes from.
    pub(super) fn parse(
        offset: Option<&str>,
        since: Option<&str>,
        name: &str,
    ) -> Result<Self, Problem> {
        if let Some(since) = since {
            if offset.is_some() {
                return Err(Problem::query(format!("give {name} or since, not both")));
            }
            return since.parse().map(Self::Since).map_err(|_| {
                Problem::query("since is a time such as 2026-01-31T12:00:00Z (RFC 3339)")
            });
        }
        let text = match offset {
            None | Some("beginning") => return Ok(Self::Beginning),
            Some("end") => return Ok(Self::End),
            Some(text) => text,
        };
        if let Ok(offset) = text.parse() {
            return Ok(Self::Offset(Offset(offset)));
        }
        let each = text.split(',').map(|pair| {
            let (partition, offset) = pair.split_once(':')?;
            Some((
                Partition(partition.parse().ok()?),
                Offset(offset.parse().ok()?),
            ))
        });
        each.collect::<Option<_>>().map(Self::Each).ok_or_else(|| {
            Problem::query(format!(
                "{name} is a whole number, beginning, end, or partition:offset pairs such as \
                 0:17,1:4"
            ))
        })
    }

    pub(super) fn in_partition(&self, bounds: &PartitionBounds) -> Offset {
        match self {
            Self::Beginning => bounds.earliest,
            // What is not searched for begins with what comes next.
            Self::End | Self::Since(_) => bounds.end,
            Self::Offset(offset) => *offset,
            Self::Each(each) => {
                let own = each.get(&bounds.partition);
                own.copied().unwrap_or(bounds.earliest)
            }
        }
    }
}

/// Where a time begins in each partition. Only a broker can tell.
pub(super) async fn since_in_each(
    app: &App,
    topic: &TopicName,
    bounds: &[PartitionBounds],
    since: Timestamp,
) -> Result<From, Problem> {
    let broker = app.broker()?;
    let mut each = BTreeMap::new();
    for PartitionBounds { partition, .. } in bounds {
        let offset = broker.offset_since(topic, *partition, since).await?;
        each.insert(*partition, offset);
    }
    Ok(From::Each(each))
}

/// The partitions to read and what is kept of them.
pub(super) async fn bounds_of(
    app: &App,
    topic: &TopicName,
    partition: Option<Partition>,
) -> Result<Vec<PartitionBounds>, Problem> {
    let found = all_bounds(app, topic).await?;
    let mut partitions = found.ok_or_else(|| FetchError::UnknownTopic(topic.clone()))?;
    let count = partitions.len();
    if let Some(partition) = partition {
        partitions.retain(|bounds| bounds.partition == partition);
        if partitions.is_empty() {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            let topic = topic.clone();
            return Err(FetchError::UnknownPartition {
                topic,
                partition,
                count,
            }
            .into());
        }
    } else if count > limits::FETCH_PARTITIONS_MAX {
        let most = limits::FETCH_PARTITIONS_MAX;
        let detail = format!("{topic} has {count} partitions, more than {most}; name a partition");
        return Err(Problem::query(detail));
    }
    Ok(partitions)
}

/// All partitions of a topic. A broker finds one topic without listing them all.
async fn all_bounds(
    app: &App,
    topic: &TopicName,
) -> Result<Option<Vec<PartitionBounds>>, FetchError> {
    let Some(broker) = &app.broker else {
        let mut topics = app.bus.topics().await?.into_iter();
        let found = topics.find(|bounds| bounds.topic == *topic);
        return Ok(found.map(|bounds| bounds.partitions));
    };
    if broker.is_queue(topic) {
        return Err(FetchError::IsQueue(topic.clone()));
    }
    let bounds = |partition: PartitionInfo| PartitionBounds {
        partition: partition.partition,
        earliest: partition.earliest,
        end: partition.end,
    };
    let found = broker.topic(topic);
    Ok(found.map(|info| info.partitions.into_iter().map(bounds).collect()))
}

/// A fetch under way.
struct Reading {
    topic: TopicName,
    next: BTreeMap<Partition, Offset>,
    page: Vec<(Partition, Offset, Arc<Event>)>,
    bytes: usize,
    /// The memory of the page and of its text.
    share: Share,
}

/// What events need of memory, as events and as text.
fn cost(fetched: &Fetched) -> usize {
    let events = fetched.events.iter();
    events.map(|(_, event)| cost_of(event)).sum()
}

fn cost_of(event: &Event) -> usize {
    ANSWER_COST * event.size_bytes() + limits::ANSWER_EVENT_BYTES
}

/// Leaves out what needs more than this memory, but for the first event.
fn cut(fetched: &mut Fetched, most: usize) {
    let mut needs = 0;
    let fits = |(_, event): &&(Offset, Arc<Event>)| {
        needs += cost_of(event);
        needs <= most
    };
    let count = fetched.events.iter().take_while(fits).count().max(1);
    if let Some((next, _)) = fetched.events.get(count) {
        fetched.next = *next;
        fetched.events.truncate(count);
    }
}

impl Reading {
    fn begin(
        topic: TopicName,
        from: &From,
        bounds: &[PartitionBounds],
        share: Share,
    ) -> Result<Self, Problem> {
        if let From::Each(each) = from {
            let known = |partition| bounds.iter().any(|b| b.partition == partition);
            if let Some(partition) = each.keys().find(|partition| !known(**partition)) {
                let detail = format!("offset names partition {partition}, which is not read here");
                return Err(Problem::query(detail));
            }
        }
        let next = bounds.iter().map(|b| (b.partition, from.in_partition(b)));
        Ok(Self {
            topic,
            next: next.collect(),
            page: Vec::new(),
            bytes: 0,
            share,
        })
    }

    fn fetch_of(&self, partition: Partition, offset: Offset, wait: Duration) -> Fetch {
        Fetch {
            topic: self.topic.clone(),
            partition,
            offset,
            max_events: limits::FETCH_EVENTS_DEFAULT,
            max_bytes: limits::FETCH_MAX_BYTES,
            wait,
        }
    }

    fn take(&mut self, partition: Partition, fetched: Fetched) {
        self.next.insert(partition, fetched.next);
        for (offset, event) in fetched.events {
            self.bytes += event.size_bytes();
            self.page.push((partition, offset, event));
        }
    }

    /// Fetches within the memory that is free: less where that is little. Waits for some where the
    /// page is empty; `None` where it is not, and there is none, or there is damage.
    async fn fetch_within(
        &mut self,
        app: &App,
        mut fetch: Fetch,
    ) -> Result<Option<Fetched>, Problem> {
        let until = Instant::now() + limits::MEMORY_WAIT;
        let most = fetch.max_bytes;
        let mut least = ANSWER_COST * limits::FETCH_LEAST_BYTES.min(most);
        loop {
            // A part of what is free, so that others find some.
            let free = app.memory.free(Class::Answers) / limits::ANSWER_PART;
            let taken = free.clamp(least, least.max(ANSWER_COST * most));
            if self.share.grow(taken) {
                fetch.max_bytes = (taken / ANSWER_COST).min(most).max(1);
                let mut fetched = match app.bus.fetch(fetch.clone()).await {
                    Ok(fetched) => fetched,
                    // It is met again, once what was read is given out.
                    Err(FetchError::Damaged { .. }) if !self.page.is_empty() => return Ok(None),
                    Err(error) => {
                        return Err(Problem::fetch(&self.topic, fetch.partition, error));
                    }
                };
                cut(&mut fetched, taken);
                let needs = cost(&fetched);
                if needs <= taken {
                    self.share.shrink(taken - needs);
                    return Ok(Some(fetched));
                }
                if self.share.grow(needs - taken) {
                    return Ok(Some(fetched));
                }
                // An event that is larger: read again when there is memory for it.
                self.share.shrink(taken);
                least = needs;
                if least > app.memory.max(Class::Answers) && app.memory.over() == 0 {
                    self.share.grow_anyway(least);
                    return Ok(Some(fetched));
                }
            }
            if !self.page.is_empty() {
                return Ok(None);
            }
            memory::wait(until).await?;
        }
    }

    /// Reads what is there, without waiting: first from each partition its share, so that a busy
    /// one does not keep the others out, then what is still wanted from any.
    async fn read(&mut self, app: &App, max: usize) -> Result<(), Problem> {
        for shared in [true, false] {
            let mut waiting = self.next.len();
            for (partition, offset) in self.next.clone() {
                let parts = if shared { waiting } else { 1 };
                waiting -= 1;
                let events = max.saturating_sub(self.page.len());
                let bytes = limits::FETCH_MAX_BYTES.saturating_sub(self.bytes);
                if events == 0 || (bytes == 0 && !self.page.is_empty()) {
                    return Ok(());
                }
                let mut fetch = self.fetch_of(partition, offset, Duration::ZERO);
                fetch.max_events = events.div_ceil(parts);
                fetch.max_bytes = bytes.div_ceil(parts).max(1);
                let Some(fetched) = self.fetch_within(app, fetch).await? else {
                    return Ok(());
                };
                self.take(partition, fetched);
            }
            if self.next.len() == 1 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits until one of the partitions has an event, or the time is over.
    async fn wait(&mut self, app: &App, max: usize, wait: Duration) -> Result<(), Problem> {
        let mut waits: FuturesUnordered<_> = self
            .next
            .iter()
            .map(|(partition, offset)| {
                let mut fetch = self.fetch_of(*partition, *offset, wait);
                fetch.max_events = max;
                fetch.max_bytes = limits::FETCH_WAIT_BYTES;
                let partition = *partition;
                async move { (partition, app.bus.fetch(fetch).await) }
            })
            .collect();
        while let Some((partition, fetched)) = waits.next().await {
            let fetched = fetched.map_err(|error| Problem::fetch(&self.topic, partition, error))?;
            if !fetched.events.is_empty() {
                drop(waits);
                if self.share.grow(cost(&fetched)) {
                    self.take(partition, fetched);
                    return Ok(());
                }
                drop(fetched);
                return self.read(app, max).await;
            }
        }
        Ok(())
    }

    /// `{"events":[{"partition","offset","event"}],"next":{"0":17}}`
    fn into_json(mut self) -> (Vec<u8>, Share) {
        let mut out = Vec::with_capacity(self.bytes + 64);
        out.extend_from_slice(b"{\"events\":[");
        for (n, (partition, offset, event)) in self.page.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let head = format!("{comma}{{\"partition\":{partition},\"offset\":{offset},\"event\":");
            out.extend_from_slice(head.as_bytes());
            json::encode(event, &mut out);
            out.push(b'}');
        }
        out.extend_from_slice(b"],\"next\":{");
        for (n, (partition, offset)) in self.next.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            out.extend_from_slice(format!("{comma}\"{partition}\":{offset}").as_bytes());
        }
        out.extend_from_slice(b"}}");
        drop(self.page);
        let (before, after) = (self.share.bytes(), out.capacity());
        self.share.shrink(before.saturating_sub(after));
        // Texts with much to be escaped may be longer than was thought; no events need none.
        if before > 0 {
            self.share.grow_anyway(after.saturating_sub(before));
        }
        (out, self.share)
    }
}
