//! What a step finds in its environment.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::execution::{Execution, Step};
use crate::script::{EnvName, text_of};
use crate::vault::Secret;

/// The environment of a step: parameters, and birun's own variables.
pub(crate) fn environment(
    execution: &Execution,
    step: &Step,
    secrets: &BTreeMap<EnvName, Secret>,
    started_at: DateTime<Utc>,
) -> Vec<(EnvName, Secret)> {
    let mut env: HashMap<EnvName, Secret> = HashMap::new();
    for (name, value) in &execution.params {
        if let Some(text) = text_of(value) {
            env.insert(name.clone(), Secret::new(text));
        }
    }
    env.extend(secrets.iter().map(|(name, secret)| (name.clone(), secret.clone())));
    let own = [
        ("EXECUTION_ID", execution.id.to_string()),
        ("STEP_ID", step.id.to_string()),
        ("TARGET", step.target.to_string()),
        ("ATTEMPT", step.attempt.to_string()),
        ("STARTED_AT", started_at.to_rfc3339_opts(SecondsFormat::Micros, true)),
    ];
    env.extend(own.map(|(name, value)| (EnvName::own(name), Secret::new(value))));
    let mut env: Vec<_> = env.into_iter().collect();
    env.sort_by(|(a, _), (b, _)| a.cmp(b));
    env
}
