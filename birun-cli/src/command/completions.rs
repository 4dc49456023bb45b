//! `birun completions`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::CommandResult;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  birun completions bash > ~/.local/share/bash-completion/completions/birun
  birun completions zsh > ~/.zfunc/_birun
  birun completions fish > ~/.config/fish/completions/birun.fish";

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(ui: &Ui, args: CompletionsArgs) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "birun", &mut script);
    ui.write(&script)
}
