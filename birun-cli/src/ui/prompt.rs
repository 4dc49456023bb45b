//! Questions: asked on a terminal only, and every one has a flag that answers it.

use inquire::{Confirm, InquireError, Password, PasswordDisplayMode};

use super::Ui;
use crate::error::{CommandError, CommandResult};
use crate::exit::Exit;

impl Ui {
    /// Whether questions can be asked.
    pub(crate) const fn can_ask(&self) -> bool {
        self.stdin_is_terminal && self.err_is_terminal && !self.manner.no_input
    }

    /// Asks before something that cannot be undone.
    ///
    /// # Errors
    /// The command ends when the user declines; it fails when nobody can be asked.
    pub(crate) fn confirm(&self, question: &str) -> CommandResult {
        if self.manner.yes {
            return Ok(());
        }
        if !self.can_ask() {
            return Err(CommandError::usage(format!("{question} nobody is there to say yes")).hint("give  --yes"));
        }
        if self.ask(question)? { Ok(()) } else { Err(CommandError::Ended(Exit::CANCELLED)) }
    }

    /// Asks a question that `--yes` does not answer.
    ///
    /// # Errors
    /// The command ends when the user interrupts.
    #[expect(clippy::unused_self, reason = "questions are asked at the terminal")]
    pub(crate) fn ask(&self, question: &str) -> CommandResult<bool> {
        Confirm::new(question).with_default(false).prompt().map_err(interrupted)
    }

    /// Asks for a secret; it is not shown while it is typed.
    ///
    /// # Errors
    /// The command fails, naming `flag`, when nobody can be asked; it ends when the user interrupts.
    pub(crate) fn secret(&self, question: &str, flag: &str) -> CommandResult<String> {
        if !self.can_ask() {
            let what = question.trim_end_matches(':');
            return Err(CommandError::usage(format!("{what}: nobody is there to type it"))
                .hint(format!("give it with  {flag}")));
        }
        Password::new(question)
            .with_display_mode(PasswordDisplayMode::Hidden)
            .without_confirmation()
            .prompt()
            .map_err(interrupted)
    }
}

fn interrupted(error: InquireError) -> CommandError {
    match error {
        InquireError::OperationCanceled => CommandError::Ended(Exit::CANCELLED),
        InquireError::OperationInterrupted => CommandError::Ended(Exit::INTERRUPTED),
        other => CommandError::failed("the question could not be asked").because(&other),
    }
}
