//! `tidemill client`: who is connected to a server, and what each did.

use clap::{Args, Subcommand};
use jiff::Timestamp;

use crate::failure::Failure;
use crate::listing::{Listing, print_json_lines};
use crate::target::ServerOptions;
use crate::wire;

/// List the clients that are connected
#[derive(Subcommand)]
#[command(after_help = "Example:\n  tidemill client list")]
pub(crate) enum Client {
    List(List),
}

/// List the clients that are connected, those of the Kafka protocol, a connection each
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill client list\n  \
    tidemill client list --json --server http://127.0.0.1:7575")]
pub(crate) struct List {
    /// Print a line of JSON for each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: ServerOptions,
}

impl Client {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Self::List(list) = self;
        let target = list.target.open().await?;
        let found = target.clients().await;
        target.close().await;
        let found = found?;
        match list.json {
            true => print_json_lines(&found),
            false => table(&found).print(),
        }
    }
}

fn table(clients: &[wire::Client]) -> Listing {
    let heads = [
        "client",
        "software",
        "user",
        "address",
        "since",
        "groups",
        "requests>",
        "in>",
        "out>",
        "produced>",
        "fetched>",
        "last",
    ];
    let mut listing = Listing::new(&heads);
    for client in clients {
        let last = client.last_request.as_ref();
        listing.row(&[
            client.client_id.clone().unwrap_or_default(),
            client.software(),
            client.user.clone().unwrap_or_default(),
            client.address.clone(),
            seconds(&client.since),
            client.groups.join(" "),
            client.requests.to_string(),
            client.received_bytes.to_string(),
            client.sent_bytes.to_string(),
            client.produced.records.to_string(),
            client.fetched.records.to_string(),
            last.map(|last| last.name.clone()).unwrap_or_default(),
        ]);
    }
    listing
}

/// A time in whole seconds; what is none stays as it is.
fn seconds(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => format!("{time:.0}"),
        Err(_) => time.to_owned(),
    }
}
