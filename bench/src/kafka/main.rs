//! Tidemill as a broker for clients of Kafka, beside Apache Kafka as it comes (written, not synced)
//! and with a sync of every write.
//!
//! `bench/peers/librdkafka.sh PEERS`, then
//! `cargo run --release -p tidemill-bench --bin kafka -- DIR PEERS [CASE...]`, with the server
//! built beside it (`cargo build --release`). The servers take turns, each in a new process on a
//! new folder, three times; medians are printed. The client of the rates is librdkafka's own
//! (`load.rs`), that of the rest a few lines (`wire.rs`). `floor` is a program that receives the
//! same records, writes them twice and syncs them (`floor.rs`). DIR must be new.

mod cases;
mod floor;
mod latency;
mod load;
mod many;
mod peer;
#[path = "../server.rs"]
mod server;
mod wire;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use cases::Case;
use peer::Peer;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Turns of each server; the medians are of these.
const TURNS: usize = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.as_slice() {
        [floor, port, folder] if floor == "floor" => floor::serve(port, Path::new(folder)),
        [dir, peers, cases @ ..] => measure(Path::new(dir), Path::new(peers), cases),
        _ => Err("usage: kafka DIR PEERS [produce|consume|latency|behind|many|memory]...".into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kafka: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(dir: &Path, peers: &Path, wanted: &[String]) -> Fallible<()> {
    std::fs::create_dir(dir)?;
    let dir = dir.canonicalize()?;
    let chosen: Vec<Case> = match wanted {
        [] => Case::ALL.to_vec(),
        some => some
            .iter()
            .map(|name| Case::named(name))
            .collect::<Fallible<_>>()?,
    };
    for case in chosen {
        println!("\n## {}\n", case.title());
        case.ceiling(peers)?;
        println!("| server | {} |", case.columns().join(" | "));
        println!("|---{}|", "|---".repeat(case.columns().len()));
        let mut turns = vec![Vec::new(); Peer::ALL.len()];
        for turn in 0..TURNS {
            for (peer, turns) in Peer::ALL.into_iter().zip(&mut turns) {
                if !case.is_for(peer) {
                    continue;
                }
                let folder = dir.join(format!("{turn}-{peer:?}").to_lowercase());
                let figures = peer
                    .start(&folder, peers)
                    .and_then(|server| case.turn(peer, &server, peers));
                let _ = std::fs::remove_dir_all(&folder);
                turns.push(figures.map_err(|error| format!("{}: {error}", peer.name()))?);
            }
        }
        for (peer, turns) in Peer::ALL.into_iter().zip(&turns) {
            if turns.is_empty() {
                continue;
            }
            let figures: Vec<String> = (0..case.columns().len())
                .map(|at| tell(median(turns, at)))
                .collect();
            println!("| {} | {} |", peer.name(), figures.join(" | "));
        }
    }
    Ok(())
}

fn median(turns: &[Vec<f64>], at: usize) -> f64 {
    let mut values: Vec<f64> = turns
        .iter()
        .filter_map(|turn| turn.get(at))
        .copied()
        .collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn tell(value: f64) -> String {
    match value {
        value if value.is_nan() => "-".to_owned(),
        value if value >= 1_000.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}
