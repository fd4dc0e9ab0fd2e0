//! Puts the doors together: checks the settings, opens the port, runs until told to stop.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::middleware::{from_fn, from_fn_with_state};
use tidemill_broker::Broker;
use tidemill_core::Bus;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::app::App;
use crate::backups::Backups;
use crate::config::Config;
use crate::connections;
use crate::error::ServeError;
use crate::http::{self, body::Bodies, rate::Rates};
use crate::limits::{ENVELOPE_MAX_BYTES, SHUTDOWN_GRACE};
use crate::metrics::Metrics;
use crate::protocol::kafka;
use crate::socketio::{self, Clients, Door, Feed};
use crate::throughput::Throughput;
use crate::webhooks::Webhooks;
use crate::ws;

/// A server that holds its port and has not begun to answer.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: Arc<App>,
    closing: watch::Sender<bool>,
    clients: Arc<Clients>,
    feed: Feed,
    kafka: Option<kafka::Listening>,
    config: Config,
}

impl Server {
    /// Opens the port for all doors. The broker may be shared with the rest of the program.
    ///
    /// # Errors
    /// The address can be reached by others and `insecure` is not set, it is taken, or the
    /// broker is closed.
    pub async fn bind(broker: Broker, config: Config) -> Result<Self, ServeError> {
        Self::open(broker.bus(), Some(broker), config).await
    }

    /// Opens the port over any bus. The doors that create, delete and describe say that they
    /// cannot.
    ///
    /// # Errors
    /// As [`Server::bind`], and where the bus cannot list and watch its topics.
    pub async fn bind_bus(bus: Bus, config: Config) -> Result<Self, ServeError> {
        Self::open(bus, None, config).await
    }

    async fn open(bus: Bus, broker: Option<Broker>, config: Config) -> Result<Self, ServeError> {
        config.check()?;
        let listen = |source| ServeError::listen("--http", config.http, source);
        let listener = TcpListener::bind(config.http).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let kafka = match (&config.kafka, &broker) {
            (None, _) => None,
            (Some(_), None) => return Err(ServeError::NeedsBroker("the Kafka protocol")),
            (Some(config), Some(_)) => Some(kafka::Listening::bind(config).await?),
        };
        let metrics = Arc::new(Metrics::new());
        // Over another bus the doors have a budget of their own.
        let memory = broker.as_ref().map(|broker| broker.memory().clone());
        let memory = memory.unwrap_or_default();
        // No larger body can be published: one whose size nobody says needs memory for the largest.
        let fits = broker.as_ref().map(Broker::publish_max_bytes);
        let fits = fits.map_or(usize::MAX, |bytes| bytes + ENVELOPE_MAX_BYTES);
        let body_max_bytes = config.body_max_bytes.min(fits);
        let clients = Arc::new(Clients::new(Arc::clone(&metrics), memory.clone()));
        let feed = Feed::begin(bus.clone(), Arc::clone(&clients)).await?;
        let (closing, closed) = watch::channel(false);
        let webhooks = Webhooks::open(
            (bus.clone(), broker.clone()),
            memory.clone(),
            metrics.webhooks.clone(),
            config.private.clone(),
        );
        let webhooks = webhooks.map_err(ServeError::Webhooks)?;
        let app = Arc::new(App {
            pullers: Arc::new(http::pull::Pullers::new(bus.clone())),
            bus,
            broker,
            backups: config.backups.clone().map(Backups::new).map(Arc::new),
            metrics,
            bodies: Bodies::new(body_max_bytes, memory.clone()),
            memory,
            closing: closed,
            throughput: Throughput::default(),
            ws: ws::Door::new(),
            webhooks: Arc::new(webhooks),
        });
        Ok(Self {
            listener,
            address,
            app,
            closing,
            clients,
            feed,
            kafka,
            config,
        })
    }

    /// Where HTTP and Socket.IO listen.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where the Kafka protocol is spoken, if it is.
    #[must_use]
    pub fn kafka_addr(&self) -> Option<SocketAddr> {
        self.kafka.as_ref().map(kafka::Listening::address)
    }

    /// Answers until `shutdown` resolves; then takes no more connections, ends long polls, gives
    /// open requests [`SHUTDOWN_GRACE`], and closes what is left. The bus stays open.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self {
            listener,
            app,
            closing,
            clients,
            feed,
            kafka,
            config,
            ..
        } = self;
        let (layer, io) = socketio::layer(&clients);
        let door = Door::new(config.socketio_clients_max, Arc::clone(&app.metrics));
        let mut router = http::router(&app)
            .layer(layer)
            .layer(from_fn_with_state(door, socketio::guard));
        if !config.insecure {
            let guard = from_fn_with_state(config.cors.clone(), http::origin::guard);
            router = router.layer(guard);
        }
        if let Some(limit) = config.rate_limit {
            let rates = Arc::new(Rates::new(limit));
            router = router.layer(from_fn_with_state(rates, http::rate::guard));
        }
        if let Some(cors) = &config.cors {
            router = router.layer(cors.layer());
        }
        let router = router.layer(from_fn(http::request_id::identified));
        // Ends with this future, also when that is dropped.
        let mut following = JoinSet::new();
        following.spawn(feed.run());
        let pullers = Arc::clone(&app.pullers);
        following.spawn(async move { pullers.run().await });
        let webhooks = Arc::clone(&app.webhooks);
        following.spawn(async move { webhooks.start().await });
        if let Some(broker) = app.broker.clone() {
            let app = Arc::clone(&app);
            following.spawn(async move { app.throughput.run(broker).await });
        }
        let stopping = async {
            shutdown.await;
            closing.send_replace(true);
        };
        let most = connections::connections_max(config.connections_max);
        let metrics = Arc::clone(&app.metrics);
        // Sessions of Socket.IO are closed beside the other requests: their polls end with them.
        let sessions = async {
            app.closed().await;
            tokio::time::timeout(SHUTDOWN_GRACE, io.close()).await
        };
        let places = Arc::new(Semaphore::new(most));
        let kafka = serve_kafka(kafka, &app, &config, Arc::clone(&places));
        let serving = connections::serve(listener, router, metrics, places, stopping);
        let native = async {
            app.closed().await;
            tokio::join!(app.ws.close(), app.webhooks.close());
        };
        let ((), closed, (), ()) = tokio::join!(serving, sessions, native, kafka);
        if closed.is_err() {
            tracing::warn!("some Socket.IO clients did not take their leave in time");
        }
        following.shutdown().await;
        app.pullers.close();
    }
}

/// Serves the Kafka protocol where it listens.
async fn serve_kafka(
    listening: Option<kafka::Listening>,
    app: &App,
    config: &Config,
    places: Arc<Semaphore>,
) {
    let parts = listening.zip(app.broker.clone()).zip(config.kafka.clone());
    if let Some(((listening, broker), config)) = parts {
        let (metrics, pullers) = (Arc::clone(&app.metrics), Arc::clone(&app.pullers));
        let closing = app.closing.clone();
        let serving = listening.serve(broker, config, metrics, pullers, places, closing);
        serving.await;
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("http", &self.address)
            .finish_non_exhaustive()
    }
}
