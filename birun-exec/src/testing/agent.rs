//! A real ssh-agent, with a socket of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use russh::keys::PrivateKey;
use tempfile::TempDir;

use super::key_text;

/// A running ssh-agent. Stopped when dropped.
#[derive(Debug)]
pub struct SshAgent {
    directory: TempDir,
    child: Child,
}

impl SshAgent {
    /// Whether this machine has one.
    #[must_use]
    pub fn is_there() -> bool {
        ["/usr/bin/ssh-agent", "/usr/local/bin/ssh-agent"].iter().any(|path| Path::new(path).is_file())
    }

    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// If there is none, or it does not answer within 10 s.
    #[must_use]
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("agent");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Without these it has no way to ask anybody.
        let child = command.env_remove("DISPLAY").env_remove("SSH_ASKPASS").spawn().expect("ssh-agent starts");
        let begin = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(10), "ssh-agent does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { directory, child }
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agent")
    }

    /// Adds a key, with these options of ssh-add.
    ///
    /// # Panics
    /// If ssh-add does not.
    pub fn add(&self, key: &PrivateKey, options: &[&str]) {
        let file = self.directory.path().join("key");
        fs::write(&file, key_text(key)).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("permissions");
        let mut command = Command::new("ssh-add");
        let added = command.arg("-q").args(options).arg(&file).env("SSH_AUTH_SOCK", self.socket()).status();
        assert!(added.expect("ssh-add").success());
        fs::remove_file(file).expect("it is there");
    }

    /// Adds a key with its certificate.
    ///
    /// # Panics
    /// If ssh-add does not.
    pub fn add_certified(&self, key: &PrivateKey, certificate: &str) {
        fs::write(self.directory.path().join("key-cert.pub"), certificate).expect("a file");
        self.add(key, &[]);
    }

    /// Stops it.
    pub fn stop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        self.stop();
    }
}
