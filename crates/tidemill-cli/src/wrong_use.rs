//! Wrong use as the parser reports it, with what it does not say by itself: that a wrong value
//! came from an environment variable.
//!
//! This room may not know any option.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error};

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
