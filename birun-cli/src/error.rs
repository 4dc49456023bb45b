//! How a command fails: what is told, what to do next, and the exit code. Everything that can go
//! wrong below the commands is turned into this here, and nowhere else.

use std::error::Error as StdError;
use std::path::Path;

use birun_core::ErrorCode;

use crate::client::Problem;
use crate::exit::Exit;

/// How a command ends when it does not end well.
#[derive(Debug)]
pub(crate) enum CommandError {
    /// The command has said everything that there is to say.
    Ended(Exit),
    /// Something is to be told.
    Failed(Box<Failure>),
}

/// What is told about a failure.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// A lowercase fragment that names the thing concerned.
    pub(crate) message: String,
    /// The errors underneath, outermost first.
    pub(crate) causes: Vec<String>,
    /// What can be done next.
    pub(crate) hints: Vec<String>,
    /// The name of the request that failed, where a server gave it one.
    pub(crate) request_id: Option<String>,
}

/// The result of every command.
pub(crate) type CommandResult<T = ()> = Result<T, CommandError>;

impl CommandError {
    /// A failure with this code and message.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Failed(Box::new(Failure { exit, message, causes: Vec::new(), hints: Vec::new(), request_id: None }))
    }

    /// Something failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::ERROR, message)
    }

    /// The command line, or something that it names, is not what it should be.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::USAGE, message)
    }

    /// A file that the user named could not be read; `what` says for what, as in `read`.
    pub(crate) fn unreadable(what: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::usage(format!("cannot {what} {}", path.display())).because(error)
    }

    /// A file of birun's own could not be used; `what` says for what, as in `lock`.
    pub(crate) fn file(what: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::failed(format!("cannot {what} {}", path.display())).because(error)
    }

    /// Adds a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Failed(failure) = &mut self {
            failure.hints.push(hint.into());
        }
        self
    }

    /// Adds an error and everything underneath it.
    pub(crate) fn because(mut self, error: &(dyn StdError + 'static)) -> Self {
        if let Self::Failed(failure) = &mut self {
            failure.causes.extend(chain(error));
        }
        self
    }

    /// What is told, in a line.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Ended(_) => String::new(),
            Self::Failed(failure) => failure.message.clone(),
        }
    }

    /// The exit code.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Ended(exit) => *exit,
            Self::Failed(failure) => failure.exit,
        }
    }
}

/// An error and its sources, without those that only repeat the end of the one above.
fn chain(error: &(dyn StdError + 'static)) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !texts.last().is_some_and(|above| above.ends_with(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts
}

/// The exit code that an error code stands for.
const fn exit_of(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::Malformed
        | ErrorCode::Invalid
        | ErrorCode::TooLarge
        | ErrorCode::UnknownParameter
        | ErrorCode::MissingParameter
        | ErrorCode::CredentialUnreadable => Exit::USAGE,
        ErrorCode::Unauthenticated => Exit::NOT_SIGNED_IN,
        ErrorCode::Forbidden => Exit::FORBIDDEN,
        ErrorCode::NotFound | ErrorCode::NoTargetMatched => Exit::NOT_FOUND,
        ErrorCode::Conflict | ErrorCode::StaleVersion => Exit::CONFLICT,
        _ => Exit::ERROR,
    }
}

impl From<birun_core::Error> for CommandError {
    fn from(error: birun_core::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&birun_core::Error> for CommandError {
    fn from(error: &birun_core::Error) -> Self {
        let out = Self::new(exit_of(error.code()), error.to_string());
        let out = match error.source() {
            Some(source) => out.because(source),
            None => out,
        };
        match error.hint() {
            Some(hint) => out.hint(hint),
            None => out,
        }
    }
}

impl From<birun_core::StoreError> for CommandError {
    fn from(error: birun_core::StoreError) -> Self {
        birun_core::Error::from(error).into()
    }
}

impl From<Problem> for CommandError {
    fn from(problem: Problem) -> Self {
        let code = problem.code.as_deref().and_then(|code| code.parse().ok());
        let exit = code.map_or_else(|| exit_of_status(problem.status), exit_of);
        // A server tells callers of its API what to send; whoever sits here gives it in another way.
        let hint = if exit == Exit::NOT_SIGNED_IN { Some(SIGN_IN.to_owned()) } else { problem.hint };
        Self::Failed(Box::new(Failure {
            exit,
            message: problem.detail,
            causes: Vec::new(),
            hints: hint.into_iter().collect(),
            request_id: problem.request_id,
        }))
    }
}

/// How a command is given the token of a server.
const SIGN_IN: &str = "give the token in BIRUN_TOKEN, or in a file that a context of your config file names as \
    token_file; the server keeps it in serve.json in its data directory, or in its --token-file";

/// The exit code of an answer whose code this version does not know.
const fn exit_of_status(status: u16) -> Exit {
    match status {
        400 | 413 | 422 => Exit::USAGE,
        401 => Exit::NOT_SIGNED_IN,
        403 => Exit::FORBIDDEN,
        404 => Exit::NOT_FOUND,
        409 | 412 => Exit::CONFLICT,
        _ => Exit::ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_repeats_its_parent_is_told_once() {
        let inner = std::io::Error::other("refused");
        let outer = birun_core::Error::internal("connect: refused").with_source(inner);
        assert_eq!(chain(&outer), ["connect: refused"]);
    }

    #[test]
    fn an_error_of_the_core_keeps_its_hint_and_source() {
        let error = birun_core::Error::not_found("server", "web-9").with_hint("look").with_source("gone");
        let CommandError::Failed(failure) = error.into() else { panic!("nothing is told") };
        assert_eq!(failure.exit, Exit::NOT_FOUND);
        assert_eq!(
            (failure.message.as_str(), failure.causes.as_slice()),
            ("no server `web-9`", &["gone".to_owned()][..])
        );
        assert_eq!(failure.hints, ["look"]);
    }
}
