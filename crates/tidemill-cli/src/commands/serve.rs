//! `tidemill serve`: the broker behind its doors, until it is told to stop.

use std::path::PathBuf;

use clap::Args;
use tidemill::broker::{Broker, PRIVATE_DIR};
use tidemill_server::limits::{BODY_MAX_BYTES, ENVELOPE_MAX_BYTES};
use tidemill_server::{Config, KafkaConfig, Server};

use crate::failure::Failure;
use crate::settings::{Flush, Options, Settings};
use crate::{folder, output, port, signals, target};

/// Run the broker with its doors: HTTP and Socket.IO, and the protocol of Kafka
///
/// Options come from flags, else from the environment, else from the file, else the defaults.
/// Ctrl-C or SIGTERM ends it: open requests are answered, and the data is written out. Another one,
/// at least a second after the first, ends it at once.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill serve\n  \
    tidemill serve --data /var/lib/tidemill --http 127.0.0.1:8080\n  \
    tidemill serve --memory 64MiB\n  \
    tidemill serve --cors https://shop.example --rate-limit 1000/s\n  \
    tidemill serve --kafka off\n  \
    tidemill serve --kafka 0.0.0.0:9092 --kafka-sasl required --kafka-tls-cert cert.pem \
    --kafka-tls-key key.pem\n  \
    tidemill serve --kafka-sasl required --kafka-acls closed --kafka-super-user root\n  \
    tidemill serve --config tidemill.toml     with lines such as: http = \"127.0.0.1:8080\"")]
pub(crate) struct Serve {
    #[command(flatten)]
    options: Options,
    /// Read options from this TOML file; its keys are the flags' names with underscores
    #[arg(long, env = "TIDEMILL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Serve {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let settings = Settings::new(self.options, self.config.as_deref())?;
        let one_event = settings.event_max_bytes.saturating_add(ENVELOPE_MAX_BYTES);
        let config = Config {
            insecure: settings.insecure,
            body_max_bytes: one_event.max(BODY_MAX_BYTES),
            backups: settings.backups.clone(),
            private: Some(settings.data.join(PRIVATE_DIR)),
            cors: settings.cors.clone(),
            rate_limit: settings.rate_limit,
            kafka: settings.kafka.clone(),
            ..Config::at(settings.http)
        };
        // Before anything is made.
        if let Some(kafka) = &settings.kafka {
            port::are_apart(&[("--http", settings.http), ("--kafka", kafka.listen)])?;
        }
        config.check().map_err(Failure::usage)?;
        port::is_free("--http", settings.http)?;
        if let Some(kafka) = &settings.kafka {
            port::is_free("--kafka", kafka.listen)?;
        }
        if let Some(backups) = &settings.backups {
            folder::may_hold_backups(backups, &settings.data)?;
        }
        if let Some(note) = in_vain(&settings.in_vain) {
            output::remark(note);
        }
        let shutdown = signals::shutdown(None)?;
        let broker = open(&settings).await?;
        let server = match Server::bind(broker.clone(), config).await {
            Ok(server) => server,
            Err(error) => {
                broker.close().await;
                return Err(Failure::new(error));
            }
        };
        let (data, flush) = (settings.data.display(), flush_text(settings.flush));
        // Whatever becomes of its output, a server serves.
        let _ = output::say(format_args!(
            "tidemill {}\ndata    {data} ({flush})\nhttp    http://{}",
            env!("CARGO_PKG_VERSION"),
            server.http_addr()
        ));
        if let Some(kafka) = server.kafka_addr() {
            let how = settings.kafka.as_ref().map(security).unwrap_or_default();
            let _ = output::say(format_args!("kafka   {kafka}{how}"));
        }
        server.run(shutdown).await;
        broker.close().await;
        let _ = output::say(format_args!("closed; everything accepted is in {data}"));
        Ok(())
    }
}

async fn open(settings: &Settings) -> Result<Broker, Failure> {
    folder::keep_backup(&settings.data)?;
    let builder = match &settings.kafka {
        Some(kafka) => Broker::builder()
            .classic_session_min(kafka.session_min)
            .consumer_heartbeat_interval(kafka.consumer_heartbeat_interval)
            .consumer_session_timeout(kafka.consumer_session_timeout),
        None => Broker::builder(),
    };
    let opened = builder
        .path(&settings.data)
        .flush(target::flush_policy(settings.flush))
        .auto_create_topics(settings.auto_create_topics)
        .default_partitions(settings.default_partitions)
        .memory(settings.memory)
        .event_max_bytes(settings.event_max_bytes)
        .scrub_bytes_per_second(settings.scrub_bytes_per_second)
        .open()
        .await;
    opened.map_err(|error| folder::refused(&settings.data, &error))
}

/// What is said of options that have no effect, if there are any.
fn in_vain(flags: &[&str]) -> Option<String> {
    let flags: Vec<_> = flags.iter().map(|flag| format!("--{flag}")).collect();
    (!flags.is_empty()).then(|| {
        format!(
            "note: without effect, as there is no door for clients of Kafka (--kafka off): {}",
            flags.join(", ")
        )
    })
}

/// What is said of the door for clients of Kafka behind its address.
fn security(kafka: &KafkaConfig) -> String {
    let acls = kafka.acls.as_ref().map(|acls| match acls.open {
        true => "what no rule is about is open",
        false => "only what rules allow",
    });
    let said = [
        kafka.tls.as_ref().map(|_| "TLS"),
        kafka.sasl.as_ref().map(|_| "users log in"),
        acls,
    ];
    let said: Vec<_> = said.into_iter().flatten().collect();
    match said.is_empty() {
        true => String::new(),
        false => format!(" ({})", said.join(", ")),
    }
}

fn flush_text(flush: Flush) -> String {
    match flush {
        Flush::EveryCommit => "every commit is synced".to_owned(),
        Flush::Interval(time) => {
            format!(
                "synced every {} ms; a power cut may lose what came since",
                time.as_millis()
            )
        }
        Flush::Os => "synced by the system; a power cut may lose the last events".to_owned(),
    }
}
