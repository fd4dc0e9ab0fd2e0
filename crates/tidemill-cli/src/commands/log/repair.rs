//! `tidemill log repair`: says what it would do, and does it on an explicit word alone.

use std::path::PathBuf;

use clap::Args;
use tidemill::broker::inspect::{self, LostEvents, Repair as Told};

use crate::failure::Failure;
use crate::listing::print_json;
use crate::output::{all_the_same, write};
use crate::progress::Reading;

/// Repair a damaged data folder that no server has open
///
/// Without --yes it changes nothing, and says what it would do and which events are lost. With
/// it, the journal ends before its damage, and damaged parts of segments become empty. Files that
/// are replaced are moved to aside/ in the folder, never deleted. Where a backup holds what is
/// lost here, restore that instead.
///
/// Exit codes: 0 nothing to repair, or repaired; 1 there is something to repair and --yes was not
/// given, or it is repaired and the output could not be written; 2 it cannot be repaired, or
/// nothing could be looked at or told.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill log repair --data ./tidemill-data          says what it would do\n  \
    tidemill log repair --data ./tidemill-data --yes")]
pub(crate) struct Repair {
    /// The data folder
    #[arg(long = "data", env = "TIDEMILL_DATA", value_name = "DIR")]
    folder: PathBuf,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// Print a line of JSON
    #[arg(long)]
    json: bool,
}

impl Repair {
    pub(super) fn run(self) -> Result<(), Failure> {
        super::is_folder(&self.folder)?;
        let bar = Reading::new();
        let show = |at: inspect::Progress<'_>| bar.show(at.file, at.done_bytes, at.total_bytes);
        let told = match self.yes {
            true => inspect::repair(&self.folder, show),
            false => inspect::plan_repair(&self.folder, show),
        };
        bar.end();
        let data = self.folder.display();
        let told = told.map_err(|error| Failure::usage(format!("--data {data}: {error}")))?;
        let written = match self.json {
            true => print_json(&told),
            false => write(text(&told).as_bytes()),
        };
        match (written, told.done) {
            (Ok(()), _) => {}
            (written, true) => return all_the_same(written, format!("--data {data} is repaired")),
            // 1 would say that there is something to repair.
            (Err(failure), false) => return Err(Failure::usage(failure)),
        }
        match told.clean || told.done {
            true => Ok(()),
            false => Err(Failure::new(format!(
                "--data {data}: nothing was changed; restore a backup, or say --yes to do this"
            ))),
        }
    }
}

fn text(told: &Told) -> String {
    if told.clean {
        return "nothing to repair\n".to_owned();
    }
    let mut text = String::new();
    if told.superblocks {
        text += "superblocks: one is unreadable, both are written again\n";
    }
    if let Some(journal) = &told.journal
        && journal.entries.from >= journal.entries.until
    {
        text += &format!(
            "journal: {} is missing or cut; the journal begins anew, and no entry is known to be \
             lost\n",
            journal.file
        );
    } else if let Some(journal) = &told.journal {
        text += &format!(
            "journal: damaged in {} from byte {} on; it ends there, and the entries {} until {} \
             are lost with all that they published, settled and created\n",
            journal.file, journal.byte, journal.entries.from, journal.entries.until
        );
    }
    for segment in &told.segments {
        text += &match segment.loses {
            true => format!(
                "segment: {} is written again without what is lost\n",
                segment.file
            ),
            false => format!("segment: the sidecar of {} is made again\n", segment.file),
        };
    }
    told.lost.iter().for_each(|lost| text += &sentence(lost));
    if told.lost.is_empty() {
        text += "no event is known to be lost\n";
    }
    for path in &told.aside {
        text += &format!("kept aside: {path}\n");
    }
    if told.done {
        text += "repaired\n";
    }
    text
}

fn sentence(lost: &LostEvents) -> String {
    let topic = lost.topic.as_ref().map(ToString::to_string);
    format!(
        "lost: {}/{}, offsets {} until {} ({})\n",
        topic.unwrap_or_else(|| lost.topic_id.to_string()),
        lost.partition,
        lost.offsets.from,
        lost.offsets.until,
        lost.file
    )
}
