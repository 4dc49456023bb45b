//! A secret is written in every way in which a script may write one, and looked for in everything
//! that birun writes, sends or shows.

use std::path::Path;
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use birun_core::inventory::OpenCredential;
use birun_core::testing::harness::{Need, Suite};
use birun_exec::testing::Sshd;
use serde_json::json;

use crate::api::Api;
use crate::birun::{Ended, Home, Served, content_of};

/// What must not be found; each of its kinds of characters is spelled differently by some encoder.
const CANARY: &str = "ca\"na\\ry/4+ %7b\u{fc}&<correct-horse>";

pub(crate) fn add(suite: &mut Suite) {
    let python = [Need::program("python3")];
    suite.plain("canary_written_byte_by_byte_is_seen_nowhere", &python, parameter);
    let sshd = [Need::program("python3"), Need::new("sshd", Sshd::program().is_some())];
    suite.plain("canary_on_a_server_is_seen_nowhere", &sshd, on_server);
    suite.plain("credential_of_a_server_is_seen_nowhere", &sshd, credential);
}

/// Writes the secret in each spelling, one byte at a time, on both streams at once; then waits.
const LEAK: &str = r#"#!/usr/bin/env python3
import base64, json, os, threading, time, urllib.parse
secret = os.environ["TOKEN"]
raw = secret.encode()
forms = [raw, base64.b64encode(raw), base64.b64encode(b"x" + raw), base64.b64encode(b"xy" + raw + b"z"),
         base64.urlsafe_b64encode(raw), urllib.parse.quote(secret, safe="").encode(),
         urllib.parse.quote_plus(secret).encode(), json.dumps(secret).encode(),
         json.dumps(secret, ensure_ascii=False).encode(), raw + raw]
def write(stream):
    for form in forms:
        for byte in b"<" + form + b">\n":
            os.write(stream, bytes([byte]))
            time.sleep(0.0005)
