//! HTTP as a way into a log and out of it, beside the ways that peers have: NATS JetStream over its
//! own protocol, synced always, and RabbitMQ over its HTTP API, to a durable queue.
//!
//! `bench/peers/install.sh PEERS` and Debian's rabbitmq-server, then
//! `cargo run --release -p tidemill-bench --bin http -- DIR PEERS`, with the server built beside it
//! (`cargo build --release`). The servers take turns, each in a new process on a new folder, three
//! times; medians are printed. All are asked by the same 16 threads of this process, each with a
//! connection of its own that asks one thing after another. `null` is a server that answers and
//! does nothing (`null.rs`): what the clients themselves can do. DIR must be new.

mod nats;
mod null;
mod plain;
mod rabbit;
#[path = "../server.rs"]
mod server;
mod tidemill;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use server::Server;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Turns of each server; the medians are of these.
const TURNS: usize = 3;
/// Who asks.
const THREADS: usize = 16;
/// How long each case runs.
const TIME: Duration = Duration::from_secs(6);
/// Bytes of an event's data.
const VALUE_BYTES: usize = 1024;
/// Events of a batch, and most events of a fetch.
const BATCH: usize = 100;

/// A connection that asks one thing after another.
trait Client: Send {
    /// Publishes so many events, durable when it returns.
    fn publish(&mut self, events: usize) -> Fallible<()>;
    /// Reads at most so many events, from where it was last; answers how many came.
    fn fetch(&mut self, most: usize) -> Fallible<usize>;
}

/// A server that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Null,
    Tidemill,
    Nats,
    Rabbit,
}

impl Peer {
    const ALL: [Self; 4] = [Self::Null, Self::Tidemill, Self::Nats, Self::Rabbit];

    fn name(self) -> &'static str {
        match self {
            Self::Null => "null (HTTP)",
            Self::Tidemill => "Tidemill, HTTP, synced",
            Self::Nats => "NATS 2.14 JetStream, own protocol, sync always",
            Self::Rabbit => "RabbitMQ, HTTP API, durable queue, persistent",
        }
    }

    fn start(self, folder: &Path, peers: &Path) -> Fallible<Server> {
        match self {
            Self::Null => null::start(),
            Self::Tidemill => tidemill::start(folder),
            Self::Nats => nats::start(folder, peers),
            Self::Rabbit => rabbit::start(folder),
        }
    }

    fn connect(self, server: &Server, number: usize) -> Fallible<Box<dyn Client>> {
        Ok(match self {
            Self::Null => Box::new(null::Connection(tidemill::Connection::new(server.address)?)),
            Self::Tidemill => Box::new(tidemill::Connection::new(server.address)?),
            Self::Nats => Box::new(nats::Connection::new(server.address, number)?),
            Self::Rabbit => Box::new(rabbit::Connection::new(server.address)?),
        })
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.as_slice() {
        [null, port] if null == "null" => null::serve(port),
        [dir, peers] => measure(Path::new(dir), Path::new(peers)),
        _ => Err("usage: http DIR PEERS".into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a case gave in one turn.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Events a second.
    per_second: f64,
    /// Of a call.
    p99_ms: f64,
    /// Processor seconds of the server for a million events.
    cpu: f64,
}

const CASES: [&str; 3] = [
    "publish, single",
    "publish, 100 at once",
    "fetch, 100 at most",
];

fn measure(dir: &Path, peers: &Path) -> Fallible<()> {
    std::fs::create_dir(dir)?;
    let mut all: Vec<Vec<[Rate; 3]>> = vec![Vec::new(); Peer::ALL.len()];
    for turn in 0..TURNS {
        for (peer, turns) in Peer::ALL.into_iter().zip(&mut all) {
            let folder = dir.join(format!("{turn}-{peer:?}").to_lowercase());
            let server = peer.start(&folder, peers);
            let server = server.map_err(|error| format!("{}: {error}", peer.name()))?;
            let turn = turn_of(peer, &server);
            turns.push(turn.map_err(|error| format!("{}: {error}", peer.name()))?);
            drop(server);
            let _ = std::fs::remove_dir_all(&folder);
        }
    }
    for (at, case) in CASES.into_iter().enumerate() {
        println!("\n## {case}: {THREADS} connections, events of {VALUE_BYTES} bytes\n");
        println!("| server | events/s | p99 of a call ms | CPU s a million |");
        println!("|---|---|---|---|");
        for (peer, turns) in Peer::ALL.into_iter().zip(&all) {
            let of = |value: fn(&Rate) -> f64| {
                median(
                    turns
                        .iter()
                        .filter_map(|rates| rates.get(at))
                        .map(value)
                        .collect(),
                )
            };
            println!(
                "| {} | {:.0} | {:.2} | {:.1} |",
                peer.name(),
                of(|rate| rate.per_second),
                of(|rate| rate.p99_ms),
                of(|rate| rate.cpu),
            );
        }
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn turn_of(peer: Peer, server: &Server) -> Fallible<[Rate; 3]> {
    let mut clients = Vec::new();
    for number in 0..THREADS {
        clients.push(peer.connect(server, number)?);
    }
    let single = case(server, &mut clients, |client| {
        client.publish(1)?;
        Ok(1)
    })?;
    let batch = case(server, &mut clients, |client| {
        client.publish(BATCH)?;
        Ok(BATCH)
    })?;
    let fetch = case(server, &mut clients, |client| client.fetch(BATCH))?;
    Ok([single, batch, fetch])
}

/// All clients ask for as long as it takes, or until there is nothing more.
fn case(
    server: &Server,
    clients: &mut [Box<dyn Client>],
    ask: fn(&mut dyn Client) -> Fallible<usize>,
) -> Fallible<Rate> {
    let cpu = server.cpu_seconds()?;
    let barrier = Barrier::new(clients.len());
    let began = Instant::now();
    let outcomes: Vec<Fallible<(usize, Vec<Duration>, Instant)>> = std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    let (begun, mut events, mut took) = (Instant::now(), 0, Vec::new());
                    while begun.elapsed() < TIME {
                        let call = Instant::now();
                        match ask(client.as_mut())? {
                            0 => break,
                            some => events += some,
                        }
                        took.push(call.elapsed());
                    }
                    Ok((events, took, Instant::now()))
                })
            })
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| Err("a client panicked".into()))
        };
        threads.into_iter().map(join).collect()
    });
    let (mut events, mut took, mut ended) = (0, Vec::new(), began);
    for outcome in outcomes {
        let (more, calls, end) = outcome?;
        events += more;
        took.extend(calls);
        ended = ended.max(end);
    }
    took.sort_unstable();
    let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or_default();
    Ok(Rate {
        per_second: events as f64 / ended.duration_since(began).as_secs_f64(),
        p99_ms: p99.as_secs_f64() * 1e3,
        cpu: (server.cpu_seconds()? - cpu) / events.max(1) as f64 * 1e6,
    })
}
