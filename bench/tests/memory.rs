//! The memory budget against the heap itself: publishers, groups, slow consumers and clients that
//! do not read press a broker with little memory, and its heap stays within that and a slack.
//! Here, because a counting allocator cannot be written without `unsafe`.
#![allow(unsafe_code, clippy::unwrap_used, clippy::indexing_slicing)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidemill::broker::Broker;
use tidemill_core::error::Unavailable;
use tidemill_core::{
    Commit, Event, EventId, EventType, GroupName, Order, PublishError, Source, Start, Subscription,
    TopicName,
};
use tidemill_server::{Config, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn more(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: every method passes its arguments on to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may be there while it is copied.
        more(size);
        // SAFETY: the caller keeps the contract of `realloc`.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        moved
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const MIB: usize = 1024 * 1024;
const MEMORY: usize = 8 * MIB;

/// What is not counted: buffers of fixed sizes (a commit, a step of segments, sockets), threads,
/// the events that the publishers of this test hold while they are encoded, and its own lists.
const SLACK: usize = 6 * MIB;

const EVENT: usize = 200 * 1024;

fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

fn event(id: &str) -> Event {
    let (id, ty) = (EventId::new(id).unwrap(), EventType::new("made").unwrap());
    let builder = Event::builder(id, Source::new("/test").unwrap(), ty);
    builder.untyped_data(vec![b'x'; EVENT]).build().unwrap()
}

async fn publish(broker: Broker, ids: Vec<String>) {
    for id in ids {
        loop {
            match broker.bus().publish(topic(), vec![event(&id)]).await {
                Ok(_) => break,
                Err(PublishError::Unavailable(Unavailable::Overloaded)) => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

async fn consume(broker: Broker, name: String, all: BTreeSet<String>) {
    let subscription = Subscription {
        topics: vec![topic()],
        group: GroupName::new(name).unwrap(),
        order: Order::None,
        start: Start::Beginning,
    };
    let mut member = broker.bus().subscribe(subscription).await.unwrap();
    let mut seen = BTreeSet::new();
    let mut held = Vec::new();
    while seen != all {
        let pulled = tokio::time::timeout(Duration::from_millis(50), member.pull(4)).await;
        // Else others have the memory, until somebody settles.
        if let Ok(more) = pulled {
            held.extend(more.unwrap());
        }
        let keep = if held.len() > 3 { 2 } else { 0 };
        for (delivery, settlement) in held.drain(keep..) {
            seen.insert(delivery.event.id().to_string());
            settlement.settle(Commit::ack()).await.unwrap();
        }
    }
}

/// Asks for as much as there is and takes none of the answer for now.
async fn ask(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = "GET /v1/topics/t/events?max=10000 HTTP/1.1\r\nhost: localhost\r\n\
                connection: close\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_heap_stays_within_the_memory_and_a_slack() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Broker::builder().path(folder.path()).memory(MEMORY);
    let broker = builder.open().await.unwrap();
    publish(broker.clone(), vec!["first".to_owned()]).await;
    let config = Config::at("127.0.0.1:0".parse().unwrap());
    let server = Server::bind(broker.clone(), config).await.unwrap();
    let address = server.http_addr();
    let serving = tokio::spawn(server.run(std::future::pending()));
    let before = LIVE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);

    let ids = |publisher: usize| (0..40).map(move |n| format!("{publisher}-{n}"));
    let first = std::iter::once("first".to_owned());
    let all: BTreeSet<String> = (0..4).flat_map(ids).chain(first).collect();
    let mut tasks = JoinSet::new();
    for publisher in 0..4 {
        tasks.spawn(publish(broker.clone(), ids(publisher).collect()));
    }
    for number in 0..8 {
        tasks.spawn(consume(broker.clone(), number.to_string(), all.clone()));
    }
    let mut readers = Vec::new();
    for _ in 0..40 {
        readers.push(ask(address).await);
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let most = MOST.load(Ordering::Relaxed) - before;
    let memory = broker.memory();
    assert!(memory.total() <= memory.limit());
    assert_eq!(memory.over(), 0);
    println!("at most {most} bytes with a memory of {MEMORY}");
    assert!(most <= MEMORY + SLACK, "{most} bytes");
    assert!(most > MEMORY / 2, "there was no pressure: {most} bytes");
    // Who waited for an answer has got one, whole or to try again.
    for mut reader in readers {
        let mut answer = Vec::new();
        reader.read_to_end(&mut answer).await.unwrap();
        let status = answer.get(9..12).unwrap();
        assert!(status == b"200" || status == b"503");
    }
    serving.abort();
    broker.close().await;
}
