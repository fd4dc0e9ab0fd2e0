//! `tidemill publish`: makes events of data and publishes them.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use tidemill::{Bytes, Event, EventId, EventType, ExtensionValue, Key, Source, TopicName};

use crate::failure::Failure;
use crate::limits::{DATA_MAX_BYTES, PUBLISH_BATCH_EVENTS};
use crate::listing::print_json;
use crate::target::{Target, TargetOptions};
use crate::values;
use crate::wire::Accepted;

/// The source of events that are published by hand.
const SOURCE: &str = "/tidemill/cli";

/// Publish an event, or several of the same data
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill publish orders '{\"order_id\": 1}' --type order_created --key 1\n  \
    echo hello | tidemill publish greetings -\n  \
    tidemill publish load --file big.json --count 1000")]
pub(crate) struct Publish {
    /// The topic
    topic: TopicName,
    /// The event's data; `-` reads it from standard input [default: no data]
    #[arg(conflicts_with = "file")]
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
          value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Print a line of JSON for each event
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

impl Publish {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let data = self.read_data()?;
        // What is wrong with the event is known before anybody is asked.
        self.event(data.clone())?;
        let target = self.target.open().await?;
        let published = self.publish(&target, data).await;
        target.close().await;
        published
    }

    async fn publish(&self, target: &Target, data: Option<Bytes>) -> Result<(), Failure> {
        let mut left = self.count;
        let mut last = None;
        while left > 0 {
            let now = left.min(PUBLISH_BATCH_EVENTS as u64);
            let events: Result<Vec<Event>, Failure> =
                (0..now).map(|_| self.event(data.clone())).collect();
            let accepted = target.publish(&self.topic, events?).await?;
            if self.json {
                accepted.iter().for_each(print_json);
            }
            last = accepted.into_iter().next_back().or(last);
            left -= now;
        }
        if let (false, Some(last)) = (self.json, last) {
            println!("{}", self.sentence(&last));
        }
        Ok(())
    }

    fn sentence(&self, last: &Accepted) -> String {
        let Accepted {
            id,
            topic,
            partition,
            offset,
        } = last;
        let place = format!("{topic}/{partition}@{offset}");
        match self.count {
            1 => format!("published {id} at {place}"),
            many => format!("published {many} events, the last at {place}"),
        }
    }

    fn read_data(&self) -> Result<Option<Bytes>, Failure> {
        let (name, read) = match (&self.file, self.data.as_deref()) {
            (Some(file), _) => {
                let named = |e| Failure::new(format!("--file {}: {e}", file.display()));
                let opened = std::fs::File::open(file).map_err(named)?;
                (file.display().to_string(), at_most(opened))
            }
            (None, Some("-")) => ("standard input".to_owned(), at_most(std::io::stdin())),
            (None, Some(text)) => return Ok(Some(Bytes::copy_from_slice(text.as_bytes()))),
            (None, None) => return Ok(None),
        };
        let data = read.map_err(|e| Failure::new(format!("cannot read {name}: {e}")))?;
        if data.len() as u64 > DATA_MAX_BYTES {
            let text = format!("{name} has more than {DATA_MAX_BYTES} bytes; send less at once");
            return Err(Failure::new(text));
        }
        Ok(Some(data.into()))
    }

    fn event(&self, data: Option<Bytes>) -> Result<Event, Failure> {
        let id = EventId::new(uuid::Uuid::now_v7().to_string()).map_err(Failure::new)?;
        let source = Source::new(SOURCE).map_err(Failure::new)?;
        let mut event = Event::builder(id, source, self.ty.clone()).time(jiff::Timestamp::now());
        if let Some(key) = &self.key {
            event = event.key(key);
        }
        for (name, value) in &self.headers {
            event = event.extension(name, ExtensionValue::String(value.as_str().into()));
        }
        if let Some(data) = data {
            event = event.data(values::content_type(&data), data);
        }
        event.build().map_err(Failure::usage)
    }
}

fn at_most(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    from.take(DATA_MAX_BYTES + 1).read_to_end(&mut data)?;
    Ok(data)
}
