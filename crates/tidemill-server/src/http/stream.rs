//! `GET /v1/topics/{topic}/stream`: server-sent events (WHATWG HTML, section 9.2), from a position
//! on and then live. `Last-Event-ID` is where to read on in each partition.
//!
//! The connection asks for the next piece when it has sent the one before, so a client that reads
//! slowly holds one piece, and nobody else waits for it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use tidemill_core::budget::{Class, Share};
use tidemill_core::error::Unavailable;
use tidemill_core::{
    Event, Fetch, FetchError, Fetched, Offset, Partition, PartitionBounds, Pattern, TopicName, json,
};

use super::fetch::{From, bounds_of, since_in_each};
use super::openapi::types::AnyText;
use super::openapi::{Operation, Parameter};
use super::path::Named;
use super::problem::{Kind, Problem};
use super::query::Query;
use crate::app::App;
use crate::limits;
use crate::metrics::Counted;

/// What keeps a connection alive while others have the memory that its reads need.
const SHORT: &[u8] = b": no memory for events now, going on\n\n";

/// Whether there was no memory for a read.
fn is_short(fetched: &Result<Fetched, FetchError>) -> bool {
    let overloaded = FetchError::Unavailable(Unavailable::Overloaded);
    fetched.as_ref().err() == Some(&overloaded)
}

const LAST_EVENT_ID: &str = "last-event-id";

const QUERY: &[Parameter] = &[
    Parameter::number("partition", "Reads only this one", (0, u32::MAX as u64)),
    Parameter::text(
        "from",
        "`end` (where nothing is said), `beginning`, an offset, or pairs such as `0:17,1:4`",
    ),
    Parameter::text("since", "In place of `from`, a time (RFC 3339)"),
    Parameter::text(
        "type",
        "Only events whose type fits this pattern, such as `order_*`",
    ),
];

/// What is said of `GET /v1/topics/{topic}/stream`.
pub(super) fn operation() -> Operation {
    const HEADERS: &[Parameter] = &[Parameter::text(
        LAST_EVENT_ID,
        "Where to read on, as the stream gave it; counts more than `from` and `since`",
    )];
    Operation::new("stream_events", "Follows events, as server-sent events")
        .described("`data` is an event in its JSON form, `id` where to read on.")
        .query(QUERY)
        .headers(HEADERS)
        .answers_as::<AnyText>(200, "text/event-stream", "Events, without an end")
        .problems(&[
            Kind::InvalidQuery,
            Kind::InvalidName,
            Kind::UnknownTopic,
            Kind::UnknownPartition,
            Kind::OffsetOutOfRange,
        ])
}

