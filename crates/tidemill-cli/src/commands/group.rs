//! `tidemill group`: lists, shows and deletes consumer groups, and sets where they go on. A group
//! begins with its first subscription, so there is nothing to create.

use clap::{Args, Subcommand};
use tidemill::{GroupName, TopicName};

use crate::failure::Failure;
use crate::folder::Begin;
use crate::listing::{Listing, or_dash, print_json, print_json_lines};
use crate::output::{all_the_same, say};
use crate::shell::quoted;
use crate::target::seek::SeekPlace;
use crate::target::{Target, TargetOptions, Undeleted};
use crate::{values, wire};

/// List, show, seek and delete consumer groups
#[derive(Subcommand)]
#[command(after_help = "Examples:\n  \
    tidemill group list\n  \
    tidemill group show billing --json\n  \
    tidemill group seek billing --topic orders --to beginning\n  \
    tidemill group delete billing")]
pub(crate) enum Group {
    List(List),
    Show(Show),
    Seek(Seek),
    Delete(Delete),
}

/// List all consumer groups
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill group list --json")]
pub(crate) struct List {
    /// Print a line of JSON for each group
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// Show who is in a group, and where it stands in each partition
///
/// POSITION is where it goes on: all before is settled, and SETTLED ABOVE counts what is settled
/// behind it. END is the offset that the next event gets. While a transaction is open, HELD AT is
/// its first offset: who reads what is committed gets nothing from there on. WAITING are the events
/// that can be read and are not settled.
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill group show billing")]
pub(crate) struct Show {
    /// The group
    group: GroupName,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// Set where a group goes on in a topic
///
/// Everything before that place counts as settled, nothing else. A group with members is in use: it
/// is left where it is.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill group seek billing --topic orders --to beginning\n  \
    tidemill group seek billing --topic orders --to 17 --partition 0\n  \
    tidemill group seek billing --topic orders --to 2026-01-31T12:00:00Z")]
pub(crate) struct Seek {
    /// The group
    group: GroupName,
    /// The topic
    #[arg(long, value_name = "TOPIC")]
    topic: TopicName,
    /// Where to: beginning, end, an offset, or a time, with what was published then or later
    #[arg(long, value_name = "PLACE")]
    to: SeekPlace,
    /// Only in this partition
    #[arg(long, value_name = "N", value_parser = values::number::<u32>)]
    partition: Option<u32>,
    /// Print a line of JSON for each partition
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// Delete a group and forget its positions
///
/// A group with members is in use: it is not deleted, unless --force is given. Then its members
/// are told that it is gone. One that goes on living joins again, as handlers do by themselves: the
/// group is there again at once, and begins as a new one. A webhook's group goes with the webhook.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill group delete billing\n  \
    tidemill group delete billing --force")]
pub(crate) struct Delete {
    /// The group
    group: GroupName,
    /// Delete it also while it has members
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    target: TargetOptions,
}

impl Group {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let target = self.options().open(Begin::MayNot).await?;
        let done = self.ask(&target).await;
        target.close().await;
        done
    }

    fn options(&self) -> &TargetOptions {
        match self {
            Self::List(List { target, .. })
            | Self::Show(Show { target, .. })
            | Self::Seek(Seek { target, .. })
            | Self::Delete(Delete { target, .. }) => target,
        }
    }

    async fn ask(&self, target: &Target) -> Result<(), Failure> {
        match self {
            Self::List(list) => {
                let groups = target.groups().await?;
                if list.json {
                    print_json_lines(&groups)?;
                } else {
                    table(&groups).print()?;
                }
            }
            Self::Show(show) => {
                let Some(group) = target.group(&show.group).await? else {
                    return Err(self.unknown(&show.group));
                };
                if show.json {
                    print_json(&group)?;
                } else {
                    members(&group)?;
                    partitions(&group).print()?;
                }
            }
            Self::Seek(seek) => {
                let (topic, only) = (&seek.topic, seek.partition);
                let sought = target.seek(&seek.group, topic, only, seek.to).await?;
                if seek.json {
                    return print_json_lines(&sought);
                }
                for at in sought {
                    let text = format!("{topic}/{} goes on at {}", at.partition, at.position);
                    all_the_same(say(&text), format_args!("{text}"))?;
                }
            }
            Self::Delete(delete) => {
                let failure = match target.delete_group(&delete.group, delete.force).await {
                    Ok(true) => {
                        let told = say(format_args!("deleted {}", delete.group));
                        return all_the_same(told, format_args!("{} is deleted", delete.group));
                    }
                    Ok(false) => self.unknown(&delete.group),
                    Err(Undeleted::InUse(members)) => {
                        match target.webhook_of(&delete.group).await {
                            Some(webhook) => delete.of_webhook(&webhook),
                            None => delete.in_use(members),
                        }
                    }
                    Err(Undeleted::Failed(failure)) => failure,
                };
                let queue = target
                    .is_of_queue(&delete.target, delete.group.as_str())
                    .await;
                return Err(queue.unwrap_or(failure));
            }
        }
        Ok(())
    }

