//! What is measured, and the figures of one turn of one server.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::latency;
use crate::load::Load;
use crate::many;
use crate::peer::Peer;
use crate::server::Server;
use crate::wire::Connection;

/// Records that a rate is taken over.
const RECORDS: usize = 1_000_000;
const IDLE: usize = 1_000;
const MEMBERS: usize = 1_000;
const SLOW: usize = 100;
const SLOW_BYTES: i32 = 50 << 20;
/// How long a server's memory is looked at, while clients do not read.
const LOOK: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// Records of so many bytes, to so many partitions.
    Produce {
        bytes: usize,
        partitions: i32,
    },
    Consume,
    Latency,
    Behind,
    Many,
    Memory,
}

impl Case {
    pub(crate) const ALL: [Self; 9] = [
        Self::Produce {
            bytes: 1024,
            partitions: 1,
        },
        Self::Produce {
            bytes: 1024,
            partitions: 6,
        },
        Self::Produce {
            bytes: 1024,
            partitions: 100,
        },
        Self::Produce {
            bytes: 100,
            partitions: 1,
        },
        Self::Consume,
        Self::Latency,
        Self::Behind,
        Self::Many,
        Self::Memory,
    ];

    /// `produce` is that of 1 KiB to one partition; `produce-100-6` names bytes and partitions.
    pub(crate) fn named(name: &str) -> Fallible<Self> {
        let numbers: Vec<&str> = name.split('-').collect();
        Ok(match numbers.as_slice() {
            ["produce"] => Self::Produce {
                bytes: 1024,
                partitions: 1,
            },
            ["produce", bytes, partitions] => Self::Produce {
                bytes: bytes.parse()?,
                partitions: partitions.parse()?,
            },
            ["consume"] => Self::Consume,
            ["latency"] => Self::Latency,
            ["behind"] => Self::Behind,
            ["many"] => Self::Many,
            ["memory"] => Self::Memory,
            _ => return Err(format!("there is no case {name}").into()),
        })
    }

    pub(crate) fn title(self) -> String {
        match self {
            Self::Produce { bytes, partitions } => {
                format!("produce {RECORDS} records of {bytes} bytes, {partitions} partitions")
            }
            Self::Consume => format!("consume {RECORDS} records of 1024 bytes, warm"),
            Self::Latency => {
                "from producer to consumer, 10000 records of 1024 bytes a second".into()
            }
            Self::Behind => "produce, alone and while a consumer catches up from disk".into(),
            Self::Many => format!("{IDLE} idle connections, {MEMBERS} members of a group"),
            Self::Memory => {
                format!("memory after 1 GB, and {SLOW} clients that read nothing of 50 MB each")
            }
        }
    }

    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Produce { .. } | Self::Consume => &["records/s", "CPU s a million"],
            Self::Latency => &[
                "p50 ms",
                "p99 ms",
                "p99.9 ms",
                "ack p50 ms",
                "ack p99 ms",
                "ack p99.9 ms",
            ],
            Self::Behind => &[
                "alone, ack p99 ms",
                "ack p99 ms beside",
                "consumed records/s",
                "CPU s a million",
            ],
            Self::Many => &["KiB a connection", "group made, s", "one more, s"],
            Self::Memory => &["MB at first", "MB after 1 GB", "MB with slow clients"],
        }
    }

    /// The floor only takes records.
    pub(crate) fn is_for(self, peer: Peer) -> bool {
        let one = matches!(self, Self::Produce { partitions: 1, .. });
        peer != Peer::Floor || one
    }

    /// What the client can do itself, where that is a bound.
    pub(crate) fn ceiling(self, peers: &Path) -> Fallible<()> {
        if let Self::Produce { bytes, .. } = self {
            let rate = Load::new(peers, None).produce("ceiling", RECORDS, bytes)?;
            println!("The client against the broker inside itself: {rate:.0} records/s.\n");
        }
        Ok(())
    }

    /// The figures of its columns.
    pub(crate) fn turn(self, peer: Peer, server: &Server, peers: &Path) -> Fallible<Vec<f64>> {
        let address = server.address;
        let load = Load::new(peers, Some(address));
        match self {
            Self::Produce { bytes, partitions } => {
                if peer != Peer::Floor {
                    Connection::new(address)?.create_topic("bench", partitions)?;
                }
                let cpu = server.cpu_seconds()?;
                let rate = load.produce("bench", RECORDS, bytes)?;
                Ok(vec![rate, a_million(server.cpu_seconds()? - cpu)])
            }
            Self::Consume => {
                filled(address, &load)?;
                load.consume("bench", RECORDS)?;
                let cpu = server.cpu_seconds()?;
                let rate = load.consume("bench", RECORDS)?;
                Ok(vec![rate, a_million(server.cpu_seconds()? - cpu)])
            }
            Self::Latency => {
                let [through, acked] = latency::through(address, "bench")?;
                Ok(vec![
                    through.p50,
                    through.p99,
                    through.p999,
                    acked.p50,
                    acked.p99,
                    acked.p999,
                ])
            }
            Self::Behind => behind(server, address, &load),
            Self::Many => {
                let before = server.memory_bytes()?;
                let connections = many::idle(address, IDLE)?;
                let after = server.memory_bytes()?;
                drop(connections);
                let [made, again] = many::group(address, MEMBERS)?;
                let each = after.saturating_sub(before) as f64 / IDLE as f64 / 1024.0;
                Ok(vec![each, made.as_secs_f64(), again.as_secs_f64()])
            }
            Self::Memory => memory(server, address, &load),
        }
    }
}

fn a_million(seconds: f64) -> f64 {
    seconds * 1e6 / RECORDS as f64
}

fn filled(address: SocketAddr, load: &Load) -> Fallible<()> {
    Connection::new(address)?.create_topic("bench", 1)?;
    load.produce("bench", RECORDS, 1024)?;
    Ok(())
}

fn behind(server: &Server, address: SocketAddr, load: &Load) -> Fallible<Vec<f64>> {
    filled(address, load)?;
    Connection::new(address)?.create_topic("paced", 1)?;
    let alone = latency::produce(address, "paced", Instant::now())?;
    // What is not in memory has to come from the disk; needs root.
    std::process::Command::new("sync").status()?;
    std::fs::write("/proc/sys/vm/drop_caches", "1")?;
    let cpu = server.cpu_seconds()?;
    let begun = Instant::now();
    let (beside, consumed) = std::thread::scope(|scope| {
        let paced = scope.spawn(move || latency::produce(address, "paced", begun));
        let consumed = load.consume("bench", RECORDS);
        let beside = paced.join().map_err(|_| "the producer panicked")?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((beside?, consumed?))
    })?;
    let cpu = a_million(server.cpu_seconds()? - cpu);
    Ok(vec![alone.p99, beside.p99, consumed, cpu])
}

fn memory(server: &Server, address: SocketAddr, load: &Load) -> Fallible<Vec<f64>> {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let first = server.memory_bytes()?;
    filled(address, load)?;
    load.consume("bench", RECORDS)?;
    let after = server.memory_bytes()?;
    let clients = many::slow(address, "bench", SLOW, SLOW_BYTES)?;
    let (begun, mut most) = (Instant::now(), 0);
    while begun.elapsed() < LOOK {
        most = most.max(server.memory_bytes()?);
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(clients);
    Ok(vec![megabytes(first), megabytes(after), megabytes(most)])
}
