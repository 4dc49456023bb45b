//! What is answered when a server asks questions at sign-in (RFC 4256).

use birun_core::inventory::PromptAnswer;
use birun_core::vault::Secret;
use russh::client::Prompt;

use crate::ssh::peer::printable;

/// Rounds of questions in one sign-in; a server that asks more does not mean to let anyone in.
pub(super) const MAX_ROUNDS: usize = 10;
/// Questions in one round.
const MAX_PROMPTS: usize = 10;
/// A longer prompt is cut before it is compared.
const MAX_PROMPT: usize = 1000;

/// Answers to give.
pub(super) enum Answers<'a> {
    /// A password, for the one hidden prompt that asks for it.
    Password(&'a Secret),
    /// Answers by pattern; the first that fits counts.
    Patterns(&'a [PromptAnswer]),
}

/// Why a round of questions is not answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Nothing is known to answer this prompt.
    Unknown(String),
    /// The prompt was answered already: what is known is wrong.
    Again(String),
    /// So many questions at once.
    TooMany(usize),
}

/// The questions of one sign-in.
pub(super) struct Interview<'a> {
    answers: Answers<'a>,
    answered: Vec<String>,
}

impl<'a> Interview<'a> {
    pub(super) const fn new(answers: Answers<'a>) -> Self {
        Self { answers, answered: Vec::new() }
    }

    /// The answers to one round: to all of it, or to none. Nothing is answered to the same prompt twice.
    pub(super) fn round(&mut self, prompts: &[Prompt]) -> Result<Vec<String>, Unanswered> {
        if prompts.len() > MAX_PROMPTS {
            return Err(Unanswered::TooMany(prompts.len()));
        }
        let mut answers = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let text: String = prompt.prompt.chars().take(MAX_PROMPT).collect();
            if self.answered.contains(&text) {
                return Err(Unanswered::Again(shown(&text)));
            }
            let answer = self.answer(&text, prompt.echo, prompts.len());
            answers.push(answer.ok_or_else(|| Unanswered::Unknown(shown(&text)))?.expose().to_owned());
            self.answered.push(text);
        }
        Ok(answers)
    }

    fn answer(&self, prompt: &str, echo: bool, of: usize) -> Option<&'a Secret> {
        match self.answers {
            Answers::Password(password) => (of == 1 && !echo && self.answered.is_empty()).then_some(password),
            Answers::Patterns(known) => known.iter().find(|known| known.prompt.fits(prompt)).map(|known| &known.answer),
        }
    }
}

fn shown(prompt: &str) -> String {
    printable(prompt).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(prompt: &str, echo: bool) -> Prompt {
        Prompt { prompt: prompt.to_owned(), echo }
    }

    #[test]
    fn a_password_answers_one_hidden_prompt_once() {
        let password = Secret::new("x");
        let interview = || Interview::new(Answers::Password(&password));
        let mut asked = interview();
        assert_eq!(asked.round(&[]), Ok(vec![]));
        assert_eq!(asked.round(&[ask("Password: ", false)]), Ok(vec!["x".to_owned()]));
        assert_eq!(asked.round(&[]), Ok(vec![]));
        assert_eq!(asked.round(&[ask("Password: ", false)]), Err(Unanswered::Again("Password:".to_owned())));
        assert_eq!(asked.round(&[ask("Code: ", false)]), Err(Unanswered::Unknown("Code:".to_owned())));
        assert_eq!(interview().round(&[ask("Name: ", true)]), Err(Unanswered::Unknown("Name:".to_owned())));
        let two = [ask("Password: ", false), ask("Code: ", false)];
        assert_eq!(interview().round(&two), Err(Unanswered::Unknown("Password:".to_owned())));
    }

    #[test]
    fn the_first_pattern_that_fits_answers() {
        let known = [("password*", "p"), ("*code*", "c")]
            .map(|(prompt, answer)| PromptAnswer { prompt: prompt.parse().unwrap(), answer: Secret::new(answer) });
        let mut asked = Interview::new(Answers::Patterns(&known));
        let both = [ask("Password: ", false), ask("Your code: ", true)];
        assert_eq!(asked.round(&both), Ok(vec!["p".to_owned(), "c".to_owned()]));
        let hostile = format!("\u{1b}]52;c;x\u{7}{}", "y".repeat(5000));
        let Err(Unanswered::Unknown(shown)) = asked.round(&[ask(&hostile, false)]) else { panic!("answered") };
        assert!(shown.chars().count() <= 201 && !shown.contains(char::is_control), "{shown}");
        let many: Vec<Prompt> = (0..11).map(|_| ask("Password: ", false)).collect();
        assert_eq!(asked.round(&many), Err(Unanswered::TooMany(11)));
    }
}
