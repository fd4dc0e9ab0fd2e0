//! `tidemill request`: publishes an event and prints the reply of the handler that settles it.

use std::time::Duration;

use clap::Args;
use tidemill::core::json;
use tidemill::{Bytes, Event, EventId, EventType, Key, Source, TopicName};
use tidemill_server::limits::REQUEST_REPLY_MAX_MS;

use super::subscribe::data_text;
use crate::failure::Failure;
use crate::output::{Shown, say, write};
use crate::target::{ServerOptions, Target};
use crate::values;

/// How long a reply may be waited for.
const LONGEST: Duration = Duration::from_millis(REQUEST_REPLY_MAX_MS);

/// The source of events that are asked by hand.
const SOURCE: &str = "/tidemill/cli";

/// Publish an event and print its handler's reply
///
/// The reply comes once what the handler did is durable. An event without a reply stays published:
/// it may still be handled.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill request quotes '{\"item\": 7}' --type quote\n  \
    tidemill request quotes '{\"item\": 7}' --type quote --timeout 20s --json")]
pub(crate) struct Request {
    /// The topic
    topic: TopicName,
    /// The event's data
    #[arg(allow_negative_numbers = true)]
    data: String,
    /// The event's type
    #[arg(
        long = "type",
        short = 't',
        value_name = "TYPE",
        default_value = "event"
    )]
    ty: EventType,
    /// The key: events of one key are handled one after another
    #[arg(long, short, value_name = "KEY")]
    key: Option<Key>,
    /// How long to wait for the reply, at most 50s
    #[arg(long, value_name = "TIME", default_value = "5s",
          value_parser = values::up_to(LONGEST, values::positive_duration))]
    timeout: Duration,
    /// Send the data as text, also where it looks like JSON
    #[arg(long)]
    text: bool,
    /// Print the reply as JSON, attributes and data
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: ServerOptions,
}

impl Request {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let event = self.event()?;
        let target = self.target.open().await?;
        let done = self.ask(&target, event).await;
        target.close().await;
        done
    }

    async fn ask(&self, target: &Target, event: Event) -> Result<(), Failure> {
        let reply = target.request(&self.topic, &event, self.timeout).await?;
        let shown = Shown::on_standard_output();
        if self.json {
            let mut line = Vec::new();
            json::encode(&reply, &mut line);
            let mut line = shown.json(line);
            line.push(b'\n');
            return write(&line);
        }
        say(shown.text(&data_text(&reply)))
    }

    fn event(&self) -> Result<Event, Failure> {
        let id = EventId::new(uuid::Uuid::now_v7().to_string()).map_err(Failure::new)?;
        let source = Source::new(SOURCE).map_err(Failure::new)?;
        let mut event = Event::builder(id, source, self.ty.clone()).time(jiff::Timestamp::now());
        if let Some(key) = &self.key {
            event = event.key(key);
        }
        let data = Bytes::copy_from_slice(self.data.as_bytes());
        let content_type = values::content_type(&data, self.text)?;
        event
            .data(content_type, data)
            .build()
            .map_err(Failure::usage)
    }
}
