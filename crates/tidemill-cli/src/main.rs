//! The binary `tidemill`: it parses what was typed, runs one command and ends with 0 when that
//! was done, 1 when it failed and 2 when it was used wrongly.
//!
//! This program may not know how anything is stored; it uses the server, the public crate and the
//! shop, and everything it asks of a running server goes through the server's public API.

mod bench;
mod client;
mod commands;
mod failure;
mod folder;
mod limits;
mod listing;
mod output;
#[cfg(feature = "kafka")]
mod password;
mod port;
mod progress;
mod refusal;
mod settings;
mod shell;
mod signals;
mod target;
mod values;
mod wire;
mod wrong_use;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};

use commands::Command;
use failure::Failure;

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
    let parsed = values::negative_too(Cli::command()).try_get_matches();
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let cli = match parsed {
        Ok((cli, matches)) => match wrong_use::useless(&matches) {
            Some(sentence) => return ended(&Failure::usage(sentence)),
            None => cli,
        },
        Err(error) => return misused(error),
    };
    // Warnings of the broker and the doors are for people; standard output stays the command's.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .without_time()
        .init();
    match commands::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ended(&failure),
    }
}

fn ended(failure: &Failure) -> ExitCode {
    output::remark(format_args!("error: {failure}{}", failure.hint()));
    failure.exit_code()
}

/// Shows what the parser says, which may also be the help that was asked for.
fn misused(mut error: clap::Error) -> ExitCode {
    let typed: Vec<_> = std::env::args_os().skip(1).collect();
    let mut command = Cli::command();
    command.build();
    wrong_use::with_usage(&mut error, &mut command, &typed);
    let shown = error.print().and_then(|()| std::io::stdout().flush());
    // A reader that has gone needs no help.
    if let Err(why) = shown
        && why.kind() != std::io::ErrorKind::BrokenPipe
        && !error.use_stderr()
    {
        return ended(&output::unwritten(&why));
    }
    let note = wrong_use::variable(&error, &command, &typed)
        .or_else(|| wrong_use::behind_dashes(&error, &typed).map(str::to_owned))
        .or_else(|| wrong_use::server_alone(&error, &mut command, &typed).map(str::to_owned))
        .or_else(|| wrong_use::folder(&error, &mut command, &typed))
        .or_else(|| wrong_use::no_text(&error, &typed));
    if let Some(note) = note {
        output::remark(format_args!("\nnote: {note}"));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string);
            let name = command.get_name();
            assert!(
                help.is_some_and(|help| help.contains("Example")),
                "{name} has no example"
            );
            command.get_subcommands().for_each(check);
        }
        Cli::command().get_subcommands().for_each(check);
    }
}
