//! `tidemill subscribe`: prints a topic's events as they come.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use tidemill::core::json;
use tidemill::{Event, TopicName};

use crate::failure::Failure;
use crate::folder::Begin;
use crate::limits::{LAST_PAGE_WAIT, POSITIONS_TOLD_MAX};
use crate::output::{self, Shown, unwritten};
use crate::signals;
use crate::target::{Read, Reader, Target, TargetOptions};
use crate::values::{self, Start};

/// Print the events of a topic, and wait for new ones
///
/// It reads by itself and leaves no trace: no group's position changes. It ends after --max
/// events, at Ctrl-C, and when nobody reads its output any more, as behind `| head`. Broken off,
/// it says how far it came and which command goes on from there, past damage too. On a terminal
/// control characters are shown escaped; a pipe or a file gets them as they are.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill subscribe orders\n  \
    tidemill subscribe orders --from beginning --max 10 --json\n  \
    tidemill subscribe orders --from 0:17,1:4     offset 17 of partition 0, offset 4 of 1\n  \
    tidemill subscribe orders --since 1h")]
pub(crate) struct Subscribe {
    /// The topic
    topic: TopicName,
    /// Where to begin: beginning, end, an offset (in every partition), or PARTITION:OFFSET pairs,
    /// where what is not named begins at the beginning [default: end]
    #[arg(long, value_name = "PLACE", conflicts_with = "since")]
    from: Option<Start>,
    /// Begin with the first event that was published in the last time, as in 1h
    #[arg(long, value_name = "TIME", value_parser = values::positive_duration)]
    since: Option<Duration>,
    /// End after this many events
    #[arg(long, short = 'n', value_name = "N", value_parser = values::count::<u64>)]
    max: Option<u64>,
    /// Print each event as a line of CloudEvents JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// How far it came: all before was printed.
struct Reached {
    position: BTreeMap<u32, u64>,
    /// How many events are still to be printed.
    left: u64,
    /// What was met then cannot be read, and the position leads past it.
    past_damage: bool,
}

/// How far it came, as the thread that prints says.
#[derive(Clone, Default)]
struct Shared {
    /// Held while a page is written.
    writing: Arc<Mutex<()>>,
    reached: Arc<Mutex<Option<Reached>>>,
}

impl Shared {
    fn set(&self, reached: Reached) {
        *lock(&self.reached) = Some(reached);
    }

    /// A page that is being written is waited for, unless nobody takes it.
    async fn take(self) -> Option<Reached> {
        let writing = self.writing;
        let end = tokio::task::spawn_blocking(move || drop(lock(&writing)));
        // Where it is not taken in time, it counts as not printed.
        let _ = tokio::time::timeout(LAST_PAGE_WAIT, end).await;
        lock(&self.reached).take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Subscribe {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let shutdown = signals::shutdown(None)?;
        let target = self.target.open(Begin::MayNot).await?;
        let reached = Shared::default();
        let ended = tokio::select! {
            ended = self.follow(&target, &reached) => ended.map(|()| false),
            () = shutdown => Ok(true),
            () = output::hung_up() => Ok(false),
        };
        target.close().await;
        let hint = reached.take().await.map(|reached| self.hint(&reached));
        match (ended, hint) {
            (Ok(true), Some(hint)) => output::remark(hint),
            (Ok(_), _) => {}
            (Err(failure), Some(hint)) => return Err(Failure::new(format!("{failure}\n{hint}"))),
            (Err(failure), None) => return Err(failure),
        }
        Ok(())
    }

    /// Prints until `max` is reached or nobody reads any more.
    async fn follow(&self, target: &Target, reached: &Shared) -> Result<(), Failure> {
        let from = match (self.since, &self.from) {
            (Some(since), _) => Start::Since(before_now(since)?),
            (None, from) => from.clone().unwrap_or(Start::End),
        };
        let mut left = self.max.unwrap_or(u64::MAX);
        let mut reader = Reader::open(target, &self.topic, from).await?;
        let at = |reader: &Reader, left| Reached {
            position: reader.position().clone(),
            left,
            past_damage: reader.is_past_damage(),
        };
        reached.set(at(&reader, left));
        let shown = Shown::on_standard_output();
        while left > 0 {
            let mut page = Vec::new();
            let read = reader.read().await;
            if reader.is_past_damage() {
                reached.set(at(&reader, left));
            }
            for read in read? {
                if left > 0 {
                    left -= 1;
                    self.print(&mut page, &read, shown)?;
                }
            }
            if !written(page, reached.clone(), at(&reader, left)).await? {
                break;
            }
        }
        Ok(())
    }

    fn print(&self, out: &mut impl Write, read: &Read, shown: Shown) -> std::io::Result<()> {
        if self.json {
            let mut line = Vec::new();
            json::encode(&read.event, &mut line);
            out.write_all(&shown.json(line))?;
            return out.write_all(b"\n");
        }
        let Read {
            partition,
            offset,
            event,
        } = read;
        let topic = &self.topic;
        let key = event.key().map(|k| format!(" key={k}")).unwrap_or_default();
        let data = data_text(event);
        let line = format!("{topic}/{partition}@{offset} {}{key} {data}", event.ty());
        writeln!(out, "{}", shown.text(&line))
    }

    /// How far it came, and the command that goes on from there.
    fn hint(&self, reached: &Reached) -> String {
        let topic = &self.topic;
        let position = &reached.position;
        let pairs: Vec<String> = position.iter().map(|(p, o)| format!("{p}:{o}")).collect();
        let mut words = vec!["--from".to_owned()];
        match (position.len(), position.get(&0)) {
            (1, Some(offset)) => words.push(offset.to_string()),
            _ => words.push(pairs.join(",")),
        }
        if self.max.is_some() {
            words.extend(["--max".to_owned(), reached.left.to_string()]);
        }
        words.extend(self.json.then(|| "--json".to_owned()));
        let command = self
            .target
            .command("subscribe", Some(topic.as_str()), &words);
        let told = match position.len() <= POSITIONS_TOLD_MAX {
            true => {
                let places = position.iter().map(|(p, o)| format!("{topic}/{p}@{o}"));
                places.collect::<Vec<_>>().join(", ")
            }
            false => format!("its place in {} partitions", position.len()),
        };
        match reached.past_damage {
            true => format!("read what is readable up to before {told}; go on with: {command}"),
            false => format!("read up to before {told}; go on with: {command}"),
        }
    }
}

fn before_now(since: Duration) -> Result<Timestamp, Failure> {
    let begin = Timestamp::now().checked_sub(since);
    begin.map_err(|_| Failure::usage("--since reaches back too far"))
}

/// The data as it is when it is text, else its size.
/// An event's data for people.
pub(super) fn data_text(event: &Event) -> String {
    match event.data() {
        None => "(no data)".to_owned(),
        Some(data) => match std::str::from_utf8(data) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("({} bytes)", data.len()),
        },
    }
}

/// Writes a page to standard output; `false` when nobody reads any more. A reader that is slow
/// holds up a thread of its own, so that Ctrl-C is still heard.
async fn written(page: Vec<u8>, reached: Shared, then: Reached) -> Result<bool, Failure> {
    let write = move || {
        let _writing = lock(&reached.writing);
        let mut out = std::io::stdout().lock();
        out.write_all(&page).and_then(|()| out.flush())?;
        reached.set(then);
        Ok::<_, std::io::Error>(())
    };
    match tokio::task::spawn_blocking(write).await {
        Ok(Ok(())) => Ok(true),
        Ok(Err(e)) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        Ok(Err(e)) => Err(unwritten(&e)),
        Err(e) => Err(Failure::new(e)),
    }
}
