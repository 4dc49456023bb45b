//! The master key: given, in a file, or in the data directory, where it is made only over an empty store.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use birun_core::Store;
use birun_core::engine::is_sealed;
use birun_core::vault::{MasterKey, Secret};

use super::DataDir;
use super::key_use::KeyUse;
use crate::config::KeySource;
use crate::error::{CommandError, CommandResult};

/// Reads the keys for a store, newest first, or makes one, if the store is empty and nobody gave one.
/// Empty: there is no key, and the store was filled under one; the engine says what that means. From
/// now on until its end this process counts as one that seals with the first of them.
///
/// A crash in the middle leaves no key or a whole one; two processes that begin at once get the same.
///
/// # Errors
/// When a key cannot be read, or is none.
pub(super) async fn take_keys(source: &KeySource, dir: &DataDir, store: &dyn Store) -> CommandResult<Vec<MasterKey>> {
    loop {
        let keys = read_or_make(source, dir, store).await?;
        let Some(newest) = keys.first() else { return Ok(keys) };
        let in_use = KeyUse::begin(dir, newest)?;
        // A rotation may have put another key first before the lock was there.
        let again = read_keys(source, dir)?;
        if again.first().is_some_and(|first| first.fingerprint() == newest.fingerprint()) {
            in_use.until_the_end();
            return Ok(keys);
        }
    }
}

async fn read_or_make(source: &KeySource, dir: &DataDir, store: &dyn Store) -> CommandResult<Vec<MasterKey>> {
    let keys = read_keys(source, dir)?;
    if !keys.is_empty() || !matches!(source, KeySource::DataDir) {
        return Ok(keys);
    }
    if !is_sealed(store).await? {
        return make(&dir.key());
    }
    // Another process may have made it between the two looks.
    read_keys(source, dir)
}

/// Reads the keys that there are, newest first; empty if the data directory has none.
///
/// # Errors
/// When a key cannot be read, or is none.
pub(super) fn read_keys(source: &KeySource, dir: &DataDir) -> CommandResult<Vec<MasterKey>> {
    match source {
        KeySource::Given(text) => parse(text, "BIRUN_MASTER_KEY"),
        KeySource::File(path) => read_file(path),
        KeySource::DataDir if dir.key().exists() => read_file(&dir.key()),
        KeySource::DataDir => Ok(Vec::new()),
    }
}

fn read_file(path: &Path) -> CommandResult<Vec<MasterKey>> {
    let text =
        std::fs::read_to_string(path).map_err(|error| CommandError::file("read the master key", path, &error))?;
    parse(&Secret::new(text), &path.display().to_string())
}

fn parse(text: &Secret, place: &str) -> CommandResult<Vec<MasterKey>> {
    MasterKey::parse_lines(text.expose()).map_err(|error| {
        let failed = CommandError::failed(format!("{place}: {error}"));
        error.hint().iter().fold(failed, |failed, hint| failed.hint(*hint))
    })
}

/// Puts keys into the place of those that a file holds, newest first. A crash leaves the old ones or
/// the new ones, and what was sealed under a key is never on the disk before the key is.
///
/// # Errors
/// When they cannot be written.
pub(super) fn replace(path: &Path, keys: &[MasterKey]) -> CommandResult {
    let lines: Vec<Secret> = keys.iter().map(MasterKey::to_text).collect();
    let text = Secret::new(lines.iter().map(Secret::expose).collect::<Vec<_>>().join("\n"));
    let draft = path.with_extension("key.new");
    write_private(&draft, text.expose())
        .and_then(|()| std::fs::rename(&draft, path))
        .and_then(|()| sync_directory(path))
        .map_err(|error| CommandError::file("write the master key", path, &error))
}

/// Waits until the name of a new file is on the disk.
fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Makes a key and puts it into place whole; a key that another process made meanwhile counts.
fn make(path: &Path) -> CommandResult<Vec<MasterKey>> {
    let key = MasterKey::generate()?;
    let draft = path.with_extension(format!("key.{}", std::process::id()));
    let placed = write_private(&draft, key.to_text().expose())
        .and_then(|()| std::fs::hard_link(&draft, path))
        .and_then(|()| sync_directory(path));
    // A draft that stays behind is a secret that lies about, but no reason to fail.
    drop(std::fs::remove_file(&draft));
    match placed {
        Ok(()) => Ok(vec![key]),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read_file(path),
        Err(error) => Err(CommandError::file("write the master key", path, &error)),
    }
}

/// Writes a file that only this user can read, and waits until it is on the disk.
pub(super) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// Where a key comes from, for people.
pub(crate) fn place_of(source: &KeySource, dir: &DataDir) -> PathBuf {
    match source {
        KeySource::Given(_) => PathBuf::from("BIRUN_MASTER_KEY"),
        KeySource::File(path) => path.clone(),
        KeySource::DataDir => dir.key(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_another_process_made_meanwhile_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("birun.key");
        let first = make(&path).unwrap();
        let second = make(&path).unwrap();
        assert_eq!(first[0].to_text(), second[0].to_text());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn keys_are_replaced_whole_and_for_this_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("birun.key");
        let old = make(&path).unwrap().remove(0);
        let new = MasterKey::generate().unwrap();
        replace(&path, &[new.clone(), old.clone()]).unwrap();
        let read = read_file(&path).unwrap();
        let texts = |keys: &[MasterKey]| keys.iter().map(MasterKey::to_text).collect::<Vec<_>>();
        assert_eq!(texts(&read), texts(&[new, old]));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_holds_no_key_is_named_and_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("birun.key");
        std::fs::write(&path, "hunter2").unwrap();
        let error = format!("{:?}", read_file(&path).unwrap_err());
        assert!(error.contains("birun.key") && !error.contains("hunter2"), "{error}");
    }
}
