//! The demo: the whole shop on a bus, with orders that come from a file or are generated, a line a
//! second, and a closing account that decides whether all went well. Knows nothing of how the bus
//! is served to others, or of command lines.

mod feed;
mod flight;
mod input;
mod logbook;
mod report;
mod witness;

use std::future::Future;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use tidemill::Bus;
use tidemill::core::{FetchError, PublishError};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

pub use self::flight::Times;
pub use self::logbook::LogSummary;
pub use self::report::{DemoReport, Format, Replayed, Second};

use self::feed::{Feed, PATIENCE};
use self::flight::Flight;
use self::logbook::Logbook;
use self::witness::Witness;
use crate::balance::Balance;
use crate::database::{DatabaseError, Place};
use crate::http;
use crate::http::heard;
use crate::replay::ReplayError;
use crate::seed;
use crate::shop::{ServiceEnded, Serving, Shop, ShopOptions};
use crate::source::{Source, Traffic};
use crate::tail::Tail;

/// The first and the longest wait for databases that do not agree yet.
const SETTLE_FIRST: Duration = Duration::from_millis(10);
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// Where the demo's orders come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// They are generated, so many a second.
    Traffic {
        /// What they look like.
        traffic: Traffic,
        /// Orders a second.
        rate: u32,
    },
    /// A file with the columns of [`crate::replay::COLUMNS`].
    Replay {
        /// The file.
        file: PathBuf,
        /// Where the refused lines go, at the end of the file.
        rejects: PathBuf,
    },
    /// From HTTP alone.
    None,
}

/// Where the shop's HTTP listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// A taken port is left for a free one.
    pub or_free: bool,
}

/// How the demo runs.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Where the databases are kept.
    pub place: Place,
    /// How the shop behaves.
    pub shop: ShopOptions,
    /// Where orders come from.
    pub load: Load,
    /// How long orders are taken; without it until `shutdown`, or to the end of the file.
    pub run_for: Option<Duration>,
    /// Where the shop's HTTP listens; nowhere without it.
    pub http: Option<Http>,
    /// The form of the output.
    pub format: Format,
}

/// Why the demo could not go on.
#[derive(Debug, Error)]
pub enum DemoError {
    /// A database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The bus cannot be read.
    #[error("the bus cannot be read: {0}")]
    Fetch(#[from] FetchError),
    /// The bus took no order.
    #[error("the bus took no orders: {0}")]
    Publish(#[from] PublishError),
    /// A service ended.
    #[error(transparent)]
    Service(#[from] ServiceEnded),
    /// The file.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The output takes nothing.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// All is done, and the output did not take the summary.
    #[error("cannot write the summary: {source}")]
    Untold {
        /// Whether all went well, see [`DemoReport::is_success`].
        success: bool,
        /// What the output said.
        source: io::Error,
    },
    /// The shop's HTTP cannot listen there.
    #[error("cannot listen on {address} ({source}); choose another address for the shop")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The databases are older than the log, or gone.
    #[error(
        "the log tells of {0} orders that the databases do not know (order {1}, for one), so \
         they are older than it or gone; restore the folder of both from one backup, or begin in \
         another one"
    )]
    Older(usize, i64),
    /// No order ended for a long time.
    #[error("{0} orders are under way and none ends; see whether the bus takes writes")]
    Stuck(usize),
    /// A part of the demo ended by itself.
    #[error("a part of the demo ended: {0}")]
    Ended(String),
}

/// Runs the demo until its time is over, its file is read, or `shutdown` resolves; then lets the
/// orders under way end, drains the services and draws the account. On the databases of an
/// earlier demo, and its bus, it goes on where that one was, however it ended. When a service ends
/// by itself, or the bus has lost events that the databases follow from, the account is drawn at
/// once.
///
/// # Errors
/// [`DemoError`] when it could not go on; that a service ended, that events are lost or that
/// something does not add up is no error but said by [`DemoReport::is_success`].
pub async fn run(
    bus: Bus,
    options: DemoOptions,
    output: &mut (dyn Write + Send),
    shutdown: impl Future<Output = ()> + Send,
) -> Result<DemoReport, DemoError> {
    let mut stage = Stage::open(bus, &options).await?;
    if stage.lost {
        // Orders would wait for what is gone.
        let report = stage.close().await?;
        return told(output, options.format, report);
    }
    let door = Door::open(&stage.bus, &options, output).await?;
    let begun = Instant::now();
    let played = stage.play(&options, output, shutdown).await;
    let seconds = begun.elapsed().as_secs();
    let ended = match played {
        Ok(()) => stage.finish(door).await,
        Err(error) => Err(error),
    };
    let trouble = match ended {
        Ok(()) => None,
        Err(DemoError::Service(ended)) => Some(ended.to_string()),
        Err(error) => {
            // What failed is what counts; closing is tried all the same.
            let _ = stage.close().await;
            return Err(error);
        }
    };
    let mut report = stage.close().await?;
    report.seconds = seconds;
    report.trouble.splice(..0, trouble);
    if !report.trouble.is_empty() {
        // What is under way is between two databases, or between one and the log.
        report.complaints.clear();
        report.balance.complaints.clear();
    }
    if let Load::Replay { rejects, .. } = &options.load {
        report.file = report.file.map(|file| Replayed {
            stale_rejects: file.tally.is_none() && rejects.exists(),
            ..file
        });
    } else {
        report.file = None;
    }
    told(output, options.format, report)
}

fn told(
    output: &mut (dyn Write + Send),
    format: Format,
    report: DemoReport,
) -> Result<DemoReport, DemoError> {
    match report::summary(output, format, &report) {
        Ok(()) => Ok(report),
        Err(source) => Err(DemoError::Untold {
            success: report.is_success(),
            source,
        }),
    }
}

/// The shop's HTTP while the demo runs.
struct Door {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), FetchError>>,
}

