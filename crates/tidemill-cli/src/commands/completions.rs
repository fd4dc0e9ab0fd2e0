//! `tidemill completions`: the script that completes commands in a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::output;

/// Print the completion script of a shell
#[derive(Args)]
#[command(
    after_help = "Example:\n  tidemill completions bash > ~/.local/share/bash-completion/\
    completions/tidemill"
)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut command = crate::Cli::command();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "tidemill", &mut script);
        output::write(&script)
    }
}
