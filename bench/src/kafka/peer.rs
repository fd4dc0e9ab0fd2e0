//! The servers: Tidemill, Apache Kafka as it comes and with a sync of every write, and the floor.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::server::Server;
use crate::wire::Connection;

/// How long a server that listens may take until it makes topics.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that records are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Floor,
    Tidemill,
    Kafka,
    KafkaSynced,
}

impl Peer {
    pub(crate) const ALL: [Self; 4] = [Self::Floor, Self::Tidemill, Self::Kafka, Self::KafkaSynced];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor (receive, write twice, sync)",
            Self::Tidemill => "Tidemill, synced",
            Self::Kafka => "Apache Kafka 4.1.1, not synced",
            Self::KafkaSynced => "Apache Kafka 4.1.1, synced",
        }
    }

    /// In a new process on a new folder.
    pub(crate) fn start(self, folder: &Path, peers: &Path) -> Fallible<Server> {
        let address = two_free()?;
        let own = std::env::current_exe()?;
        let port = address.port().to_string();
        let command = match self {
            Self::Floor => {
                let mut command = Command::new(own);
                command.args(["floor", &port]).arg(folder);
                command
            }
            Self::Tidemill => {
                let mut command = Command::new(own.with_file_name("tidemill"));
                command.args(["serve", "--http", "127.0.0.1:0", "--data"]);
                command.arg(folder).args(["--kafka", &address.to_string()]);
                command
            }
            Self::Kafka | Self::KafkaSynced => {
                let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers/kafka.sh");
                let mut command = Command::new("sh");
                command.arg(script).arg(peers.join("kafka")).arg(&port);
                command.arg(format!("log.dirs={}", folder.display()));
                // What Kafka's own start script gives it.
                command.env(
                    "JAVA_OPTS",
                    "-Xmx1g -Xms1g -XX:+UseG1GC -XX:MaxGCPauseMillis=20",
                );
                if self == Self::KafkaSynced {
                    command.arg("log.flush.interval.messages=1");
                }
                command
            }
        };
        let server = Server::run(command, address)?;
        if self == Self::Floor {
            return Ok(server);
        }
        let begun = Instant::now();
        loop {
            let made = Connection::new(address).and_then(|mut one| one.create_topic("first", 1));
            match made {
                Ok(()) => return Ok(server),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }
}

/// Two ports that nobody has, one after the other, below those that connections are given:
/// Kafka's controller has the second.
fn two_free() -> Fallible<SocketAddr> {
    let first = 20_000 + (std::process::id() % 500 * 20) as u16;
    (first..30_000)
        .step_by(2)
        .find(|port| {
            let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
            free(*port) && free(port + 1)
        })
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .ok_or_else(|| "all ports are in use".into())
}