impl Door {
    async fn open(
        bus: &Bus,
        options: &DemoOptions,
        output: &mut (dyn Write + Send),
    ) -> Result<Option<Self>, DemoError> {
        let Some(Http { address, or_free }) = options.http else {
            return Ok(None);
        };
        let listen = |source| DemoError::Listen { address, source };
        let mut note = |name, text: &str| {
            report::note(output, options.format, name, text).map_err(DemoError::Output)
        };
        let listener = match TcpListener::bind(address).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse && or_free => {
                let text = format!("{address} is taken, so the shop listens on a free port");
                note("note", &text)?;
                let free = SocketAddr::new(address.ip(), 0);
                TcpListener::bind(free).await.map_err(listen)?
            }
            bound => bound.map_err(listen)?,
        };
        let address = listener.local_addr().map_err(listen)?;
        note("shop", &format!("http://{address}"))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async {
            // An error means that `Door` was dropped, which stops too.
            let _ = stopped.await;
        };
        let task = tokio::spawn(http::serve(bus.clone(), listener, until));
        Ok(Some(Self { stop, task }))
    }

    async fn close(self) -> Result<(), DemoError> {
        // The door may be gone already; its task says why.
        let _ = self.stop.send(());
        let ended = self.task.await;
        Ok(ended.map_err(|error| DemoError::Ended(error.to_string()))??)
    }
}

/// Everything that runs during the demo.
struct Stage {
    bus: Bus,
    shop: Shop,
    source: Source,
    witness: Witness,
    /// The log has lost something: nothing is served.
    lost: bool,
    serving: Serving,
    flight: Arc<Flight>,
    /// Sees orders end.
    watching: JoinHandle<()>,
    feed: Feed,
    /// Tells the feed that no more orders are wanted.
    stop: watch::Sender<bool>,
    /// Requests published by the source.
    published: Arc<AtomicU64>,
    /// How far a file came.
    replayed: Arc<Mutex<Replayed>>,
}

impl Stage {
    async fn open(bus: Bus, options: &DemoOptions) -> Result<Self, DemoError> {
        let (place, shop_options) = (options.place.clone(), options.shop);
        let opened = tokio::task::spawn_blocking(move || {
            let shop = Shop::open(&place, shop_options)?;
            Ok::<_, DatabaseError>((shop, Source::open(&place)?, Witness::open(&place)?))
        });
        let opened = opened
            .await
            .map_err(|error| DemoError::Ended(error.to_string()))?;
        let (shop, source, witness) = opened?;
        let lost = !witness.look(&bus).await?.is_empty();
        let flight = Arc::new(Flight::new());
        // In this order: what ends after the log was read is seen by the tail.
        let tail = heard::tail(&bus).await?;
        let book = Logbook::read(&bus).await?;
        if !lost {
            // Later its services would add to it.
            let account = shop.orders.account().await?;
            let unknown = book.unknown(&account);
            if let Some(first) = unknown.first() {
                return Err(DemoError::Older(unknown.len(), *first));
            }
        }
        let now = Instant::now();
        book.under_way().for_each(|id| flight.begin(id, now));
        let ends = Arc::clone(&flight);
        let watching = tokio::spawn(watch_ends(tail, ends));
        let published = Arc::new(AtomicU64::new(0));
        let replayed = Arc::<Mutex<Replayed>>::default();
        let (stop, stopped) = watch::channel(false);
        let feed = Feed {
            stop: stopped,
            bus: bus.clone(),
            source: source.clone(),
            flight: Arc::clone(&flight),
            known: Arc::new(book.into_requested()),
            published: Arc::clone(&published),
            replayed: Arc::clone(&replayed),
            refusal: Arc::default(),
        };
        let serving = match lost {
            true => Serving::nothing(),
            false => shop.serve(&bus),
        };
        if !lost {
            feed.left_over().await?;
            if seed::seed::<DemoError>(&bus, shop.catalogue.service()).await? > 0 {
                seed::known(&bus).await;
            }
        }
        Ok(Self {
            bus,
            shop,
            source,
            witness,
            lost,
            serving,
            flight,
            watching,
            feed,
            stop,
            published,
            replayed,
        })
    }

