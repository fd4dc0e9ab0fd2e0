//! `tidemill graph`: who sends what to whom.

use clap::Args;

use crate::failure::Failure;
use crate::listing::{Listing, print_json};
use crate::output::write;
use crate::target::{ServerOptions, Target};
use crate::wire;

/// Show who sends what to whom: sources, topics, queues, and groups with their handlers
///
/// As the handlers of connected programs say, and as the server saw it since it was started.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill graph\n  \
    tidemill graph --mermaid > flow.mmd")]
pub(crate) struct Graph {
    /// Print text for Mermaid, which draws it
    #[arg(long, conflicts_with = "json")]
    mermaid: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: ServerOptions,
}

impl Graph {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let target = self.target.open().await?;
        let done = self.ask(&target).await;
        target.close().await;
        done
    }

    async fn ask(&self, target: &Target) -> Result<(), Failure> {
        if self.mermaid {
            return write(target.graph_for_mermaid().await?.as_bytes());
        }
        let graph = target.graph().await?;
        match self.json {
            true => print_json(&graph),
            false => table(&graph).print(),
        }
    }
}

fn table(graph: &wire::Graph) -> Listing {
    let mut listing = Listing::new(&["from", "to", "types", "seen", "events>"]);
    for edge in &graph.edges {
        let seen = match edge.seen {
            true => "yes",
            false => "said by a handler",
        };
        let events = match edge.events {
            0 => "-".to_owned(),
            events => events.to_string(),
        };
        listing.row(&[
            edge.from.clone(),
            edge.to.clone(),
            edge.types.join(" "),
            seen.to_owned(),
            events,
        ]);
    }
    listing
}
