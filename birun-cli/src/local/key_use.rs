//! Which master keys are sealed with in a data directory: every process holds a lock on a file that is
//! named after the first of its keys. The kernel gives it back with the process.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use birun_core::vault::MasterKey;

use super::DataDir;
use crate::error::{CommandError, CommandResult};

/// The keys that this process seals with until its end.
static HELD: Mutex<Vec<KeyUse>> = Mutex::new(Vec::new());

/// That this process seals with a key, as long as this lives.
#[derive(Debug)]
pub(super) struct KeyUse {
    _file: File,
}

impl KeyUse {
    /// Says that this process seals with a key.
    ///
    /// # Errors
    /// When the lock cannot be taken.
    pub(super) fn begin(dir: &DataDir, key: &MasterKey) -> CommandResult<Self> {
        let path = path_of(dir, key);
        let locked = make_directory(&dir.key_locks()).and_then(|()| lock_shared(&path));
        locked.map(|file| Self { _file: file }).map_err(|error| CommandError::file("lock", &path, &error))
    }

    /// Keeps it up until the process ends.
    pub(super) fn until_the_end(self) {
        HELD.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }
}

/// Whether any process seals with a key.
///
/// # Errors
/// When that cannot be told.
pub(super) fn is_used(dir: &DataDir, key: &MasterKey) -> CommandResult<bool> {
    let path = path_of(dir, key);
    let file = match open(&path, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(CommandError::file("open", &path, &error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(CommandError::file("lock", &path, &error)),
    }
}

/// Takes away what is left of a key that nobody seals with any more. What stays behind does no harm.
pub(super) fn forget(dir: &DataDir, key: &MasterKey) {
    drop(std::fs::remove_file(path_of(dir, key)));
}

/// Who asks whether a key is used holds the lock for a moment alone, which is waited for. A file that
/// was taken away meanwhile is nobody's sign any more.
fn lock_shared(path: &Path) -> io::Result<File> {
    loop {
        let file = open(path, true)?;
        file.lock_shared()?;
        if std::fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino())) {
            return Ok(file);
        }
    }
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(create).truncate(false).mode(0o600).open(path)
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn path_of(dir: &DataDir, key: &MasterKey) -> PathBuf {
    dir.key_locks().join(format!("{}.lock", key.fingerprint()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_used_as_long_as_someone_says_so() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::at(temp.path());
        let (key, other) = (MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
        assert!(!is_used(&dir, &key).unwrap());
        let one = KeyUse::begin(&dir, &key).unwrap();
        let two = KeyUse::begin(&dir, &key).unwrap();
        drop(one);
        assert!(is_used(&dir, &key).unwrap() && !is_used(&dir, &other).unwrap());
        drop(two);
        assert!(!is_used(&dir, &key).unwrap());
        forget(&dir, &key);
        assert_eq!(std::fs::read_dir(dir.key_locks()).unwrap().count(), 0);
    }
}
