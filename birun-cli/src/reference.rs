//! The reference page of the command line, made from the command line itself.

use clap::{Command, CommandFactory};

use crate::args::Cli;

/// Where the page is kept.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/cli.md");
/// Width of the help texts.
const WIDTH: usize = 100;

const HEAD: &str = "\
# Command line

Every command, as `birun COMMAND --help` tells it. This page is made from the program itself; a test
holds it against it (`UPDATE_REFERENCE=1 cargo test -p birun-cli reference` writes it anew).

## Exit codes

| code | meaning |
|---|---|
| 0 | all went well |
| 1 | something failed |
| 2 | the command line, a file or a parameter is not what it should be; nothing was done |
| 3 | the execution ended `cancelled`, or the user declined |
| 4 | nobody is signed in, or the token has expired |
| 5 | the execution ended without success in any other way |
| 6 | what was named does not exist |
| 7 | the resource is in another state than needed, or the name is taken |
| 8 | the wait timed out, and the execution still runs |
| 9 | it may be seen, but not done |
| 130 | interrupted |

";

fn page() -> String {
    let mut root = Cli::command().term_width(WIDTH);
    root.build();
    let mut page = HEAD.to_owned();
    section(&mut page, &root, "birun");
    page
}

fn section(page: &mut String, command: &Command, path: &str) {
    let help = without_global_options(&command.clone().render_long_help().to_string(), path);
    let text = format!("## `{path}`\n\n```text\n{}\n```\n\n", help.trim_end());
    page.push_str(&text);
    for sub in command.get_subcommands() {
        section(page, sub, &format!("{path} {}", sub.get_name()));
    }
}

/// Global options are told once, with `birun` itself.
fn without_global_options(help: &str, path: &str) -> String {
    let mut lines = help.lines().map(str::trim_end).peekable();
    let mut kept = Vec::new();
    while let Some(line) = lines.next() {
        if path != "birun" && line == "Global options:" {
            while lines.next_if(|line| line.is_empty() || line.starts_with(' ')).is_some() {}
            continue;
        }
        kept.push(line);
    }
    kept.join("\n")
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whoever changes the command line says that the page is to follow")]
fn the_reference_page_is_what_the_command_line_says() {
    let page = page();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::create_dir_all(std::path::Path::new(PAGE).parent().unwrap()).unwrap();
        std::fs::write(PAGE, &page).unwrap();
    }
    let kept = std::fs::read_to_string(PAGE).unwrap_or_default();
    let line = page.lines().zip(kept.lines()).position(|(new, old)| new != old);
    assert!(page == kept, "docs/reference/cli.md differs, from line {line:?} on; UPDATE_REFERENCE=1 writes it anew");
}

#[test]
fn no_argument_of_a_command_takes_the_place_of_a_global_option() {
    let root = Cli::command();
    let globals: Vec<_> =
        root.get_arguments().filter(|arg| arg.is_global_set()).map(|arg| arg.get_id().clone()).collect();
    assert!(!globals.is_empty());
    let mut commands: Vec<(String, &Command)> = vec![("birun".to_owned(), &root)];
    while let Some((path, command)) = commands.pop() {
        for sub in command.get_subcommands() {
            let path = format!("{path} {}", sub.get_name());
            let taken: Vec<_> = sub.get_arguments().filter(|arg| globals.contains(arg.get_id())).collect();
            assert!(taken.is_empty(), "{path}: {taken:?}");
            commands.push((path, sub));
        }
    }
}
