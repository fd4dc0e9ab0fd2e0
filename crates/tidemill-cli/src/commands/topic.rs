//! `tidemill topic`: lists, shows, creates, changes, trims and deletes topics.

mod upkeep;

use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Args, Subcommand};
use tidemill::TopicName;
use tidemill::broker::limits::TOPIC_PARTITIONS_MAX;
use tidemill::broker::{AlterTopic, CompressionType, CreateTopic, TopicSettings};

use crate::failure::Failure;
use crate::folder::Begin;
use crate::limits::{TOPIC_BYTES_MAX, TOPIC_TIME_MAX};
use crate::listing::{Listing, or_dash, print_json, print_json_lines};
use crate::output::{all_the_same, say};
use crate::target::{Target, TargetOptions};
use crate::values::Bound;
use crate::{values, wire};
use upkeep::Upkeep;

/// List, show, create, change, trim and delete topics
#[derive(Subcommand)]
#[command(after_help = "Examples:\n  \
    tidemill topic create orders --partitions 4\n  \
    tidemill topic show orders\n  \
    tidemill topic set orders --keep-for 7d\n  \
    tidemill topic trim orders --partition 0 --before 17\n  \
    tidemill topic list --json\n  \
    tidemill topic delete orders")]
pub(crate) enum Topic {
    List(List),
    Show(Show),
    Create(Create),
    Set(Set),
    Trim(Trim),
    Delete(Delete),
}

/// List all topics
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill topic list --json")]
pub(crate) struct List {
    /// Print a line of JSON for each topic
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// Show a topic's partitions, and what was said of it when it was created or since
///
/// EARLIEST is the first offset that is kept, END the one that the next event gets. While a
/// transaction is open, HELD AT is its first offset: who reads what is committed gets nothing from
/// there on.
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill topic show orders")]
pub(crate) struct Show {
    /// The topic
    topic: TopicName,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// Create a topic
///
/// With --data it also begins a log, in a folder that is empty.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill topic create orders --partitions 4\n  \
    tidemill topic create clicks --keep-for 7d --keep-bytes 1GiB --compression zstd")]
pub(crate) struct Create {
    /// The topic
    topic: TopicName,
    /// How many ordered parts it has, up to 1024; later there may be more, never fewer
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = partitions_asked())]
    partitions: u32,
    /// Delete events so long after they were published, as in 7d or 12h; or `forever`
    #[arg(long, value_name = "TIME", default_value = "forever", value_parser = keep_for())]
    keep_for: Bound<Duration>,
    /// Delete the oldest events of a partition beyond so many bytes, as in 2GiB; or `all` keeps
    /// them
    #[arg(long, value_name = "SIZE", default_value = "all", value_parser = keep_bytes())]
    keep_bytes: Bound<u64>,
    /// Keep only the latest event of each key, and after a day none of a key whose latest event
    /// has no data
    #[arg(long)]
    compact: bool,
    /// How events are packed on the disk: none, lz4 or zstd
    #[arg(long, value_name = "HOW", default_value_t)]
    compression: CompressionType,
    #[command(flatten)]
    upkeep: Upkeep,
    /// Print the topic as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// Change what a topic was created with
///
/// What is not named stays. With more partitions the next events of a key may go to another one
/// than those before, and between the two no order is kept.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill topic set orders --partitions 8\n  \
    tidemill topic set clicks --keep-for forever --keep-bytes 5GiB")]
pub(crate) struct Set {
    /// The topic
    topic: TopicName,
    /// How many ordered parts it has from now on, up to 1024: not fewer than it has
    #[arg(long, short, value_name = "N", value_parser = partitions_asked())]
    partitions: Option<u32>,
    /// Delete events so long after they were published, as in 7d or 12h; or `forever`
    #[arg(long, value_name = "TIME", value_parser = keep_for())]
    keep_for: Option<Bound<Duration>>,
    /// Delete the oldest events of a partition beyond so many bytes, as in 2GiB; or `all` keeps
    /// them
    #[arg(long, value_name = "SIZE", value_parser = keep_bytes())]
    keep_bytes: Option<Bound<u64>>,
    /// Keep only the latest event of each key
    #[arg(long, conflicts_with = "no_compact")]
    compact: bool,
    /// Keep every event of each key that comes or is still there
    #[arg(long)]
    no_compact: bool,
    /// How events are packed on the disk from now on: none, lz4 or zstd
    #[arg(long, value_name = "HOW")]
    compression: Option<CompressionType>,
    #[command(flatten)]
    upkeep: Upkeep,
    /// Print the topic as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// Delete the events of a partition below an offset
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill topic trim orders --partition 0 --before 17")]
pub(crate) struct Trim {
    /// The topic
    topic: TopicName,
    /// Which of its ordered parts
    #[arg(long, short, value_name = "N", value_parser = values::number::<u32>)]
    partition: u32,
    /// The first offset that is kept
    #[arg(long, value_name = "OFFSET", value_parser = values::number::<u64>)]
    before: u64,
    #[command(flatten)]
    target: TargetOptions,
}

/// Delete a topic with all its events
///
/// It goes also while groups read it; their members are told.
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill topic delete orders")]
pub(crate) struct Delete {
    /// The topic
    topic: TopicName,
    #[command(flatten)]
    target: TargetOptions,
}

impl Topic {
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
            | Self::Set(Set { target, .. })
            | Self::Trim(Trim { target, .. })
            | Self::Delete(Delete { target, .. }) => target,
        }
    }

    fn unknown(&self, topic: &TopicName) -> Failure {
        let list = self.options().command("topic list", None, &[]);
        Failure::new(format!("unknown topic {topic}; `{list}` names all"))
    }

