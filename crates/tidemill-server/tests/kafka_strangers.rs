//! Strangers at the doors of clients of Kafka, over real sockets: wrong passwords at speed, and
//! what is not TLS where TLS is spoken, or the other way round. Each is done with in a bounded
//! time, and a client that has its place goes on undisturbed.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::Running;
use support::certificates::certificates;
use tidemill_broker::{BatchBuilder, CreateTopic};
use tidemill_core::TopicName;
use tidemill_core::budget::Class;
use tidemill_server::users::Users;
use tidemill_server::{Config, KafkaConfig, SaslConfig, Server, TlsConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const USER: &str = "ann";
const PASSWORD: &str = "correct horse";

/// Longest that a good client waits for an answer while strangers are at the door. A machine with
/// much else to do takes its time.
const UNDISTURBED: Duration = Duration::from_secs(20);

/// Each test here has the machine to itself, as far as this process goes: what one waits for is
/// none of the others' doing.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Where strangers come from, and good clients.
const THERE: [u8; 4] = [127, 0, 0, 1];
const HERE: [u8; 4] = [127, 0, 0, 2];

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A server where users log in, and its topic.
struct House {
    running: Running,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl House {
    async fn open(tls: Option<TlsConfig>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("private");
        Users::new(&users).add(USER, PASSWORD).unwrap();
        let mut config = Config::at("127.0.0.1:0".parse().unwrap());
        config.kafka = Some(KafkaConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            sasl: Some(SaslConfig {
                users,
                cleartext: false,
            }),
            tls,
            ..KafkaConfig::default()
        });
        let broker = support::broker().await;
        let topic = TopicName::new("t").unwrap();
        let made = broker.create_topic(topic, CreateTopic::default()).await;
        made.unwrap();
        let server = Server::bind(broker.clone(), config).await.unwrap();
        let address = server.kafka_addr().unwrap();
        Self {
            running: Running::of(broker, server),
            address,
            _folder: folder,
        }
    }

    async fn metric(&self, name: &str) -> u64 {
        let metrics = self.running.client().get("/metrics").await.text;
        let name = format!("tidemill_kafka_{name} ");
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(&name));
        value
            .unwrap_or_else(|| panic!("{name}: {metrics}"))
            .parse()
            .unwrap()
    }

    /// Waits until a metric is so much.
    async fn until(&self, name: &str, value: u64) {
        let all = async {
            while self.metric(name).await != value {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(UNDISTURBED, all).await.unwrap();
    }

    /// Waits until so many connections are open.
    async fn connections(&self, count: u64) {
        self.until("connections", count).await;
    }
}

/// Both ends of each connection are in this process.
fn raise_file_limit(wanted: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: Some(maximum.unwrap_or(u64::MAX).min(wanted)),
        maximum,
    };
    setrlimit(Resource::Nofile, wanted).unwrap();
}

async fn connect(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((IpAddr::from(from), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// A request with its length: key, version, no client id.
fn request(key: u8, version: u8, body: &[u8]) -> Vec<u8> {
    let head = [0, key, 0, version, 0, 0, 0, 7, 0xff, 0xff];
    let length = u32::try_from(head.len() + body.len()).unwrap();
    [&length.to_be_bytes()[..], &head, body].concat()
}

/// What follows the correlation in the answer to a request; `None` where the connection ends.
async fn ask(stream: &mut (impl Stream + ?Sized), request: &[u8]) -> Option<Vec<u8>> {
    stream.write_all(request).await.ok()?;
    stream.flush().await.ok()?;
    let length = stream.read_u32().await.ok()?;
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await.ok()?;
    assert_eq!(answer[..4], [0, 0, 0, 7]);
    Some(answer.split_off(4))
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

async fn handshake(stream: &mut (impl Stream + ?Sized), mechanism: &str) -> Option<()> {
    let answer = ask(stream, &request(17, 1, &text(mechanism))).await?;
    assert_eq!(answer[..2], [0, 0], "{mechanism} is served");
    Some(())
}

/// One step of a login: the code and what the server says.
async fn step(stream: &mut (impl Stream + ?Sized), token: &[u8]) -> Option<(u16, Vec<u8>)> {
    let length = u32::try_from(token.len()).unwrap();
    let body = [&length.to_be_bytes()[..], token].concat();
    let answer = ask(stream, &request(36, 0, &body)).await?;
    let code = u16::from_be_bytes([answer[0], answer[1]]);
    let said = u16::from_be_bytes([answer[2], answer[3]]);
    let said = if said == u16::MAX {
        0
    } else {
        usize::from(said)
    };
    Some((code, answer[4 + said + 4..].to_vec()))
}

async fn plain(stream: &mut (impl Stream + ?Sized), password: &str) -> Option<u16> {
    handshake(stream, "PLAIN").await?;
    let token = format!("\0{USER}\0{password}");
    Some(step(stream, token.as_bytes()).await?.0)
}

/// A login by SCRAM, with a proof that is none.
async fn wrong_scram(stream: &mut TcpStream, number: usize) -> Option<u16> {
    handshake(stream, "SCRAM-SHA-256").await?;
    let first = format!("n,,n={USER},r=nonce{number}");
    let (code, said) = step(stream, first.as_bytes()).await?;
    if code != 0 {
        return Some(code);
    }
    let said = String::from_utf8(said).unwrap();
    let nonce = said.split(',').next().unwrap();
    let proof = STANDARD.encode([number as u8; 32]);
    let last = format!("c=biws,{nonce},p={proof}");
    Some(step(stream, last.as_bytes()).await?.0)
}

/// A produce of one record.
fn record() -> Vec<u8> {
    let mut batch = BatchBuilder::new();
    let pushed = batch.push(1, None, Some(b"value"), std::iter::empty());
    pushed.unwrap();
    let batch = batch.finish().unwrap();
    let bytes = batch.as_bytes();
    let length = u32::try_from(bytes.len()).unwrap();
    let body = [
        // No transaction, acks of all, 10 s, one topic.
        &[0xff, 0xff, 0xff, 0xff, 0, 0, 0x27, 0x10, 0, 0, 0, 1][..],
        &text("t"),
        // One partition, 0.
        &[0, 0, 0, 1, 0, 0, 0, 0],
        &length.to_be_bytes(),
        bytes,
    ];
    request(0, 3, &body.concat())
}

/// A client that is logged in, and produces until it is told to stop.
struct Good {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(usize, Duration)>,
}

impl Good {
    fn begin(mut stream: Box<dyn Stream>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut kept, mut longest) = (0, Duration::ZERO);
            let record = record();
            while !stopped.load(Ordering::Acquire) {
                let begun = Instant::now();
                let answer = ask(&mut *stream, &record).await.expect("it goes on");
                longest = longest.max(begun.elapsed());
                // One topic, its name, one partition, its number, and no error.
                assert_eq!(answer[4 + 3 + 4 + 4..][..2], [0, 0], "{answer:?}");
                kept += 1;
                sleep(Duration::from_millis(5)).await;
            }
            (kept, longest)
        });
        Self { stop, task }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Release);
        let (kept, longest) = self.task.await.unwrap();
        assert!(longest < UNDISTURBED, "{longest:?} for one of {kept}");
        assert!(kept > 10, "{kept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_wrong_passwords_at_speed_disturb_nobody_and_take_little_memory() {
    const STRANGERS: usize = 1_000;
    /// Kafka's code for a login that failed.
    const FAILED: u16 = 58;
    let _alone = ALONE.lock().await;
    raise_file_limit(16 * STRANGERS as u64);
    let house = House::open(None).await;
    let mut stream = connect(HERE, house.address).await;
    assert_eq!(plain(&mut stream, PASSWORD).await, Some(0));
    let good = Good::begin(Box::new(stream));
    let memory = house.running.broker.memory().clone();
    let mut before = 0;
    for scram in [false, true] {
        let strangers = (0..STRANGERS).map(|number| {
            let address = house.address;
            tokio::spawn(async move {
                let mut stream = connect(THERE, address).await;
                let said = match scram {
                    true => wrong_scram(&mut stream, number).await,
                    false => plain(&mut stream, &format!("wrong {number}")).await,
                };
                // Whatever was said, nobody stays.
                let rest = stream.read_to_end(&mut Vec::new()).await;
                assert!(rest.is_err() || said.is_none_or(|code| code == FAILED));
                said
            })
        });
        let strangers: Vec<_> = strangers.collect();
        let done = Arc::new(AtomicBool::new(false));
        let most = tokio::spawn({
            let (memory, done) = (memory.clone(), Arc::clone(&done));
            async move {
                let mut most = 0;
                while !done.load(Ordering::Acquire) {
                    most = most.max(memory.used(Class::Requests) + memory.over());
                    sleep(Duration::from_millis(5)).await;
                }
                most
            }
        });
        // Somebody else's login waits for none of theirs.
        let mut late = connect(HERE, house.address).await;
        let login = timeout(UNDISTURBED, plain(&mut late, PASSWORD)).await;
        assert_eq!(login.expect("it logs in meanwhile"), Some(0));
        let all = timeout(Duration::from_secs(90), async {
            let (mut failed, mut refused) = (0, 0);
            for stranger in strangers {
                match stranger.await.unwrap() {
                    Some(FAILED) => failed += 1,
                    Some(code) => panic!("a stranger was told {code}"),
                    None => refused += 1,
                }
            }
            (failed, refused)
        });
        let (failed, refused) = all.await.expect("every stranger is done with");
        assert_eq!(failed + refused, STRANGERS);
        assert!(failed >= 64, "{failed} of them had their turn");
        done.store(true, Ordering::Release);
        let most = most.await.unwrap();
        assert!(most < 8 << 20, "{most} bytes");
        let counted = house.metric("logins_failed_total").await;
        let counted = counted + house.metric("connections_refused_total").await;
        assert!(counted - before >= STRANGERS as u64, "{counted}");
        before = counted;
        drop(late);
        house.connections(1).await;
    }
    good.end().await;
    house.running.stop().await;
}

async fn tls(ca: &Path, stream: TcpStream) -> std::io::Result<Box<dyn Stream>> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(cert.unwrap()).unwrap();
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
    Ok(Box::new(stream.await?))
}

/// The beginning of a client's hello, as it lies on the wire: a record of 512 bytes.
const HELLO: [u8; 9] = [22, 3, 1, 2, 0, 1, 0, 1, 252];

/// How long it takes until the server ends a connection.
async fn ended(mut stream: TcpStream) -> (Duration, Vec<u8>) {
    let begun = Instant::now();
    let mut said = Vec::new();
    let rest = timeout(Duration::from_secs(60), stream.read_to_end(&mut said)).await;
    let _ = rest.expect("it is ended");
    (begun.elapsed(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_no_tls_or_does_so_slowly_is_done_with_in_time() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let Some((ca, files)) = certificates(folder.path()).await else {
        return;
    };
    let house = House::open(Some(files)).await;
    let address = house.address;
    let stream = connect(HERE, address).await;
    let mut stream = tls(&ca, stream).await.unwrap();
    assert_eq!(plain(&mut *stream, PASSWORD).await, Some(0));
    let good = Good::begin(stream);

    // Nothing at all: a few seconds.
    let silent = tokio::spawn(async move {
        let (took, said) = ended(connect(THERE, address).await).await;
        assert!(said.is_empty());
        assert!((4..40).contains(&took.as_secs()), "{took:?}");
    });
    // A byte at a time, for ever: the time of a login.
    let slow = tokio::spawn(async move {
        let begun = Instant::now();
        let mut stream = connect(THERE, address).await;
        let mut bytes = HELLO.into_iter().chain(std::iter::repeat(0));
        while stream.write_all(&[bytes.next().unwrap()]).await.is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(90), "it goes on");
            let silence = timeout(Duration::from_millis(300), stream.read_u8()).await;
            if silence.is_ok() {
                break;
            }
        }
        let took = begun.elapsed().as_secs();
        assert!((25..90).contains(&took), "{took} s");
    });
    // Late, but in time: welcome.
    let late = tokio::spawn({
        let ca = ca.clone();
        async move {
            let stream = connect(HERE, address).await;
            sleep(Duration::from_secs(1)).await;
            let mut stream = tls(&ca, stream).await.unwrap();
            assert_eq!(plain(&mut *stream, PASSWORD).await, Some(0));
            assert!(ask(&mut *stream, &record()).await.is_some());
        }
    });
    // A request in the clear: an alert of TLS, and no answer.
    let mut clear = connect(THERE, address).await;
    clear.write_all(&request(18, 0, &[])).await.unwrap();
    let (took, said) = ended(clear).await;
    assert!(said.is_empty() || said[0] == 21, "{said:?}");
    assert!(took < UNDISTURBED, "{took:?}");
    house.until("tls_handshakes_failed_total", 1).await;
    late.await.unwrap();

    // Gone without a word, in the middle of everything: nothing of it stays.
    for asks in [false, true] {
        let stream = connect(HERE, address).await;
        let mut stream = tls(&ca, stream).await.unwrap();
        assert_eq!(plain(&mut *stream, PASSWORD).await, Some(0));
        if asks {
            let record = record();
            stream.write_all(&record[..record.len() / 2]).await.unwrap();
            stream.flush().await.unwrap();
        }
        // Dropped, it says nothing of its end.
        drop(stream);
    }
    silent.await.unwrap();
    slow.await.unwrap();
    house.connections(1).await;
    house.until("tls_handshakes_failed_total", 2).await;
    good.end().await;
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_where_none_is_spoken_ends_at_once() {
    let _alone = ALONE.lock().await;
    let house = House::open(None).await;
    let mut stream = connect(HERE, house.address).await;
    assert_eq!(plain(&mut stream, PASSWORD).await, Some(0));
    let good = Good::begin(Box::new(stream));
    for _ in 0..200 {
        let mut stream = connect(THERE, house.address).await;
        // It may end before all of it was taken.
        let _ = stream.write_all(&[&HELLO[..], &[0; 508]].concat()).await;
        let (took, said) = ended(stream).await;
        assert!(said.is_empty(), "{said:?}");
        assert!(took < UNDISTURBED, "{took:?}");
    }
    assert_eq!(house.running.broker.memory().over(), 0);
    house.connections(1).await;
    sleep(Duration::from_millis(500)).await;
    good.end().await;
    house.running.stop().await;
}
