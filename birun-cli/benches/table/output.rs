//! Output end to end: process, mask, store, and a follower over HTTP.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use birun_core::inventory::OpenCredential;
use birun_exec::testing::Sshd;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::Outcome;
use crate::bare::Bare;
use crate::engine::directory;
use crate::served::{Home, Served};
use crate::settings::Settings;
use crate::ssh;
use crate::table::{Goal, Line, Table, median};

const SECRETS: usize = 12;
const ROUNDS: usize = 3;
/// The file that is written out again and again.
const FILE_BYTES: usize = 64 * 1024 * 1024;
/// A line in so many holds a secret.
const HIDDEN: usize = 1000;

pub(crate) async fn measure(settings: &Settings, table: &mut Table) -> Outcome {
    let source = Source::write(if settings.full { 32 } else { 8 })?;
    let sshd = ssh::start(settings);
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        rounds.add(&source, &sshd).await?;
    }
    let size = FILE_BYTES * source.times / 1_000_000;
    let Rounds { local, synced, piped, written, remote, bare, growth } = rounds;
    let line = Line::new(format!("output end to end, local, {size} MB"), median(local), "MB/s", Goal::AtLeast(150.0));
    table.add(line.beside("a bare pipe", median(piped)));
    let line = Line::new("the same until its end, which waits for the disk", median(synced), "MB/s", Goal::None);
    table.add(line.beside("a file written and synced", median(written)));
    let line = Line::new(format!("output end to end, SSH, {size} MB"), median(remote), "MB/s", Goal::ShareOfPeer(0.6));
    table.add(line.beside("bare russh", median(bare)));
    let largest = growth.into_iter().fold(0.0, f64::max);
    table.add(Line::new("growth of the server's RSS meanwhile, largest", largest, "MB", Goal::Below(64.0)));
    Ok(())
}

#[derive(Default)]
struct Rounds {
    local: Vec<f64>,
    synced: Vec<f64>,
    piped: Vec<f64>,
    written: Vec<f64>,
    remote: Vec<f64>,
    bare: Vec<f64>,
    growth: Vec<f64>,
}

impl Rounds {
    /// One of everything, in a fresh home: what was stored before is given back to the disk.
    async fn add(&mut self, source: &Source, sshd: &Sshd) -> Outcome {
        let home = Home::new()?;
        let served = home.serve().await?;
        add_server(&served, sshd).await?;
        follow(&served, "local", source, 1).await?;
        follow(&served, "web-1", source, 1).await?;
        let before = served.memory("VmRSS")?;
        served.forget_peak()?;
        let local = follow(&served, "local", source, source.times).await?;
        self.local.push(local.shown);
        self.synced.push(local.synced);
        self.piped.push(pipe(source).await?);
        self.written.push(write_and_sync(source)?);
        self.remote.push(follow(&served, "web-1", source, source.times).await?.shown);
        self.bare.push(over_bare(sshd, source).await?);
        self.growth.push(served.memory("VmHWM")? - before);
        Ok(())
    }
}

/// A file of log lines, with secrets in some.
struct Source {
    _directory: TempDir,
    file: PathBuf,
    times: usize,
}

