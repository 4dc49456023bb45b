//! The user certificate of a credential, as people see it.

use birun_core::{Clock as _, SystemClock};
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::ui::{Ui, instant, visible};

/// Whom it is for, and until when.
pub(super) fn summary(credential: &Value) -> String {
    let Some(certificate) = credential.get("certificate").filter(|certificate| certificate.is_object()) else {
        return String::new();
    };
    let principals = certificate.get("principals").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let principals: Vec<&str> = principals.iter().filter_map(Value::as_str).collect();
    let until =
        limit(certificate, "valid_before").map_or_else(|| "for ever".to_owned(), |at| format!("until {}", instant(at)));
    format!("for {}, {until}", principals.join(","))
}

/// Says so if a credential was stored with a certificate that servers refuse by now, or still.
pub(in crate::command) fn warn_of_certificate(ui: &Ui, credential: &Value) {
    let Some(certificate) = credential.get("certificate") else { return };
    let now = SystemClock::new().now();
    let name = visible(credential.get("name").and_then(Value::as_str).unwrap_or_default());
    if let Some(at) = limit(certificate, "valid_before").filter(|at| *at <= now) {
        ui.note(&format!("warning: the certificate of credential {name} expired at {}", instant(at)));
    }
    if let Some(at) = limit(certificate, "valid_after").filter(|at| *at > now) {
        ui.note(&format!("warning: the certificate of credential {name} is not valid before {}", instant(at)));
    }
}

fn limit(certificate: &Value, field: &str) -> Option<DateTime<Utc>> {
    certificate.get(field)?.as_str()?.parse().ok()
}
