//! `tidemill demo`: broker, doors and the shop in one process, with orders that are generated or
//! come from a file.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tidemill::Bus;
use tidemill::broker::Broker;
use tidemill_server::{Config, ServeError, Server};
use tidemill_shop::database::Place;
use tidemill_shop::demo::{self, DemoOptions, DemoReport, Format, Load};
use tidemill_shop::payment::Cards;
use tidemill_shop::shop::ShopOptions;
use tidemill_shop::source::Traffic;
use tidemill_shop::stock::Opening;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::failure::Failure;
use crate::output::{self, Stage};
use crate::{signals, values};

/// Of the generated orders, about one in so many meets a declined card.
const DECLINE_ONE_IN: u64 = 40;

/// Run a shop on a broker with its doors, all in this process
///
/// Prints a line a second: events published and handled, the time from an order's request to its
/// end, orders waiting, calls failed. At the end (after --for, at the end of the file, at Ctrl-C)
/// the orders under way are finished and everything is added up; exit code 0 says that every
/// accepted order has ended, that stock and money add up, and that nothing was lost. Started
/// again on the same data it goes on where it was; an invoice that was taken in is not taken in
/// again, and it is told if the file has another one under its number by then.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill demo --for 20s\n  \
    tidemill demo --replay orders.csv --data ./demo\n  \
    tidemill demo --bus memory: --rate 500 --for 10s --json")]
pub(crate) struct Demo {
    /// Take orders for so long, then end
    #[arg(long = "for", value_name = "TIME", value_parser = values::positive_duration)]
    run_for: Option<Duration>,
    /// Generated orders a second; 0 leaves the shop to HTTP
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        conflicts_with = "replay"
    )]
    rate: u32,
    /// Take orders from this CSV file instead; at its end the refused lines are in DIR/rejects.csv
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Folder of events and databases; made if it is not there
    #[arg(
        long,
        env = "TIDEMILL_DATA",
        value_name = "DIR",
        default_value = "./tidemill-demo"
    )]
    data: PathBuf,
    /// Another bus than the broker in DIR/bus; on memory: nothing at all is kept
    #[arg(long, value_name = "URL")]
    bus: Option<String>,
    /// Address of HTTP and Socket.IO
    #[arg(
        long,
        env = "TIDEMILL_HTTP",
        value_name = "ADDR",
        default_value = "127.0.0.1:7575",
        value_parser = values::address
    )]
    http: SocketAddr,
    /// Address of the shop's HTTP
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7580",
          value_parser = values::address)]
    shop: SocketAddr,
    /// Listen where other machines can reach it, although nobody has to log in
    #[arg(long)]
    insecure: bool,
    /// Another number, other orders and another opening stock
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        if !self.shop.ip().is_loopback() && !self.insecure {
            return Err(Failure::usage(format!(
                "--shop {}: other machines could reach it and nobody has to log in; bind to \
                 127.0.0.1, or allow it with --insecure",
                self.shop
            )));
        }
        if let Some(file) = &self.replay
            && let Err(error) = std::fs::File::open(file)
        {
            return Err(Failure::usage(format!(
                "--replay {}: {error}",
                file.display()
            )));
        }
        let shutdown = signals::shutdown()?;
        let (bus, broker) = self.open().await?;
        let report = self.play(&bus, broker.clone(), shutdown).await;
        drop(bus);
        if let Some(broker) = broker {
            broker.close().await;
        }
        let report = report?;
        match report.trouble.first() {
            Some(trouble) => Err(Failure::new(trouble)),
            None if report.is_success() => Ok(()),
            None => Err(Failure::new(
                "the demo does not add up; its last lines say where",
            )),
        }
    }

    async fn open(&self) -> Result<(Bus, Option<Broker>), Failure> {
        let url = match &self.bus {
            None => {
                let folder = self.data.join("bus");
                let opened = Broker::builder().path(&folder).open().await;
                let broker = opened.map_err(|error| named(&self.data, &error))?;
                return Ok((broker.bus(), Some(broker)));
            }
            Some(url) => url,
        };
        if url == "memory:" {
            let broker = Broker::in_memory();
            return Ok((broker.bus(), Some(broker)));
        }
        let opened = tidemill::open(url).await;
        let bus = opened.map_err(|error| Failure::new(format!("--bus: {error}")))?;
        Ok((bus, None))
    }

    /// The doors and the shop, until the end.
    async fn play(
        &self,
        bus: &Bus,
        broker: Option<Broker>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<DemoReport, Failure> {
        let doors = Doors::open(self, bus, broker).await?;
        let (mut stage, gone) = Stage::new();
        let ending = async {
            tokio::select! {
                () = shutdown => {}
                // Nobody looks any more: it ends as at Ctrl-C.
                () = gone.notified() => {}
            }
        };
        let played = demo::run(bus.clone(), self.options(), &mut stage, ending).await;
        doors.close().await;
        played.map_err(Failure::new)
    }

    fn options(&self) -> DemoOptions {
        let traffic = Traffic {
            seed: self.seed,
            ..Traffic::default()
        };
        let load = match &self.replay {
            Some(file) => Load::Replay {
                file: file.clone(),
                rejects: self.data.join("rejects.csv"),
            },
            None if self.rate == 0 => Load::None,
            None => Load::Traffic {
                traffic,
                rate: self.rate,
            },
        };
        let decline_one_in = match &load {
            Load::Traffic { .. } => DECLINE_ONE_IN,
            _ => 0,
        };
        DemoOptions {
            place: match self.bus.as_deref() {
                Some("memory:") => Place::Memory,
                _ => Place::Folder(self.data.join("shop")),
            },
            shop: ShopOptions {
                opening: Opening {
                    seed: self.seed,
                    ..Opening::default()
                },
                cards: Cards { decline_one_in },
            },
            load,
            run_for: self.run_for,
            http: Some(self.shop),
            format: match self.json {
                true => Format::Json,
                false => Format::Text,
            },
        }
    }

    /// Says one thing before the shop speaks, in the form that was asked for.
    fn say(&self, name: &str, text: &str) {
        // What cannot be written is met again by the first second's line.
        let _ = match self.json {
            true => output::say(serde_json::json!({ name: text })),
            false => output::say(format_args!("{name}: {text}")),
        };
    }
}

