//! Starting the shell that starts a program.

use std::io::{self, Write, pipe};
use std::process::Stdio;

use birun_core::id::StepId;
use process_wrap::tokio::{ChildWrapper, CommandWrap, ProcessSession};
use tokio::process::Command;

use super::environment::Environment;
use crate::bootstrap::Bootstrap;

/// So much fits into every pipe, even where the kernel gives out small ones.
const FITS_ANY_PIPE: usize = 4096;

/// Starts the shell in a session of its own, with pipes for its output.
///
/// Its stdin holds the whole input already, or is a pipe that the input is to be written to.
pub(super) fn spawn(
    bootstrap: &Bootstrap,
    step: StepId,
    environment: &Environment,
) -> io::Result<Box<dyn ChildWrapper>> {
    let argv = bootstrap.argv();
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let stdin = stdin(bootstrap.input())?;
    let set_up = |command: &mut Command| {
        command.args(arguments).env_clear().envs(environment.variables()).env("BIRUN_STEP_ID", step.to_string());
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    };
    // The wrapper around the child would wait for its whole group, which `Tree` looks after.
    Ok(CommandWrap::with_new(program, set_up).wrap(ProcessSession).spawn()?.into_inner())
}

fn stdin(input: &[u8]) -> io::Result<Stdio> {
    if input.len() > FITS_ANY_PIPE {
        return Ok(Stdio::piped());
    }
    let (reader, mut writer) = pipe()?;
    writer.write_all(input)?;
    Ok(Stdio::from(reader))
}
