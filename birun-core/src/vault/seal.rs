//! Sealing: what rests in a database is useless without the master key.
//!
//! Each value has a data key of its own, drawn at random; the value is encrypted under the data
//! key, the data key under the master key, both with XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha)
//! and both bound to the place where the value rests. A sealed value that is moved to another row,
//! column, project or version does not open.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorCode, Result};
use crate::id::{CredentialId, ExecutionId, ProjectId};
use crate::vault::MasterKey;
use crate::vault::key::KEY_ID;

const FORMAT: u8 = 1;
const NONCE: usize = 24;
const WRAPPED: usize = 32 + 16;
const HEADER: usize = 1 + KEY_ID + NONCE + WRAPPED + NONCE;

/// Where a sealed value rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// In which project.
    pub project: ProjectId,
    /// In which table.
    pub table: &'a str,
    /// In which row.
    pub row: Uuid,
    /// In which column.
    pub column: &'a str,
    /// In which version of the row.
    pub version: u64,
}

impl Place<'static> {
    /// Where the key of the audit log's chain rests: in a setting of that name.
    #[must_use]
    pub const fn audit_chain_key() -> Self {
        Self {
            project: ProjectId::DEFAULT,
            table: "birun_settings",
            row: Uuid::nil(),
            column: "audit.chain_key",
            version: 1,
        }
    }

    /// Where the value of a credential rests.
    #[must_use]
    pub const fn credential(project: ProjectId, credential: CredentialId, version: u64) -> Self {
        Self { project, table: "birun_credentials", row: credential.as_uuid(), column: "sealed", version }
    }

    /// Where the secret parameters of an execution rest. They never change.
    #[must_use]
    pub const fn secret_params(project: ProjectId, execution: ExecutionId) -> Self {
        Self { project, table: "birun_executions", row: execution.as_uuid(), column: "secrets", version: 1 }
    }
}

impl Place<'_> {
    /// The associated data: every part with its length before it, so that no two places read alike.
    fn bind(&self, key_id: &[u8], purpose: &str) -> Vec<u8> {
        let version = self.version.to_be_bytes();
        let project = self.project.as_uuid();
        let parts: [&[u8]; 7] = [
            purpose.as_bytes(),
            key_id,
            project.as_bytes(),
            self.table.as_bytes(),
            self.row.as_bytes(),
            self.column.as_bytes(),
            &version,
        ];
        let mut out = Vec::new();
        for part in parts {
            out.extend_from_slice(&(part.len() as u64).to_be_bytes());
            out.extend_from_slice(part);
        }
        out
    }
}

/// A sealed value, as it rests in a database. Says nothing without the master key.
///
/// Layout: format (1 byte), master key id (8), nonce (24) and wrapped data key (48), nonce (24)
/// and ciphertext with its tag.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// The bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes bytes that were stored.
    #[must_use]
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// What every value begins with that one master key has sealed: the format and the key's id.
pub type Mark = [u8; 1 + KEY_ID];

/// Seals and opens values. The newest master key seals; every key opens what it has sealed.
#[derive(Debug)]
pub struct Vault {
    newest: MasterKey,
    former: Vec<MasterKey>,
}

impl Vault {
    /// A vault that works with this key.
    #[must_use]
    pub const fn new(key: MasterKey) -> Self {
        Self { newest: key, former: Vec::new() }
    }

    /// Lets it open what a former key has sealed.
    #[must_use]
    pub fn with_former(mut self, key: MasterKey) -> Self {
        self.former.push(key);
        self
    }

