//! Logins byte by byte, also those that no client does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tidemill_broker::Broker;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;

use super::super::Door;
use super::super::connection::{self, Ends};
use super::super::error::Code;
use super::Session;
use crate::config::{KafkaConfig, SaslConfig};
use crate::limits::{KAFKA_LOGIN_DELAY, KAFKA_LOGIN_TIMEOUT};
use crate::metrics::Metrics;
use crate::users::Users;

const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const HANDSHAKE: i16 = 17;
const AUTHENTICATE: i16 = 36;
const DESCRIBE_ACLS: i16 = 29;

/// A door where alice has the password `one` and nobody else may come in.
struct House {
    door: Arc<Door>,
    _close: watch::Sender<bool>,
    folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (close, closing) = watch::channel(false);
        let broker = Broker::in_memory();
        let pullers = Arc::new(crate::http::pull::Pullers::new(broker.bus()));
        let config = KafkaConfig {
            sasl: Some(SaslConfig {
                users: folder.path().join("private"),
                cleartext: false,
            }),
            ..KafkaConfig::default()
        };
        let door = Door::new(broker, config, Arc::new(Metrics::new()), pullers, closing);
        let house = Self {
            door: Arc::new(door),
            _close: close,
            folder,
        };
        house.users().add("alice", "one").unwrap();
        house
    }

    fn users(&self) -> Users {
        Users::new(self.folder.path().join("private"))
    }

    fn knock(&self) -> Client {
        self.knock_from([127, 0, 0, 1])
    }

    fn knock_from(&self, peer: [u8; 4]) -> Client {
        let ends = Ends {
            peer: SocketAddr::from((peer, 5)),
            local: SocketAddr::from(([127, 0, 0, 1], 9092)),
        };
        let (client, mut server) = duplex(1 << 16);
        let session = Arc::new(Session::new(&self.door, ends, false, None));
        let (door, broker) = (Arc::clone(&self.door), self.door.broker.clone());
        tokio::spawn(async move {
            let until = tokio::time::Instant::now() + KAFKA_LOGIN_TIMEOUT;
            connection::run(&mut server, door, broker, session, until).await
        });
        Client(client)
    }
}

struct Client(DuplexStream);

fn text(text: &str) -> Vec<u8> {
    let mut bytes = i16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn token(token: &[u8]) -> Vec<u8> {
    let mut bytes = i32::try_from(token.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(token);
    bytes
}

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        // Who is shut out finds out when he reads.
        let _ = self.0.write_all(&token(bytes)).await;
    }

    /// What is answered; `None` where the connection is over.
    async fn read(&mut self) -> Option<Vec<u8>> {
        let size = self.0.read_i32().await.ok()?;
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        self.0.read_exact(&mut bytes).await.ok()?;
        Some(bytes)
    }

    /// The body of what is answered to a request of this version without tagged fields.
    async fn ask(&mut self, key: i16, version: i16, body: &[u8]) -> Option<Vec<u8>> {
        let mut frame = BytesMut::new();
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(7);
        frame.put_i16(-1);
        frame.extend(body);
        self.send(&frame).await;
        let answer = self.read().await?;
        assert_eq!(answer[..4], [0, 0, 0, 7]);
        Some(answer[4..].to_vec())
    }

    /// The code that names a mechanism, and the mechanisms that there are.
    async fn choose(&mut self, version: i16, name: &str) -> (i16, String) {
        let answer = self.ask(HANDSHAKE, version, &text(name)).await.unwrap();
        let code = i16::from_be_bytes([answer[0], answer[1]]);
        let names = String::from_utf8_lossy(&answer[6..]);
        let legal = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
        let names: Vec<_> = names
            .split(|c| !legal(c))
            .filter(|n| !n.is_empty())
            .collect();
        (code, names.join(" "))
    }

    /// The code that answers a token.
    async fn show(&mut self, bytes: &[u8]) -> Option<i16> {
        let answer = self.ask(AUTHENTICATE, 1, &token(bytes)).await?;
        Some(i16::from_be_bytes([answer[0], answer[1]]))
    }

    async fn is_in(&mut self) -> bool {
        self.ask(METADATA, 0, &[0; 4]).await.is_some()
    }

    async fn log_in(&mut self, password: &str) -> Option<i16> {
        assert_eq!(self.choose(1, "PLAIN").await.0, 0);
        self.show(format!("\0alice\0{password}").as_bytes()).await
    }
}

