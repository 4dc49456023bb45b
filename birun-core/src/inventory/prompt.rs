//! Answers to what a server asks at sign-in.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::vault::Secret;
use crate::wildcard::fits;

/// More answers than any sign-in asks for.
const MAX_ANSWERS: usize = 16;
const MAX_PATTERN: usize = 200;

/// An answer, and the prompts that it is given to.
#[derive(Clone, Debug)]
pub struct PromptAnswer {
    /// Which prompts.
    pub prompt: PromptPattern,
    /// What is answered.
    pub answer: Secret,
}

/// A pattern of prompts: `*` stands for any characters, `?` for one; neither case nor space around a
/// prompt matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptPattern(String);

impl PromptPattern {
    /// Whether a prompt fits.
    #[must_use]
    pub fn fits(&self, prompt: &str) -> bool {
        fits(&self.0, prompt.trim())
    }

    /// The pattern as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PromptPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PromptPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() || text.chars().count() > MAX_PATTERN || text.chars().any(char::is_control) {
            return Err(Error::invalid(format!("a prompt is one line of 1 to {MAX_PATTERN} characters"))
                .with_hint("write what the server asks, with * for what changes, for example  Password for *"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Checks the answers of one credential.
///
/// # Errors
/// `invalid`, naming the field `answers`.
pub(super) fn check_answers(answers: &[PromptAnswer]) -> Result<()> {
    if answers.is_empty() || answers.len() > MAX_ANSWERS {
        return Err(Error::invalid_field("answers", format!("give 1 to {MAX_ANSWERS} of them")));
    }
    match answers.iter().position(|answer| answer.answer.expose().is_empty()) {
        Some(at) => Err(Error::invalid_field(format!("answers.{at}.answer"), "is empty")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_prompts_whatever_their_case_and_space() {
        let pattern: PromptPattern = " Password for *: ".parse().unwrap();
        assert!(pattern.fits("password for ana: ") && !pattern.fits("Password: "));
        for bad in ["", " ", "a\nb", &"x".repeat(201)] {
            assert!(bad.parse::<PromptPattern>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn answers_are_some_and_none_is_empty() {
        let answer = |text: &str| PromptAnswer { prompt: PromptPattern("*".to_owned()), answer: Secret::new(text) };
        assert!(check_answers(&[answer("x")]).is_ok());
        assert!(check_answers(&[]).is_err() && check_answers(&vec![answer("x"); 17]).is_err());
        assert_eq!(check_answers(&[answer("x"), answer("")]).unwrap_err().fields()[0].field, "answers.1.answer");
    }
}
