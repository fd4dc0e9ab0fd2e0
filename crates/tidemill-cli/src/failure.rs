//! How a command ends badly, and the exit code that says so: 1 failed, 2 wrong use.

use std::fmt;
use std::process::ExitCode;

/// Why a command did not do what it was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It was asked rightly and failed.
    Failed(String),
    /// It was asked for something that makes no sense.
    Usage(String),
}

impl Failure {
    /// A failure with this text: what happened and what to do.
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        Self::Failed(text.to_string())
    }

    /// A wrong use with this text.
    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self::Usage(text.to_string())
    }

    /// What to do about an error of the system's that is the same wherever it is met, and whose
    /// text does not say it.
    pub(crate) fn hint(&self) -> &'static str {
        let (Self::Failed(text) | Self::Usage(text)) = self;
        // As the system's error is written; EMFILE.
        match text.contains("(os error 24)") && !text.contains("ulimit") {
            true => "; raise the bound on open files, as with `ulimit -n 4096`",
            false => "",
        }
    }

    /// The exit code of the process.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed(_) => ExitCode::from(1),
            Self::Usage(_) => ExitCode::from(2),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) | Self::Usage(text) => f.write_str(text),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}