    /// What every value begins with that this vault seals.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let mut mark = [FORMAT; 1 + KEY_ID];
        for (byte, id) in mark.iter_mut().skip(1).zip(self.newest.id()) {
            *byte = id;
        }
        mark
    }

    /// Seals a value for one place, with the newest key.
    ///
    /// # Errors
    /// `internal` if the operating system has no randomness to give.
    pub fn seal(&self, place: &Place<'_>, plain: &[u8]) -> Result<Sealed> {
        let key_id = self.newest.id();
        let data_key = Zeroizing::new(random::<32>()?);
        let (wrap_nonce, value_nonce) = (random::<NONCE>()?, random::<NONCE>()?);
        let wrapped = encrypt(self.newest.bytes(), &wrap_nonce, &data_key[..], &place.bind(&key_id, "key"))?;
        let value = encrypt(&data_key, &value_nonce, plain, &place.bind(&key_id, "value"))?;
        let mut out = Vec::with_capacity(HEADER + value.len());
        out.push(FORMAT);
        for part in [&key_id[..], &wrap_nonce, &wrapped, &value_nonce, &value] {
            out.extend_from_slice(part);
        }
        Ok(Sealed(out))
    }

    /// Opens a value that was sealed for this place, with the key that sealed it.
    ///
    /// # Errors
    /// `key_mismatch` if that key is not here; `storage_corrupt` if the value was changed, or moved
    /// from another place.
    pub fn open(&self, place: &Place<'_>, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>> {
        let parts = Parts::of(&sealed.0).ok_or_else(|| damaged(place))?;
        let key = self.key(parts.key_id)?;
        let opened = decrypt(key.bytes(), parts.wrap_nonce, parts.wrapped, &place.bind(parts.key_id, "key"));
        let data_key: Zeroizing<[u8; 32]> = opened
            .and_then(|bytes| bytes.as_slice().try_into().ok().map(Zeroizing::new))
            .ok_or_else(|| damaged(place))?;
        decrypt(&data_key, parts.value_nonce, parts.value, &place.bind(parts.key_id, "value"))
            .ok_or_else(|| damaged(place))
    }

    /// A hash that only this master key makes.
    pub(crate) fn fingerprint(&self, text: &[u8]) -> [u8; 32] {
        let key = Zeroizing::new(hmac(self.newest.bytes(), b"birun request fingerprint"));
        hmac(&key, text)
    }

    fn key(&self, id: &[u8]) -> Result<&MasterKey> {
        let mut keys = std::iter::once(&self.newest).chain(&self.former);
        keys.find(|key| key.id() == id).ok_or_else(|| {
            Error::new(ErrorCode::KeyMismatch, "another master key sealed this value").with_hint(
                "give the master key that this database was filled with; \
                 if it was rotated since, add the new key as the first line, above the old one",
            )
        })
    }

    /// A value by which the newest master key can be known again.
    pub(crate) fn prove(&self) -> Result<Sealed> {
        self.seal(&PROOF, b"birun")
    }

    /// Checks that one of the keys made such a value.
    pub(crate) fn check(&self, proof: &[u8]) -> Result<()> {
        self.open(&PROOF, &Sealed(proof.to_vec())).map(drop)
    }
}

const PROOF: Place<'static> = Place {
    project: ProjectId::DEFAULT,
    table: "birun_settings",
    row: Uuid::nil(),
    column: "vault.key_check",
    version: 1,
};

struct Parts<'a> {
    key_id: &'a [u8],
    wrap_nonce: &'a [u8; NONCE],
    wrapped: &'a [u8],
    value_nonce: &'a [u8; NONCE],
    value: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[FORMAT])?;
        let (key_id, rest) = rest.split_at_checked(KEY_ID)?;
        let (wrap_nonce, rest) = rest.split_first_chunk::<NONCE>()?;
        let (wrapped, rest) = rest.split_at_checked(WRAPPED)?;
        let (value_nonce, value) = rest.split_first_chunk::<NONCE>()?;
        Some(Self { key_id, wrap_nonce, wrapped, value_nonce, value })
    }
}

fn damaged(place: &Place<'_>) -> Error {
    Error::new(
        ErrorCode::StorageCorrupt,
        format!("the sealed {} of a row in {} was changed or moved", place.column, place.table),
    )
}

fn cipher(key: &[u8; 32]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*key))
}

fn encrypt(key: &[u8; 32], nonce: &[u8; NONCE], msg: &[u8], aad: &[u8]) -> Result<Vec<u8>> {
    cipher(key)
        .encrypt(&XNonce::from(*nonce), Payload { msg, aad })
        .map_err(|_| Error::internal("a value could not be sealed"))
}

fn decrypt(key: &[u8; 32], nonce: &[u8; NONCE], msg: &[u8], aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    cipher(key).decrypt(&XNonce::from(*nonce), Payload { msg, aad }).ok().map(Zeroizing::new)
}

/// HMAC-SHA-256; a key that is shorter than a block counts as filled up with zeros (RFC 2104).
fn hmac(key: &[u8; 32], text: &[u8]) -> [u8; 32] {
    let mut block = Zeroizing::new([0; 64]);
    block.iter_mut().zip(key).for_each(|(byte, key)| *byte = *key);
    Hmac::<Sha256>::new(&(*block).into()).chain_update(text).finalize().into_bytes().into()
}

pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::internal("the operating system gave no random bytes").with_source(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(column: &str, version: u64) -> Place<'_> {
        Place { project: ProjectId::DEFAULT, table: "birun_credentials", row: Uuid::from_u128(7), column, version }
    }

    #[test]
    fn what_was_sealed_opens_in_its_place_only() {
        let vault = Vault::new(MasterKey::generate().unwrap());
        let sealed = vault.seal(&place("sealed", 1), b"hunter2").unwrap();
        assert_eq!(vault.open(&place("sealed", 1), &sealed).unwrap().as_slice(), b"hunter2");
        for elsewhere in [
            place("sealed", 2),
            place("secrets", 1),
            Place { row: Uuid::from_u128(8), ..place("sealed", 1) },
            Place { table: "birun_executions", ..place("sealed", 1) },
            Place { project: ProjectId::new(), ..place("sealed", 1) },
        ] {
            assert_eq!(vault.open(&elsewhere, &sealed).unwrap_err().code(), ErrorCode::StorageCorrupt);
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let vault = Vault::new(MasterKey::generate().unwrap());
        let sealed = vault.seal(&place("sealed", 1), b"hunter2").unwrap();
        for index in 0..sealed.0.len() {
            let mut bytes = sealed.0.clone();
            bytes[index] ^= 1;
            assert!(vault.open(&place("sealed", 1), &Sealed(bytes)).is_err(), "byte {index}");
        }
        for length in 0..sealed.0.len() {
            assert!(vault.open(&place("sealed", 1), &Sealed(sealed.0[..length].to_vec())).is_err());
        }
    }

    #[test]
    fn a_keyed_hash_is_the_one_that_everybody_makes() {
        // Python: hmac.new(bytes(range(32)), b"what do ya want for nothing?", "sha256").hexdigest()
        let key = std::array::from_fn(|index| u8::try_from(index).unwrap());
        let hash: String =
            hmac(&key, b"what do ya want for nothing?").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, "099805f4ac310786968565c098db515cc50862b420ae31e20238312344bed36a");
    }

    #[test]
    fn a_fingerprint_depends_on_text_and_key() {
        let (one, two) = (MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
        let (vault, other) = (Vault::new(one.clone()), Vault::new(two));
        assert_eq!(vault.fingerprint(b"x"), Vault::new(one).fingerprint(b"x"));
        assert_ne!(vault.fingerprint(b"x"), vault.fingerprint(b"y"));
        assert_ne!(vault.fingerprint(b"x"), other.fingerprint(b"x"));
    }

    #[test]
    fn another_master_key_is_named_as_such() {
        let sealed = Vault::new(MasterKey::generate().unwrap()).seal(&place("sealed", 1), b"x").unwrap();
        let other = Vault::new(MasterKey::generate().unwrap());
        assert_eq!(other.open(&place("sealed", 1), &sealed).unwrap_err().code(), ErrorCode::KeyMismatch);
    }

    #[test]
    fn every_key_opens_and_the_newest_seals() {
        let (old, new) = (MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
        let before = Vault::new(old.clone());
        let during = Vault::new(new.clone()).with_former(old);
        let after = Vault::new(new);
        let value = before.seal(&place("sealed", 1), b"hunter2").unwrap();
        assert_eq!(during.open(&place("sealed", 1), &value).unwrap().as_slice(), b"hunter2");
        assert_eq!(after.open(&place("sealed", 1), &value).unwrap_err().code(), ErrorCode::KeyMismatch);
        let value = during.seal(&place("sealed", 1), b"hunter3").unwrap();
        assert!(value.as_bytes().starts_with(&during.mark()) && during.mark() == after.mark());
        assert_eq!(after.open(&place("sealed", 1), &value).unwrap().as_slice(), b"hunter3");
        let error = before.open(&place("sealed", 1), &value).unwrap_err();
        assert_eq!(error.code(), ErrorCode::KeyMismatch);
        assert!(error.hint().unwrap().contains("add the new key as the first line"));
    }

    #[test]
    fn a_proof_is_known_by_every_vault_that_has_its_key() {
        let (old, new) = (MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
        let proof = Vault::new(old.clone()).prove().unwrap();
        Vault::new(new.clone()).with_former(old).check(proof.as_bytes()).unwrap();
        assert!(Vault::new(new).check(proof.as_bytes()).is_err());
    }
}
