//! What a caller asks to be run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::execution::Strategy;
use crate::id::Selector;
use crate::identity::Permission;
use crate::inventory::TargetExpr;
use crate::script::{Content, EnvName, Interpreter, ParamValue, RunMode, RunSettings};

/// Something to be run. Made by [`Run::script`], [`Run::content`], [`Run::command`] or [`Run::job`],
/// handed to [`Gate::run`](crate::Gate::run).
#[derive(Clone, Debug)]
pub struct Run {
    pub(crate) what: What,
    pub(crate) targets: Option<String>,
    pub(crate) params: BTreeMap<String, ParamValue>,
    pub(crate) strategy: Strategy,
    pub(crate) timeout: Option<Duration>,
    pub(crate) settings: Option<RunSettings>,
    pub(crate) mode: Option<RunMode>,
    pub(crate) idempotency_key: Option<String>,
}

/// The four kinds of things to run.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Script { selector: String, version: Option<u32> },
    Content { title: String, content: String, interpreter: Interpreter },
    Command { words: Vec<String> },
    Job { name: String },
}

impl Run {
    /// What one must be allowed to do to run it.
    pub(super) const fn permission(&self) -> Permission {
        match self.what {
            What::Script { .. } | What::Job { .. } => Permission::ExecutionRun,
            What::Content { .. } | What::Command { .. } => Permission::ExecutionRunAdHoc,
        }
    }

    fn new(what: What) -> Self {
        Self {
            what,
            targets: None,
            params: BTreeMap::new(),
            strategy: Strategy::default(),
            timeout: None,
            settings: None,
            mode: None,
            idempotency_key: None,
        }
    }

    /// A stored script, by name or id; its newest version.
    #[must_use]
    pub fn script(selector: impl Into<String>) -> Self {
        Self::new(What::Script { selector: selector.into(), version: None })
    }

    /// A certain version of a stored script.
    #[must_use]
    pub fn script_version(selector: impl Into<String>, version: u32) -> Self {
        Self::new(What::Script { selector: selector.into(), version: Some(version) })
    }

    /// A script that is not stored, under a title for people.
    #[must_use]
    pub fn content(title: impl Into<String>, content: impl Into<String>, interpreter: Interpreter) -> Self {
        Self::new(What::Content { title: title.into(), content: content.into(), interpreter })
    }

    /// A command: one word is text for `/bin/sh`; several are a program and its arguments, each kept as it is.
    #[must_use]
    pub fn command(words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(What::Command { words: words.into_iter().map(Into::into).collect() })
    }

    /// A closure that was registered with [`EngineBuilder::job`](crate::engine::EngineBuilder::job).
    #[must_use]
    pub fn job(name: impl Into<String>) -> Self {
        Self::new(What::Job { name: name.into() })
    }

    /// Where: a target expression. Without it, a stored script runs on its own default targets,
    /// and everything else on `local`.
    #[must_use]
    pub fn on(mut self, targets: impl Into<String>) -> Self {
        self.targets = Some(targets.into());
        self
    }

    /// Gives a parameter in clear.
    #[must_use]
    pub fn param(self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.param_value(name, ParamValue::Plain(value.into()))
    }

    /// Gives a parameter, in clear or secret.
    #[must_use]
    pub fn param_value(mut self, name: impl Into<String>, value: ParamValue) -> Self {
        self.params.insert(name.into(), value);
        self
    }

    /// How to go through the targets.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Limit of the whole execution.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How attempts are run and judged, where the script does not say; a stored script says it itself.
    #[must_use]
    pub fn settings(mut self, settings: RunSettings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// How the program hangs together with birun, whatever the settings say.
    #[must_use]
    pub const fn mode(mut self, mode: RunMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// A key of the caller's: the same request under the same key is accepted once.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    pub(crate) fn target_expr(&self) -> Result<Option<TargetExpr>> {
        self.targets.as_deref().map(str::parse).transpose()
    }

    pub(crate) fn named_params(&self) -> Result<BTreeMap<EnvName, ParamValue>> {
        let named = self.params.iter().map(|(name, value)| {
            let parsed: EnvName = name.parse().map_err(|error: Error| {
                let field = format!("params.{}", name.escape_default());
                let hint = error.hint().unwrap_or_default().to_owned();
                Error::invalid_field(field, error.to_string()).with_hint(hint)
            })?;
            Ok((parsed, value.clone()))
        });
        named.collect()
    }
}

/// The title and body of a command.
///
/// One word is shell text; several are quoted one by one, by the one function that quotes.
pub(crate) fn command_body(words: &[String]) -> Result<(String, Content)> {
    let (body, title) = match words {
        [] => return Err(Error::invalid_field("command", "is empty")),
        [text] => (text.clone(), text.clone()),
        several => {
            let quoted = shlex::try_join(several.iter().map(String::as_str))
                .map_err(|_| Error::invalid_field("command", "holds a NUL byte"))?;
            (quoted.clone(), quoted)
        }
    };
    let content = Content::new(body).map_err(|error| Error::invalid_field("command", error.to_string()))?;
    Ok((one_line(&title), content))
}

/// The first line of a text, cut to what fits a list.
pub(crate) fn one_line(text: &str) -> String {
    const MAX: usize = 80;
    let line = text.trim().lines().next().unwrap_or_default();
    let shown: String = line.chars().filter(|c| !c.is_control()).take(MAX).collect();
    if shown.chars().count() < line.chars().count() || text.trim().lines().nth(1).is_some() {
        format!("{shown}…")
    } else {
        shown
    }
}

/// How a retry of an execution differs from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryOptions {
    /// Only targets on which it failed or was not started.
    pub failed_only: bool,
    /// A key of the caller's: the same retry under the same key is accepted once.
    pub idempotency_key: Option<String>,
}

/// The selector of a script, read from a caller's text.
pub(crate) fn script_selector(text: &str) -> Result<Selector> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_words_are_quoted_one_by_one() {
        let words = ["printf", "%s\n", "a b", "$(id)", "it's"].map(str::to_owned);
        let (_, content) = command_body(&words).unwrap();
        let parsed = shlex::split(content.as_str()).unwrap();
        assert_eq!(parsed, words);
    }

    #[test]
    fn one_word_is_shell_text() {
        assert_eq!(command_body(&["df -h | tail -1".to_owned()]).unwrap().1.as_str(), "df -h | tail -1");
    }

    #[test]
    fn a_title_is_one_line() {
        assert_eq!(one_line("uptime"), "uptime");
        assert_eq!(one_line("echo a\necho b"), "echo a…");
        assert_eq!(one_line("\x1b[31mred"), "[31mred…");
    }
}