threads = [threading.Thread(target=write, args=(stream,)) for stream in (1, 2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
os.write(1, b"forms %d\n" % len(forms))
open(os.environ["MARKS"] + "/written", "w").write("yes\n")
while not os.path.exists(os.environ["MARKS"] + "/go"):
    time.sleep(0.02)
"#;

/// The spellings that are looked for: what the script writes, and what birun might.
fn spellings(secret: &str) -> Vec<Vec<u8>> {
    let escaped = serde_json::to_string(secret).expect("JSON");
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let quoted: String = secret
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    let mut all = vec![
        secret.as_bytes().to_vec(),
        STANDARD.encode(secret).trim_end_matches('=').as_bytes().to_vec(),
        URL_SAFE_NO_PAD.encode(secret).into_bytes(),
        quoted.replace("%20", "+").into_bytes(),
        quoted.into_bytes(),
        percent.into_bytes(),
        escaped.trim_matches('"').as_bytes().to_vec(),
        // Rust's and Python's ways to show a text.
        format!("{secret:?}").trim_matches('"').as_bytes().to_vec(),
        secret.replace('\\', "\\\\").replace('"', "\\\"").replace('\u{fc}', "\\u00fc").into_bytes(),
    ];
    // Where it begins at another byte of the encoded data.
    for lead in [1, 2] {
        let text = STANDARD.encode([vec![b'x'; lead], secret.as_bytes().to_vec()].concat());
        all.push(text.as_bytes()[4..text.len() - 4].to_vec());
    }
    all
}

#[track_caller]
fn is_not_in(place: &str, bytes: &[u8], secrets: &[&str]) {
    for form in secrets.iter().flat_map(|secret| spellings(secret)) {
        let found = bytes.windows(form.len()).position(|window| window == form);
        let shown = String::from_utf8_lossy(bytes);
        assert!(found.is_none(), "{place} holds {:?}: {shown:.2000}", String::from_utf8_lossy(&form));
    }
}

/// Everything that one execution is to be told by, while it runs and afterwards.
struct Watched {
    streams: Vec<(String, JoinHandle<Vec<u8>>)>,
}

impl Watched {
    /// Follows an execution in every form that there is.
    fn begin(home: &Home, api: &Api, id: &str) -> Self {
        let forms = [
            (format!("/executions/{id}/logs?follow=true"), "Accept: application/x-ndjson"),
            (format!("/executions/{id}/logs?follow=true"), "Accept: text/event-stream"),
            (format!("/executions/{id}/logs?follow=true&raw=true"), "Accept: */*"),
            (format!("/executions/{id}/events"), "Accept: text/event-stream"),
        ];
        let mut streams = Vec::new();
        for (path, accept) in forms {
            let (api, place) = (api.clone(), format!("{path} {accept}"));
            let follow = move || api.send("GET", &format!("/api/v1{path}"), &[accept], "").expect("an answer").wire;
            streams.push((place, std::thread::spawn(follow)));
        }
        for args in
            [vec!["logs", id, "-f"], vec!["logs", id, "-f", "--raw"], vec!["logs", id, "-f", "-v", "-o", "jsonl"]]
        {
            let (started, place) = (home.start(&args), args.join(" "));
            streams.push((place, std::thread::spawn(move || both(started.end()))));
        }
        Self { streams }
    }

    /// What every follower got; each got all of the output.
    fn end(self) -> Vec<(String, Vec<u8>)> {
        self.streams.into_iter().map(|(place, stream)| (place, stream.join().expect("a follower"))).collect()
    }
}

fn both(ended: Ended) -> Vec<u8> {
    [ended.out, ended.err.into_bytes()].concat()
}

/// Looks everywhere: files, answers, commands, the server's own log.
#[track_caller]
fn is_nowhere(home: &Home, api: &Api, ids: &[&str], secrets: &[&str]) {
    let mut paths: Vec<String> = ["/healthz", "/readyz", "/metrics"].map(str::to_owned).into();
    let lists =
        ["executions", "scripts", "servers", "server-groups", "credentials", "host-keys", "audit-logs", "status"];
    paths.extend(lists.map(|list| format!("/api/v1/{list}")));
    for list in ["scripts", "servers", "credentials"] {
        for item in api.list(&format!("/{list}")) {
            paths.push(format!("/api/v1/{list}/{}", item["id"].as_str().expect("an id")));
        }
    }
    for id in ids {
        for part in ["", "/steps", "/logs", "/logs?raw=true", "/events"] {
            paths.push(format!("/api/v1/executions/{id}{part}"));
        }
    }
    for path in paths {
        for accept in ["Accept: */*", "Accept: text/event-stream"] {
            let answer = api.send("GET", &path, &[accept], "").expect("an answer");
            assert_eq!(answer.status, 200, "{path}");
            is_not_in(&path, &answer.wire, secrets);
            is_not_in(&path, &answer.body, secrets);
        }
    }
    for (path, bytes) in home.data_bytes() {
        is_not_in(&path.display().to_string(), &bytes, secrets);
    }
    let log = std::fs::read(home.serve_log()).expect("a log");
    assert!(!log.is_empty());
    is_not_in("the server's log", &log, secrets);
    no_argument(secrets);
}

/// Looks at the arguments of every process there is.
#[track_caller]
fn no_argument(secrets: &[&str]) {
    for entry in std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok) {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        is_not_in(&entry.path().display().to_string(), &line, secrets);
    }
}

/// Runs the leak somewhere, and looks for the secret while it runs and afterwards.
fn leak(home: &Home, serve: &Served, targets: &str) {
    let api = Api::of(serve);
    let body = json!({
        "kind": "script", "title": "leak", "content": LEAK, "targets": targets,
        "params": {"TOKEN": {"secret": CANARY}, "MARKS": home.work().display().to_string()},
    });
    let answer = api.post("/executions", Some("key"), &body.to_string()).expect("an answer");
    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.wire));
    is_not_in("the answer", &answer.wire, &[CANARY]);
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    let watched = Watched::begin(home, &api, &id);
    content_of(&home.work().join("written"));
    no_argument(&[CANARY]);
    for (path, bytes) in home.data_bytes() {
        is_not_in(&path.display().to_string(), &bytes, &[CANARY]);
    }
    std::fs::write(home.work().join("go"), "").expect("a file");
    for (place, bytes) in watched.end() {
        is_not_in(&place, &bytes, &[CANARY]);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("forms 10") || place.contains("/events"), "{place}: {text}");
    }
    assert_eq!(api.get(&format!("/executions/{id}"))["status"], "succeeded");
    // Nothing but the secret is hidden: of each form the brackets around it are left.
    let output = String::from_utf8(api.output(&id)).expect("text");
    assert!(output.matches("***").count() >= 20, "{output}");
    assert_eq!((output.matches('<').count(), output.matches('>').count()), (20, 20), "{output}");
    is_nowhere(home, &api, &[&id], &[CANARY]);
    let retried = api.post(&format!("/executions/{id}/retry"), None, "{}").expect("an answer");
    is_not_in("the answer to a retry", &retried.wire, &[CANARY]);
}

