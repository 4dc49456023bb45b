//! What a script is made of.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::id::{ProjectId, ScriptId};
use crate::inventory::TargetExpr;
use crate::name::Name;
use crate::script::{Interpreter, ParamSpec};
use crate::text_enum::text_enum;

/// Largest body of a script, in bytes.
pub(crate) const MAX_CONTENT: usize = 1024 * 1024;

/// SHA-256 of a body; bodies are stored once for each hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// The digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Takes a digest that was read back from storage.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl serde::Serialize for ContentHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ContentHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * index..2 * index + 2);
            *byte = digits
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .ok_or_else(|| serde::de::Error::custom("not a SHA-256 in hex"))?;
        }
        Ok(Self(bytes))
    }
}

impl std::fmt::Display for ContentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The body of a script: bytes, at most 1 MiB of them, without NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content(Arc<str>);

impl Content {
    /// Takes a body.
    ///
    /// # Errors
    /// `too_large` beyond 1 MiB; `invalid` if it is empty or holds a NUL.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self> {
        let text = text.into();
        if text.len() > MAX_CONTENT {
            let why = format!("{} bytes, at most {MAX_CONTENT} are allowed", text.len());
            return Err(Error::new(crate::ErrorCode::TooLarge, format!("content: {why}")).with_field("content", why));
        }
        if text.trim().is_empty() {
            return Err(Error::invalid_field("content", "is empty"));
        }
        if text.contains('\0') {
            return Err(Error::invalid_field("content", "holds a NUL byte"));
        }
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        ContentHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

text_enum! {
    /// How a program on a server hangs together with birun.
    pub enum RunMode {
        /// It ends with its connection, and with its worker.
        Attached = "attached",
        /// It runs by itself, and its output and exit code are kept on the server until birun has them:
        /// a lost connection or worker does it no harm.
        Detached = "detached",
    }
}

impl RunMode {
    // What was written down before there were two modes stays as it was.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_attached(&self) -> bool {
        *self == Self::Attached
    }
}

text_enum! {
    /// What happens to a step that was in flight when its worker died, after its processes were killed;
    /// to a detached one only if it is not to be found any more.
    pub enum LostPolicy {
        /// It ends `lost`.
        Lost = "lost",
        /// It is tried again: the author declares that running it twice does no harm.
        Retry = "retry",
    }
}

text_enum! {
    /// What happens when a step writes more output than its limit.
    pub enum OutputPolicy {
        /// The middle is cut out and marked; the step goes on.
        Truncate = "truncate",
        /// The step is stopped and fails.
        Fail = "fail",
    }
}

/// How much output of a step is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputLimit {
    /// Bytes kept from the beginning; the last 64 KiB are kept besides.
    pub bytes: u64,
    /// What happens beyond.
    pub policy: OutputPolicy,
}

impl Default for OutputLimit {
    fn default() -> Self {
        Self { bytes: 64 * 1024 * 1024, policy: OutputPolicy::Truncate }
    }
}

/// How long to wait before an attempt.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// Wait before the second attempt, in milliseconds.
    pub initial_ms: u64,
    /// Each further wait is this many times the one before; 1 = fixed.
    pub factor: f64,
    /// No wait is longer, in milliseconds, jitter included.
    pub max_ms: u64,
    /// Up to this share of the wait is added at random (0 to 1); a wait is never shortened.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial_ms: 1_000, factor: 2.0, max_ms: 60_000, jitter: 0.2 }
    }
}

/// Whether and when a step that did not succeed is tried again. By default it is not.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub max_attempts: u32,
    /// The waits between them.
    pub backoff: Backoff,
    /// Only these exit codes are tried again; empty = every code that is not a success.
    pub exit_codes: BTreeSet<i32>,
    /// Whether a target that could not be reached is tried again.
    pub unreachable: bool,
    /// Whether an attempt that ran out of time is tried again.
    pub timed_out: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 1,
            backoff: Backoff::default(),
            exit_codes: BTreeSet::new(),
            unreachable: true,
            timed_out: false,
        }
    }
}

/// How an attempt is run and judged.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunSettings {
    /// Exit codes that are a success.
    pub ok_exit_codes: BTreeSet<i32>,
    /// Limit of one attempt, in milliseconds, if there is one besides the execution's.
    pub attempt_timeout_ms: Option<u64>,
    /// Whether a step is tried again.
    pub retry: RetryPolicy,
    /// What happens when the worker dies in the middle.
    pub on_lost: LostPolicy,
    /// Time between TERM and KILL when a step is stopped, in milliseconds.
    pub grace_ms: u64,
    /// How much output is kept.
    pub output: OutputLimit,
    /// How the program hangs together with birun.
    #[serde(skip_serializing_if = "RunMode::is_attached")]
    pub mode: RunMode,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            ok_exit_codes: BTreeSet::from([0]),
            attempt_timeout_ms: None,
            retry: RetryPolicy::default(),
            on_lost: LostPolicy::Lost,
            grace_ms: 10_000,
            output: OutputLimit::default(),
            mode: RunMode::Attached,
        }
    }
}

