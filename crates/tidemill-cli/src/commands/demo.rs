//! `tidemill demo`: broker, doors and the shop in one process, with orders that are generated or
//! come from a file.

mod doors;

use std::fmt::Display;
use std::future::Future;
use std::io::{ErrorKind, IsTerminal as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tidemill::Bus;
use tidemill::broker::Broker;
use tidemill::broker::inspect::holds_log;
use tidemill_server::{Config, KafkaConfig};
use tidemill_shop::database::Place;
use tidemill_shop::demo::{self, DemoError, DemoOptions, DemoReport, Format, Load};
use tidemill_shop::payment::Cards;
use tidemill_shop::replay;
use tidemill_shop::shop::ShopOptions;
use tidemill_shop::source::Traffic;
use tidemill_shop::stock::Opening;

use self::doors::{Doors, Texts};
use crate::failure::Failure;
use crate::folder::{self, demo_bus};
use crate::limits::DEMO_RATE_MAX;
use crate::output::{self, Stage, unwritten};
use crate::settings::Door;
use crate::{port, shell, signals, values};

/// The ports of the doors, of the shop and of the text messages, where nobody names others.
const HTTP_PORT: u16 = 7575;
const KAFKA_PORT: u16 = 9092;
const SHOP_PORT: u16 = 7580;
const MESSAGES_PORT: u16 = 7581;

/// Of the generated orders, about one in so many meets a declined card.
const DECLINE_ONE_IN: u64 = 40;

/// A rate that is short by more than one in so many orders is told.
const RATE_SHORT_ONE_IN: u64 = 5;

/// Run a shop and text messages on a broker with its doors, all in this process
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
    tidemill demo --replay apps/shop/data/orders.csv --data ./replayed\n  \
    tidemill demo --bus memory: --rate 500 --for 10s --json")]
pub(crate) struct Demo {
    /// Take orders for so long, then end
    #[arg(long = "for", value_name = "TIME", value_parser = values::positive_duration)]
    run_for: Option<Duration>,
    /// Generated orders a second, or as many as the shop keeps up with; 0 leaves it to HTTP
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        conflicts_with = "replay",
        value_parser = values::within(0_u32, DEMO_RATE_MAX)
    )]
    rate: u32,
    /// Take orders from this CSV file instead; at its end the refused lines are in DIR/rejects.csv
    ///
    /// Its first line is InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,
    /// Country, and a line after it is one product of one order, dates as 12-01-2010 08:26.
    /// apps/shop/README.md says what becomes of each, and where real orders of this form are.
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
    /// Another bus than the broker in DIR/bus; on memory:, the only one yet, nothing at all is kept
    #[arg(long, value_name = "URL", value_parser = bus)]
    bus: Option<String>,
    /// Address of HTTP and Socket.IO [default: 127.0.0.1:7575, or a free port where that is taken]
    #[arg(
        long,
        env = "TIDEMILL_HTTP",
        value_name = "ADDR",
        value_parser = values::address
    )]
    http: Option<SocketAddr>,
    /// Address for clients of Kafka, who may order, or off [default: 127.0.0.1:9092, or a free
    /// port where that is taken]
    #[arg(long, env = "TIDEMILL_KAFKA", value_name = "ADDR")]
    kafka: Option<Door>,
    /// Address of the shop's HTTP [default: 127.0.0.1:7580, or a free port where that is taken]
    #[arg(long, value_name = "ADDR", value_parser = values::address)]
    shop: Option<SocketAddr>,
    /// Address of the text messages [default: 127.0.0.1:7581, or a free port where that is taken]
    #[arg(long, value_name = "ADDR", value_parser = values::address)]
    messages: Option<SocketAddr>,
    /// Listen where other machines can reach it, although nobody has to log in
    #[arg(long)]
    insecure: bool,
    /// Another number, other orders and another opening stock
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::number::<u64>)]
    seed: u64,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// The address of a bus. A folder is named with `--data`.
fn bus(text: &str) -> Result<String, String> {
    match text {
        "memory:" => Ok(text.to_owned()),
        _ => Err("this build has no other bus than memory:; a folder is named with --data".into()),
    }
}

