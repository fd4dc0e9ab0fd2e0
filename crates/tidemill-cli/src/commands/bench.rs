//! `tidemill bench`: generates load, handles it and reports what became of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use tidemill::broker::limits::TOPIC_PARTITIONS_MAX;
use tidemill::broker::{Broker, CreateTopic};
use tidemill::{GroupName, TopicName};

use crate::bench::{self, Door, Intake, Plan, Report};
use crate::client::Client;
use crate::failure::Failure;
use crate::limits::{
    BENCH_KEYS_MAX, BENCH_PUBLISHERS, BENCH_PUBLISHERS_MAX, BENCH_SIZE_MAX_BYTES,
    BENCH_SIZE_MIN_BYTES,
};
use crate::listing::print_json;
use crate::progress::Progress;
use crate::settings::Flush;
use crate::target::{Reader, Target};
use crate::values::{self, ServerUrl, Start};
use crate::{folder, output, shell, signals, target};

/// Generate load, handle it, and report losses, doubles, order, throughput and latency
///
/// Without --data and --server the broker is in memory, whatever TIDEMILL_DATA and TIDEMILL_SERVER
/// say. With them the topic is a new one, which is deleted at the end.
///
/// Exit code 1 when anything was lost, doubled or out of order. An event is lost when nothing at
/// all comes for 10 s; doubles are listened for until 1 s after the last event came. Where
/// reading breaks off, as when the server goes away, what was not read is not known, and not called
/// lost. Ctrl-C ends publishing; what was accepted is still waited for and reported.
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
    /// Data of one event, such as 4KiB, or in bytes, at least 64: its number and time are in it
    #[arg(long, value_name = "SIZE", default_value_t = 200, value_parser = size)]
    size: usize,
    /// Different keys; order is checked per key
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = values::within(1_u32, BENCH_KEYS_MAX))]
    keys: u32,
    /// Partitions of the topic
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = values::within(1_u32, TOPIC_PARTITIONS_MAX))]
    partitions: u32,
    /// Publishers, each with one call under way and keys of its own [default: 16, or one a key]
    #[arg(long, value_name = "N", value_parser = values::within(1_u16, BENCH_PUBLISHERS_MAX))]
    publishers: Option<u16>,
    /// Most events of one publishing call
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = values::within(1_u64, 1000))]
    batch: u64,
    /// Handlers at work at a time; over a server there are none
    #[arg(long, value_name = "N", default_value_t = 64, conflicts_with = "server",
          value_parser = values::within(1_u16, 10_000))]
    concurrency: u16,
    /// When an event counts as kept, with --data: every_commit, os, or a time such as 50ms
    #[arg(
        long,
        value_name = "POLICY",
        default_value = "every_commit",
        requires = "data",
        conflicts_with = "server"
    )]
    flush: Flush,
    /// Memory of the broker in MiB when it is in memory; publishing ends when it is full
    #[arg(long, value_name = "MIB", default_value_t = 4096, conflicts_with_all = ["data", "server"],
          value_parser = values::within(1_u64, 1_000_000))]
    memory: u64,
    /// Use a broker on disk in this folder, which no server has open; it may have a log, or is new
    /// or empty: then a log without topics stays in it
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
    match values::size(text) {
        Ok(size) if (BENCH_SIZE_MIN_BYTES..=BENCH_SIZE_MAX_BYTES).contains(&size) => Ok(size),
        _ => Err(format!(
            "a size is a number of bytes from {BENCH_SIZE_MIN_BYTES}, which an event's number and \
             time take, to {BENCH_SIZE_MAX_BYTES}"
        )),
    }
}

