//! The rotation of the master key, as far as keys on this machine are concerned.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use birun_core::vault::MasterKey;

use super::key_use::{forget, is_used};
use super::master_key::{place_of, read_keys, replace};
use super::{DataDir, find_server};
use crate::config::{KeySource, Settings};
use crate::error::{CommandError, CommandResult};

/// The keys of this machine while they are rotated. While this lives nobody else rotates them.
#[derive(Debug)]
pub(crate) struct Rotation {
    dir: DataDir,
    /// Newest first.
    keys: Vec<MasterKey>,
    /// Where they stand, for people.
    place: PathBuf,
    /// Whether they are birun's own file over birun's own database: then nobody on another machine
    /// can need them, and birun changes the file itself.
    own: bool,
    _lock: File,
}

impl Rotation {
    /// Looks at the keys; `None` where there are none to be seen.
    ///
    /// # Errors
    /// When they cannot be read, or someone else rotates them.
    pub(crate) fn open(settings: &Settings) -> CommandResult<Option<Self>> {
        let dir = DataDir::at(&settings.data_dir.value);
        dir.create()?;
        let lock = lock(&dir)?;
        let keys = read_keys(&settings.key, &dir)?;
        if keys.is_empty() {
            return Ok(None);
        }
        let own = matches!(settings.key, KeySource::DataDir) && settings.database_url.value.is_none();
        Ok(Some(Self { place: place_of(&settings.key, &dir), dir, keys, own, _lock: lock }))
    }

    /// Whether there is a new key above the old one already.
    pub(crate) const fn has_begun(&self) -> bool {
        self.keys.len() > 1
    }

    /// Where the keys stand, for people.
    pub(crate) fn place(&self) -> String {
        self.place.display().to_string()
    }

    /// Asserts that a new key can be put in place while nobody notices; otherwise says what to do instead.
    ///
    /// # Errors
    /// When it cannot.
    pub(crate) async fn may_begin(&self) -> CommandResult {
        if !self.own {
            let told = format!("the master key comes from {}, which birun does not change", self.place());
            return Err(self.by_hand(CommandError::failed(told)));
        }
        if let Some(server) = find_server(&self.dir).await? {
            let told = format!("a server works with the present key, at {} (process {})", server.address, server.pid);
            return Err(self.by_hand(CommandError::failed(told)));
        }
        if self.uses_any(&self.keys)? {
            let told = format!("another birun works on {} with the present key", self.dir.path().display());
            return Err(self.by_hand(CommandError::failed(told).hint("wait until it has ended, and try again; or")));
        }
        Ok(())
    }

    /// Puts a new key above the old one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn begin(&mut self) -> CommandResult {
        self.keys.insert(0, MasterKey::generate()?);
        replace(&self.place, &self.keys)
    }

    /// Asserts that everybody here has the new key, so that nothing more is sealed under an old one.
    ///
    /// # Errors
    /// When someone has not.
    pub(crate) async fn is_known_to_all(&self) -> CommandResult {
        let (newest, former) = self.keys.split_first().unzip();
        let served = find_server(&self.dir).await?.is_some();
        let unknown = match newest {
            Some(newest) if served => !is_used(&self.dir, newest)?,
            _ => false,
        };
        if unknown || self.uses_any(former.unwrap_or_default())? {
            return Err(CommandError::failed(
                "a birun that was started before the new key came still works with the old one",
            )
            .hint(format!(
                "restart  birun serve  and every  birun worker  on {}, then run  birun admin rekey  again",
                self.dir.path().display()
            )));
        }
        Ok(())
    }

    /// Takes the former keys away, where that is birun's business; answers whether it is.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn finish(&self) -> CommandResult<bool> {
        let Some((newest, former)) = self.keys.split_first().filter(|_| self.own) else { return Ok(false) };
        if !former.is_empty() {
            replace(&self.place, std::slice::from_ref(newest))?;
            former.iter().for_each(|key| forget(&self.dir, key));
        }
        Ok(true)
    }

    fn uses_any(&self, keys: &[MasterKey]) -> CommandResult<bool> {
        for key in keys {
            if is_used(&self.dir, key)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Says how to rotate by hand.
    fn by_hand(&self, error: CommandError) -> CommandError {
        error
            .hint(format!(
                "make a key with  head -c 32 /dev/urandom | base64  and add it as the first line of {}, everywhere; \
                 leave the old one below it",
                self.place()
            ))
            .hint("restart every birun that works with it, then run  birun admin rekey  again; after that, remove the old line")
    }
}

fn lock(dir: &DataDir) -> CommandResult<File> {
    let path = dir.rekey_lock();
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(|error| CommandError::file("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CommandError::failed("another  birun admin rekey  is at work")
            .hint("wait until it has ended; it is safe to kill, and to be started again")),
        Err(TryLockError::Error(error)) => Err(CommandError::file("lock", &path, &error)),
    }
}
