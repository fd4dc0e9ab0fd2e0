//! `tidemill subscribe`: prints a topic's events as they come.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use tidemill::core::json;
use tidemill::{Event, TopicName};

use crate::failure::Failure;
use crate::signals;
use crate::target::{Read, Reader, Target, TargetOptions};
use crate::values::{self, From};

/// Print the events of a topic, and wait for new ones
///
/// It reads by itself and leaves no trace: no group's position changes. Ctrl-C ends it.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill subscribe orders\n  \
    tidemill subscribe orders --from beginning --max 10 --json\n  \
    tidemill subscribe orders --since 1h")]
pub(crate) struct Subscribe {
    /// The topic
    topic: TopicName,
    /// Where to begin: beginning, end, or an offset (in every partition) [default: end]
    #[arg(long, value_name = "PLACE", conflicts_with = "since")]
    from: Option<From>,
    /// Begin with the events of the last time, as in 1h, by the events' own times
    #[arg(long, value_name = "TIME", value_parser = values::positive_duration)]
    since: Option<Duration>,
    /// End after this many events
    #[arg(long, short = 'n', value_name = "N")]
    max: Option<u64>,
    /// Print each event as a line of CloudEvents JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

impl Subscribe {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let shutdown = signals::shutdown()?;
        let target = self.target.open().await?;
        let ended = tokio::select! {
            ended = self.follow(&target) => ended,
            () = shutdown => Ok(()),
        };
        target.close().await;
        ended
    }

    async fn follow(&self, target: &Target) -> Result<(), Failure> {
        let earliest = self.earliest()?;
        let from = match (self.since, self.from) {
            (Some(_), _) => From::Beginning,
            (None, from) => from.unwrap_or(From::End),
        };
        let mut left = self.max.unwrap_or(u64::MAX);
        let mut reader = Reader::open(target, &self.topic, from).await?;
        while left > 0 {
            let mut out = std::io::stdout().lock();
            for read in reader.read().await? {
                let old = |time: jiff::Timestamp| earliest.is_some_and(|e| time < e);
                if read.event.time().is_some_and(old) || left == 0 {
                    continue;
                }
                left -= 1;
                if !written(self.print(&mut out, &read))? {
                    return Ok(());
                }
            }
            if !written(out.flush())? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Events older than this are passed over.
    fn earliest(&self) -> Result<Option<jiff::Timestamp>, Failure> {
        let Some(since) = self.since else {
            return Ok(None);
        };
        let earliest = jiff::Timestamp::now().checked_sub(since);
        earliest
            .map(Some)
            .map_err(|_| Failure::usage("--since reaches back too far"))
    }

    fn print(&self, out: &mut impl Write, read: &Read) -> std::io::Result<()> {
        if self.json {
            let mut line = Vec::new();
            json::encode(&read.event, &mut line);
            line.push(b'\n');
            return out.write_all(&line);
        }
        let Read {
            partition,
            offset,
            event,
        } = read;
        let topic = &self.topic;
        let key = event.key().map(|k| format!(" key={k}")).unwrap_or_default();
        write!(out, "{topic}/{partition}@{offset} {}{key} ", event.ty())?;
        writeln!(out, "{}", data_text(event))
    }
}

/// The data as it is when it is text, else its size.
fn data_text(event: &Event) -> String {
    match event.data() {
        None => "(no data)".to_owned(),
        Some(data) => match std::str::from_utf8(data) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("({} bytes)", data.len()),
        },
    }
}

/// Whether it was written; `false` when nobody reads any more, as behind `| head`.
fn written(result: std::io::Result<()>) -> Result<bool, Failure> {
    match result {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(e.into()),
    }
}