fn secret(number: usize) -> String {
    format!("hunter-{number:02}-{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Source {
    fn write(times: usize) -> Outcome<Self> {
        let directory = TempDir::new()?;
        // The user who signs in over SSH reads it too.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let file = directory.path().join("lines");
        let mut text = String::with_capacity(FILE_BYTES + 256);
        for number in 0.. {
            let token = if number % HIDDEN == 0 { secret(number / HIDDEN % SECRETS) } else { "-".to_owned() };
            writeln!(
                text,
                "2026-01-01T00:00:00Z INFO request {number} from 192.0.2.7 took {} us, token {token}",
                number % 977
            )?;
            if text.len() >= FILE_BYTES {
                break;
            }
        }
        text.truncate(FILE_BYTES);
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
        Ok(Self { _directory: directory, file, times })
    }

    fn command(&self, times: usize) -> String {
        format!("cat{}", format!(" {}", self.file.display()).repeat(times))
    }
}

/// Adds `web-1`, with its key and its host keys.
async fn add_server(served: &Served, sshd: &Sshd) -> Outcome {
    let OpenCredential::PrivateKey { key, .. } = sshd.credential() else { return Err("no key".into()) };
    served.post("credentials", &json!({"name": "deploy", "private_key": key.expose()})).await?;
    let server = json!({
        "name": "web-1", "host": "127.0.0.1", "port": sshd.port(), "user": sshd.user(), "credential": "deploy",
    });
    served.post("servers", &server).await?;
    for key in sshd.host_keys() {
        let line = format!("{} {}", key.algorithm, key.key);
        served.post("host-keys", &json!({"server": "web-1", "public_key": line})).await?;
    }
    Ok(())
}

/// Runs it, and follows its output from the request on.
async fn follow(served: &Served, on: &str, source: &Source, times: usize) -> Outcome<Followed> {
    let params: Map<String, Value> =
        (0..SECRETS).map(|number| (format!("TOKEN_{number}"), json!({"secret": secret(number)}))).collect();
    let settings = json!({"output": {"bytes": FILE_BYTES * (times + 1)}});
    let command = source.command(times);
    let run = json!({"kind": "command", "command": command, "targets": on, "params": params, "settings": settings});
    let begin = Instant::now();
    let execution = served.post("executions", &run).await?;
    let id = execution.get("id").and_then(Value::as_str).ok_or("no id")?;
    let mut logs = served.get(&format!("executions/{id}/logs?follow=true&raw=true")).await?;
    let (mut bytes, mut last) = (0, begin.elapsed());
    while let Some(chunk) = logs.chunk().await? {
        bytes += chunk.len();
        last = begin.elapsed();
        // Looking costs time, so the short run before the long one is looked at.
        if times == 1 && contains(&chunk, b"hunter-") {
            return Err("a secret was shown".into());
        }
    }
    // A mask is shorter than what it hides.
    if bytes < FILE_BYTES * times * 99 / 100 {
        return Err(format!("{bytes} bytes came of {}", FILE_BYTES * times).into());
    }
    Ok(Followed { shown: rate(FILE_BYTES * times, last), synced: rate(FILE_BYTES * times, begin.elapsed()) })
}

/// Megabytes a second.
struct Followed {
    /// Until the follower had the last byte.
    shown: f64,
    /// Until the execution had ended, its output on the disk.
    synced: f64,
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[expect(clippy::cast_precision_loss, reason = "some gigabytes at most")]
fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

/// The same process with its output read and thrown away.
async fn pipe(source: &Source) -> Outcome<f64> {
    let begin = Instant::now();
    let mut child =
        Command::new("/bin/sh").arg("-c").arg(source.command(source.times)).stdout(Stdio::piped()).spawn()?;
    let mut stdout = child.stdout.take().ok_or("no stdout")?;
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        match stdout.read(&mut buffer).await? {
            0 => break,
            more => bytes += more,
        }
    }
    child.wait().await?;
    Ok(rate(bytes, begin.elapsed()))
}

/// What the disk makes of as many bytes.
fn write_and_sync(source: &Source) -> Outcome<f64> {
    let directory = directory()?;
    let text = fs::read(&source.file)?;
    let begin = Instant::now();
    let mut file = fs::File::create(directory.path().join("copy"))?;
    for _ in 0..source.times {
        file.write_all(&text)?;
    }
    file.sync_data()?;
    Ok(rate(text.len() * source.times, begin.elapsed()))
}

async fn over_bare(sshd: &Sshd, source: &Source) -> Outcome<f64> {
    let bare = Bare::connect(sshd).await?;
    bare.run(&source.command(1), b"").await?;
    let begin = Instant::now();
    let bytes = bare.run(&source.command(source.times), b"").await?;
    let rate = rate(bytes, begin.elapsed());
    bare.leave().await?;
    Ok(rate)
}
