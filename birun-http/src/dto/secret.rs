//! A text that comes in and never goes out.

use std::fmt;

use birun_core::vault::Secret;
use poem_openapi::registry::MetaSchema;

use crate::schema::described;

/// A secret text. Written out, it is `***`.
#[derive(Clone, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct SecretText(pub(crate) Secret);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl serde::Serialize for SecretText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

described!(SecretText, "string_password", MetaSchema::new_with_format("string", "password"));
