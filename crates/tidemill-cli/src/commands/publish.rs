//! `tidemill publish`: makes events of data and publishes them.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use tidemill::{Bytes, Event, EventId, EventType, ExtensionValue, Key, Source, TopicName};

use crate::failure::Failure;
use crate::folder::Begin;
use crate::limits::{DATA_MAX_BYTES, INTERRUPT_GRACE, PUBLISH_BATCH_BYTES, PUBLISH_BATCH_EVENTS};
use crate::listing::print_json_lines;
use crate::output::say;
use crate::target::{Target, TargetOptions, Unpublished};
use crate::wire::Accepted;
use crate::{signals, values};

/// The source of events that are published by hand.
const SOURCE: &str = "/tidemill/cli";

/// Publish an event, or several of the same data
///
/// What was acknowledged is durable. Broken off, by Ctrl-C or an output that takes nothing too, it
/// says how many of them are, and how to go on. With --data it also begins a log, in a folder that
/// is empty.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill publish orders '{\"order_id\": 1}' --type order_created --key 1\n  \
    echo hello | tidemill publish greetings -\n  \
    tidemill publish load --file big.json --count 1000")]
pub(crate) struct Publish {
    /// The topic
    topic: TopicName,
    /// The event's data; `-` reads it from standard input [default: no data]
    #[arg(conflicts_with = "file", allow_negative_numbers = true)]
    data: Option<String>,
    /// Read the data from this file
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The event's type
    #[arg(
        long = "type",
        short = 't',
        value_name = "TYPE",
        default_value = "event"
    )]
    ty: EventType,
    /// The key: events of one key keep their order
    #[arg(long, short, value_name = "KEY")]
    key: Option<Key>,
    /// An extension attribute of the event, as NAME=VALUE; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = values::header)]
    headers: Vec<(String, String)>,
    /// How many events of this data to publish, each with an id of its own
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1,
          value_parser = values::count::<u64>)]
    count: u64,
    /// Send the data as text, also where it looks like JSON
    #[arg(long)]
    text: bool,
    /// Print a line of JSON for each event
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

