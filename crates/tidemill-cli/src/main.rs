//! The binary `tidemill`: it parses what was typed, runs one command and ends with 0 when that
//! was done, 1 when it failed and 2 when it was used wrongly.
//!
//! This program may not know how anything is stored; it uses the server, the public crate and the
//! shop, and everything it asks of a running server goes through the server's public API.

mod bench;
mod client;
mod commands;
mod failure;
mod limits;
mod listing;
mod progress;
mod settings;
mod signals;
mod target;
mod values;
mod wire;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;

/// No abort on an absurd reservation, and without huge pages 8 MB less memory when idle.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events from socket to synced disk to handler and back.
#[derive(Parser)]
#[command(
    name = "tidemill",
    version,
    max_term_width = 100,
    subcommand_required = true
)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong use.\n\
    Begin with `tidemill demo`, or with `tidemill serve` and `tidemill publish --help`.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Warnings of the broker and the doors are for people; standard output stays the command's.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .without_time()
        .init();
    match commands::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command) {
            if command.get_subcommands().next().is_none() {
                let help = command
                    .get_after_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(
                    help.contains("Example"),
                    "{} has no example",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
