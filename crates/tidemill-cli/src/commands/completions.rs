//! `tidemill completions`: the script that completes commands in a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

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
    pub(crate) fn run(self) {
        let mut command = crate::Cli::command();
        clap_complete::generate(self.shell, &mut command, "tidemill", &mut std::io::stdout());
    }
}
