//! `tidemill handler`: what the programs that are members of groups now say they handle.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use tidemill::GroupName;

use crate::failure::Failure;
use crate::listing::{Listing, print_json_lines};
use crate::output::say;
use crate::shell::quoted;
use crate::target::{ServerOptions, Target};
use crate::wire;

/// List and show the handlers of the programs that are connected
#[derive(Subcommand)]
#[command(after_help = "Examples:\n  \
    tidemill handler list\n  \
    tidemill handler show charge --group billing")]
pub(crate) enum Handler {
    List(List),
    Show(Show),
}

/// List all handlers that are served now
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill handler list --json")]
pub(crate) struct List {
    /// Only those of this group
    #[arg(long, value_name = "GROUP")]
    group: Option<GroupName>,
    /// Print a line of JSON for each handler, with its JSON Schemas
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: ServerOptions,
}

/// Show what a handler takes and publishes, with the JSON Schemas
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill handler show charge")]
pub(crate) struct Show {
    /// The handler's id
    #[arg(value_name = "ID")]
    id: String,
    /// Only that of this group
    #[arg(long, value_name = "GROUP")]
    group: Option<GroupName>,
    /// Print a line of JSON for each group and version of it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: ServerOptions,
}

impl Handler {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (Self::List(List { target, .. }) | Self::Show(Show { target, .. })) = &self;
        let target = target.open().await?;
        let done = self.ask(&target).await;
        target.close().await;
        done
    }

    async fn ask(&self, target: &Target) -> Result<(), Failure> {
        match self {
            Self::List(list) => {
                let found = target.handlers(list.group.as_ref(), None).await?;
                match list.json {
                    true => print_json_lines(&found),
                    false => table(&found).print(),
                }
            }
            Self::Show(show) => {
                let found = target.handlers(show.group.as_ref(), Some(&show.id)).await?;
                if found.is_empty() {
                    let list = show.target.command("handler list", None, &[]);
                    return Err(Failure::new(format!(
                        "no handler {} is served now; `{list}` names all that are",
                        quoted(&show.id)
                    )));
                }
                match show.json {
                    true => print_json_lines(&found),
                    false => found.iter().try_for_each(|handler| say(text(handler))),
                }
            }
        }
    }
}

fn table(handlers: &[wire::Handler]) -> Listing {
    let heads = [
        "handler",
        "version",
        "group",
        "takes",
        "publishes",
        "members>",
    ];
    let mut listing = Listing::new(&heads);
    for handler in handlers {
        listing.row(&[
            handler.id.clone(),
            handler.version.clone(),
            handler.group.clone(),
            format!("{}/{}", handler.topic, handler.ty),
            handler.published().join(" "),
            handler.served_by.len().to_string(),
        ]);
    }
    listing
}

/// All of a handler, for people.
fn text(handler: &wire::Handler) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{name:10} {value}");
    };
    // A client may leave both out.
    match handler.version.as_str() {
        "" => line("handler", &handler.id),
        version => line("handler", &format!("{} (version {version})", handler.id)),
    }
    if !handler.name.is_empty() {
        line("name", &handler.name);
    }
    line("group", &handler.group);
    line("takes", &format!("{}/{}", handler.topic, handler.ty));
    if let Some(schema) = &handler.input.schema {
        line("  schema", schema.get());
    }
    for output in &handler.outputs {
        line(&output.kind, &output.shown());
        if let Some(schema) = &output.schema {
            line("  schema", schema.get());
        }
    }
    if let Some(retry) = &handler.retry {
        let wire::RetryOf {
            retries,
            first_ms,
            max_ms,
        } = retry;
        line(
            "retries",
            &format!("{retries}, after {first_ms} ms up to {max_ms} ms"),
        );
    }
    if let Some(timeout) = handler.timeout_ms {
        line("timeout", &format!("{timeout} ms"));
    }
    for member in &handler.served_by {
        let wire::ServedBy {
            member,
            name,
            since,
        } = member;
        line(
            "served by",
            &format!("{name}, member {member}, since {since}"),
        );
    }
    text.pop();
    text
}
