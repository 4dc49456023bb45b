//! The server that owns a data directory: its lock, and how it is found.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use birun_core::vault::Secret;
use tokio::time::{Instant, sleep};

use super::DataDir;
use super::master_key::write_private;
use crate::error::{CommandError, CommandResult};

/// How long a server may take between owning its directory and saying how to reach it.
const STARTING: Duration = Duration::from_secs(5);

/// How long others may hold the lock that own nothing: clients that look whether a server has it, and what a
/// killed server was about to become a script of, until it has let go of what it inherited.
const PASSING: Duration = Duration::from_secs(1);

/// How to reach the server that owns a data directory. The file that says so is for its user alone.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct ServeFile {
    /// Its address on this machine.
    pub(crate) address: String,
    /// What to show there.
    pub(crate) token: Secret,
    /// Its process.
    pub(crate) pid: u32,
    /// Its database, without the password; `None` is the file in the data directory.
    #[serde(default)]
    pub(crate) database: Option<String>,
}

/// The right to serve a data directory, held as long as this lives.
#[derive(Debug)]
pub(crate) struct ServeLock {
    _file: File,
    dir: DataDir,
}

impl ServeLock {
    /// Takes the right, if no other server has it.
    ///
    /// # Errors
    /// When another server owns the directory.
    pub(crate) fn take(dir: &DataDir) -> CommandResult<Self> {
        let file = open_lock(dir)?;
        let deadline = std::time::Instant::now() + PASSING;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if std::time::Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => return Err(owned(dir)),
                Err(TryLockError::Error(error)) => return Err(CommandError::file("lock", &dir.serve_lock(), &error)),
            }
        }
        // What a killed server left says nothing about this one.
        drop(std::fs::remove_file(dir.serve_file()));
        Ok(Self { _file: file, dir: dir.clone() })
    }

    /// Says how to reach this server.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn publish(&self, serve: &ServeFile) -> CommandResult {
        let text = serde_json::json!({
            "address": serve.address,
            "token": serve.token.expose(),
            "pid": serve.pid,
            "database": serve.database,
        });
        let path = self.dir.serve_file();
        let draft = path.with_extension("json.new");
        write_private(&draft, &text.to_string())
            .and_then(|()| std::fs::rename(&draft, &path))
            .map_err(|error| CommandError::file("write", &path, &error))
    }
}

impl Drop for ServeLock {
    /// Takes the address back before the lock goes.
    fn drop(&mut self) {
        drop(std::fs::remove_file(self.dir.serve_file()));
    }
}

/// The server that owns a data directory, if there is one.
///
/// # Errors
/// When there is one that does not say how to reach it.
pub(crate) async fn find_server(dir: &DataDir) -> CommandResult<Option<ServeFile>> {
    let deadline = Instant::now() + STARTING;
    while is_owned(dir)? {
        if let Some(serve) = read(dir) {
            return Ok(Some(serve));
        }
        if Instant::now() > deadline {
            return Err(CommandError::failed(format!(
                "a server owns {}, but does not say how to reach it",
                dir.path().display()
            ))
            .hint(format!("look whether it starts, or stop it; it holds {}", dir.serve_lock().display())));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(None)
}

fn is_owned(dir: &DataDir) -> CommandResult<bool> {
    if !dir.serve_lock().exists() {
        return Ok(false);
    }
    match open_lock(dir)?.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(CommandError::file("lock", &dir.serve_lock(), &error)),
    }
}

fn read(dir: &DataDir) -> Option<ServeFile> {
    serde_json::from_slice(&std::fs::read(dir.serve_file()).ok()?).ok()
}

fn open_lock(dir: &DataDir) -> CommandResult<File> {
    let path = dir.serve_lock();
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    opened.map_err(|error| CommandError::file("open", &path, &error))
}

fn owned(dir: &DataDir) -> CommandError {
    let at = match read(dir) {
        Some(serve) => format!(" at {} (process {})", serve.address, serve.pid),
        None => String::new(),
    };
    CommandError::failed(format!("another server owns {}{at}", dir.path().display()))
        .hint("stop it first, or serve another directory with  --data-dir")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, DataDir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::at(temp.path());
        (temp, dir)
    }

    fn serve_file() -> ServeFile {
        ServeFile { address: "http://127.0.0.1:1".to_owned(), token: Secret::new("hunter2"), pid: 7, database: None }
    }

    #[tokio::test]
    async fn a_server_is_found_while_it_holds_its_lock() {
        let (_temp, dir) = dir();
        assert!(find_server(&dir).await.unwrap().is_none());
        let lock = ServeLock::take(&dir).unwrap();
        lock.publish(&serve_file()).unwrap();
        assert_eq!(find_server(&dir).await.unwrap().unwrap().address, "http://127.0.0.1:1");
        drop(lock);
        assert!(find_server(&dir).await.unwrap().is_none());
        assert!(!dir.serve_file().exists());
    }

    #[tokio::test]
    async fn what_a_killed_server_left_is_not_believed() {
        let (_temp, dir) = dir();
        let lock = ServeLock::take(&dir).unwrap();
        lock.publish(&serve_file()).unwrap();
        std::fs::copy(dir.serve_file(), dir.path().join("kept")).unwrap();
        drop(lock);
        std::fs::rename(dir.path().join("kept"), dir.serve_file()).unwrap();
        assert!(find_server(&dir).await.unwrap().is_none());
    }

    #[test]
    fn a_directory_has_one_server() {
        let (_temp, dir) = dir();
        let lock = ServeLock::take(&dir).unwrap();
        lock.publish(&serve_file()).unwrap();
        let CommandError::Failed(failure) = ServeLock::take(&dir).unwrap_err() else { panic!("silent") };
        assert!(failure.message.ends_with("at http://127.0.0.1:1 (process 7)"), "{}", failure.message);
        assert!(!format!("{:?}", serve_file()).contains("hunter2"));
    }
}
