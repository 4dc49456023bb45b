//! The command line as a whole: global flags, and the commands under their nouns.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};

use crate::command::Command;
use crate::config::Flags;
use crate::input;
use crate::ui::{ColorChoice, Format};

const EXAMPLES: &str = "\
Examples:
  birun run ./hello.sh                                  run a script on this machine
  birun server add web-1 deploy@10.0.0.5 --key ~/.ssh/id_ed25519 --tag prod --test
  birun exec --on tag:prod -- uptime                    run a command on several servers
  birun script create disk-report --file disk.sh        keep a script, with versions
  birun run disk-report --on 'tag:prod,!web-3'          run it
  birun execution list --status failed                  see what went wrong
  birun serve                                           offer the HTTP API

Targets are named by one language everywhere: local, a server's name, tag:prod, group:db, all;
a comma joins, & intersects, ! excludes:  'tag:prod&tag:web,!web-3'

Exit codes: 0 ok, 1 error, 2 usage, 3 cancelled or declined, 4 not signed in,
5 the execution did not succeed, 6 not found, 7 conflict, 8 the wait timed out, 9 forbidden,
130 interrupted, 141 nobody reads stdout any more";

/// Runs scripts on this machine and on servers: durably, with every line live.
///
/// Nothing needs to be set up: state goes into the data directory of the user who runs birun. With
/// a server (`birun serve`), the same commands talk to that.
#[derive(Debug, Parser)]
#[command(name = "birun", version, after_long_help = EXAMPLES, disable_help_subcommand = true)]
#[command(arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// The form of what is written to stdout.
    #[arg(short, long, global = true, value_name = "FORM")]
    output: Option<Format>,

    /// Write data only.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Tell more.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,

    /// The context to work with: local, or one of your config file.
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,

    /// The server to work with; its token is read from BIRUN_TOKEN.
    #[arg(long, global = true, value_name = "URL", conflicts_with_all = ["context", "data_dir", "database_url"])]
    server: Option<String>,

    /// Where birun keeps its files when it works without a server.
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "context")]
    data_dir: Option<PathBuf>,

    /// The database to work on without a server: sqlite://FILE or postgres://…
    ///
    /// A URL that holds a password belongs into BIRUN_DATABASE_URL instead.
    #[arg(long, global = true, value_name = "URL", conflicts_with = "context")]
    database_url: Option<String>,

    /// How long a request to a server may take.
    #[arg(long, global = true, value_name = "TIME", value_parser = input::duration)]
    request_timeout: Option<Duration>,

    /// Answer every question with yes.
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,

    /// Ask no questions.
    #[arg(long, global = true)]
    pub(crate) no_input: bool,

    /// When to use colours.
    #[arg(long, global = true, value_name = "WHEN")]
    color: Option<ColorChoice>,
}

impl GlobalArgs {
    /// What they say about settings.
    pub(crate) fn flags(&self) -> Flags {
        Flags {
            output: self.output,
            color: self.color,
            context: self.context.clone(),
            server: self.server.clone(),
            data_dir: self.data_dir.clone(),
            database_url: self.database_url.clone(),
            request_timeout: self.request_timeout,
        }
    }
}

/// For every command that changes something.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct DryRun {
    /// Print the request that would be sent, and send nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// For every list.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ListArgs {
    /// How many items to show.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,

    /// Show all of them.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl ListArgs {
    /// How many items are wanted; `None` = all.
    pub(crate) fn limit(self) -> Option<u32> {
        (!self.all).then_some(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_flag_is_explained() {
        fn check(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "{path} says nothing about itself");
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                assert!(arg.get_help().is_some(), "{path}: {} says nothing about itself", arg.get_id());
            }
            command.get_subcommands().for_each(|sub| check(sub, &format!("{path} {}", sub.get_name())));
        }
        check(&Cli::command(), "birun");
    }
}
