//! How attempts are run and judged, on the wire.

use std::time::Duration;

use birun_core::{Result, duration, script};
use poem_openapi::Object;
use serde::Deserialize;

use crate::schema::{Word, in_field};

/// How attempts are run and judged. What is left out has its default.
#[derive(Clone, Debug, Deserialize, Object)]
#[serde(default, deny_unknown_fields)]
#[oai(default)]
pub(crate) struct Settings {
    /// Exit codes that are a success.
    ok_exit_codes: Vec<i32>,
    /// Limit of one attempt (`5m`), besides the execution's; `null`: none.
    #[oai(nullable)]
    attempt_timeout: Option<String>,
    /// Whether a step that did not succeed is tried again.
    retry: RetryPolicy,
    /// What happens to a step that was in flight when its worker died.
    on_lost: Word<script::LostPolicy>,
    /// Time between TERM and KILL when a step is stopped: at most `10m`.
    grace: String,
    /// How much output of a step is kept.
    output: OutputLimit,
    /// How a program on a server hangs together with birun: `attached`, it ends with its connection and its
    /// worker; `detached`, it runs by itself, and is found again after either is lost.
    mode: Word<script::RunMode>,
}

/// Whether and when a step that did not succeed is tried again.
#[derive(Clone, Debug, Deserialize, Object)]
#[serde(default, deny_unknown_fields)]
#[oai(default)]
pub(crate) struct RetryPolicy {
    /// Attempts in all, the first included: 1 to 100.
    max_attempts: u32,
    /// The waits between them.
    backoff: Backoff,
    /// Only these exit codes are tried again; empty: every code that is not a success.
    exit_codes: Vec<i32>,
    /// Whether a target that could not be reached is tried again.
    unreachable: bool,
    /// Whether an attempt that ran out of time is tried again.
    timed_out: bool,
}

/// The waits between attempts.
#[derive(Clone, Debug, Deserialize, Object)]
#[serde(default, deny_unknown_fields)]
#[oai(default)]
pub(crate) struct Backoff {
    /// Wait before the second attempt.
    initial: String,
    /// Each further wait is this many times the one before (1 to 10); 1 is fixed.
    factor: f64,
    /// No wait is longer.
    max: String,
    /// Up to this share of the wait is added at random (0 to 1).
    jitter: f64,
}

/// How much output of a step is kept.
#[derive(Clone, Debug, Deserialize, Object)]
#[serde(default, deny_unknown_fields)]
#[oai(default)]
pub(crate) struct OutputLimit {
    /// Bytes kept from the beginning; the last 64 KiB are kept besides.
    bytes: u64,
    /// What happens beyond.
    policy: Word<script::OutputPolicy>,
}

impl Settings {
    pub(crate) fn into_core(self) -> Result<script::RunSettings> {
        let attempt_timeout = self.attempt_timeout.as_deref();
        Ok(script::RunSettings {
            ok_exit_codes: self.ok_exit_codes.into_iter().collect(),
            attempt_timeout_ms: attempt_timeout.map(|text| millis("settings.attempt_timeout", text)).transpose()?,
            retry: self.retry.into_core()?,
            on_lost: self.on_lost.0,
            grace_ms: millis("settings.grace", &self.grace)?,
            output: script::OutputLimit { bytes: self.output.bytes, policy: self.output.policy.0 },
            mode: self.mode.0,
        })
    }
}

impl RetryPolicy {
    fn into_core(self) -> Result<script::RetryPolicy> {
        Ok(script::RetryPolicy {
            max_attempts: self.max_attempts,
            backoff: script::Backoff {
                initial_ms: millis("settings.retry.backoff.initial", &self.backoff.initial)?,
                factor: self.backoff.factor,
                max_ms: millis("settings.retry.backoff.max", &self.backoff.max)?,
                jitter: self.backoff.jitter,
            },
            exit_codes: self.exit_codes.into_iter().collect(),
            unreachable: self.unreachable,
            timed_out: self.timed_out,
        })
    }
}

impl From<script::RunSettings> for Settings {
    fn from(settings: script::RunSettings) -> Self {
        Self {
            ok_exit_codes: settings.ok_exit_codes.into_iter().collect(),
            attempt_timeout: settings.attempt_timeout_ms.map(text),
            retry: settings.retry.into(),
            on_lost: Word(settings.on_lost),
            grace: text(settings.grace_ms),
            output: settings.output.into(),
            mode: Word(settings.mode),
        }
    }
}

impl From<script::RetryPolicy> for RetryPolicy {
    fn from(retry: script::RetryPolicy) -> Self {
        Self {
            max_attempts: retry.max_attempts,
            backoff: retry.backoff.into(),
            exit_codes: retry.exit_codes.into_iter().collect(),
            unreachable: retry.unreachable,
            timed_out: retry.timed_out,
        }
    }
}

impl From<script::Backoff> for Backoff {
    fn from(backoff: script::Backoff) -> Self {
        Self {
            initial: text(backoff.initial_ms),
            factor: backoff.factor,
            max: text(backoff.max_ms),
            jitter: backoff.jitter,
        }
    }
}

impl From<script::OutputLimit> for OutputLimit {
    fn from(limit: script::OutputLimit) -> Self {
        Self { bytes: limit.bytes, policy: Word(limit.policy) }
    }
}

impl Default for Settings {
    fn default() -> Self {
        script::RunSettings::default().into()
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        script::RetryPolicy::default().into()
    }
}

impl Default for Backoff {
    fn default() -> Self {
        script::Backoff::default().into()
    }
}

impl Default for OutputLimit {
    fn default() -> Self {
        script::OutputLimit::default().into()
    }
}

/// Reads a length of time into milliseconds; the error names the field.
pub(crate) fn millis(field: &str, text: &str) -> Result<u64> {
    let length = in_field(field, duration::parse(text))?;
    Ok(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
}

/// A number of milliseconds as a length of time.
pub(crate) fn text(millis: u64) -> String {
    duration::format(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_are_left_out_have_the_default_of_the_core() {
        let settings: Settings = serde_json::from_str(r#"{"retry":{"max_attempts":3}}"#).unwrap();
        let expected = script::RunSettings {
            retry: script::RetryPolicy { max_attempts: 3, ..script::RetryPolicy::default() },
            ..script::RunSettings::default()
        };
        assert_eq!(settings.into_core().unwrap(), expected);
    }

    #[test]
    fn a_length_that_is_none_is_named_by_its_place() {
        let settings: Settings = serde_json::from_str(r#"{"retry":{"backoff":{"max":"soon"}}}"#).unwrap();
        assert_eq!(settings.into_core().unwrap_err().fields()[0].field, "settings.retry.backoff.max");
    }
}