/// The broker's doors while the demo runs.
struct Doors {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Doors {
    async fn open(demo: &Demo, bus: &Bus, broker: Option<Broker>) -> Result<Self, Failure> {
        let free = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let bound = match bind(demo, demo.http, bus, broker.clone()).await {
            Err(ServeError::Taken(address)) => {
                let text = format!("{address} is taken, so HTTP and Socket.IO are on a free port");
                demo.say("note", &text);
                bind(demo, free, bus, broker).await
            }
            bound => bound,
        };
        let server = bound.map_err(Failure::new)?;
        if demo.bus.as_deref() != Some("memory:") {
            demo.say("data", &demo.data.display().to_string());
        }
        demo.say("http", &format!("http://{}", server.http_addr()));
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async {
            // An error means that `Doors` was dropped, which stops too.
            let _ = stopped.await;
        }));
        Ok(Self { stop, task })
    }

    async fn close(self) {
        // The doors may be gone already; a panic in them was told on standard error.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn bind(
    demo: &Demo,
    http: SocketAddr,
    bus: &Bus,
    broker: Option<Broker>,
) -> Result<Server, ServeError> {
    let config = Config {
        insecure: demo.insecure,
        ..Config::at(http)
    };
    match broker {
        Some(broker) => Server::bind(broker, config).await,
        None => Server::bind_bus(bus.clone(), config).await,
    }
}

/// The flag belongs to the message: it is what to change.
fn named(data: &Path, error: &impl std::fmt::Display) -> Failure {
    Failure::new(format!("--data {}: {error}", data.display()))
}
