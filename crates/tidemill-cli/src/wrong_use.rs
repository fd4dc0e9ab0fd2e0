//! Wrong use as the parser reports it, with what it does not say by itself: that a wrong value
//! came from an environment variable, that a folder is named with an option; and wrong use that it
//! does not see.
//!
//! This room may not know what an option is for.

use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use crate::shell::quoted;

/// Two options, by the parser's names for them, of which one would be passed over.
struct Useless {
    one: &'static str,
    other: &'static str,
    /// With this one both have a meaning.
    unless: Option<&'static str>,
    why: &'static str,
}

const USELESS: [Useless; 2] = [
    Useless {
        one: "folder",
        other: "server",
        unless: None,
        why: "--data and --server do not go together; name a folder or a server",
    },
    Useless {
        one: "data",
        other: "bus",
        unless: Some("replay"),
        why: "--data has no use with --bus memory:, where nothing is kept; leave one of them out",
    },
];

/// Puts the whole usage of the command that was typed into an error: the parser shows only what
/// it thinks is missing, and takes a variable of the environment for something that was typed.
/// `command` must have been built.
pub(crate) fn with_usage(error: &mut Error, command: &mut Command, typed: &[OsString]) {
    if error.get(ContextKind::Usage).is_some() {
        let usage = meant(command, typed).render_usage();
        error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
    }
}

/// The command that was typed, as deep as it is known.
fn meant<'a>(command: &'a mut Command, typed: &[OsString]) -> &'a mut Command {
    let Some((word, rest)) = typed.split_first() else {
        return command;
    };
    match command.find_subcommand(word).is_some() {
        true => {
            let found = command.find_subcommand_mut(word);
            meant(found.expect("it was found"), rest)
        }
        false => command,
    }
}

/// A sentence for a word too much that looks like a folder, where the command takes one by an
/// option. `command` must have been built.
pub(crate) fn folder(error: &Error, command: &mut Command, typed: &[OsString]) -> Option<String> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let looks = !word.starts_with('-') && (word.contains('/') || Path::new(word).is_dir());
    let mut options = meant(command, typed).get_arguments();
    let takes_one = options.any(|option| option.get_long() == Some("data"));
    let is_one = error.kind() == ErrorKind::UnknownArgument && looks && takes_one;
    is_one.then(|| format!("a folder is named with an option: --data {}", quoted(word)))
}

/// A sentence for a folder, given to a command that asks a server alone. `command` must have been
/// built.
pub(crate) fn server_alone(
    error: &Error,
    command: &mut Command,
    typed: &[OsString],
) -> Option<&'static str> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let mut options = meant(command, typed).get_arguments();
    let asks_one = options.any(|option| option.get_long() == Some("server"));
    let is_one = error.kind() == ErrorKind::UnknownArgument && word == "--data" && asks_one;
    is_one.then_some(
        "what this shows is in a running server alone: start `tidemill serve` on the folder, and \
         ask that with --server",
    )
}

/// A sentence for an option behind `--`, where none is one.
pub(crate) fn behind_dashes(error: &Error, typed: &[OsString]) -> Option<&'static str> {
    let dashes = typed.iter().position(|word| word == "--")?;
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let behind = typed
        .iter()
        .skip(dashes)
        .any(|typed| typed == word.as_str());
    (behind && word.starts_with('-')).then_some("options are given before `--`")
}

/// A sentence that shows the word that is no text.
pub(crate) fn no_text(error: &Error, typed: &[OsString]) -> Option<String> {
    if error.kind() != ErrorKind::InvalidUtf8 {
        return None;
    }
    let word = typed.iter().find(|word| word.to_str().is_none())?;
    let shown = word.as_encoded_bytes().escape_ascii();
    Some(format!("\"{shown}\" is no text in UTF-8; write it so"))
}

/// A sentence for two options that were typed and do not go together.
pub(crate) fn useless(matches: &ArgMatches) -> Option<&'static str> {
    let deeper = matches.subcommand().and_then(|(_, deeper)| useless(deeper));
    let typed = |name: &str| {
        let known = matches.try_contains_id(name).is_ok();
        known && matches.value_source(name) == Some(ValueSource::CommandLine)
    };
    let both =
        |pair: &&Useless| typed(pair.one) && typed(pair.other) && !pair.unless.is_some_and(typed);
    deeper.or_else(|| USELESS.iter().find(both).map(|pair| pair.why))
}

/// A sentence that names the variable whose value was refused; `None` when the value was typed.
/// `command` must have been built.
pub(crate) fn variable(error: &Error, command: &Command, typed: &[OsString]) -> Option<String> {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let (flag, variable) = option_of(command, option)?;
    let given = |word: &OsString| {
        let word = word.to_string_lossy();
        let rest = word.strip_prefix(&flag);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let value = std::env::var_os(&variable)?;
    if typed.iter().any(given) {
        return None;
    }
    let is = match value.is_empty() {
        true => "is set and empty".to_owned(),
        false => format!("is {:?}", value.to_string_lossy()),
    };
    Some(format!(
        "the value comes from the environment: {variable} {is}; change it, unset it, or give \
         {flag}"
    ))
}

/// The flag and the variable of the option that the parser shows as `shown`, wherever it is.
fn option_of(command: &Command, shown: &str) -> Option<(String, String)> {
    let found = command.get_arguments().find_map(|option| {
        let flag = format!("--{}", option.get_long()?);
        let variable = option.get_env()?.to_string_lossy().into_owned();
        (option.to_string() == shown).then_some((flag, variable))
    });
    let deeper = |command| option_of(command, shown);
    found.or_else(|| command.get_subcommands().find_map(deeper))
}