impl Demo {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.check()?;
        self.ports()?;
        let shutdown = signals::shutdown(self.left())?;
        let (bus, broker) = self.open().await?;
        let report = self.play(&bus, broker.clone(), shutdown).await;
        drop(bus);
        broker.close().await;
        let report = report?;
        self.compare(&report);
        if let Some(lost) = report.lost.first() {
            let why = format!("{lost}; restore the folder from a backup, or begin in another one");
            return Err(folder::named(&self.data, why));
        }
        match report.trouble.first() {
            Some(trouble) => Err(Failure::new(trouble)),
            None if report.is_success() => Ok(()),
            None if self.in_memory() => Err(Failure::new(
                "the demo does not add up; its last lines say where",
            )),
            None => Err(folder::named(
                &self.data,
                "the demo does not add up; its last lines say where; restore the folder from a \
                 backup, or begin in another one",
            )),
        }
    }

    fn in_memory(&self) -> bool {
        self.bus.is_some()
    }

    /// Refuses what makes no sense, before anything is made.
    fn check(&self) -> Result<(), Failure> {
        let open = [
            ("--shop", self.shop_address()),
            ("--messages", self.messages_address()),
        ];
        let reachable = |(_, address): &(_, SocketAddr)| !address.ip().is_loopback();
        if let Some((flag, address)) = open.into_iter().find(reachable)
            && !self.insecure
        {
            return Err(Failure::usage(format!(
                "{flag} {address}: other machines could reach it and nobody has to log in; bind to \
                 127.0.0.1, or allow it with --insecure"
            )));
        }
        let config = self.config(self.http_address(), self.kafka_address());
        config.check().map_err(Failure::usage)?;
        if let Some(file) = &self.replay {
            check_file(file).map_err(|why| Failure::usage(replay_named(file, why)))?;
        }
        for (n, (one, address)) in self.named().into_iter().enumerate() {
            let mut others = self.named().into_iter().skip(n + 1);
            let is_same = |(_, other): &(_, Option<SocketAddr>)| *other == address;
            if let Some(address) = address.filter(|address| address.port() != 0)
                && let Some((other, _)) = others.find(is_same)
            {
                return Err(Failure::usage(format!(
                    "{one} and {other} are both {address}; give each an address of its own"
                )));
            }
        }
        match self.in_memory() {
            true => Ok(()),
            false => self.check_folder(),
        }
    }

    fn check_folder(&self) -> Result<(), Failure> {
        let looked = std::fs::read_dir(&self.data).map(|_| ());
        let looked = looked.and_then(|()| std::fs::metadata(self.data.join("bus")).map(|_| ()));
        let why = match looked {
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                "it is a file; name a folder".to_owned()
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                "permission denied; run as the user that the folder belongs to, or name another \
                 folder"
                    .to_owned()
            }
            _ if holds_log(&self.data) => "there is a log of its own in this folder, as of \
                 `tidemill serve`, and a demo's files do not belong beside it; name another folder"
                .to_owned(),
            _ => return Ok(()),
        };
        let shown = self.data.display();
        Err(Failure::usage(format!("--data {shown}: {why}")))
    }

    /// Refuses a named port that is taken, before anything is made.
    fn ports(&self) -> Result<(), Failure> {
        let named = self.named().into_iter();
        let named = named.filter_map(|(flag, address)| Some((flag, address?)));
        for (flag, address) in named {
            port::is_free(flag, address)?;
        }
        Ok(())
    }

    /// The addresses that somebody typed.
    fn named(&self) -> [(&'static str, Option<SocketAddr>); 4] {
        [
            ("--http", self.http),
            ("--kafka", self.kafka.and_then(|door| door.0)),
            ("--shop", self.shop),
            ("--messages", self.messages),
        ]
    }

    fn http_address(&self) -> SocketAddr {
        self.http.unwrap_or((Ipv4Addr::LOCALHOST, HTTP_PORT).into())
    }

    /// Nothing where the door is off, or not built.
    fn kafka_address(&self) -> Option<SocketAddr> {
        match self.kafka {
            Some(Door(address)) => address,
            None if cfg!(feature = "kafka") => Some((Ipv4Addr::LOCALHOST, KAFKA_PORT).into()),
            None => None,
        }
    }

    fn shop_address(&self) -> SocketAddr {
        self.shop.unwrap_or((Ipv4Addr::LOCALHOST, SHOP_PORT).into())
    }

    fn messages_address(&self) -> SocketAddr {
        let usual = (Ipv4Addr::LOCALHOST, MESSAGES_PORT).into();
        self.messages.unwrap_or(usual)
    }

    /// What is to be said of a demo that is ended at once.
    fn left(&self) -> Option<String> {
        let words = ["--data".to_owned(), self.data.display().to_string()];
        let again = format!(
            "orders may be under way; a demo that is started with {} finishes them",
            shell::line(&words)
        );
        (!self.in_memory()).then_some(again)
    }

    /// Says so when the rate that was asked for was more than the shop keeps up with.
    fn compare(&self, report: &DemoReport) {
        let asked = u64::from(self.rate) * report.seconds;
        if self.replay.is_none() && report.ended < asked - asked / RATE_SHORT_ONE_IN {
            output::remark(format_args!(
                "note: {} orders a second were asked for, and {} were taken: the shop kept up with \
                 no more",
                self.rate,
                report.ended / report.seconds.max(1)
            ));
        }
    }

    async fn open(&self) -> Result<(Bus, Broker), Failure> {
        let broker = match self.in_memory() {
            true => Broker::in_memory(),
            false => {
                let folder = demo_bus(&self.data);
                let opened = Broker::builder().path(&folder).open().await;
                opened.map_err(|error| folder::named(&self.data, error))?
            }
        };
        Ok((broker.bus(), broker))
    }

    /// The doors and the shop, until the end.
    async fn play(
        &self,
        bus: &Bus,
        broker: Broker,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<DemoReport, Failure> {
        let doors = Doors::open(self, broker).await?;
        let texts = Texts::open(self, bus.clone()).await?;
        let (mut stage, gone) = Stage::new();
        let ending = async {
            tokio::select! {
                () = shutdown => output::remark(
                    "ending: the orders under way are finished first; Ctrl-C again ends at once",
                ),
                // Nobody looks any more: it ends as at Ctrl-C.
                () = gone.notified() => {}
            }
        };
        let played = demo::run(bus.clone(), self.options(), &mut stage, ending).await;
        texts.close().await;
        doors.close().await;
        played.map_err(|error| match (&error, &self.replay) {
            (DemoError::Replay(_), Some(file)) => Failure::new(replay_named(file, error)),
            (DemoError::Output(source), _) => {
                let left = self
                    .left()
                    .map(|left| format!("; {left}"))
                    .unwrap_or_default();
                Failure::new(format!("{}; the demo ended{left}", unwritten(source)))
            }
            (DemoError::Untold { success, source }, _) => {
                let outcome = match success {
                    true => "everything adds up",
                    false => "it does not add up",
                };
                let told = Err(unwritten(source));
                let done = output::all_the_same(told, format!("the demo is done, and {outcome}"));
                done.expect_err("it was one")
            }
            _ => Failure::new(error),
        })
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
            place: match self.in_memory() {
                true => Place::Memory,
                false => Place::Folder(self.data.join("shop")),
            },
            shop: ShopOptions {
                opening: Opening {
                    seed: self.seed,
                    ..Opening::default()
                },
                cards: Cards { decline_one_in },
                topics: self.kafka_address().is_some(),
                ..ShopOptions::default()
            },
            load,
            run_for: self.run_for,
            http: Some(demo::Http {
                address: self.shop_address(),
                or_free: self.shop.is_none(),
            }),
            format: match self.json {
                true => Format::Json,
                false => Format::Text,
            },
        }
    }

    fn config(&self, http: SocketAddr, kafka_at: Option<SocketAddr>) -> Config {
        let kafka = |listen| KafkaConfig {
            listen,
            ..KafkaConfig::default()
        };
        Config {
            insecure: self.insecure,
            kafka: kafka_at.map(kafka),
            ..Config::at(http)
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

fn check_file(file: &Path) -> Result<(), String> {
    let kind = std::fs::metadata(file).map_err(|error| error.to_string())?;
    if kind.is_dir() {
        return Err("it is a folder; name a CSV file".to_owned());
    }
    if kind.file_type().is_fifo() {
        // It can be read once, and opens only when somebody writes.
        return Ok(());
    }
    let opened = std::fs::File::open(file).map_err(|error| error.to_string())?;
    if opened.is_terminal() {
        // What is typed is read once, too.
        return Ok(());
    }
    replay::check(file).map_err(|error| error.to_string())
}

/// The flag belongs to the message: it is what to change.
fn replay_named(file: &Path, why: impl Display) -> String {
    format!("--replay {}: {why}", file.display())
}
