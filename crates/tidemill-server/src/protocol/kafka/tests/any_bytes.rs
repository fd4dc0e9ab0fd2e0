//! Whatever clients send: requests of every key and version that are well formed and mean little,
//! real ones that produce, fetch in sessions, join groups and do transactions, and both of them
//! broken, against the code of a connection over a broker in memory. The door goes on, and nothing
//! of them stays.
//!
//! The same seed does the same, but for the moments at which what is under way together ends. For a
//! few seconds; `TIDEMILL_ANY_BYTES_SECONDS` says for how long otherwise.

use kafka_protocol::messages::ApiKey;

use super::super::fuzzing::emptied;
use super::super::registry::{APIS, Entry};
use super::every_key::{fetch, produce};
use super::*;

const MEMORY: usize = 64 << 20;

/// What a connection sends at most.
const REQUESTS: u64 = 40;

/// A generator of numbers (xorshift64*, Vigna, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Bytes of which many are small: numbers of partitions, epochs and bounds that mean something.
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let byte = |random: &mut Self| match random.below(4) {
            0 | 1 => 0,
            2 => random.below(4) as u8,
            _ => random.next() as u8,
        };
        (0..count).map(|_| byte(self)).collect()
    }
}

fn head(key: i16, version: i16, flexible: bool, random: &mut Random) -> Vec<u8> {
    let mut head = Vec::new();
    head.put_i16(key);
    head.put_i16(version);
    head.put_i32(random.next() as i32);
    match random.below(3) {
        0 => head.put_i16(-1),
        _ => {
            head.put_i16(1);
            head.put_u8(b'a' + random.below(2) as u8);
        }
    }
    if flexible {
        head.put_u8(0);
    }
    head
}

/// A request of some key that is well formed.
fn example(random: &mut Random) -> Vec<u8> {
    let entry: &Entry = &APIS[random.below(APIS.len())];
    let [low, high] = entry.advertised;
    let version = low + random.below((high - low + 1) as usize) as i16;
    let seed = random.bytes(97);
    let mut request = head(
        entry.key as i16,
        version,
        entry.key.request_header_version(version) == 2,
        random,
    );
    request.extend(entry.example(version, &seed));
    request
}

/// A request in a version without compact lengths.
fn plain(key: ApiKey, version: i16, body: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut request = head(key as i16, version, false, random);
    request.extend(body.concat());
    request
}

/// A text, or null.
fn text(text: &str) -> Vec<u8> {
    let length = i16::try_from(text.len()).unwrap();
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

fn number(number: usize) -> [u8; 4] {
    i32::try_from(number).unwrap().to_be_bytes()
}

/// A request that a client would make, of those that go on with what was before.
fn meant(random: &mut Random, who: ProducerIdentity) -> Vec<u8> {
    let none = &(-1_i16).to_be_bytes()[..];
    let one = &number(1)[..];
    let (part, small) = (number(random.below(3)), number(random.below(5)));
    let epoch = (random.below(3) as i16).to_be_bytes();
    let name = text("a");
    let tx = text("t");
    let id = who.id.0.to_be_bytes();
    match random.below(8) {
        0 | 1 => {
            let transactional = random.below(3) == 0;
            let batch = match transactional {
                true => part_of(who, random),
                false => builder(1, b"x").finish().unwrap().as_bytes().clone(),
            };
            let whose = if transactional { &tx[..] } else { none };
            let acks = (random.below(3) as i16 - 1).to_be_bytes();
            let size = number(batch.len());
            let body = [
                whose,
                &acks,
                &number(1_000),
                one,
                &name,
                one,
                &part,
                &size,
                &batch,
            ];
            plain(ApiKey::Produce, 3, &body, random)
        }
        2 | 3 => {
            let session = number(random.below(3));
            let epoch = (random.below(4) as i32 - 1).to_be_bytes();
            let head = [&[0xff; 4][..], &number(100), &small, &number(9_999), &[0]];
            let offset = [&[0; 4][..], &small].concat();
            let wanted = [&part[..], &offset, &[0; 8], &number(1_000)].concat();
            let topics = [one, &name, one, &wanted, &number(0)].concat();
            let body = [&head.concat()[..], &session, &epoch, &topics];
            plain(ApiKey::Fetch, 7, &body, random)
        }
        4 => {
            let offset = [&[0; 4][..], &small].concat();
            let group = [&text("g")[..], &[0xff; 4], &text(""), &[0xff; 8]].concat();
            let body = [&group[..], one, &name, one, &part, &offset, none];
            plain(ApiKey::OffsetCommit, 2, &body, random)
        }
        5 => {
            let times = [number(6_000), number(100)].concat();
            let protocol = [&text("range")[..], &number(0)].concat();
            let member = [&text("")[..], &text("consumer")].concat();
            let body = [&text("g")[..], &times, &member, one, &protocol];
            plain(ApiKey::JoinGroup, 1, &body, random)
        }
        6 => plain(ApiKey::InitProducerId, 0, &[&tx, &number(1_000)], random),
        _ if random.below(2) == 0 => {
            let body = [&tx[..], &id, &epoch, one, &name, one, &part];
            plain(ApiKey::AddPartitionsToTxn, 0, &body, random)
        }
        _ => {
            let commits = [random.below(2) as u8];
            plain(ApiKey::EndTxn, 0, &[&tx, &id, &epoch, &commits], random)
        }
    }
}

/// A batch of the transactional producer, in one of its epochs.
fn part_of(who: ProducerIdentity, random: &mut Random) -> Bytes {
    let batch = builder(1, b"y").transactional().producer(Header {
        id: who.id.0,
        epoch: random.below(3) as i16,
        base_sequence: random.below(3) as i32,
    });
    batch.finish().unwrap().as_bytes().clone()
}

/// Breaks a request somewhere.
fn broken(mut request: Vec<u8>, random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => request.truncate(random.below(request.len() + 1)),
        1 => {
            let more = random.below(40);
            request.extend(random.bytes(more));
        }
        _ => {
            for _ in 0..=random.below(4) {
                // The head stays, mostly: what is no request ends its connection at once.
                let from = if random.below(8) == 0 { 0 } else { 8 };
                if request.len() > from {
                    let at = from + random.below(request.len() - from);
                    request[at] = random.next() as u8;
                }
            }
        }
    }
    request
}

