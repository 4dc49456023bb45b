//! Values that are kept as JSON.

use birun_core::store::{StoreError, StoreResult};
use serde::Serialize;

/// The text under which a value is kept.
pub(crate) fn json(value: &impl Serialize) -> StoreResult<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Backend { backend: "JSON", source: error.into() })
}

/// The text under which a value is kept, if there is one.
pub(crate) fn opt_json(value: Option<&impl Serialize>) -> StoreResult<Option<String>> {
    value.map(json).transpose()
}