    fn unknown(&self, group: &GroupName) -> Failure {
        let list = self.options().command("group list", None, &[]);
        Failure::new(format!(
            "unknown group {}; `{list}` names all, and a group is made by its first subscription",
            quoted(group.as_str())
        ))
    }
}

impl Delete {
    /// The failure of the group of a webhook.
    fn of_webhook(&self, webhook: &str) -> Failure {
        let command = self.target.command("webhook delete", Some(webhook), &[]);
        Failure::new(format!(
            "{} is the group of the webhook {webhook}, which goes with it: delete it with \
             `{command}`",
            self.group
        ))
    }

    /// The failure of a group that has so many members.
    fn in_use(&self, members: usize) -> Failure {
        let count = match members {
            // They have left meanwhile, or come.
            0 => "members".to_owned(),
            1 => "1 member".to_owned(),
            many => format!("{many} members"),
        };
        let force = ["--force".to_owned()];
        let name = self.group.as_str();
        let command = self.target.command("group delete", Some(name), &force);
        Failure::new(format!(
            "group {} has {count}, which would lose their place; stop them first, or delete it \
             all the same with `{command}`",
            quoted(name)
        ))
    }
}

/// Who is in the group, whatever sort of members that is, and an empty line.
fn members(group: &wire::Group) -> Result<(), Failure> {
    if group.member_count() == 0 {
        return Ok(());
    }
    if !group.members.is_empty() {
        own_members(&group.members).print()?;
    }
    if let Some(classic) = &group.classic {
        classic_members(classic).print()?;
    }
    match &group.consumer {
        Some(share) if group.kind == "share" => sharers(share).print()?,
        Some(consumer) => consumers(consumer).print()?,
        None => {}
    }
    say("")
}

fn table(groups: &[wire::Group]) -> Listing {
    let mut listing = Listing::new(&["group", "kind", "topics", "order", "members>", "waiting>"]);
    for group in groups {
        let lag: u64 = group.partitions.iter().map(|p| p.lag).sum();
        listing.row(&[
            group.name.clone(),
            group.kind.clone(),
            group.topics.join(","),
            group.order.clone().unwrap_or_else(|| "-".to_owned()),
            group.member_count().to_string(),
            lag.to_string(),
        ]);
    }
    listing
}

/// The members that share the events by their keys, with what each reads and has.
fn own_members(members: &[wire::Member]) -> Listing {
    let mut listing = Listing::new(&["member", "reads", "key slots>", "in flight>"]);
    for member in members {
        let reads = match member.topics.is_empty() {
            true => "-".to_owned(),
            false => member.topics.join(","),
        };
        listing.row(&[
            member.id.to_string(),
            reads,
            member.slots.to_string(),
            member.in_flight.to_string(),
        ]);
    }
    listing
}

/// The members that share the partitions, with what each has.
fn classic_members(classic: &wire::Classic) -> Listing {
    let mut listing = Listing::new(&["member", "client", "host", "has"]);
    for member in &classic.members {
        let name = member.instance.as_ref().unwrap_or(&member.id);
        let has = member.assignment.as_deref().filter(|has| !has.is_empty());
        listing.row(&[
            name.clone(),
            member.client_id.clone(),
            member.client_host.clone(),
            has.unwrap_or("-").to_owned(),
        ]);
    }
    listing
}

/// The members of a share group, with the partitions that each reads, and how many records of them
/// it has.
fn sharers(group: &wire::Consumer) -> Listing {
    let heads = ["member", "client", "host", "epoch>", "reads", "in flight>"];
    let mut listing = Listing::new(&heads);
    for member in &group.members {
        let reads = match member.assignment.as_str() {
            "" => "-",
            parts => parts,
        };
        listing.row(&[
            member.id.clone(),
            member.client_id.clone(),
            member.client_host.clone(),
            member.epoch.to_string(),
            reads.to_owned(),
            member.in_flight.unwrap_or(0).to_string(),
        ]);
    }
    listing
}

/// The members among which the broker shares the partitions, with what each has and will have.
fn consumers(group: &wire::Consumer) -> Listing {
    let mut listing = Listing::new(&["member", "client", "host", "epoch>", "has", "will have"]);
    let text = |parts: &str| match parts.is_empty() {
        true => "-".to_owned(),
        false => parts.to_owned(),
    };
    for member in &group.members {
        listing.row(&[
            member.instance.as_ref().unwrap_or(&member.id).clone(),
            member.client_id.clone(),
            member.client_host.clone(),
            member.epoch.to_string(),
            text(&member.assignment),
            text(&member.target),
        ]);
    }
    listing
}

fn partitions(group: &wire::Group) -> Listing {
    let ends = |p: &wire::GroupPartition| wire::ends(p.end, p.high_watermark);
    let held = group.partitions.iter().any(|p| ends(p).1.is_some());
    let mut heads = vec!["topic", "partition>", "position>", "settled above>", "end>"];
    heads.extend(held.then_some("held at>"));
    heads.push("waiting>");
    let mut listing = Listing::new(&heads);
    for p in &group.partitions {
        let (end, held_at) = ends(p);
        let mut row = vec![
            p.topic.clone(),
            p.partition.to_string(),
            p.position.to_string(),
            p.settled_above.to_string(),
            end.to_string(),
        ];
        row.extend(held.then(|| or_dash(held_at)));
        row.push(p.lag.to_string());
        listing.row(&row);
    }
    listing
}