impl Publish {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        // What is wrong with the event is known before data is waited for and anybody is asked.
        self.event(None)?;
        let shutdown = signals::shutdown(None)?;
        tokio::pin!(shutdown);
        let data = tokio::select! {
            data = self.data() => data?,
            () = &mut shutdown => return Err(self.interrupted(&Done::default())),
        };
        let size_bytes = self.event(data.clone())?.size_bytes();
        let target = self.target.open(Begin::May).await?;
        let published = self.publish(&target, data, size_bytes, shutdown).await;
        target.close().await;
        published
    }

    /// Publishes all of them, in as few calls as their size allows.
    async fn publish(
        &self,
        target: &Target,
        data: Option<Bytes>,
        size_bytes: usize,
        mut shutdown: impl Future<Output = ()> + Unpin,
    ) -> Result<(), Failure> {
        let most = (PUBLISH_BATCH_BYTES / size_bytes.max(1)).clamp(1, PUBLISH_BATCH_EVENTS) as u64;
        let mut done = Done::default();
        let mut interrupted = false;
        while done.count < self.count && !interrupted {
            let now = most.min(self.count - done.count);
            let events: Result<Vec<Event>, Failure> =
                (0..now).map(|_| self.event(data.clone())).collect();
            let call = target.publish(&self.topic, events?);
            tokio::pin!(call);
            let answered = tokio::select! {
                biased;
                answered = &mut call => answered,
                () = &mut shutdown => {
                    interrupted = true;
                    in_grace(call).await
                }
            };
            let accepted = answered.map_err(|broken| self.broken_off(&done, now, &broken))?;
            let lines = self.json.then(|| print_json_lines(&accepted));
            done.count += now;
            done.last = accepted.into_iter().next_back();
            lines
                .unwrap_or(Ok(()))
                .map_err(|failure| self.untold(&done, &failure))?;
        }
        match (&done.last, self.json) {
            _ if done.count < self.count => Err(self.interrupted(&done)),
            (Some(last), false) => {
                say(self.sentence(last)).map_err(|failure| self.untold(&done, &failure))
            }
            _ => Ok(()),
        }
    }

    /// The failure of an output that took no word of what was kept.
    fn untold(&self, done: &Done, failure: &Failure) -> Failure {
        let Some(last) = &done.last else {
            return Failure::new(failure);
        };
        let place = place(last);
        let (all, kept) = (self.count, done.count);
        Failure::new(match (all, all - kept) {
            (1, _) => format!(
                "{failure}; the event is kept all the same, at {place}: do not publish it again"
            ),
            (_, 0) => format!(
                "{failure}; all {all} events are kept all the same, the last at {place}: do not \
                 publish them again"
            ),
            (_, rest) => format!(
                "{failure}; {kept} of {all} events are kept, the last at {place}; go on with \
                 --count {rest}"
            ),
        })
    }

    /// The failure of a publishing that was called off between two calls.
    fn interrupted(&self, done: &Done) -> Failure {
        let why = match self.count {
            1 => "interrupted; nothing was published",
            _ => "interrupted",
        };
        self.broken_off(
            done,
            0,
            &Unpublished {
                why: why.to_owned(),
                may_be_kept: false,
                topic_missing: false,
            },
        )
    }

    /// What was acknowledged, what is not known, and how to go on; `under_way` events were in the
    /// call that brought it to an end.
    fn broken_off(&self, done: &Done, under_way: u64, broken: &Unpublished) -> Failure {
        let (all, kept) = (self.count, done.count);
        let rest = all - kept;
        let topic = Some(self.topic.as_str());
        let mut why = broken.why.clone();
        if broken.topic_missing {
            let create = self.target.command("topic create", topic, &[]);
            why = format!("{why}; create it with `{create}`");
        }
        let from = match &done.last {
            Some(last) => format!("{}:{}", last.partition, last.offset + 1),
            None => "beginning".to_owned(),
        };
        let from = ["--from".to_owned(), from];
        let look = self.target.command("subscribe", topic, &from);
        let last = done
            .last
            .as_ref()
            .map(|last| format!(", the last at {}", place(last)));
        let last = last.unwrap_or_default();
        Failure::new(match (all, broken.may_be_kept) {
            (1, false) => why,
            (1, true) => format!(
                "{why}; the event may have been kept: look with `{look}` before you try again"
            ),
            (_, false) => format!(
                "{why}; {kept} of {all} events are acknowledged{last}; go on with --count {rest}"
            ),
            (_, true) => format!(
                "{why}; {kept} of {all} events are acknowledged{last}, and {under_way} more may \
                 have been kept: look with `{look}`, then go on with --count {rest}, or less"
            ),
        })
    }

    fn sentence(&self, last: &Accepted) -> String {
        let place = place(last);
        match self.count {
            1 => format!("published {} at {place}", last.id),
            many => format!("published {many} events, the last at {place}"),
        }
    }

    /// The data of the events. What has to be waited for is read on a thread of its own, so that
    /// Ctrl-C is heard.
    async fn data(&self) -> Result<Option<Bytes>, Failure> {
        let from = match (&self.file, self.data.as_deref()) {
            (Some(file), _) => Some(file.clone()),
            (None, Some("-")) => None,
            (None, Some(text)) => return Ok(Some(Bytes::copy_from_slice(text.as_bytes()))),
            (None, None) => return Ok(None),
        };
        let read = tokio::task::spawn_blocking(move || read_data(from.as_deref()));
        read.await.map_err(Failure::new)?.map(Some)
    }

    fn event(&self, data: Option<Bytes>) -> Result<Event, Failure> {
        let id = EventId::new(uuid::Uuid::now_v7().to_string()).map_err(Failure::new)?;
        let source = Source::new(SOURCE).map_err(Failure::new)?;
        let mut event = Event::builder(id, source, self.ty.clone()).time(jiff::Timestamp::now());
        if let Some(key) = &self.key {
            event = event.key(key);
        }
        for (at, (name, value)) in self.headers.iter().enumerate() {
            let mut before = self.headers.iter().take(at);
            if before.any(|(other, _)| other == name) {
                let why = format!("--header {name} is given twice; give it once");
                return Err(Failure::usage(why));
            }
            event = event.extension(name, ExtensionValue::String(value.as_str().into()));
        }
        if let Some(data) = data {
            event = event.data(values::content_type(&data, self.text)?, data);
        }
        event.build().map_err(Failure::usage)
    }
}

/// What was acknowledged so far.
#[derive(Default)]
struct Done {
    count: u64,
    last: Option<Accepted>,
}

fn place(accepted: &Accepted) -> String {
    let Accepted {
        topic,
        partition,
        offset,
        ..
    } = accepted;
    format!("{topic}/{partition}@{offset}")
}

/// The answer of a call after Ctrl-C, if it comes soon.
async fn in_grace(
    call: impl Future<Output = Result<Vec<Accepted>, Unpublished>>,
) -> Result<Vec<Accepted>, Unpublished> {
    let unanswered = |_| Unpublished {
        why: "interrupted before the answer came".to_owned(),
        may_be_kept: true,
        topic_missing: false,
    };
    let answered = tokio::time::timeout(INTERRUPT_GRACE, call).await;
    answered.map_err(unanswered)?
}

/// All of a file, or of standard input.
fn read_data(file: Option<&Path>) -> Result<Bytes, Failure> {
    let (name, read) = match file {
        Some(file) => {
            let read = std::fs::File::open(file).and_then(at_most);
            (format!("--file {}", file.display()), read)
        }
        None => ("standard input".to_owned(), at_most(std::io::stdin())),
    };
    let data = read.map_err(|e| Failure::new(format!("cannot read {name}: {e}")))?;
    if data.len() as u64 > DATA_MAX_BYTES {
        let text = format!("{name} has more than {DATA_MAX_BYTES} bytes; send less at once");
        return Err(Failure::new(text));
    }
    Ok(data.into())
}

fn at_most(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    from.take(DATA_MAX_BYTES + 1).read_to_end(&mut data)?;
    Ok(data)
}
