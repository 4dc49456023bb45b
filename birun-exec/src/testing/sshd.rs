//! A real OpenSSH server on a loopback port, with keys, configuration and log of its own.

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use birun_core::execution::ServerTarget;
use birun_core::inventory::{HostKey, HostKeyStatus, OpenCredential};
use birun_core::vault::Secret;
use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};
use tempfile::TempDir;

use super::{key_text, private_key, recorded, server_target};

const PLACES: [&str; 4] = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd"];

/// A running sshd. Stopped when dropped; its sessions end with their connections.
#[derive(Debug)]
pub struct Sshd {
    directory: TempDir,
    child: Child,
    port: u16,
    user: String,
    client_key: PrivateKey,
    host_keys: Vec<HostKey>,
}

/// How an [`Sshd`] is to be.
#[derive(Debug, Default)]
pub struct SshdOptions {
    user: Option<String>,
    lines: Vec<String>,
}

impl SshdOptions {
    /// Who signs in; by default whoever runs the test. Another user can be served by root only.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Adds a line to the configuration, ahead of the helper's own (the first value counts).
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Panics
    /// If there is no sshd, or it does not answer within 10 s.
    #[must_use]
    pub fn start(self) -> Sshd {
        let program = Sshd::program().expect("sshd");
        let directory = readable_directory();
        let client_key = private_key(Algorithm::Ed25519);
        let host_keys = write_host_keys(directory.path());
        let authorized = directory.path().join("authorized_keys");
        fs::write(authorized, client_key.public_key().to_openssh().unwrap()).expect("a file");
        prepare_privilege_separation();
        let port = free_port();
        let config = self.config(directory.path(), port);
        let file = directory.path().join("sshd_config");
        write_private(&file, &config);
        let log = fs::File::create(directory.path().join("log")).expect("a log");
        let child = Command::new(program)
            .args(["-D", "-e", "-f"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd starts");
        let user = self.user.unwrap_or_else(current_user);
        let server = Sshd { directory, child, port, user, client_key, host_keys };
        server.wait_until_it_answers();
        server
    }

    fn config(&self, directory: &Path, port: u16) -> String {
        let directory = directory.display();
        let mut text = self.lines.join("\n");
        write!(
            text,
            "\nPort {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host_ed25519\nHostKey {directory}/host_ecdsa\n\
             AuthorizedKeysFile {directory}/authorized_keys\nPidFile none\nUsePAM no\nStrictModes no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nUseDNS no\n\
             MaxStartups 100:30:200\nPrintMotd no\nLogLevel VERBOSE\n"
        )
        .unwrap();
        text
    }
}

impl Sshd {
    /// Where this machine has its sshd, if it has one.
    #[must_use]
    pub fn program() -> Option<&'static Path> {
        PLACES.map(Path::new).into_iter().find(|path| path.is_file())
    }

    /// Begins to describe a server.
    #[must_use]
    pub fn options() -> SshdOptions {
        SshdOptions::default()
    }

    /// A server as it comes.
    #[must_use]
    pub fn start() -> Self {
        Self::options().start()
    }

    /// The port it listens on, on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Who can sign in.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The key that signs in.
    #[must_use]
    pub const fn client_key(&self) -> &PrivateKey {
        &self.client_key
    }

    /// The key that signs in, as a credential.
    #[must_use]
    pub fn credential(&self) -> OpenCredential {
        OpenCredential::PrivateKey { key: Secret::new(key_text(&self.client_key)), passphrase: None, certificate: None }
    }

    /// Its host keys, approved.
    #[must_use]
    pub fn host_keys(&self) -> &[HostKey] {
        &self.host_keys
    }

    /// The server as a target with everything that is needed to use it.
    #[must_use]
    pub fn target(&self) -> ServerTarget {
        server_target(self.port, &self.user, self.credential(), self.host_keys.clone())
    }

    /// What the server logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn wait_until_it_answers(&self) {
        let begin = Instant::now();
        while !self.answers() {
            assert!(begin.elapsed() < Duration::from_secs(10), "sshd does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn answers(&self) -> bool {
        let Ok(mut tcp) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        tcp.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut start = [0; 4];
        tcp.read_exact(&mut start).is_ok() && &start == b"SSH-"
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn write_host_keys(directory: &Path) -> Vec<HostKey> {
    let kinds = [("ed25519", Algorithm::Ed25519), ("ecdsa", Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 })];
    let write = |(name, algorithm)| {
        let key = private_key(algorithm);
        write_private(&directory.join(format!("host_{name}")), &key_text(&key));
        recorded(key.public_key(), HostKeyStatus::Approved)
    };
    kinds.into_iter().map(write).collect()
}

/// Other users must be able to reach their authorized keys in it.
fn readable_directory() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).expect("permissions");
    directory
}

fn write_private(path: &PathBuf, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("permissions");
}

/// A root sshd wants an empty directory that packages make at boot.
fn prepare_privilege_separation() {
    if rustix::process::geteuid().is_root() {
        fs::create_dir_all("/run/sshd").expect("/run/sshd");
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

fn current_user() -> String {
    let id = rustix::process::geteuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let entry = passwd.lines().find(|line| line.split(':').nth(2) == Some(&id)).expect("an entry of this user");
    entry.split(':').next().unwrap_or_default().to_owned()
}
