//! `tidemill handler`: what the programs that are members of groups now say they handle.

use clap::{Args, Subcommand};
use serde_json::value::RawValue;
use tidemill::GroupName;

use crate::failure::Failure;
use crate::listing::{Lines, Listing, print_json_lines};
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
                    false => found.iter().try_for_each(|handler| lines(handler).print()),
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
fn lines(handler: &wire::Handler) -> Lines {
    let mut lines = Lines::default();
    // Line ends of JSON are between its values alone.
    let schema = |schema: &RawValue| schema.get().replace(['\n', '\r'], " ");
    // A client may leave both out.
    match handler.version.as_str() {
        "" => lines.add("handler", &handler.id),
        version => lines.add("handler", format!("{} (version {version})", handler.id)),
    }
    lines.add_some("name", Some(&handler.name).filter(|name| !name.is_empty()));
    lines.add("group", &handler.group);
    lines.add("takes", format!("{}/{}", handler.topic, handler.ty));
    lines.add_some("  schema", handler.input.schema.as_deref().map(schema));
    for output in &handler.outputs {
        lines.add(&output.kind, output.shown());
        lines.add_some("  schema", output.schema.as_deref().map(schema));
    }
    if let Some(retry) = &handler.retry {
        let wire::RetryOf {
            retries,
            first_ms,
            max_ms,
        } = retry;
        lines.add(
            "retries",
            format!("{retries}, after {first_ms} ms up to {max_ms} ms"),
        );
    }
    if let Some(timeout) = handler.timeout_ms {
        lines.add("timeout", format!("{timeout} ms"));
    }
    for member in &handler.served_by {
        let wire::ServedBy {
            member,
            name,
            since,
        } = member;
        lines.add(
            "served by",
            format!("{name}, member {member}, since {since}"),
        );
    }
    lines
}