    /// Feeds and prints until the end.
    async fn play(
        &mut self,
        options: &DemoOptions,
        output: &mut (dyn Write + Send),
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), DemoError> {
        let feed = self.feed.clone();
        let feeding = async {
            match &options.load {
                Load::Traffic { traffic, rate } => feed.traffic(*traffic, *rate).await,
                Load::Replay { file, rejects } => feed.replay(file, rejects).await,
                Load::None => {
                    feed.stopped().await;
                    Ok(())
                }
            }
        };
        let time_over = async {
            match options.run_for {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let ending = async {
            tokio::select! {
                () = time_over => {}
                () = shutdown => {}
            }
        };
        tokio::pin!(feeding, ending);
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.tick().await;
        let mut last = Second::default();
        let mut refusal = None;
        loop {
            tokio::select! {
                fed = &mut feeding => return fed,
                () = &mut ending, if !*self.stop.borrow() => {
                    self.stop.send_replace(true);
                }
                ended = self.serving.ended() => return Err(ended.into()),
                _ = tick.tick() => {
                    let now = self.reading(last.second + 1);
                    let line = Second {
                        published: now.published - last.published,
                        handled: now.handled - last.handled,
                        ..now
                    };
                    report::second(output, options.format, &line)
                        .map_err(DemoError::Output)?;
                    last = now;
                    let why = self.feed.refusal();
                    if let Some(why) = why.as_ref().filter(|_| why != refusal) {
                        let text = format!("the bus takes no orders, which are tried again: {why}");
                        report::note(output, options.format, "note", &text)
                            .map_err(DemoError::Output)?;
                    }
                    refusal = why;
                    // A full disk is met by others too; the next second looks again.
                    let _ = self.witness.look(&self.bus).await;
                }
            }
        }
    }

    /// The counts since the start.
    fn reading(&self, second: u64) -> Second {
        let counted = self.shop.counted();
        Second {
            second,
            published: self.published.load(Ordering::Relaxed) + counted.published,
            handled: counted.handled,
            times: self.flight.recent(),
            waiting: self.flight.open() as u64,
            failed: counted.failed,
        }
    }

    /// Lets the orders under way end, closes the door, and waits until the services have heard of
    /// each other's last words.
    async fn finish(&mut self, door: Option<Door>) -> Result<(), DemoError> {
        let Self {
            flight,
            shop,
            serving,
            ..
        } = self;
        let finished = async {
            flight.down_to(0, PATIENCE).await;
            if let Some(door) = door {
                door.close().await?;
            }
            settle(shop).await
        };
        tokio::select! {
            finished = finished => finished,
            ended = serving.ended() => Err(ended.into()),
        }
    }

    /// Drains the services, draws the account and closes the databases.
    async fn close(self) -> Result<DemoReport, DemoError> {
        let stopped = self.serving.stop().await;
        self.watching.abort();
        let book = Logbook::read(&self.bus).await?;
        let account = self.shop.orders.account().await?;
        let counted = self.shop.counted();
        let file = self.replayed.lock();
        let file = file.unwrap_or_else(PoisonError::into_inner).clone();
        let read_again = self.shop.read_again().await?;
        let mut report = DemoReport {
            lost: self.witness.look(&self.bus).await?,
            published: self.published.load(Ordering::Relaxed) + counted.published,
            handled: counted.handled,
            handled_again: counted.again,
            failed: counted.failed,
            ignored: counted.ignored,
            times: self.flight.all(),
            ended: self.flight.ended(),
            log: book.summary(),
            balance: Balance::of(&self.shop).await?,
            complaints: book.check(&account, !read_again.is_empty()),
            replay: file.tally,
            file: Some(file),
            trouble: stopped.err().iter().map(ToString::to_string).collect(),
            read_again,
            ..DemoReport::default()
        };
        if !report.lost.is_empty() {
            // It says of what is missing why it is.
            report.complaints.clear();
            report.file = None;
        }
        drop(self.feed);
        self.source.close().await;
        self.witness.close().await;
        self.shop.close().await;
        Ok(report)
    }
}

/// Notes the ends of orders, until the bus is closed, which is the only error.
async fn watch_ends(mut tail: Tail, flight: Arc<Flight>) {
    while let Ok(events) = tail.next().await {
        let now = Instant::now();
        let ended = events.iter().filter_map(|event| heard::end(event));
        ended.for_each(|(order_id, _)| flight.end(order_id, now));
    }
}

/// Waits until stock and payment are through: an order has ended before the stock let go of its
/// pieces and its money went back. What does not come right is left to the account.
async fn settle(shop: &Shop) -> Result<(), DemoError> {
    let begun = Instant::now();
    let mut pause = SETTLE_FIRST;
    while !Balance::of(shop).await?.is_even() && begun.elapsed() < PATIENCE {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(SETTLE_MAX);
    }
    Ok(())
}
