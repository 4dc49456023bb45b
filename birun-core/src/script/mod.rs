//! Scripts: programs with versions and typed parameters.

mod interpreter;
mod model;
mod parameter;
mod service;
mod store;

pub use interpreter::{Interpreter, Invocation};
pub use model::{
    Backoff, Content, ContentHash, LostPolicy, NewScript, OutputLimit, OutputPolicy, RetryPolicy, RunMode, RunSettings,
    Script, ScriptFilter, ScriptPatch, ScriptSpec, ScriptSummary, ScriptVersion,
};
pub use parameter::{BoundParams, EnvName, ParamKind, ParamSpec, ParamValue};
pub(crate) use parameter::{bind, text_of};
pub use store::ScriptStore;
