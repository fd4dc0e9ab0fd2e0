//! What a fuzzer calls: its bytes become the requests of a client, and go the way that a client's
//! do, to a broker in memory. Only with the feature `fuzzing`, and in tests.
//!
//! This room may not know what a request means: whatever it is, nothing here may panic, hang, or
//! hold memory when the client is gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut;
use tidemill_broker::{Broker, CreateTopic};
use tidemill_core::TopicName;
use tidemill_core::budget::Class;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Door;
use super::connection::{self, Ends};
use super::registry::{APIS, Entry};
use super::sasl::Session;
use crate::config::KafkaConfig;
use crate::metrics::Metrics;

/// Memory and disk of the broker.
const BYTES: usize = 64 << 20;

/// What one client sends at most.
const REQUESTS: usize = 16;

/// What is between client and door.
const PIPE_BYTES: usize = 1 << 16;

const HERE: ([u8; 4], u16) = ([127, 0, 0, 1], 9092);

/// A door over a broker of its own, on a clock that goes by itself where nothing else does.
struct Trial {
    runtime: Runtime,
    door: Arc<Door>,
    _close: watch::Sender<bool>,
}

thread_local! {
    static TRIAL: Trial = Trial::new();
}

/// Sends what the bytes make of the requests of one client, and looks at what is held when it is
/// gone. Each has four bytes: which key, which version, how it is meant, and how many bytes follow
/// for it; these choose the fields of a request that is well formed, overwrite some of its bytes,
/// are its body, or are all of it.
///
/// # Panics
/// The door does, or holds memory for a client that is gone: that is what a fuzzer looks for.
pub(crate) fn requests(bytes: &[u8]) {
    TRIAL.with(|trial| trial.runtime.block_on(trial.run(bytes)));
}

impl Trial {
    fn new() -> Self {
        let builder = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        let runtime = builder.expect("a runtime");
        let (close, closing) = watch::channel(false);
        let door = runtime.block_on(async {
            let broker = Broker::builder().in_memory(BYTES as u64).memory(BYTES);
            let broker = broker.open().await.expect("a broker in memory");
            let pullers = Arc::new(crate::http::pull::Pullers::new(broker.bus()));
            let metrics = Arc::new(Metrics::new());
            Door::new(broker, KafkaConfig::default(), metrics, pullers, closing)
        });
        Self {
            runtime,
            door: Arc::new(door),
            _close: close,
        }
    }

    async fn run(&self, bytes: &[u8]) {
        emptied(&self.door.broker).await;
        self.client(sent(bytes)).await;
        let memory = &self.door.memory;
        assert!(
            memory.total() <= memory.limit(),
            "more memory than there is"
        );
        assert_eq!(memory.used(Class::Answers), 0, "answers to nobody");
    }

    /// Sends all, reads whatever is answered, and goes.
    async fn client(&self, requests: Vec<Vec<u8>>) {
        let (client, mut server) = duplex(PIPE_BYTES);
        let door = Arc::clone(&self.door);
        let here = SocketAddr::from(HERE);
        let ends = Ends {
            peer: here,
            local: here,
        };
        let session = Arc::new(Session::new(&door, ends, false, None));
        let login_until = Instant::now() + Duration::from_secs(60);
        let broker = door.broker.clone();
        let serving = async move {
            let _ = connection::run(&mut server, door, broker, session, login_until).await;
            drop(server);
        };
        let (mut from, mut to) = split(client);
        let sending = async move {
            for request in requests {
                // Whoever sent what is no request is not listened to any more.
                if to.write_all(&request).await.is_err() {
                    break;
                }
            }
            let _ = to.shutdown().await;
        };
        let reading = async move {
            let mut rest = vec![0; PIPE_BYTES];
            while from.read(&mut rest).await.is_ok_and(|bytes| bytes > 0) {}
        };
        tokio::join!(serving, sending, reading);
    }
}

/// Leaves a topic `a` of two partitions in a broker, and else what cannot be deleted.
pub(super) async fn emptied(broker: &Broker) {
    for topic in broker.topics() {
        // One of a queue's stays.
        let _ = broker.delete_topic(&topic.name).await;
    }
    for group in broker.classic_groups().names() {
        // One that says which dead letters are done with stays.
        let _ = broker.delete_group(&group).await;
    }
    let how = CreateTopic {
        partitions: 2,
        ..CreateTopic::default()
    };
    let name = TopicName::new("a").expect("a name");
    broker.create_topic(name, how).await.expect("a new topic");
}

/// The frames that bytes stand for.
fn sent(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let (true, Some((head, rest))) = (all.len() < REQUESTS, bytes.split_first_chunk::<4>()) {
        let [key, version, meant, count] = *head;
        let (own, rest) = rest.split_at(rest.len().min(count.into()));
        bytes = rest;
        all.push(frame(&request(key, version, meant, own)));
    }
    all
}

fn frame(request: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(4 + request.len());
    frame.put_u32(request.len() as u32);
    frame.extend(request);
    frame
}

fn request(key: u8, version: u8, meant: u8, own: &[u8]) -> Vec<u8> {
    let mut entries = APIS.iter().cycle();
    let entry: &Entry = entries.nth(key.into()).expect("there are keys");
    let [low, high] = entry.advertised;
    let version = low + i16::from(version) % (high - low + 1);
    let mut request = Vec::new();
    request.put_i16(entry.key as i16);
    request.put_i16(version);
    request.put_i32(7);
    request.put_i16(1);
    request.put_u8(b'f');
    if entry.key.request_header_version(version) == 2 {
        request.put_u8(0);
    }
    match meant % 4 {
        0 => request.extend(entry.example(version, own)),
        1 => {
            let (choices, changes) = own.split_at(own.len() / 2);
            request.extend(entry.example(version, choices));
            for [at, value] in changes.as_chunks().0 {
                let at = usize::from(*at) % request.len();
                request.splice(at..=at, [*value]);
            }
        }
        2 => request.extend(own),
        _ => request = own.to_vec(),
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_for_frames_of_their_lengths() {
        let bytes = [0, 0, 2, 3, b'x', b'y', b'z', 1, 0, 3, 9, b'r', b'a', b'w'];
        let all = sent(&bytes);
        assert_eq!(all.len(), 2);
        for frame in &all {
            let (length, request) = frame.split_first_chunk::<4>().unwrap();
            assert_eq!(u32::from_be_bytes(*length) as usize, request.len());
        }
        assert!(all[0].ends_with(b"xyz"));
        assert_eq!(all[1], [0, 0, 0, 3, b'r', b'a', b'w']);
        requests(&bytes);
    }
}
