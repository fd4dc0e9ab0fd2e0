//! The binary `tidemill-shop`: one service of the shop, some of them, or its HTTP door, as a
//! process of its own. Parses what was typed; all else is the library's.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use tidemill_shop::database::Place;
use tidemill_shop::process::{self, Process, ProcessError};
use tidemill_shop::shop::{SERVICES, ShopOptions};
use tokio::signal::unix::{SignalKind, signal};

/// What stands for every service, and for none.
const ALL: &str = "all";
const DOOR: &str = "door";

/// Run a service of the shop as a process of its own.
///
/// The services speak by events alone, so each may run in another process, on one bus. Ctrl-C or
/// SIGTERM ends it once what is being handled is finished.
#[derive(Parser)]
#[command(name = "tidemill-shop", version, max_term_width = 100)]
#[command(after_help = "Examples:\n  \
    tidemill-shop orders --bus tidemill://127.0.0.1:7575 --data ./shop\n  \
    tidemill-shop logistics --bus tidemill://127.0.0.1:7575 --data ./shop --topics off\n  \
    tidemill-shop door --bus tidemill://127.0.0.1:7575 --http 127.0.0.1:7580\n  \
    tidemill-shop all --bus ./bus --data ./shop --http 127.0.0.1:7580\n\n\
    Exit codes: 0 done, 1 failed, 2 wrong use.")]
struct Cli {
    /// catalogue, cart, orders, payment, stock, logistics, users, all of them, or the door alone
    #[arg(required = true, value_name = "SERVICE", value_parser = names())]
    services: Vec<String>,
    /// The bus: tidemill://HOST:PORT, a folder that no other process has open, or memory:
    #[arg(long, value_name = "URL")]
    bus: String,
    /// Folder of the services' databases; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "./tidemill-shop")]
    data: PathBuf,
    /// Open the shop's HTTP door there, too
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Whether plain clients of Kafka may order and carry over order-topic and logistics-topic
    #[arg(
        long,
        value_name = "on|off",
        default_value = "on",
        action = clap::ArgAction::Set,
        hide_possible_values = true,
        value_parser = on_or_off()
    )]
    topics: bool,
    /// Listen where other machines can reach it, although nobody has to log in
    #[arg(long)]
    insecure: bool,
}

/// `on` or `off`; what says so in other words is understood, too.
fn on_or_off() -> impl TypedValueParser<Value = bool> {
    let words = [
        PossibleValue::new("on").aliases(["true", "yes", "1"]),
        PossibleValue::new("off").aliases(["false", "no", "0"]),
    ];
    PossibleValuesParser::new(words).map(|word| matches!(&*word, "on" | "true" | "yes" | "1"))
}

fn names() -> PossibleValuesParser {
    SERVICES
        .into_iter()
        .chain([ALL, DOOR])
        .collect::<Vec<_>>()
        .into()
}

impl Cli {
    /// What was asked for, or why it makes no sense.
    fn process(&self) -> Result<Process, String> {
        if let Some(http) = self.http.filter(|http| !http.ip().is_loopback())
            && !self.insecure
        {
            return Err(format!(
                "--http {http}: other machines could reach it and nobody has to log in; bind to \
                 127.0.0.1, or allow it with --insecure"
            ));
        }
        let has = |name: &str| self.services.iter().any(|given| given == name);
        if has(DOOR) && self.http.is_none() {
            return Err("a door needs an address; name one with --http".to_owned());
        }
        let wanted = |name: &&str| has(ALL) || has(name);
        Ok(Process {
            bus: self.bus.clone(),
            services: SERVICES
                .into_iter()
                .filter(wanted)
                .map(str::to_owned)
                .collect(),
            place: Place::Folder(self.data.clone()),
            options: ShopOptions {
                topics: self.topics,
                ..ShopOptions::default()
            },
            http: self.http,
        })
    }

    async fn run(&self, process: Process) -> Result<(), ProcessError> {
        let ended = |error: std::io::Error| ProcessError::Ended(error.to_string());
        let mut terminate = signal(SignalKind::terminate()).map_err(ended)?;
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                // Without it there is SIGTERM.
                Ok(()) = tokio::signal::ctrl_c() => {}
            }
        };
        let services = process.services.join(", ");
        let ready = |http: Option<SocketAddr>| {
            let what = if services.is_empty() { DOOR } else { &services };
            let door = http.map(|http| format!("shop: http://{http}\n"));
            let text = format!("{}ready: {what}\n", door.unwrap_or_default());
            // Nobody need look.
            let _ = std::io::stdout().write_all(text.as_bytes());
        };
        process::run(process, ready, shutdown).await
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .without_time()
        .init();
    let process = match cli.process() {
        Ok(process) => process,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Runtime::new().map_err(|e| ProcessError::Ended(e.to_string()));
    match runtime.and_then(|runtime| runtime.block_on(cli.run(process))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_value_of_an_option_is_answered_with_the_right_ones() {
        let parse = |topics: &str| {
            Cli::try_parse_from(["shop", "orders", "--bus", "memory:", "--topics", topics])
        };
        assert!(parse("on").unwrap().topics && parse("true").unwrap().topics);
        assert!(!parse("off").unwrap().topics && !parse("0").unwrap().topics);
        let told = parse("maybe").map(|_| ()).unwrap_err().to_string();
        assert!(told.contains("[possible values: on, off]"), "{told}");
    }
}
