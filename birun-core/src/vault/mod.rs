//! Secrets: values that do not print, sealing at rest, the rotation of keys, and masking in output.

mod check;
mod key;
mod masker;
mod seal;
mod search;
mod secret;
mod service;
mod spelling;
mod store;

pub(crate) use check::check_key;
pub use check::is_sealed;
pub use key::MasterKey;
pub use masker::{Masker, SecretSet};
pub use seal::{Mark, Place, Sealed, Vault};
pub use secret::Secret;
pub use service::Rekeyed;
pub use store::{KEY_CHECK, KEY_NEXT, SealedValue, VaultStore};
