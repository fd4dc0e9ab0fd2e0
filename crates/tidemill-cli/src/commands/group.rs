//! `tidemill group`: lists, shows and deletes consumer groups. A group begins with its first
//! subscription, so there is nothing to create.

use clap::{Args, Subcommand};
use tidemill::GroupName;

use crate::failure::Failure;
use crate::listing::{Listing, print_json, print_json_lines};
use crate::output::say;
use crate::target::{Target, TargetOptions};
use crate::wire;

/// List, show and delete consumer groups
#[derive(Subcommand)]
#[command(after_help = "Examples:\n  \
    tidemill group list\n  \
    tidemill group show billing --json\n  \
    tidemill group delete billing")]
pub(crate) enum Group {
    List(List),
    Show(Show),
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

/// Show where a group stands in each partition
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

/// Delete a group and forget its positions
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill group delete billing")]
pub(crate) struct Delete {
    /// The group
    group: GroupName,
    #[command(flatten)]
    target: TargetOptions,
}

impl Group {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let options = match &self {
            Self::List(List { target, .. })
            | Self::Show(Show { target, .. })
            | Self::Delete(Delete { target, .. }) => target,
        };
        let target = options.open().await?;
        let done = self.ask(&target).await;
        target.close().await;
        done
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
                    return Err(unknown(&show.group));
                };
                if show.json {
                    print_json(&group)?;
                } else {
                    partitions(&group).print()?;
                }
            }
            Self::Delete(delete) => {
                if !target.delete_group(&delete.group).await? {
                    return Err(unknown(&delete.group));
                }
                say(format_args!("deleted {}", delete.group))?;
            }
        }
        Ok(())
    }
}

fn unknown(group: &GroupName) -> Failure {
    Failure::new(format!(
        "unknown group {group}; `tidemill group list` names all, and a group is made by its first \
         subscription"
    ))
}

fn table(groups: &[wire::Group]) -> Listing {
    let mut listing = Listing::new(&["group", "topics", "order", "members>", "waiting>"]);
    for group in groups {
        let lag: u64 = group.partitions.iter().map(|p| p.lag).sum();
        listing.row(&[
            group.name.clone(),
            group.topics.join(","),
            group.order.clone().unwrap_or_else(|| "-".to_owned()),
            group.members.len().to_string(),
            lag.to_string(),
        ]);
    }
    listing
}

fn partitions(group: &wire::Group) -> Listing {
    let heads = [
        "topic",
        "partition>",
        "position>",
        "settled above>",
        "end>",
        "waiting>",
    ];
    let mut listing = Listing::new(&heads);
    for p in &group.partitions {
        listing.row(&[
            p.topic.clone(),
            p.partition.to_string(),
            p.position.to_string(),
            p.settled_above.to_string(),
            p.end.to_string(),
            p.lag.to_string(),
        ]);
    }
    listing
}
