//! `tidemill queue`: lists, shows, creates and deletes queues; puts messages in, takes them out,
//! acknowledges them and gives them back.

use std::time::Duration;

use clap::{Args, Subcommand};
use tidemill::broker::limits::{DEQUEUE_MAX_MESSAGES, LEASE_MAX, PEEK_MAX_MESSAGES, QUEUE_TTL_MAX};
use tidemill::broker::{CreateQueue, Dequeue, EXPIRY, LeaseId, QueueSettings};
use tidemill::core::delivery::is_for_dead_letters;
use tidemill::core::{InvalidName, json};
use tidemill::{Bytes, Event, EventId, EventType, ExtensionValue, Source, TopicName};
use tidemill_server::limits::FETCH_WAIT_MAX;

use super::subscribe::data_text;
use crate::failure::Failure;
use crate::folder::Begin;
use crate::listing::{Lines, Listing, print_json, print_json_lines};
use crate::output::{Shown, all_the_same, say};
use crate::target::{Target, TargetOptions};
use crate::values::{duration, positive_duration, up_to};
use crate::{values, wire};

/// The source of messages that are enqueued by hand.
const SOURCE: &str = "/tidemill/cli";

/// Create queues, put messages in and take them out
#[derive(Subcommand)]
#[command(after_help = "Examples:\n  \
    tidemill queue create jobs --lease 1m --max-deliveries 5\n  \
    tidemill queue enqueue jobs '{\"resize\": \"cat.png\"}'\n  \
    tidemill queue dequeue jobs --wait 10s\n  \
    tidemill queue ack jobs LEASE\n  \
    tidemill queue list --json")]
pub(crate) enum Queue {
    List(List),
    Show(Show),
    Create(Create),
    Delete(Delete),
    Enqueue(Enqueue),
    Dequeue(Take),
    Ack(Ack),
    Requeue(Requeue),
    Peek(Peek),
    Length(Length),
}

/// List all queues
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill queue list --json")]
pub(crate) struct List {
    /// Print a line of JSON for each queue
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// Show a queue, how it is doing and what it was created with
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill queue show jobs")]
pub(crate) struct Show {
    /// The queue
    queue: TopicName,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// Create a queue
///
/// With --data it also begins a log, in a folder that is empty.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill queue create jobs --lease 1m --max-deliveries 5\n  \
    tidemill queue create offers --ttl 10m\n  \
    tidemill queue create fleeting --transient")]
pub(crate) struct Create {
    /// The queue
    #[arg(value_parser = new_name)]
    queue: TopicName,
    /// Keep it in the server's memory alone: it is gone with the server
    #[arg(long)]
    transient: bool,
    /// How long a message is its taker's, unless the taker says otherwise; 12h at most [default:
    /// 30s]
    #[arg(long, value_name = "TIME", value_parser = up_to(LEASE_MAX, positive_duration))]
    lease: Option<Duration>,
    /// After how many deliveries without an ack a message goes to the dead letters [default:
    /// never]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>)]
    max_deliveries: Option<u32>,
    /// How long a message is good for, 3650d at most; then nobody gets it any more [default: for
    /// ever]
    #[arg(long, value_name = "TIME", value_parser = up_to(QUEUE_TTL_MAX, positive_duration))]
    ttl: Option<Duration>,
    /// Print the queue as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// Delete a queue with all its messages
///
/// Those that somebody has go too; dead letters stay.
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill queue delete jobs")]
pub(crate) struct Delete {
    /// The queue
    queue: TopicName,
    #[command(flatten)]
    target: TargetOptions,
}

/// Put a message into a queue
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill queue enqueue jobs '{\"resize\": \"cat.png\"}'\n  \
    tidemill queue enqueue offers '{\"price\": 7}' --ttl 30s")]
pub(crate) struct Enqueue {
    /// The queue
    queue: TopicName,
    /// The message's data
    #[arg(allow_negative_numbers = true)]
    data: String,
    /// The message's type
    #[arg(
        long = "type",
        short = 't',
        value_name = "TYPE",
        default_value = "event"
    )]
    ty: EventType,
    /// How long it is good for, where that is less than what the queue says; 3650d at most
    #[arg(long, value_name = "TIME", value_parser = up_to(QUEUE_TTL_MAX, positive_duration))]
    ttl: Option<Duration>,
    /// Send the data as text, also where it looks like JSON
    #[arg(long)]
    text: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// Take the oldest messages
///
/// Each line begins with the message's offset and its lease, which `ack` and `requeue` name. A
/// lease of 0s removes the messages at once. In a folder (--data) leases end with this command, so
/// nothing else can be asked for there.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill queue dequeue jobs --wait 10s\n  \
    tidemill queue dequeue jobs --lease 0s --max 100 --json")]
pub(crate) struct Take {
    /// The queue
    queue: TopicName,
    /// How long they are yours, 12h at most; 0s removes them at once [default: the queue's own]
    #[arg(long, value_name = "TIME", value_parser = up_to(LEASE_MAX, duration))]
    lease: Option<Duration>,
    /// Most messages
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = most::<DEQUEUE_MAX_MESSAGES>)]
    max: usize,
    /// How long to wait for the first message, 30s at most; nothing is printed where none comes
    #[arg(long, value_name = "TIME", default_value = "0s",
          value_parser = up_to(FETCH_WAIT_MAX, duration))]
    wait: Duration,
    /// Print a line of JSON for each message
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// Be done with messages: they never come back
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill queue ack jobs 0192f0c1d2e3f4a51")]
pub(crate) struct Ack {
    /// The queue
    queue: TopicName,
    /// Their leases, as `dequeue` answered them
    #[arg(required = true, value_name = "LEASE")]
    leases: Vec<LeaseId>,
    #[command(flatten)]
    target: TargetOptions,
}

