//! What the shell is started with, and what it reads.

use birun_core::execution::Work;
use birun_core::id::StepId;
use birun_core::{Error, ErrorCode, Result};
use zeroize::Zeroizing;

use super::shell::{CLEANUP, COMMAND};

/// Up to this size a body travels in the header, where the shell reads it byte by byte.
///
/// Above it the shell starts `cat`, which costs about as much as reading this many bytes.
const SMALL_BODY: usize = 2048;

/// How a piece of work is started.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    step: StepId,
    shell: String,
    file: bool,
    input: Zeroizing<Vec<u8>>,
}

impl Bootstrap {
    /// Prepares a piece of work.
    ///
    /// # Errors
    /// `invalid` for a `#!` line that cannot be obeyed or a value with a NUL.
    pub(crate) fn new(work: &Work) -> Result<Self> {
        let invocation = work.interpreter.invocation(&work.content)?;
        let body = work.content.as_str();
        let file = !invocation.is_shell() || needs_file(body);
        let shell = if file || invocation.program == "sh" { "/bin/sh".to_owned() } else { invocation.program.clone() };
        let mut items: Vec<(&str, &str)> = Vec::with_capacity(work.env.len() + 3);
        for (name, value) in &work.env {
            if value.expose().contains('\0') {
                return Err(Error::invalid_field(name.as_str(), "holds a NUL byte"));
            }
            items.push((name.as_str(), value.expose()));
        }
        if file {
            items.push(("@program", &invocation.program));
            items
                .extend(invocation.argument.as_deref().filter(|text| !text.is_empty()).map(|text| ("@argument", text)));
        }
        Ok(Self { step: work.step, shell, file, input: input(&items, body, work.step) })
    }

    /// The shell and its arguments.
    pub(crate) fn argv(&self) -> Vec<String> {
        let mut argv = vec![self.shell.clone()];
        argv.extend(self.option().map(str::to_owned));
        argv.extend(["-c", COMMAND, "script"].map(str::to_owned));
        argv.push(self.step.to_string());
        argv
    }

    /// The shell, its option if it needs one, and the text that it is given with `-c`.
    pub(crate) fn shell(&self) -> (&str, Option<&'static str>, &'static str) {
        (&self.shell, self.option(), COMMAND)
    }

    /// Without it, a bash that finds itself under sshd reads ~/.bashrc, again.
    fn option(&self) -> Option<&'static str> {
        self.shell.ends_with("bash").then_some("--norc")
    }

    /// The same as a line for the login shell of a remote user, whatever shell that is.
    ///
    /// It consists of constants and the step id, which makes the shell itself findable on the
    /// target: a shell's own variables do not show in `/proc/<pid>/environ`, but its arguments do.
    pub(crate) fn command_line(&self) -> String {
        line(&self.argv())
    }

    /// What the shell is to read. Close its stdin afterwards.
    pub(crate) fn input(&self) -> &[u8] {
        &self.input
    }

    /// Whether a private directory is made, which is to be removed when the program has ended.
    pub(crate) fn leaves_file(&self) -> bool {
        self.file
    }

    /// What to say when the shell itself is not there.
    pub(crate) fn shell_missing(&self) -> Error {
        interpreter_missing(&self.shell)
    }
}

/// A line for a remote login shell that removes the private directory of a step.
pub(crate) fn cleanup_line(step: StepId) -> String {
    line(&["/bin/sh", "-c", CLEANUP, "cleanup", &step.to_string()].map(str::to_owned))
}

/// Words as a line for any login shell; the texts of [`super::shell`] may stand between quotes, and
/// whatever else has no single quote, newline, exclamation mark or double backslash.
pub(crate) fn line(words: &[impl AsRef<str>]) -> String {
    let quote = |word: &str| {
        if word.is_empty() || word.contains(' ') { format!("'{word}'") } else { word.to_owned() }
    };
    let quoted = words.iter().map(|word| quote(word.as_ref()));
    format!("exec {}", quoted.collect::<Vec<_>>().join(" "))
}

/// The interpreter is not on the target.
pub(super) fn interpreter_missing(program: &str) -> Error {
    Error::new(ErrorCode::SpawnFailed, format!("interpreter `{program}` is not there or cannot be executed"))
        .with_hint("install it on the target, or give the script another interpreter")
}

/// Whether a shell's body looks for the file that it stands in.
///
/// Evaluated as text, `[[ ${BASH_SOURCE[0]} == "$0" ]] && main` would do nothing and succeed.
fn needs_file(body: &str) -> bool {
    ["BASH_SOURCE", "$0", "${0"].iter().any(|sign| body.contains(sign))
}

fn input(items: &[(&str, &str)], body: &str, step: StepId) -> Zeroizing<Vec<u8>> {
    let small = (body.len() <= SMALL_BODY).then_some(("@body", body));
    let items = || items.iter().copied().chain(small);
    let header: usize = items().map(|(name, value)| item_len(name, value)).sum();
    let end = if small.is_some() { String::new() } else { format!("{body}\n.{step}\n") };
    // Exactly sized, so that no copy of a secret is left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(header + 2 + end.len()));
    for (name, value) in items() {
        push_item(&mut text, name, value);
    }
    text.extend_from_slice(b".\n");
    text.extend_from_slice(end.as_bytes());
    text
}

fn item_len(name: &str, value: &str) -> usize {
    let continued = value.bytes().filter(|byte| *byte == b'\n').count();
    name.len() + 1 + value.len() + continued + 1
}

fn push_item(text: &mut Vec<u8>, name: &str, value: &str) {
    text.extend_from_slice(name.as_bytes());
    text.push(b'=');
    for byte in value.bytes() {
        text.push(byte);
        if byte == b'\n' {
            text.push(b'+');
        }
    }
    text.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_leave_its_item() {
        let mut text = Vec::new();
        push_item(&mut text, "A", "first\n.\nB=2\n@program=sh\n+x\n");
        assert_eq!(String::from_utf8(text).unwrap(), "A=first\n+.\n+B=2\n+@program=sh\n++x\n+\n");
    }

    #[test]
    fn the_input_never_grows_while_it_is_written() {
        let items = [("A", "x\n\ny"), ("B", "")];
        for body in ["a\nb".to_owned(), "c".repeat(SMALL_BODY + 1)] {
            let text = input(&items, &body, StepId::new());
            assert_eq!(text.len(), text.capacity());
        }
    }
}