impl Bench {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let publishers = self.publishers()?;
        let name = format!("bench-{}", uuid::Uuid::now_v7().simple());
        let topic = TopicName::new(name).map_err(Failure::new)?;
        let interrupt = Arc::new(AtomicBool::new(false));
        let shutdown = signals::shutdown(self.left_behind(&topic))?;
        let flag = Arc::clone(&interrupt);
        tokio::spawn(async move {
            shutdown.await;
            flag.store(true, Ordering::Relaxed);
        });
        let place = self.open().await?;
        let how = CreateTopic {
            partitions: self.partitions,
            ..CreateTopic::default()
        };
        place.create_topic(&topic, how).await?;
        let plan = self.plan(publishers, interrupt);
        let report = self.report(&place, &topic, plan).await;
        let answers = place.topic(&topic).await.is_ok();
        let deleted = match answers {
            true => self.clear(place, &topic).await,
            false => Err(Failure::new("it does not answer any more")),
        };
        let report = report?;
        if self.json {
            print_json(&report)?;
        } else {
            output::write(report.text().as_bytes())?;
        }
        if let (Err(why), Some(left)) = (deleted, self.left_behind(&topic)) {
            output::remark(format_args!(
                "note: the topic was not deleted ({why}); {left}"
            ));
        }
        self.verdict(&report, answers)
    }

    /// Whether all went well; `answers` says whether the place still does.
    fn verdict(&self, report: &Report, answers: bool) -> Result<(), Failure> {
        let unread = match report.unread() {
            _ if report.clean => return Ok(()),
            None => return Err(Failure::new("the run was not clean: see above")),
            Some(0) => "all that was accepted was read, and what was under way".to_owned(),
            Some(count) => {
                format!("{count} of the accepted events were not read, and what became of them")
            }
        };
        let why = match &self.server {
            Some(url) if !answers => format!("the server at {} went away", url.as_str()),
            _ => "reading broke off (see above)".to_owned(),
        };
        Err(Failure::new(format!(
            "{why} in the middle of the run: {unread} is not known"
        )))
    }

    /// How many publishers there are: each has a key of its own.
    fn publishers(&self) -> Result<u16, Failure> {
        let most = u16::try_from(self.keys).unwrap_or(u16::MAX);
        match self.publishers {
            None => Ok(BENCH_PUBLISHERS.min(most)),
            Some(count) if count > most => Err(Failure::usage(format!(
                "--publishers {count} are more than --keys {most}; each needs a key of its own"
            ))),
            Some(count) => Ok(count),
        }
    }

    /// What a run that is cut short leaves behind, and how to be rid of it. What is in memory is
    /// gone with the process.
    fn left_behind(&self, topic: &TopicName) -> Option<String> {
        let words = match (&self.server, &self.data) {
            (Some(url), _) => vec!["--server".to_owned(), url.as_str().to_owned()],
            (None, Some(dir)) => vec!["--data".to_owned(), dir.display().to_string()],
            (None, None) => return None,
        };
        let name = Some(topic.as_str());
        let command = shell::tidemill("topic delete", name, &words);
        let mut text = format!("the topic {topic} may be left: delete it with `{command}`");
        if self.data.is_some() {
            let command = shell::tidemill("group delete", name, &words);
            text += &format!(", and the group of its name with `{command}`");
        }
        Some(text)
    }

    async fn open(&self) -> Result<Target, Failure> {
        if let Some(url) = &self.server {
            return Ok(Target::Server(Client::new(url)));
        }
        let opened = match &self.data {
            Some(dir) => {
                folder::keep_backup(dir)?;
                let builder = Broker::builder().path(dir);
                let opened = builder.flush(target::flush_policy(self.flush)).open().await;
                opened.map_err(|error| folder::refused(dir, &error))
            }
            None => {
                let builder = Broker::builder().in_memory(self.memory * 1024 * 1024);
                builder.open().await.map_err(Failure::new)
            }
        };
        opened.map(Target::Folder)
    }

    /// Leaves nothing of the run behind. What is in memory is gone with the process anyhow.
    async fn clear(&self, place: Target, topic: &TopicName) -> Result<(), Failure> {
        if self.data.is_none() && self.server.is_none() {
            return Ok(());
        }
        if let Target::Folder(_) = &place {
            let group = GroupName::new(topic.as_str()).map_err(Failure::new)?;
            place.delete_group(&group, true).await?;
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
        plan: Plan,
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
        let progress = Progress::new(self.time, self.json);
        let report = bench::run(plan, topic.clone(), door, intake, |s| progress.show(s)).await;
        progress.end();
        report
    }

    fn plan(&self, publishers: u16, interrupt: Arc<AtomicBool>) -> Plan {
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
            publishers,
            batch: self.batch,
            concurrency: usize::from(self.concurrency),
            interrupt,
        }
    }
}