/// Give messages back: they wait again, at their old places
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill queue requeue jobs 0192f0c1d2e3f4a51")]
pub(crate) struct Requeue {
    /// The queue
    queue: TopicName,
    /// Their leases, as `dequeue` answered them
    #[arg(required = true, value_name = "LEASE")]
    leases: Vec<LeaseId>,
    #[command(flatten)]
    target: TargetOptions,
}

/// Show the oldest messages that nobody has; they stay
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill queue peek jobs --max 10")]
pub(crate) struct Peek {
    /// The queue
    queue: TopicName,
    /// Most messages
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = most::<PEEK_MAX_MESSAGES>)]
    max: usize,
    /// Print a line of JSON for each message
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// Print how many messages are not settled, those that somebody has included
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill queue length jobs")]
pub(crate) struct Length {
    /// The queue
    queue: TopicName,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// A name that a queue can be given.
fn new_name(text: &str) -> Result<TopicName, String> {
    let name: TopicName = text.parse().map_err(|why: InvalidName| why.to_string())?;
    match is_for_dead_letters(&name) {
        false => Ok(name),
        true => {
            let why = "a name that ends so is one of topics for dead letters; use another name";
            Err(why.to_owned())
        }
    }
}

/// A whole number from 1 to `MAX`.
fn most<const MAX: usize>(text: &str) -> Result<usize, String> {
    let count = values::count::<usize>(text)?;
    match count <= MAX {
        true => Ok(count),
        false => Err(format!("it is at most {MAX}")),
    }
}

impl Queue {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let begin = match &self {
            Self::Create(_) => Begin::May,
            _ => Begin::MayNot,
        };
        let target = self.options().open(begin).await?;
        let done = self.ask(&target).await;
        target.close().await;
        done
    }

    fn options(&self) -> &TargetOptions {
        match self {
            Self::List(List { target, .. })
            | Self::Show(Show { target, .. })
            | Self::Create(Create { target, .. })
            | Self::Delete(Delete { target, .. })
            | Self::Enqueue(Enqueue { target, .. })
            | Self::Dequeue(Take { target, .. })
            | Self::Ack(Ack { target, .. })
            | Self::Requeue(Requeue { target, .. })
            | Self::Peek(Peek { target, .. })
            | Self::Length(Length { target, .. }) => target,
        }
    }

