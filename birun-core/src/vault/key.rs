//! Master keys: what seals every other key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::vault::Secret;

/// Bytes of what tells one key from others.
pub(super) const KEY_ID: usize = 8;

/// The key that seals every other key. 32 bytes; overwritten when dropped.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// Draws a new key.
    ///
    /// # Errors
    /// `internal` if the operating system has no randomness to give.
    pub fn generate() -> Result<Self> {
        Ok(Self(Zeroizing::new(super::seal::random()?)))
    }

    /// Reads a key from its text form: 32 bytes in base64. White space around it is ignored.
    ///
    /// # Errors
    /// `invalid`, without any part of the text.
    pub fn parse(text: &str) -> Result<Self> {
        Self::decode(text).ok_or_else(|| hinted("the master key is not 32 bytes in base64".to_owned()))
    }

    /// Reads several keys, one a line, newest first. Empty lines are ignored, and so is a key that stands
    /// there for the second time.
    ///
    /// # Errors
    /// `invalid` naming the line, without any part of it; also if there is no key.
    pub fn parse_lines(text: &str) -> Result<Vec<Self>> {
        let mut keys: Vec<Self> = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let key = Self::decode(line)
                .ok_or_else(|| hinted(format!("the master key in line {} is not 32 bytes in base64", index + 1)))?;
            if keys.iter().all(|known| known.id() != key.id()) {
                keys.push(key);
            }
        }
        if keys.is_empty() {
            return Err(hinted("there is no master key".to_owned()));
        }
        Ok(keys)
    }

    fn decode(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).ok()?);
        let bytes: [u8; 32] = bytes.as_slice().try_into().ok()?;
        Some(Self(Zeroizing::new(bytes)))
    }

    /// The key's text form.
    #[must_use]
    pub fn to_text(&self) -> Secret {
        Secret::new(STANDARD.encode(self.0.as_slice()))
    }

    /// What tells this key from others without giving it away: 16 hex digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.id().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The fingerprint's bytes. They stand in every value that the key seals.
    pub(super) fn id(&self) -> [u8; KEY_ID] {
        let mut hash = Sha256::new();
        hash.update(b"birun master key id");
        hash.update(self.0.as_slice());
        let mut id = [0; KEY_ID];
        id.copy_from_slice(hash.finalize().get(..KEY_ID).unwrap_or_default());
        id
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn hinted(message: String) -> Error {
    Error::invalid(message).with_hint("make one with  head -c 32 /dev/urandom | base64")
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_key_survives_its_text_form_and_prints_nothing() {
        let key = MasterKey::generate().unwrap();
        let text = key.to_text();
        assert_eq!(MasterKey::parse(text.expose()).unwrap().id(), key.id());
        assert_eq!(format!("{key:?} {text:?}"), "MasterKey(***) ***");
        assert_eq!(key.fingerprint().len(), 16);
        for bad in ["", "short", "not base64 at all!"] {
            assert!(MasterKey::parse(bad).is_err());
        }
    }

    #[test]
    fn keys_stand_one_a_line_and_newest_first() {
        let keys = [MasterKey::generate().unwrap(), MasterKey::generate().unwrap()];
        let [new, old] = keys.each_ref().map(MasterKey::to_text);
        let text = format!("\n  {}\r\n\n{}\n{}\n", new.expose(), old.expose(), new.expose());
        let read = MasterKey::parse_lines(&text).unwrap();
        assert_eq!(read.iter().map(MasterKey::id).collect::<Vec<_>>(), keys.each_ref().map(MasterKey::id));
        assert!(MasterKey::parse_lines(" \n\n").is_err());
    }

    #[test]
    fn a_line_that_is_no_key_is_named_and_not_repeated() {
        let text = format!("{}\n\nhunter2\n", MasterKey::generate().unwrap().to_text().expose());
        let error = MasterKey::parse_lines(&text).unwrap_err();
        assert_eq!(error.to_string(), "the master key in line 3 is not 32 bytes in base64");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
