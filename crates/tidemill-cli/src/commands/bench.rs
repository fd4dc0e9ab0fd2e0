//! `tidemill bench`: generates load, handles it and reports what became of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use tidemill::broker::Broker;
use tidemill::{GroupName, TopicName};

use crate::bench::{self, Door, Intake, Plan, Report};
use crate::client::Client;
use crate::failure::Failure;
use crate::limits::{BENCH_KEYS_MAX, BENCH_PUBLISHERS_MAX, BENCH_SIZE_MAX_BYTES};
use crate::listing::print_json;
use crate::progress::Progress;
use crate::settings::Flush;
use crate::target::{Reader, Target};
use crate::values::{self, ServerUrl, Start};
use crate::{output, signals, target};

/// Generate load, handle it, and report losses, doubles, order, throughput and latency
///
/// Without --data and --server the broker is in memory. With them the topic is a new one, which
/// is deleted at the end. Exit code 1 when anything was lost, doubled or out of order. An event is
/// lost when nothing at all comes for 10 s; doubles are listened for until 1 s after the last
/// event came. Ctrl-C ends publishing; what was accepted is still waited for and reported.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill bench --for 10s\n  \
    tidemill bench --data ./bench-data --publishers 64 --size 1000\n  \
    tidemill bench --server http://127.0.0.1:7575 --rate 5000 --json")]
pub(crate) struct Bench {
    /// How long to publish
    #[arg(long = "for", value_name = "TIME", default_value = "10s",
          value_parser = values::positive_duration)]
    time: Duration,
    /// Events a second of all publishers together [default: flat out]
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Data of one event in bytes, at least what its number and time need
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = size)]
    size: usize,
    /// Different keys; order is checked per key
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(BENCH_KEYS_MAX)))]
    keys: u32,
    /// Partitions of the topic
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    partitions: u32,
    /// Publishers, each with one call under way
    #[arg(long, value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(BENCH_PUBLISHERS_MAX)))]
    publishers: u16,
    /// Most events of one publishing call
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=1000))]
    batch: u64,
    /// Handlers at work at a time
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    concurrency: u16,
    /// When an event counts as kept, with --data: every_commit, os, or a time such as 50ms
    #[arg(long, value_name = "POLICY", default_value = "every_commit")]
    flush: Flush,
    /// Memory of the broker in MiB when it is in memory; publishing ends when it is full
    #[arg(long, value_name = "MIB", default_value_t = 4096, conflicts_with_all = ["data", "server"],
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    memory: u64,
    /// Use a broker on disk in this folder, which no server has open; made if it is not there
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    data: Option<PathBuf>,
    /// Publish to this server over HTTP and read from it by long poll
    #[arg(long, value_name = "URL")]
    server: Option<ServerUrl>,
    /// Print the report as JSON, with every second of the run
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.1 => Ok(rate),
        _ => Err("a rate is a number of at least 0.1 events a second".to_owned()),
    }
}

fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if size <= BENCH_SIZE_MAX_BYTES => Ok(size),
        _ => Err(format!(
            "a size is a number of bytes up to {BENCH_SIZE_MAX_BYTES}"
        )),
    }
}

impl Bench {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let interrupt = Arc::new(AtomicBool::new(false));
        let shutdown = signals::shutdown()?;
        let flag = Arc::clone(&interrupt);
        tokio::spawn(async move {
            shutdown.await;
            flag.store(true, Ordering::Relaxed);
        });
        let place = self.open().await?;
        let topic = TopicName::new(format!("bench-{}", uuid::Uuid::now_v7().simple()))
            .map_err(Failure::new)?;
        place.create_topic(&topic, self.partitions).await?;
        let report = self.report(&place, &topic, interrupt).await;
        let deleted = self.clear(place, &topic).await;
        let report = report?;
        if self.json {
            print_json(&report)?;
        } else {
            output::write(report.text().as_bytes())?;
        }
        if !report.clean {
            return Err(Failure::new("the run was not clean: see above"));
        }
        deleted
    }

    async fn open(&self) -> Result<Target, Failure> {
        if let Some(url) = &self.server {
            return Ok(Target::Server(Client::new(url)));
        }
        let builder = match &self.data {
            Some(dir) => Broker::builder()
                .path(dir)
                .flush(target::flush_policy(self.flush)),
            None => Broker::builder().in_memory(self.memory * 1024 * 1024),
        };
        let opened = builder.open().await;
        let place = self
            .data
            .as_ref()
            .map_or("memory".to_owned(), |d| d.display().to_string());
        opened
            .map(Target::Folder)
            .map_err(|e| Failure::new(format!("--data {place}: {e}")))
    }

    /// Leaves nothing of the run behind. What is in memory is gone with the process anyhow.
    async fn clear(&self, place: Target, topic: &TopicName) -> Result<(), Failure> {
        if self.data.is_none() && self.server.is_none() {
            return Ok(());
        }
        if let Target::Folder(_) = &place {
            let group = GroupName::new(topic.as_str()).map_err(Failure::new)?;
            place.delete_group(&group).await?;
        }
        let deleted = place.delete_topic(topic).await;
        place.close().await;
        // What is gone already was deleted by somebody else.
        deleted.map(|_| ())
    }

    async fn report(
        &self,
        place: &Target,
        topic: &TopicName,
        interrupt: Arc<AtomicBool>,
    ) -> Result<Report, Failure> {
        let (door, intake) = match place {
            Target::Server(client) => {
                let reader = Reader::open(place, topic, Start::Beginning).await?;
                (Door::Server(client.clone()), Intake::Readers(reader))
            }
            Target::Folder(broker) => {
                let group = GroupName::new(topic.as_str()).map_err(Failure::new)?;
                let bus = broker.bus();
                (Door::Bus(bus.clone()), Intake::Dispatcher(bus, group))
            }
        };
        let plan = self.plan(interrupt);
        let progress = Progress::new(self.time, self.json);
        let report = bench::run(plan, topic.clone(), door, intake, |s| progress.show(s)).await;
        progress.end();
        report
    }

    fn plan(&self, interrupt: Arc<AtomicBool>) -> Plan {
        let folder = self.data.as_ref().map(|dir| dir.display().to_string());
        let server = self.server.as_ref().map(|url| url.as_str().to_owned());
        let place = server.or(folder);
        Plan {
            place: place.unwrap_or_else(|| "memory".to_owned()),
            time: self.time,
            rate: self.rate,
            size_bytes: self.size,
            keys: self.keys,
            partitions: self.partitions,
            // Every publisher has a key of its own.
            publishers: u16::try_from(self.keys)
                .unwrap_or(u16::MAX)
                .min(self.publishers),
            batch: self.batch,
            concurrency: usize::from(self.concurrency),
            interrupt,
        }
    }
}
