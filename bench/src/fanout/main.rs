//! What it costs to bring one event to very many clients: Socket.IO beside the servers of
//! python-socketio and of Node's socket.io, and Tidemill's server-sent events and WebSocket.
//!
//! `bench/peers/install.sh PEERS`, then
//! `cargo run --release -p tidemill-bench --bin fanout -- DIR PEERS [CLIENTS...]`, with the server
//! built beside it (`cargo build --release`). The servers take turns, each in a new process, three
//! times; medians are printed. All clients are the same few lines (`client.rs`) in one thread of
//! this process; `null` is a server that does nothing but write (`null.rs`), so it shows what the
//! clients themselves can take. Tidemill syncs each event before it answers and sends it; the
//! others keep nothing. DIR must be new.

mod client;
mod null;
mod peer;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use client::Clients;
use peer::{Peer, Process, Publisher};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Turns of each server; the medians are of these.
const TURNS: usize = 3;
/// How long events come one by one, and how many deliveries a second that makes for all clients.
const PACED: Duration = Duration::from_secs(10);
const PACED_DELIVERIES: usize = 10_000;
/// Deliveries of the burst, over all clients.
const BURST_DELIVERIES: usize = 400_000;
/// Longest wait for what is still on its way.
const PATIENCE: Duration = Duration::from_secs(120);
const VALUE_BYTES: usize = 200;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.as_slice() {
        [null, port] if null == "null" => null::serve(port),
        [dir, peers, clients @ ..] => measure(Path::new(dir), Path::new(peers), clients),
        _ => Err("usage: fanout DIR PEERS [CLIENTS...]".into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanout: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What one turn of one server gave.
#[derive(Clone, Copy, Default)]
struct Turn {
    /// Bytes of memory for each client, while nothing is sent.
    client_bytes: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Deliveries a second when events come as fast as the server takes them.
    per_second: f64,
    /// Processor seconds of the server for a million deliveries.
    cpu: f64,
}

fn measure(dir: &Path, peers: &Path, clients: &[String]) -> Fallible<()> {
    std::fs::create_dir(dir)?;
    let counts: Result<Vec<usize>, _> = clients.iter().map(|count| count.parse()).collect();
    let counts = match counts? {
        none if none.is_empty() => vec![1_000, 10_000],
        some => some,
    };
    for count in counts {
        println!("\n## {count} clients, events of {VALUE_BYTES} bytes\n");
        println!("| server | deliveries/s | p50 ms | p99 ms | KiB a client | CPU s a million |");
        println!("|---|---|---|---|---|---|");
        let mut turns: Vec<Vec<Turn>> = vec![Vec::new(); Peer::ALL.len()];
        for turn in 0..TURNS {
            for (peer, turns) in Peer::ALL.into_iter().zip(&mut turns) {
                let folder = dir.join(format!("{count}-{turn}-{}", peer.name()));
                match one(peer, &folder, peers, count) {
                    Ok(turn) => turns.push(turn),
                    Err(error) => eprintln!("{}, turn {turn}: {error}", peer.name()),
                }
                let _ = std::fs::remove_dir_all(&folder);
            }
        }
        for (peer, turns) in Peer::ALL.into_iter().zip(&turns) {
            let of = |value: fn(&Turn) -> f64| median(turns.iter().map(value).collect());
            println!(
                "| {} | {:.0} | {:.1} | {:.1} | {:.1} | {:.2} |",
                peer.name(),
                of(|turn| turn.per_second),
                of(|turn| turn.p50_ms),
                of(|turn| turn.p99_ms),
                of(|turn| turn.client_bytes) / 1024.0,
                of(|turn| turn.cpu),
            );
        }
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn one(peer: Peer, folder: &Path, peers: &Path, count: usize) -> Fallible<Turn> {
    let server = Process::start(peer, &PathBuf::from(folder), peers)?;
    let before = server.memory_bytes()?;
    // Streams of events are of a topic that must be there.
    Publisher::connect(server.address)?.publish("prices", 0, VALUE_BYTES)?;
    let clients = Clients::connect(peer, server.address, count)?;
    std::thread::sleep(Duration::from_secs(1));
    let after = server.memory_bytes()?;
    let mut turn = Turn {
        client_bytes: after.saturating_sub(before) as f64 / count as f64,
        ..Turn::default()
    };

    // A new connection each time: servers close those that say nothing for seconds.
    let mut publisher = Publisher::connect(server.address)?;
    let events = (PACED_DELIVERIES * PACED.as_secs() as usize / count).max(10);
    let apart = PACED / u32::try_from(events)?;
    let begun = Instant::now();
    for event in 0..events {
        let due = begun + apart * u32::try_from(event)?;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        publisher.publish("prices", clients.now(), VALUE_BYTES)?;
    }
    clients.wait_for(events * count, PATIENCE)?;
    (turn.p50_ms, turn.p99_ms) = clients.latencies_ms();

    let burst = (BURST_DELIVERIES / count).max(10);
    let mut publisher = Publisher::connect(server.address)?;
    let (cpu, begun) = (server.cpu_seconds()?, Instant::now());
    for _ in 0..burst {
        publisher.publish("prices", clients.now(), VALUE_BYTES)?;
    }
    clients.wait_for((events + burst) * count, PATIENCE)?;
    let deliveries = (burst * count) as f64;
    turn.per_second = deliveries / begun.elapsed().as_secs_f64();
    turn.cpu = (server.cpu_seconds()? - cpu) / deliveries * 1e6;
    drop(clients);
    Ok(turn)
}
