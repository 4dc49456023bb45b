//! What tells that a request is the same as one before.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::engine::Shared;
use crate::execution::Strategy;
use crate::execution::request::{Run, What};
use crate::script::ParamValue;

/// Everything that makes a request what it is, secrets too, in a form that does not change with birun.
pub(super) fn request_text(run: &Run) -> Zeroizing<String> {
    let what = match &run.what {
        What::Script { selector, version } => json!({"script": selector, "version": version}),
        What::Content { title, content, interpreter } => {
            json!({"title": title, "content": content, "interpreter": interpreter})
        }
        What::Command { words } => json!({"command": words}),
        What::Job { name } => json!({"job": name}),
    };
    let params: BTreeMap<&str, Value> = run
        .params
        .iter()
        .map(|(name, value)| match value {
            ParamValue::Plain(value) => (name.as_str(), json!({"plain": value})),
            ParamValue::Secret(secret) => (name.as_str(), json!({"secret": secret.expose()})),
        })
        .collect();
    let timeout = run.timeout.map(|timeout| timeout.as_millis().to_string());
    let mut request = json!({
        "what": what,
        "targets": run.targets,
        "params": params,
        "strategy": strategy(&run.strategy),
        "timeout": timeout,
        "settings": run.settings,
    });
    if let (Some(mode), Some(request)) = (run.mode, request.as_object_mut()) {
        request.insert("mode".to_owned(), json!(mode));
    }
    Zeroizing::new(request.to_string())
}

/// A strategy as it always was, and what has been added to strategies since where it is used.
fn strategy(strategy: &Strategy) -> Value {
    let Strategy { parallel, batch, max_failures, order, ranks, failover, skip_unreachable } = strategy;
    let always = [
        ("parallel", json!(parallel)),
        ("batch", json!(batch)),
        ("max_failures", json!(max_failures)),
        ("order", json!(order)),
    ];
    let added = [
        ("ranks", json!(ranks), !ranks.is_empty()),
        ("failover", json!(failover), *failover),
        ("skip_unreachable", json!(skip_unreachable), *skip_unreachable),
    ];
    let used = added.into_iter().filter(|(.., is_used)| *is_used).map(|(name, value, _)| (name, value));
    always.into_iter().chain(used).map(|(name, value)| (name.to_owned(), value)).collect()
}

impl Shared {
    /// A hash of a request, for its idempotency key. It may hold secrets, so the master key goes into
    /// it: without that key nobody can try values against it. Without a master key there are no secrets.
    pub(super) fn fingerprint(&self, text: &str) -> [u8; 32] {
        match &self.vault {
            Some(vault) => vault.fingerprint(text.as_bytes()),
            None => Sha256::digest(text).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_an_older_birun_is_the_same_today() {
        let text = |strategy| request_text(&Run::job("nightly").strategy(strategy));
        let older = r#"{"params":{},"settings":null,"strategy":{"batch":null,"max_failures":null,"order":"name","parallel":10},"targets":null,"timeout":null,"what":{"job":"nightly"}}"#;
        assert_eq!(*text(Strategy::default()), older);
        assert!(text(Strategy { failover: true, ..Strategy::default() }).contains(r#""failover":true"#));
    }
}