/// A topic `a` and a transactional producer `t`, whatever became of them.
async fn anew(broker: &Broker) -> ProducerIdentity {
    emptied(broker).await;
    let init = InitTransactional {
        id: TransactionalId::new("t").unwrap(),
        timeout: Duration::from_secs(60),
        expected: None,
    };
    broker.init_transactional(init).await.unwrap()
}

/// Sends a client's requests, reads whatever is answered, and goes.
async fn client(door: Arc<Door>, requests: Vec<Vec<u8>>) {
    let (client, running) = connect(&door);
    let (mut from, mut to) = split(client);
    let reading = tokio::spawn(async move {
        let mut rest = vec![0; 1 << 16];
        while from.read(&mut rest).await.is_ok_and(|bytes| bytes > 0) {}
    });
    for request in requests {
        let length = u32::try_from(request.len()).unwrap().to_be_bytes();
        // Whoever sent what is no request is not listened to any more.
        if to.write_all(&length).await.is_err() || to.write_all(&request).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
    // By a clock that does not go by itself.
    let begun = std::time::Instant::now();
    let mut running = running;
    let said = loop {
        tokio::select! {
            said = &mut running => break said,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "a connection hangs"
        );
    };
    drop(said.expect("without a panic"));
    drop(to);
    reading.await.unwrap();
}

/// That the door does what it is there for.
async fn goes_on(door: &Arc<Door>) {
    let said = Produce::answer(call(door, 9), produce(None)).await;
    assert_eq!(said.responses[0].partition_responses[0].error_code, 0);
    let said = Fetch::answer(call(door, 12), fetch(None)).await;
    assert_eq!(said.topics[0].partitions[0].error, 0);
    let all = MetadataRequest::default().with_topics(None);
    assert!(
        !Metadata::answer(call(door, 12), all)
            .await
            .response
            .topics
            .is_empty()
    );
}

/// Nothing is held for anybody but sessions of fetches, within their bound.
fn holds_nothing(door: &Door) {
    let memory = &door.memory;
    assert!(memory.total() <= memory.limit());
    assert_eq!((memory.used(Class::Answers), memory.over()), (0, 0));
    let sessions = door.fetch_sessions(|all| all.partitions());
    let most = door.memory.max(Class::Requests) / 2;
    let requests = memory.used(Class::Requests);
    assert!(
        requests <= most && (sessions > 0 || requests == 0),
        "{requests}"
    );
}

/// Time goes by itself where nothing else does: nobody waits for members and records.
#[tokio::test(start_paused = true)]
async fn whatever_clients_send_the_door_goes_on_and_holds_nothing() {
    let seconds = std::env::var("TIDEMILL_ANY_BYTES_SECONDS").ok();
    let seconds = seconds.map_or(3, |seconds| seconds.parse().expect("a number of seconds"));
    let seed = std::env::var("TIDEMILL_ANY_BYTES_SEED").ok();
    let mut seed = seed.map_or(1, |seed| seed.parse::<u64>().expect("a number above 0"));
    let begun = std::time::Instant::now();
    let (door, _close) = door(broker(2, MEMORY).await);
    let broker = door.broker.clone();
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(seconds) || sent <= 100 {
        println!("seed {seed}");
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let who = anew(&broker).await;
        let clients = (0..3).map(|_| {
            let count = 1 + random.next() % REQUESTS;
            let requests = (0..count).map(|_| {
                let request = match random.below(5) {
                    0..=1 => example(&mut random),
                    _ => meant(&mut random, who),
                };
                match random.one_of(&[0, 0, 0, 1]) {
                    1 => broken(request, &mut random),
                    _ => request,
                }
            });
            let requests: Vec<_> = requests.collect();
            sent += requests.len();
            tokio::spawn(client(Arc::clone(&door), requests))
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        anew(&broker).await;
        goes_on(&door).await;
        holds_nothing(&door);
        seed += 1;
    }
    broker.close().await;
}
