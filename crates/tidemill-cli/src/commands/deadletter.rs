//! `tidemill deadletter`: lists and shows what groups and queues gave up, gives it back, or deletes
//! it.

use clap::{Args, Subcommand};
use tidemill::{GroupName, TopicName};

use crate::failure::Failure;
use crate::folder::Begin;
use crate::limits::ERROR_SHOWN_CHARS;
use crate::listing::{Listing, print_json, print_json_lines};
use crate::output::{all_the_same, say};
use crate::target::dead_letters::{GroupOf, Letter, Name, Place};
use crate::target::{Target, TargetOptions};
use crate::values;

/// Events that were given up: list, show, redrive and delete them
#[derive(Subcommand)]
#[command(after_help = "Examples:\n  \
    tidemill deadletter list\n  \
    tidemill deadletter list billing --json\n  \
    tidemill deadletter show billing 0:17\n  \
    tidemill deadletter redrive billing 0:17\n  \
    tidemill deadletter delete billing 0:17")]
pub(crate) enum Deadletter {
    List(List),
    Show(Show),
    Redrive(Redrive),
    Delete(Delete),
}

/// List who has dead letters, or the letters of a group
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill deadletter list\n  \
    tidemill deadletter list billing --max 10 --json")]
pub(crate) struct List {
    /// The group or queue; without it all that have some
    group: Option<GroupName>,
    /// Most letters of the group
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = values::within(1_usize, 1000), requires = "group")]
    max: usize,
    /// Print a line of JSON for each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// Show a dead letter with its event, as JSON
///
/// Where a client of Kafka wrote the record that failed, its headers are shown, too: their values
/// as `value`, and as `value_base64` where they are no text.
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill deadletter show billing 0:17")]
pub(crate) struct Show {
    /// The group or queue
    group: GroupName,
    /// The letter, as the list names it
    letter: Name,
    #[command(flatten)]
    target: TargetOptions,
}

/// Publish dead letters again, as they were
///
/// Each is published and is no dead letter any longer, both or nothing. Every group of the topic
/// gets it, under its old id. What a queue gave up goes back into that queue. The topic has to be
/// there: none is created.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill deadletter redrive billing 0:17 0:18\n  \
    tidemill deadletter redrive billing --max 100\n  \
    tidemill deadletter redrive billing 0:17 --topic orders-by-hand")]
pub(crate) struct Redrive {
    /// The group or queue
    group: GroupName,
    /// The letters, as the list names them; without any the oldest ones
    letters: Vec<Name>,
    /// Publish them to this topic instead of where each came from
    #[arg(long, value_name = "TOPIC")]
    topic: Option<TopicName>,
    /// How many of the oldest ones
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = values::within(1_usize, 1000), conflicts_with = "letters")]
    max: usize,
    #[command(flatten)]
    target: TargetOptions,
}

/// Delete dead letters
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill deadletter delete billing 0:17 0:18")]
pub(crate) struct Delete {
    /// The group or queue
    group: GroupName,
    /// The letters, as the list names them
    #[arg(required = true)]
    letters: Vec<Name>,
    #[command(flatten)]
    target: TargetOptions,
}

impl Deadletter {
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
            | Self::Redrive(Redrive { target, .. })
            | Self::Delete(Delete { target, .. }) => target,
        }
    }

    async fn ask(&self, target: &Target) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.ask(target).await,
            Self::Show(show) => print_json(&target.dead_letter(&show.group, show.letter).await?),
            Self::Redrive(redrive) => redrive.ask(target).await,
            Self::Delete(delete) => {
                for letter in &delete.letters {
                    target.delete_dead_letter(&delete.group, *letter).await?;
                    let told = say(format_args!("deleted {letter}"));
                    all_the_same(told, format_args!("{letter} is deleted"))?;
                }
                Ok(())
            }
        }
    }
}

impl List {
    async fn ask(&self, target: &Target) -> Result<(), Failure> {
        let Some(group) = &self.group else {
            let groups = target.dead_letter_groups().await?;
            return match self.json {
                true => print_json_lines(&groups),
                false => groups_of(&groups).print(),
            };
        };
        let letters = target.dead_letters(group, self.max).await?;
        match self.json {
            true => print_json_lines(&letters),
            false => letters_of(&letters).print(),
        }
    }
}

impl Redrive {
    async fn ask(&self, target: &Target) -> Result<(), Failure> {
        let to = self.topic.as_ref();
        if self.letters.is_empty() {
            let redriven = target.redrive_oldest(&self.group, self.max, to).await?;
            if redriven.is_empty() {
                return say(format_args!("{} has no dead letters left", self.group));
            }
            return redriven
                .iter()
                .try_for_each(|one| told(one.letter, &one.at));
        }
        for letter in &self.letters {
            let at = target.redrive(&self.group, *letter, to).await?;
            told(*letter, &at)?;
        }
        Ok(())
    }
}

fn told(letter: Name, at: &Place) -> Result<(), Failure> {
    let told = say(format_args!("{letter} is {at} now"));
    all_the_same(told, format_args!("{letter} is {at} now"))
}

fn groups_of(groups: &[GroupOf]) -> Listing {
    let mut listing = Listing::new(&["group", "topic", "letters>"]);
    for of in groups {
        listing.row(&[of.group.clone(), of.topic.clone(), of.count.to_string()]);
    }
    listing
}

fn letters_of(letters: &[Letter]) -> Listing {
    let heads = ["letter", "from", "attempts>", "reason", "error"];
    let mut listing = Listing::new(&heads);
    for letter in letters {
        let at = &letter.origin;
        listing.row(&[
            letter.letter.to_string(),
            format!("{}/{}@{}", at.topic, at.partition, at.offset),
            letter.attempts.to_string(),
            letter.reason.clone(),
            cut(&letter.error),
        ]);
    }
    listing
}

/// As much of an error as a table has room for; `show` has all of it.
fn cut(error: &str) -> String {
    match error.char_indices().nth(ERROR_SHOWN_CHARS) {
        None => error.to_owned(),
        // The mark has the place of the last one.
        Some(_) => error
            .chars()
            .take(ERROR_SHOWN_CHARS - 1)
            .chain(['\u{2026}'])
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_says_so() {
        let whole = "\u{e9}".repeat(ERROR_SHOWN_CHARS);
        assert_eq!(cut(&whole), whole);
        let more = cut(&format!("{whole}x"));
        assert!(more.ends_with("\u{e9}\u{2026}"), "{more}");
        assert_eq!(more.chars().count(), ERROR_SHOWN_CHARS);
    }
}