    fn unknown(&self, queue: &TopicName) -> Failure {
        let list = self.options().command("queue list", None, &[]);
        Failure::new(format!("unknown queue {queue}; `{list}` names all"))
    }

    async fn ask(&self, target: &Target) -> Result<(), Failure> {
        match self {
            Self::List(list) => {
                let queues = target.queues().await?;
                match list.json {
                    true => print_json_lines(&queues),
                    false => table(&queues).print(),
                }
            }
            Self::Show(show) => {
                let queue = self.found(target, &show.queue).await?;
                match show.json {
                    true => print_json(&queue),
                    false => lines(&queue).print(),
                }
            }
            Self::Create(create) => create.ask(target).await,
            Self::Delete(Delete { queue, .. }) => {
                if !target.delete_queue(queue).await? {
                    return Err(self.unknown(queue));
                }
                let told = say(format_args!("deleted {queue}"));
                all_the_same(told, format_args!("{queue} is deleted"))
            }
            Self::Enqueue(enqueue) => enqueue.ask(target).await,
            Self::Dequeue(take) => take.ask(target).await,
            Self::Ack(Ack { queue, leases, .. }) => {
                target.settle_leases(queue, "ack", leases).await?;
                told(leases.len(), "acknowledged")
            }
            Self::Requeue(Requeue { queue, leases, .. }) => {
                target.settle_leases(queue, "requeue", leases).await?;
                told(leases.len(), "given back")
            }
            Self::Peek(peek) => {
                let messages = target.peek(&peek.queue, peek.max).await?;
                print(&messages, peek.json)
            }
            Self::Length(Length { queue, json, .. }) => {
                let found = self.found(target, queue).await?;
                if *json {
                    let wire::QueueOf {
                        length, in_flight, ..
                    } = found;
                    let shown = serde_json::json!({
                        "queue": queue, "length": length, "in_flight": in_flight,
                    });
                    return print_json(&shown);
                }
                say(found.length)
            }
        }
    }

    async fn found(&self, target: &Target, queue: &TopicName) -> Result<wire::QueueOf, Failure> {
        let found = target.queue(queue).await?;
        found.ok_or_else(|| self.unknown(queue))
    }
}

/// Says what is done about so many messages.
fn told(count: usize, what: &str) -> Result<(), Failure> {
    let done = match count {
        1 => format!("1 message is {what}"),
        more => format!("{more} messages are {what}"),
    };
    all_the_same(say(&done), &done)
}

impl Create {
    async fn ask(&self, target: &Target) -> Result<(), Failure> {
        if self.transient && matches!(target, Target::Folder(_)) {
            let why = "a queue in memory ends with this command; create it on a server";
            return Err(Failure::usage(why));
        }
        let usual = QueueSettings::default();
        let how = CreateQueue {
            transient: self.transient,
            settings: QueueSettings {
                lease: self.lease.unwrap_or(usual.lease),
                max_deliveries: self.max_deliveries,
                ttl: self.ttl,
            },
        };
        let created = target.create_queue(&self.queue, how).await?;
        let told = match self.json {
            true => print_json(&created),
            false => say(format_args!("created {}", self.queue)),
        };
        all_the_same(told, format_args!("{} is created", self.queue))
    }
}

impl Enqueue {
    async fn ask(&self, target: &Target) -> Result<(), Failure> {
        let data = Bytes::copy_from_slice(self.data.as_bytes());
        let id = EventId::new(uuid::Uuid::now_v7().to_string()).map_err(Failure::new)?;
        let source = Source::new(SOURCE).map_err(Failure::new)?;
        let now = jiff::Timestamp::now();
        let mut event = Event::builder(id, source, self.ty.clone()).time(now);
        if let Some(ttl) = self.ttl {
            let until = now.saturating_add(ttl).map_err(Failure::usage)?;
            let until = ExtensionValue::String(until.to_string().into());
            event = event.extension(EXPIRY, until);
        }
        let event = event
            .data(values::content_type(&data, self.text)?, data)
            .build()
            .map_err(Failure::usage)?;
        let enqueued = target.enqueue(&self.queue, event).await?;
        let place = format!("{}@{}", self.queue, enqueued.offset);
        let told = match self.json {
            true => print_json(&enqueued),
            false => say(&place),
        };
        all_the_same(told, format_args!("the message is kept, at {place}"))
    }
}

