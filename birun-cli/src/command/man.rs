//! `birun man`

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_mangen::Man;

use crate::args::Cli;
use crate::error::{CommandError, CommandResult};
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  birun man | man -l -
  birun man --dir ~/.local/share/man/man1";

/// Print the manual page, or write one for every command.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ManArgs {
    /// Write a page for every command into this directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(ui: &Ui, args: &ManArgs) -> CommandResult {
    if let Some(dir) = &args.dir {
        return clap_mangen::generate_to(Cli::command(), dir).map_err(|error| failed(dir, &error));
    }
    let mut page = Vec::new();
    let rendered = Man::new(Cli::command()).render(&mut page);
    rendered.map_err(|error| CommandError::failed("the page cannot be made").because(&error))?;
    ui.write(&page)
}

fn failed(dir: &Path, error: &std::io::Error) -> CommandError {
    CommandError::file("write pages into", dir, error)
}
