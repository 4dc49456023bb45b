//! The released binary as a server, in a home of its own.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;

use crate::Outcome;
use crate::engine::directory;

/// The binary that was built with the bench.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_birun");

/// A server does not take longer to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that answers. It is killed when it is dropped.
pub(crate) struct Served {
    child: Child,
    address: String,
    token: String,
    client: Client,
    /// From the start of the process to the first answer that it is ready.
    pub(crate) ready: Duration,
}

/// A home for servers, gone when it is dropped.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Outcome<Self> {
        Ok(Self(directory()?))
    }

    /// Starts a server, and waits until it is ready.
    pub(crate) async fn serve(&self) -> Outcome<Served> {
        let file = self.0.path().join("data/serve.json");
        if file.exists() {
            fs::remove_file(&file)?;
        }
        let begin = Instant::now();
        let child = self.command().spawn()?;
        let (address, token) = told(&file, begin).await?;
        let mut served =
            Served { child, address, token, client: Client::builder().no_proxy().build()?, ready: Duration::ZERO };
        while !served.is_ready().await {
            if begin.elapsed() > PATIENCE {
                return Err("the server does not become ready".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        served.ready = begin.elapsed();
        Ok(served)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(self.0.path().join("data"))
            .env_clear()
            .env("HOME", self.0.path())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

/// What the server wrote down for the command line of its machine.
async fn told(file: &Path, begin: Instant) -> Outcome<(String, String)> {
    loop {
        let told = fs::read(file).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        let text = |name: &str| told.as_ref()?.get(name)?.as_str().map(str::to_owned);
        if let (Some(address), Some(token)) = (text("address"), text("token")) {
            return Ok((address, token));
        }
        if begin.elapsed() > PATIENCE {
            return Err("the server does not start".into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

impl Served {
    async fn is_ready(&self) -> bool {
        let asked = self.client.get(format!("{}/readyz", self.address)).send().await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// Creates something, and gives what the server answers.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Outcome<Value> {
        let request = self.client.post(format!("{}/api/v1/{path}", self.address)).json(body);
        Ok(self.send(request).await?.json().await?)
    }

    pub(crate) async fn get(&self, path: &str) -> Outcome<Response> {
        self.send(self.client.get(format!("{}/api/v1/{path}", self.address))).await
    }

    async fn send(&self, request: RequestBuilder) -> Outcome<Response> {
        let answer = request.bearer_auth(&self.token).send().await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(format!("{}: {}", answer.status(), answer.text().await?).into())
    }

    /// A line of the process's status in the kernel, in MB.
    pub(crate) fn memory(&self, name: &str) -> Outcome<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")).ok_or("no such line")?;
        Ok(kib.trim().parse::<f64>()? / 1024.0)
    }

    /// Forgets the highest memory so far, so that the next one is of what comes now.
    pub(crate) fn forget_peak(&self) -> Outcome {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }

    /// Processor seconds that all its threads used so far.
    pub(crate) fn cpu_seconds(&self) -> Outcome<f64> {
        let mut nanoseconds = 0.0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            nanoseconds += text.split(' ').next().unwrap_or_default().parse::<f64>()?;
        }
        Ok(nanoseconds / 1e9)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