impl Take {
    async fn ask(&self, target: &Target) -> Result<(), Failure> {
        if matches!(target, Target::Folder(_)) && self.lease != Some(Duration::ZERO) {
            let why = "in a folder leases end with this command; remove the messages at once with \
                       --lease 0s, or ask a server";
            return Err(Failure::usage(why));
        }
        let how = Dequeue {
            max: self.max,
            lease: self.lease,
            wait: self.wait,
        };
        let messages = target.dequeue(&self.queue, how).await?;
        print(&messages, self.json)
    }
}

/// A line for each message: its offset, its lease where it has one, and its data.
fn print(messages: &[wire::QueueMessage], as_json: bool) -> Result<(), Failure> {
    if as_json {
        return print_json_lines(messages);
    }
    let shown = Shown::on_standard_output();
    for message in messages {
        let lease = message.lease.as_ref();
        let lease = lease.map(|lease| format!(" {lease}")).unwrap_or_default();
        let event = json::decode(&Bytes::copy_from_slice(message.event.get().as_bytes()));
        let data = data_text(&event.map_err(Failure::new)?);
        say(format_args!(
            "{}{lease} {}",
            message.offset,
            shown.text(&data)
        ))?;
    }
    Ok(())
}

fn kept(queue: &wire::QueueOf) -> &'static str {
    match queue.transient {
        true => "in memory",
        false => "on disk",
    }
}

/// Seconds, as less says little.
fn oldest(queue: &wire::QueueOf) -> String {
    let seconds = queue.oldest_age_ms.map(|ms| format!("{} s", ms / 1000));
    seconds.unwrap_or_else(|| "-".to_owned())
}

/// All of a queue, for people.
fn lines(queue: &wire::QueueOf) -> Lines {
    let mut lines = Lines::default();
    lines.add("queue", &queue.name);
    lines.add("kept", kept(queue));
    lines.add("length", queue.length.to_string());
    lines.add("in flight", queue.in_flight.to_string());
    lines.add("oldest", oldest(queue));
    lines.add("expired", format!("{} since the start", queue.expired));
    lines.add("size", format!("{} bytes", queue.size_bytes));
    lines.add("lease", values::shown_ms(queue.lease_ms));
    let most = queue.max_deliveries.map(|most| most.to_string());
    lines.add("max deliveries", most.as_deref().unwrap_or("any"));
    let ttl = queue.ttl_ms.map(values::shown_ms);
    lines.add("ttl", ttl.as_deref().unwrap_or("for ever"));
    lines.add("dead letters", &queue.dead_letters);
    lines.add_some("paused", queue.paused.as_ref());
    lines.add_some("damage", queue.damage.as_ref());
    lines
}

fn table(queues: &[wire::QueueOf]) -> Listing {
    let heads = [
        "queue",
        "length>",
        "in flight>",
        "oldest>",
        "kept",
        "lease>",
        "ttl>",
        "max deliveries>",
    ];
    let mut listing = Listing::new(&heads);
    for queue in queues {
        let ttl = queue.ttl_ms.map(values::shown_ms);
        let most = queue.max_deliveries.map(|most| most.to_string());
        listing.row(&[
            queue.name.clone(),
            queue.length.to_string(),
            queue.in_flight.to_string(),
            oldest(queue),
            kept(queue).to_owned(),
            values::shown_ms(queue.lease_ms),
            ttl.unwrap_or_else(|| "-".to_owned()),
            most.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    listing
}