const FAILED: Option<i16> = Some(58);

#[tokio::test(start_paused = true)]
async fn before_the_login_only_what_leads_to_it_is_served() {
    let house = House::new();
    assert!(house.knock().ask(API_VERSIONS, 0, &[]).await.is_some());
    for key in [METADATA, DESCRIBE_ACLS] {
        let mut client = house.knock();
        assert_eq!(client.ask(key, 1, &[0; 32]).await, None, "{key}");
    }
    let mut client = house.knock();
    assert_eq!(client.log_in("one").await, Some(0));
    assert!(client.is_in().await);
    // A frame that is larger than a login has to be.
    let mut client = house.knock();
    client.send(&vec![0; 64 * 1024]).await;
    assert_eq!(client.read().await, None);
    assert_eq!(house.door.metrics.kafka.logins_failed.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_shut_out_in_time() {
    let house = House::new();
    let mut silent = house.knock();
    let mut half = house.knock();
    half.choose(1, "SCRAM-SHA-256").await;
    assert_eq!(half.show(b"n,,n=alice,r=abc").await, Some(0));
    assert_eq!(silent.read().await, None);
    assert_eq!(half.read().await, None);
    assert_eq!(house.door.metrics.kafka.logins_failed.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_mechanism_that_is_not_there_is_told_with_those_that_are() {
    let house = House::new();
    let mut client = house.knock();
    let all = "PLAIN SCRAM-SHA-256 SCRAM-SHA-512";
    let (unsupported, state) = (33, Code::IllegalSaslState.code());
    for name in ["GSSAPI", "plain", "", "SCRAM-SHA-1"] {
        assert_eq!(client.choose(1, name).await, (unsupported, all.into()));
    }
    // A token before a mechanism, and a second mechanism.
    assert_eq!(client.show(b"\0alice\0one").await, Some(state));
    assert_eq!(client.choose(1, "PLAIN").await.0, 0);
    assert_eq!(client.choose(1, "PLAIN").await.0, state);
    assert_eq!(client.show(b"\0alice\0one").await, Some(0));
    // From another machine a password would be seen on its way.
    let mut far = house.knock_from([10, 0, 0, 1]);
    let safe = "SCRAM-SHA-256 SCRAM-SHA-512";
    assert_eq!(far.choose(1, "PLAIN").await, (unsupported, safe.into()));
    assert_eq!(far.choose(1, "SCRAM-SHA-512").await.0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_login_is_told_late_and_ends_the_connection() {
    let house = House::new();
    let long = [b'x'; 5000];
    for wrong in [
        &b"\0alice\0two"[..],
        b"\0alice\0",
        b"\0alice",
        b"alice\0one",
        b"\0bob\0one",
        b"\0alice\0one\0",
        b"bob\0alice\0one",
        b"\0al\xffice\0one",
        b"\0\0one",
        b"",
        &long,
    ] {
        let mut client = house.knock();
        client.choose(1, "PLAIN").await;
        let before = tokio::time::Instant::now();
        assert_eq!(client.show(wrong).await, FAILED, "{wrong:?}");
        assert!(before.elapsed() >= KAFKA_LOGIN_DELAY);
        assert_eq!(client.read().await, None);
    }
    for wrong in ["n,,n=bob,r=abc", "n,,n=alice,r=abc"] {
        let mut client = house.knock();
        client.choose(1, "SCRAM-SHA-512").await;
        // Nobody learns from the question who exists.
        assert_eq!(client.show(wrong.as_bytes()).await, Some(0));
        assert_eq!(client.show(b"c=biws,r=abc,p=AAAA").await, FAILED);
        assert_eq!(client.read().await, None);
    }
    assert_eq!(house.door.metrics.kafka.logins_failed.get(), 13);
    assert_eq!(house.knock().log_in("one").await, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_password_is_hashed_for_those_too_who_do_not_exist() {
    let house = House::new();
    let hashing = &house.door.sasl.as_ref().unwrap().gate.hashing;
    // Nobody can hash any more.
    let _hashing = hashing.acquire().await.unwrap();
    for wrong in [&b"\0alice\0two"[..], b"\0bob\0two"] {
        let mut client = house.knock();
        client.choose(1, "PLAIN").await;
        let answered = tokio::time::timeout(Duration::from_secs(10), client.show(wrong)).await;
        assert!(answered.is_err(), "{wrong:?} was answered without a hash");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_failure_took_to_find_out_is_part_of_its_delay() {
    let house = House::new();
    let hashing = &house.door.sasl.as_ref().unwrap().gate.hashing;
    for wrong in [&b"\0alice\0two"[..], b"\0bob\0two"] {
        let held = hashing.acquire().await.unwrap();
        let mut client = house.knock();
        client.choose(1, "PLAIN").await;
        let before = tokio::time::Instant::now();
        let free = async {
            tokio::time::sleep(KAFKA_LOGIN_DELAY / 2).await;
            drop(held);
        };
        let (answered, ()) = tokio::join!(client.show(wrong), free);
        assert_eq!(answered, FAILED);
        let took = before.elapsed();
        assert!(took >= KAFKA_LOGIN_DELAY && took < KAFKA_LOGIN_DELAY * 3 / 2);
    }
}

#[tokio::test]
async fn the_secret_of_unknown_names_stays_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let private = folder.path().join("private");
    let kept = super::secret(&private).unwrap();
    assert_eq!(super::secret(&private).unwrap(), kept);
    std::fs::write(private.join("login-secret"), "half").unwrap();
    let new = super::secret(&private).unwrap();
    assert_ne!(new, kept);
    assert_eq!(super::secret(&private).unwrap(), new);
}

#[tokio::test(start_paused = true)]
async fn after_an_old_handshake_tokens_come_as_they_are() {
    let house = House::new();
    let mut client = house.knock();
    assert_eq!(client.choose(0, "PLAIN").await.0, 0);
    client.send(b"\0alice\0one").await;
    assert_eq!(client.read().await, Some(Vec::new()));
    assert!(client.is_in().await);
    let mut client = house.knock();
    assert_eq!(client.choose(0, "PLAIN").await.0, 0);
    client.send(b"\0alice\0two").await;
    assert_eq!(client.read().await, None);
    let mut client = house.knock();
    assert_eq!(client.choose(0, "SCRAM-SHA-256").await.0, 0);
    client.send(b"n,,n=alice,r=abc").await;
    let asked = client.read().await.unwrap();
    assert!(asked.starts_with(b"r=abc"));
    client.send(b"nonsense").await;
    assert_eq!(client.read().await, None);
}

#[tokio::test(start_paused = true)]
async fn who_is_in_may_log_in_again_and_nobody_takes_his_place() {
    let house = House::new();
    house.users().add("bob", "two").unwrap();
    let mut client = house.knock();
    assert_eq!(client.log_in("one").await, Some(0));
    assert_eq!(client.log_in("one").await, Some(0));
    assert!(client.is_in().await);
    // By another mechanism he does not, nor in the old way.
    assert_eq!(client.choose(1, "SCRAM-SHA-256").await.0, 33);
    assert_eq!(
        client.choose(0, "PLAIN").await.0,
        Code::IllegalSaslState.code()
    );
    assert_eq!(client.choose(1, "PLAIN").await.0, 0);
    assert_eq!(client.show(b"\0bob\0two").await, FAILED);
    assert_eq!(client.read().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_user_counts_at_the_next_login() {
    let house = House::new();
    let mut first = house.knock();
    assert_eq!(first.log_in("one").await, Some(0));
    house.users().set_password("alice", "two").unwrap();
    assert_eq!(house.knock().log_in("one").await, FAILED);
    assert_eq!(house.knock().log_in("two").await, Some(0));
    house.users().delete("alice").unwrap();
    assert_eq!(house.knock().log_in("two").await, FAILED);
    // Who is in stays.
    assert!(first.is_in().await);
}

#[tokio::test(start_paused = true)]
async fn thousands_of_wrong_passwords_disturb_nobody_who_knows_his() {
    let house = House::new();
    let mut good = house.knock();
    assert_eq!(good.log_in("one").await, Some(0));
    let guesses = futures_util::future::join_all((0..1000).map(|n| {
        let mut client = house.knock_from([127, 0, 0, 2]);
        async move { client.log_in(&format!("guess {n}")).await }
    }));
    let work = async {
        for _ in 0..100 {
            assert!(good.is_in().await);
            assert_eq!(house.knock().log_in("one").await, Some(0));
        }
    };
    let (guessed, ()) = tokio::join!(guesses, work);
    assert!(guessed.iter().all(|answer| *answer == FAILED));
}