    async fn ask(&self, target: &Target) -> Result<(), Failure> {
        match self {
            Self::List(list) => {
                let topics = target.topics().await?;
                if list.json {
                    print_json_lines(&topics)?;
                } else {
                    table(&topics).print()?;
                }
            }
            Self::Show(show) => {
                let Some(topic) = target.topic(&show.topic).await? else {
                    return Err(self.unknown(&show.topic));
                };
                if show.json {
                    print_json(&topic)?;
                } else {
                    let settings = upkeep::settings(&topic);
                    if !settings.is_empty() {
                        settings.print()?;
                        say("")?;
                    }
                    partitions(&topic).print()?;
                }
            }
            Self::Create(create) => {
                target.create_topic(&create.topic, create.how()?).await?;
                let told = if create.json {
                    let created = target.topic(&create.topic).await?;
                    print_json(&created.ok_or_else(|| self.unknown(&create.topic))?)
                } else {
                    say(format_args!("created {}", create.topic))
                };
                all_the_same(told, format_args!("{} is created", create.topic))?;
            }
            Self::Set(set) => {
                let altered = target.alter_topic(&set.topic, set.change()?).await?;
                let topic = altered.ok_or_else(|| self.unknown(&set.topic))?;
                let told = match set.json {
                    true => print_json(&topic),
                    false => say(format_args!("changed {}", set.topic)),
                };
                all_the_same(told, format_args!("{} is changed", set.topic))?;
            }
            Self::Trim(trim) => {
                let Trim {
                    topic,
                    partition,
                    before,
                    ..
                } = trim;
                if target.topic(topic).await?.is_none() {
                    return Err(self.unknown(topic));
                }
                let earliest = target.trim(topic, *partition, *before).await?;
                let done = format!("{topic}/{partition} begins at {earliest}");
                all_the_same(say(&done), done)?;
            }
            Self::Delete(delete) => {
                delete.ask(target, || self.unknown(&delete.topic)).await?;
            }
        }
        Ok(())
    }
}

/// How many parts a topic has, as every command reads it.
fn partitions_asked() -> impl TypedValueParser<Value = u32> {
    values::within(1, TOPIC_PARTITIONS_MAX)
}

/// How long events are kept, as every command reads it.
fn keep_for() -> impl TypedValueParser<Value = Bound<Duration>> {
    let time = values::up_to(TOPIC_TIME_MAX, values::positive_duration);
    values::or_word("forever", time)
}

/// How many bytes of events are kept, as every command reads it.
fn keep_bytes() -> impl TypedValueParser<Value = Bound<u64>> {
    values::or_word("all", values::size_within(1..=TOPIC_BYTES_MAX))
}

/// Shorter than a millisecond is one.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

impl Delete {
    /// `unknown` says that there is no such topic.
    async fn ask(&self, target: &Target, unknown: impl Fn() -> Failure) -> Result<(), Failure> {
        let topic = &self.topic;
        let failure = match target.delete_topic(topic).await {
            Ok(true) => {
                let told = say(format_args!("deleted {topic}"));
                return all_the_same(told, format_args!("{topic} is deleted"));
            }
            Ok(false) => unknown(),
            Err(failure) => failure,
        };
        let queue = target.is_of_queue(&self.target, topic.as_str()).await;
        Err(queue.unwrap_or(failure))
    }
}

impl Set {
    fn change(&self) -> Result<AlterTopic, Failure> {
        self.upkeep.check()?;
        let compact = self.compact.then_some(true);
        let change = AlterTopic {
            partitions: self.partitions,
            retention_ms: self.keep_for.map(|Bound(time)| time.map(millis)),
            retention_bytes: self.keep_bytes.map(|Bound(bytes)| bytes),
            compact: compact.or(self.no_compact.then_some(false)),
            compression: self.compression,
            ..self.upkeep.change()
        };
        match change.is_empty() {
            true => Err(Failure::usage(
                "nothing is to be changed; name --partitions, --keep-for, --keep-bytes, --compact, \
                 --no-compact, --compression or others of `tidemill topic set --help`",
            )),
            false => Ok(change),
        }
    }
}

impl Create {
    fn how(&self) -> Result<CreateTopic, Failure> {
        self.upkeep.check()?;
        Ok(CreateTopic {
            partitions: self.partitions,
            settings: TopicSettings {
                retention_ms: self.keep_for.0.map(millis),
                retention_bytes: self.keep_bytes.0,
                compact: self.compact,
                compression: self.compression,
                ..TopicSettings::default().with(&self.upkeep.change())
            },
        })
    }
}

fn table(topics: &[wire::Topic]) -> Listing {
    let mut listing = Listing::new(&["topic", "partitions>", "events>", "bytes>"]);
    for topic in topics {
        let events: u64 = topic.partitions.iter().map(|p| p.end - p.earliest).sum();
        let bytes: Option<u64> = topic.partitions.iter().map(|p| p.size_bytes).sum();
        listing.row(&[
            topic.name.clone(),
            topic.partitions.len().to_string(),
            events.to_string(),
            or_dash(bytes),
        ]);
    }
    listing
}

fn partitions(topic: &wire::Topic) -> Listing {
    let ends = |p: &wire::PartitionOf| wire::ends(p.end, p.high_watermark);
    let held = topic.partitions.iter().any(|p| ends(p).1.is_some());
    let mut heads = vec!["partition>", "earliest>", "end>"];
    heads.extend(held.then_some("held at>"));
    heads.push("bytes>");
    let mut listing = Listing::new(&heads);
    for p in &topic.partitions {
        let (end, held_at) = ends(p);
        let mut row = vec![
            p.partition.to_string(),
            p.earliest.to_string(),
            end.to_string(),
        ];
        row.extend(held.then(|| or_dash(held_at)));
        row.push(or_dash(p.size_bytes));
        listing.row(&row);
    }
    listing
}
