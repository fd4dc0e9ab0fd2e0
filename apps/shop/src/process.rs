//! Some of the services, or the HTTP door alone, as a process of their own: what the binary
//! `tidemill-shop` runs. Knows no command line, and of other processes only the bus.

use std::future::Future;
use std::net::SocketAddr;

use thiserror::Error;
use tidemill::core::{FetchError, PublishError};
use tidemill::{Bus, OpenError};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::database::{DatabaseError, Place};
use crate::http;
use crate::shop::{One, SERVICES, ServiceEnded, Serving, ShopOptions, open_one};
use crate::{catalogue, seed};

/// What runs in this process.
#[derive(Clone, Debug)]
pub struct Process {
    /// The address of the bus, as [`tidemill::open`] takes it.
    pub bus: String,
    /// The services by name.
    pub services: Vec<String>,
    /// Where their databases are.
    pub place: Place,
    /// How they behave.
    pub options: ShopOptions,
    /// Where the HTTP door listens; nowhere without it.
    pub http: Option<SocketAddr>,
}

/// Why a process could not go on.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// The bus.
    #[error(transparent)]
    Bus(#[from] OpenError),
    /// A database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// No service has this name.
    #[error("there is no service {0}")]
    Unknown(String),
    /// The bus takes nothing.
    #[error("the first products cannot be published: {0}")]
    Publish(#[from] PublishError),
    /// The door cannot listen there.
    #[error("cannot listen on {0} ({1}); choose another address with --http")]
    Listen(SocketAddr, std::io::Error),
    /// The door cannot listen to the bus, or ended.
    #[error("the HTTP door ended: {0}")]
    Door(#[from] FetchError),
    /// A service ended by itself.
    #[error(transparent)]
    Service(#[from] ServiceEnded),
    /// A part of it panicked.
    #[error("a part of it ended: {0}")]
    Ended(String),
}

/// Runs it until `shutdown` resolves; `ready` is told the door's address once all is open. What is
/// being handled then is finished.
///
/// # Errors
/// [`ProcessError`]; also when a service ends by itself, which none does while its bus works.
pub async fn run(
    process: Process,
    ready: impl FnOnce(Option<SocketAddr>),
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ProcessError> {
    // Databases first: a second shop on the same ones must not reach the bus.
    let services = open(&process).await?;
    let bus = tidemill::open(&process.bus).await?;
    let mut door = match process.http {
        Some(address) => Some(Door::open(&bus, address).await?),
        None => None,
    };
    let mut kept = Vec::new();
    let mut routers = Vec::new();
    let mut topics = Vec::new();
    for (name, router, service, of_topics) in services {
        kept.push(service);
        routers.push((name, router));
        topics.extend(of_topics);
    }
    let catalogue = kept.iter().zip(&routers);
    let mut catalogue = catalogue.filter(|(_, (name, _))| *name == catalogue::NAME);
    let catalogue = catalogue.next().map(|(service, _)| service.clone());
    let whole = routers.len() == SERVICES.len();
    let mut serving = Serving::of(&bus, routers.into_iter().chain(topics));
    if let Some(catalogue) = catalogue
        && seed::seed::<ProcessError>(&bus, &catalogue).await? > 0
        && whole
    {
        seed::known(&bus).await;
    }
    ready(door.as_ref().map(|door| door.address));
    let ended = tokio::select! {
        () = shutdown => Ok(()),
        ended = serving.ended() => Err(ended.into()),
        ended = Door::ended(&mut door) => Err(ended),
    };
    // In this order: requests that were taken are answered.
    let closed = match door {
        Some(door) => door.close().await,
        None => Ok(()),
    };
    let stopped = serving.stop().await;
    for service in kept {
        service.close().await;
    }
    ended?;
    stopped?;
    closed
}

async fn open(process: &Process) -> Result<Vec<One>, ProcessError> {
    let Process {
        services,
        place,
        options,
        ..
    } = process.clone();
    let opening = tokio::task::spawn_blocking(move || {
        let open = |name: &String| {
            let one = open_one(name, &place, options)?;
            one.ok_or_else(|| ProcessError::Unknown(name.clone()))
        };
        services.iter().map(open).collect()
    });
    let opened = opening.await;
    opened.map_err(|error| ProcessError::Ended(error.to_string()))?
}

/// The HTTP door at work.
struct Door {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), FetchError>>,
}

impl Door {
    async fn open(bus: &Bus, address: SocketAddr) -> Result<Self, ProcessError> {
        let failed = |why| ProcessError::Listen(address, why);
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async {
            // An error means that `Door` was dropped, which stops too.
            let _ = stopped.await;
        };
        let task = tokio::spawn(http::serve(bus.clone(), listener, until));
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    /// Resolves when the door has ended by itself, if there is one; it is taken away then.
    async fn ended(door: &mut Option<Self>) -> ProcessError {
        let Some(open) = door else {
            return std::future::pending().await;
        };
        let ended = (&mut open.task).await;
        *door = None;
        match ended {
            Ok(Err(why)) => why.into(),
            Ok(Ok(())) => ProcessError::Ended("the HTTP door".to_owned()),
            Err(error) => ProcessError::Ended(error.to_string()),
        }
    }

    async fn close(self) -> Result<(), ProcessError> {
        // The door may be gone already; its task says why.
        let _ = self.stop.send(());
        let ended = self.task.await;
        Ok(ended.map_err(|error| ProcessError::Ended(error.to_string()))??)
    }
}