/// Begins to stream.
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    Named(topic): Named,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let topic = TopicName::new(topic)?;
    let query = Query::parse(query.as_deref(), &["partition", "from", "since", "type"])?;
    let partition = query.number("partition", 0..=u32::MAX)?.map(Partition);
    let types = query.text("type").map(Pattern::new).transpose();
    let types = types.map_err(|error| Problem::query(format!("type: {error}")))?;
    let from = begin(&query, &headers)?;
    let bounds = bounds_of(&app, &topic, partition).await?;
    within_bound(&topic, &bounds)?;
    let from = match from {
        From::Since(since) => since_in_each(&app, &topic, &bounds, since).await?,
        from => from,
    };
    let next = positions(&topic, &from, &bounds)?;
    let known = partition.is_none().then_some(bounds.len());
    let share = app.memory.empty(Class::Answers);
    let streaming = Streaming {
        _counted: Counted::one(&app.metrics.streams),
        app,
        topic,
        types,
        next,
        known,
        share,
        turn: 0,
        state: Progress::Begun,
    };
    let pieces = stream::unfold(streaming, |mut streaming| async move {
        let piece = streaming.piece().await?;
        Some((Ok::<Bytes, Infallible>(piece.into()), streaming))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn within_bound(topic: &TopicName, bounds: &[PartitionBounds]) -> Result<(), Problem> {
    let (count, most) = (bounds.len(), limits::STREAM_PARTITIONS_MAX);
    if count > most {
        let detail = format!("{topic} has {count} partitions, more than {most}; name a partition");
        return Err(Problem::query(detail));
    }
    Ok(())
}

/// Where to begin. What a browser sends when it comes back counts more than its address.
fn begin(query: &Query, headers: &HeaderMap) -> Result<From, Problem> {
    let last = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty());
    let Some(last) = last else {
        let from = match (query.text("from"), query.text("since")) {
            (None, None) => Some("end"),
            (from, _) => from,
        };
        return From::parse(from, query.text("since"), "from");
    };
    let pairs = last.to_str().ok().filter(|text| text.contains(':'));
    let parsed = pairs.map(|text| From::parse(Some(text), None, "Last-Event-ID"));
    parsed.unwrap_or_else(|| {
        let detail = "Last-Event-ID is what a stream gave: partition:offset pairs such as 0:17,1:4";
        Err(Problem::query(detail))
    })
}

/// The first offset of each partition, which must be there.
fn positions(
    topic: &TopicName,
    from: &From,
    bounds: &[PartitionBounds],
) -> Result<BTreeMap<Partition, Offset>, Problem> {
    if let From::Each(each) = from {
        let known = |partition| bounds.iter().any(|b| b.partition == partition);
        if let Some(partition) = each.keys().find(|partition| !known(**partition)) {
            let detail = format!("partition {partition} is named, which is not read here");
            return Err(Problem::query(detail));
        }
    }
    let mut next = BTreeMap::new();
    for bounds in bounds {
        let PartitionBounds {
            partition,
            earliest,
            end,
        } = *bounds;
        let offset = from.in_partition(bounds);
        if offset < earliest || offset > end {
            let error = FetchError::OutOfRange {
                offset,
                earliest,
                end,
            };
            return Err(Problem::fetch(topic, partition, error));
        }
        next.insert(partition, offset);
    }
    Ok(next)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing was said yet.
    Begun,
    Running,
    /// The last piece was given.
    Ended,
}

/// A stream under way.
struct Streaming {
    app: Arc<App>,
    topic: TopicName,
    types: Option<Pattern>,
    next: BTreeMap<Partition, Offset>,
    /// How many partitions the topic has, where all are read.
    known: Option<usize>,
    /// The memory of the piece that was given last.
    share: Share,
    /// Which partition is read first, so that a busy one does not keep the others out.
    turn: usize,
    state: Progress,
    _counted: Counted,
}

impl Streaming {
    /// The next piece of the text; `None` at the end.
    async fn piece(&mut self) -> Option<Vec<u8>> {
        match self.state {
            Progress::Begun => {
                self.state = Progress::Running;
                // The client knows its place even if nothing ever comes.
                let retry = limits::STREAM_RETRY_MS;
                return Some(format!("retry: {retry}\nid: {}\n\n", self.id()).into_bytes());
            }
            Progress::Ended => return None,
            Progress::Running => {}
        }
        let app = Arc::clone(&self.app);
        let piece = tokio::select! {
            biased;
            () = app.closed() => Ok(self.end(": the server is closing".to_owned())),
            piece = self.read() => piece,
        };
        Some(piece.unwrap_or_else(|problem| {
            let data = problem.document();
            self.end(format!("event: error\ndata: {data}"))
        }))
    }

    fn end(&mut self, text: String) -> Vec<u8> {
        self.state = Progress::Ended;
        format!("{text}\nretry: {}\n\n", limits::STREAM_RETRY_MS).into_bytes()
    }

    /// What there is, or what comes; where nothing does, the place, which keeps the connection
    /// alive.
    async fn read(&mut self) -> Result<Vec<u8>, Problem> {
        self.share.shrink(self.share.bytes());
        self.look_for_more().await?;
        let partitions: Vec<_> = self.next.keys().copied().collect();
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % partitions.len().max(1);
        let (before, from) = partitions.split_at(first.min(partitions.len()));
        for partition in from.iter().chain(before) {
            let offset = self.next.get(partition).copied().unwrap_or_default();
            self.room(limits::STREAM_PIECE_BYTES).await;
            let fetched = self
                .app
                .bus
                .fetch(self.fetch_of(*partition, offset, false))
                .await;
            if is_short(&fetched) {
                return Ok(SHORT.to_vec());
            }
            let fetched = fetched.map_err(|error| self.problem(*partition, error))?;
            if fetched.next > offset {
                return Ok(self.text(*partition, fetched));
            }
            self.share.shrink(self.share.bytes());
        }
        self.wait().await
    }

    /// Reads the partitions that the topic has got since, too, each from its beginning.
    async fn look_for_more(&mut self) -> Result<(), Problem> {
        let counted = self.app.broker.as_ref();
        let counted = counted.and_then(|broker| broker.partition_count(&self.topic));
        let Some((count, known)) = counted.zip(self.known) else {
            return Ok(());
        };
        if count as usize <= known {
            return Ok(());
        }
        let bounds = bounds_of(&self.app, &self.topic, None).await?;
        within_bound(&self.topic, &bounds)?;
        self.known = Some(bounds.len());
        for bounds in bounds {
            self.next.entry(bounds.partition).or_insert(bounds.earliest);
        }
        Ok(())
    }

    /// Waits until a partition has something, no longer than a connection may be silent.
    async fn wait(&mut self) -> Result<Vec<u8>, Problem> {
        let mut waits: FuturesUnordered<_> = self
            .next
            .iter()
            .map(|(partition, offset)| {
                let fetch = self.fetch_of(*partition, *offset, true);
                let (bus, partition) = (&self.app.bus, *partition);
                async move { (partition, bus.fetch(fetch).await) }
            })
            .collect();
        while let Some((partition, fetched)) = waits.next().await {
            if is_short(&fetched) {
                return Ok(SHORT.to_vec());
            }
            let fetched = fetched.map_err(|error| self.problem(partition, error))?;
            if !fetched.events.is_empty() {
                drop(waits);
                // What came is in memory now, and small but for one event.
                self.share.grow_anyway(cost(&fetched));
                return Ok(self.text(partition, fetched));
            }
        }
        drop(waits);
        Ok(format!(": nothing new\nid: {}\n\n", self.id()).into_bytes())
    }

    /// Waits for the memory of a piece.
    async fn room(&mut self, bytes: usize) {
        let bytes = bytes * limits::ANSWER_COST;
        while !self.share.grow(bytes) {
            tokio::time::sleep(limits::MEMORY_LOOK_EVERY).await;
        }
    }

    fn fetch_of(&self, partition: Partition, offset: Offset, wait: bool) -> Fetch {
        Fetch {
            topic: self.topic.clone(),
            partition,
            offset,
            max_events: limits::FETCH_EVENTS_MAX,
            max_bytes: limits::STREAM_PIECE_BYTES,
            wait: if wait {
                limits::STREAM_SILENCE
            } else {
                std::time::Duration::ZERO
            },
        }
    }

    fn problem(&self, partition: Partition, error: FetchError) -> Problem {
        Problem::fetch(&self.topic, partition, error)
    }

    /// The events as text, each with the place behind it. What its memory is counted for from then
    /// on is the text.
    fn text(&mut self, partition: Partition, fetched: Fetched) -> Vec<u8> {
        let out = write(&mut self.next, self.types.as_ref(), partition, &fetched);
        drop(fetched);
        let have = self.share.bytes();
        self.share.shrink(have.saturating_sub(out.capacity()));
        self.share.grow_anyway(out.capacity().saturating_sub(have));
        out
    }

    fn id(&self) -> String {
        id(&self.next)
    }
}

/// The events as text, as far as [`limits::STREAM_TEXT_BYTES`] go: the places of many partitions
/// are longer than small events. `next` is then where to read on.
fn write(
    next: &mut BTreeMap<Partition, Offset>,
    types: Option<&Pattern>,
    partition: Partition,
    fetched: &Fetched,
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut text = Vec::new();
    for (offset, event) in &fetched.events {
        if out.len() >= limits::STREAM_TEXT_BYTES {
            return out;
        }
        next.insert(partition, offset.next());
        if types.is_some_and(|types| !types.matches(event.ty().as_str())) {
            continue;
        }
        text.clear();
        json::encode(event, &mut text);
        put(&mut out, &id(next), &text);
    }
    next.insert(partition, fetched.next);
    if out.is_empty() {
        // All were of other types: the place alone.
        out = format!("id: {}\n\n", id(next)).into_bytes();
    }
    out
}

/// Where to read on: `0:17,1:4`.
fn id(next: &BTreeMap<Partition, Offset>) -> String {
    let pairs = next
        .iter()
        .map(|(partition, offset)| format!("{partition}:{offset}"));
    pairs.collect::<Vec<_>>().join(",")
}

fn cost(fetched: &Fetched) -> usize {
    let of =
        |event: &Arc<Event>| limits::ANSWER_COST * event.size_bytes() + limits::ANSWER_EVENT_BYTES;
    fetched.events.iter().map(|(_, event)| of(event)).sum()
}

/// One event. A JSON text may have ends of lines between its parts; each begins another `data`.
fn put(out: &mut Vec<u8>, id: &str, text: &[u8]) {
    out.extend_from_slice(b"id: ");
    out.extend_from_slice(id.as_bytes());
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"\ndata: ");
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use tidemill_core::{EventId, EventType, Source};

    use super::*;

    fn fetched(count: u64) -> Fetched {
        let event = |n: u64| {
            let id = EventId::new(n.to_string()).unwrap();
            let (source, ty) = (Source::new("/t").unwrap(), EventType::new("t").unwrap());
            let event = Event::builder(id, source, ty).build().unwrap();
            (Offset(n), Arc::new(event))
        };
        Fetched {
            events: (0..count).map(event).collect(),
            next: Offset(count),
            end: Offset(count),
        }
    }

    #[test]
    fn a_piece_is_bounded_also_where_the_places_are_longer_than_the_events() {
        let mut next: BTreeMap<_, _> = (0..256)
            .map(|n| (Partition(n), Offset(1_000_000_000 + u64::from(n))))
            .collect();
        next.insert(Partition(7), Offset(0));
        let place = id(&next).len();
        assert!(place > 3_000);
        let all = fetched(600);
        let mut written = 0;
        while next[&Partition(7)] < Offset(600) {
            let from = next[&Partition(7)].0;
            let rest = Fetched {
                events: all.events[usize::try_from(from).unwrap()..].to_vec(),
                ..all.clone()
            };
            let text = write(&mut next, None, Partition(7), &rest);
            assert!(text.len() < limits::STREAM_TEXT_BYTES + place + 1_000);
            let text = String::from_utf8(text).unwrap();
            written += text.matches("\ndata: ").count();
            assert!(text.contains(&format!("7:{},8:", next[&Partition(7)])));
        }
        assert_eq!(written, 600, "each once");
    }

    #[test]
    fn lines_of_a_text_are_lines_of_data() {
        let mut out = Vec::new();
        put(&mut out, "0:1", b"{\"a\":\r\n1}");
        assert_eq!(out, b"id: 0:1\ndata: {\"a\":\ndata: \ndata: 1}\n\n");
    }
}