fn parameter() {
    let home = Home::new();
    let serve = home.serve(&["-v"]);
    // A stored script that declares it, with a wrong value besides: errors repeat nothing.
    home.file("leak.py", LEAK);
    home.ok(&[
        "script",
        "create",
        "leak",
        "--file",
        "leak.py",
        "--param",
        "TOKEN:secret",
        "--param",
        "N:number=1",
        "--on",
        "local",
    ]);
    let body = json!({"kind": "script", "script_id": "leak", "params": {"TOKEN": CANARY, "N": CANARY}});
    let refused = Api::of(&serve).post("/executions", None, &body.to_string()).expect("an answer");
    assert_eq!(refused.status, 422, "{}", String::from_utf8_lossy(&refused.wire));
    leak(&home, &serve, "local");
}

/// Adds a server, and signs in to it with a key.
fn add_server(home: &Home, sshd: &Sshd) {
    let OpenCredential::PrivateKey { key, .. } = sshd.credential() else { panic!("a key") };
    home.file("id_ed25519", key.expose());
    let address = format!("{}@127.0.0.1:{}", sshd.user(), sshd.port());
    home.ok(&["server", "add", "web-1", &address, "--key", "./id_ed25519", "--test", "--trust-host-key"]);
    std::fs::remove_file(home.work().join("id_ed25519")).expect("it is there");
}

fn on_server() {
    let (home, sshd) = (Home::new(), Sshd::start());
    let serve = home.serve(&["-v"]);
    add_server(&home, &sshd);
    leak(&home, &serve, "web-1");
    is_not_in("the log of sshd", sshd.log().as_bytes(), &[CANARY]);
}

/// A key that is right, a passphrase, and a password and answers that are wrong, alone and together: all are tried, none is seen.
fn credential() {
    let (home, sshd) = (Home::new(), Sshd::options().line("PasswordAuthentication yes").start());
    let serve = home.serve(&["-v"]);
    let api = Api::of(&serve);
    add_server(&home, &sshd);
    home.file("password", CANARY);
    let address = format!("{}@127.0.0.1:{}", sshd.user(), sshd.port());
    home.ok(&["server", "add", "web-2", &address, "--password-file", "password"]);
    encrypt(&home.work().join("id_encrypted"));
    home.file("passphrase", CANARY);
    home.ok(&["server", "add", "web-3", &address, "--key", "./id_encrypted", "--passphrase-file", "passphrase"]);
    home.ok(&["server", "add", "web-4", &address, "--answer", "*=@password"]);
    let methods = ["--key", "./id_encrypted", "--passphrase-file", "passphrase", "--password-file", "password"];
    home.ok(&[&["server", "add", "web-5", &address][..], &methods].concat());
    for server in ["web-2", "web-3", "web-4", "web-5"] {
        home.run(&["server", "test", server]);
        home.ok(&["server", "host-key", "approve", server]);
    }
    let OpenCredential::PrivateKey { key, .. } = sshd.credential() else { panic!("a key") };
    let encrypted = std::fs::read_to_string(home.work().join("id_encrypted")).expect("a key");
    let lines: Vec<&str> = key.expose().lines().chain(encrypted.lines()).filter(|line| line.len() > 60).collect();
    let secrets: Vec<&str> = lines.into_iter().chain([CANARY]).collect();
    std::fs::remove_file(home.work().join("id_encrypted")).expect("it is there");
    let mut shown = Vec::new();
    for server in ["web-1", "web-2", "web-3", "web-4", "web-5"] {
        shown.push(both(home.run(&["server", "test", server, "-v"])));
        shown.push(both(home.run(&["exec", "-v", "--on", server, "--", "echo hello"])));
    }
    assert!(String::from_utf8_lossy(&shown[1]).contains("hello"), "{shown:?}");
    for bytes in &shown {
        is_not_in("what was shown", bytes, &secrets);
    }
    let ids: Vec<String> =
        api.list("/executions").iter().map(|e| e["id"].as_str().expect("an id").to_owned()).collect();
    is_nowhere(&home, &api, &ids.iter().map(String::as_str).collect::<Vec<_>>(), &secrets);
}

/// Makes a key with the canary as its passphrase; its body is a secret too.
fn encrypt(path: &Path) {
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-a", "1", "-N", CANARY, "-f"])
        .arg(path)
        .status();
    assert!(made.expect("ssh-keygen").success());
}