impl RunSettings {
    /// Time between TERM and KILL.
    #[must_use]
    pub const fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }

    /// Limit of one attempt.
    #[must_use]
    pub fn attempt_timeout(&self) -> Option<Duration> {
        self.attempt_timeout_ms.map(Duration::from_millis)
    }

    /// Checks what the types leave open.
    ///
    /// # Errors
    /// `invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        let refuse = |field: &str, why: &str| Err(Error::invalid_field(format!("settings.{field}"), why));
        if self.ok_exit_codes.is_empty() {
            return refuse("ok_exit_codes", "needs at least one code");
        }
        if self.attempt_timeout_ms == Some(0) {
            return refuse("attempt_timeout", "must be more than 0");
        }
        if !(1..=100).contains(&self.retry.max_attempts) {
            return refuse("retry.max_attempts", "must be between 1 and 100");
        }
        let backoff = self.retry.backoff;
        if !(1.0..=10.0).contains(&backoff.factor) {
            return refuse("retry.backoff.factor", "must be between 1 and 10");
        }
        if !(0.0..=1.0).contains(&backoff.jitter) {
            return refuse("retry.backoff.jitter", "must be between 0 and 1");
        }
        if self.grace_ms > 600_000 {
            return refuse("grace", "must be at most 10m");
        }
        Ok(())
    }
}

/// Everything that makes a version of a script: what is fixed when it is run.
#[derive(Clone, Debug, PartialEq)]
pub struct ScriptSpec {
    /// The body.
    pub content: Content,
    /// What runs it.
    pub interpreter: Interpreter,
    /// What it takes.
    pub parameters: Vec<ParamSpec>,
    /// Where it runs when the caller does not say.
    pub targets: Option<TargetExpr>,
    /// Limit of an execution when the caller does not say, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// How attempts are run and judged.
    pub settings: RunSettings,
}

/// A script, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// Identifies the script.
    pub id: ScriptId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// Unique in the project.
    pub name: Name,
    /// For people.
    pub description: String,
    /// The number of the newest [`ScriptVersion`]; versions count from 1.
    pub latest: u32,
    /// Rises by one with each change, of name and description too.
    pub version: u64,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// What lists show of a script: itself, and its newest version without the body.
#[derive(Clone, Debug, PartialEq)]
pub struct ScriptSummary {
    /// The script.
    pub script: Script,
    /// See [`ScriptSpec::interpreter`].
    pub interpreter: Interpreter,
    /// See [`ScriptSpec::parameters`].
    pub parameters: Vec<ParamSpec>,
    /// See [`ScriptSpec::targets`].
    pub targets: Option<TargetExpr>,
    /// See [`ScriptSpec::timeout_ms`].
    pub timeout_ms: Option<u64>,
    /// See [`ScriptSpec::settings`].
    pub settings: RunSettings,
}

impl ScriptSummary {
    /// A script with its newest version, whose body is left out, and given back beside it.
    #[must_use]
    pub fn of(script: Script, newest: ScriptSpec) -> (Self, Content) {
        let ScriptSpec { content, interpreter, parameters, targets, timeout_ms, settings } = newest;
        (Self { script, interpreter, parameters, targets, timeout_ms, settings }, content)
    }
}

/// A version of a script. It never changes.
#[derive(Clone, Debug, PartialEq)]
pub struct ScriptVersion {
    /// The script.
    pub script_id: ScriptId,
    /// Counts from 1 without gaps.
    pub number: u32,
    /// What it is made of.
    pub spec: ScriptSpec,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The name of who made it.
    pub created_by: String,
}

/// A script to be created.
#[derive(Clone, Debug)]
pub struct NewScript {
    /// See [`Script::name`].
    pub name: Name,
    /// See [`Script::description`].
    pub description: String,
    /// The first version.
    pub spec: ScriptSpec,
}

/// A change of a script: what is `None` stays. A change of the spec makes a version, unless
/// nothing in it differs.
#[derive(Clone, Debug, Default)]
pub struct ScriptPatch {
    /// The new name.
    pub name: Option<Name>,
    /// The new description.
    pub description: Option<String>,
    /// The new body.
    pub content: Option<Content>,
    /// The new interpreter.
    pub interpreter: Option<Interpreter>,
    /// The new parameters, replacing the old ones.
    pub parameters: Option<Vec<ParamSpec>>,
    /// The new default targets; `Some(None)` takes them away.
    pub targets: Option<Option<TargetExpr>>,
    /// The new default limit; `Some(None)` takes it away.
    pub timeout_ms: Option<Option<u64>>,
    /// The new settings, replacing the old ones.
    pub settings: Option<RunSettings>,
}

/// Which scripts of a list.
#[derive(Clone, Debug, Default)]
pub struct ScriptFilter {
    /// Only scripts whose name holds this text.
    pub name_contains: Option<String>,
}
