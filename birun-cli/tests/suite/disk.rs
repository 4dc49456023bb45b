//! The disk is full, or someone else holds the database.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use birun_core::testing::harness::{Need, Suite};
use serde_json::json;

use crate::api::Api;
use crate::birun::{Home, until};

/// Room for output.
const ROOM: usize = 8 * 1024 * 1024;

pub(crate) fn add(suite: &mut Suite) {
    let mount = [Need::new("mount", Disk::can_be_made())];
    suite.plain("full_disk_fails_the_execution_that_writes_and_nothing_else", &mount, full);
    suite.plain("full_disk_is_told_to_the_client", &mount, full_client);
    suite.plain("full_disk_of_the_database_refuses_work_until_there_is_room", &mount, full_database);
    let sqlite = [Need::program("sqlite3")];
    suite.plain("locked_database_is_told_to_the_client", &sqlite, locked_client);
    suite.plain("server_outlives_a_locked_database", &sqlite, locked_server);
}

/// A small disk. It is taken away when this is dropped.
struct Disk(PathBuf);

impl Disk {
    /// Whether this user may mount one here.
    fn can_be_made() -> bool {
        let dir = tempfile::tempdir().expect("a directory");
        Self::try_mount(dir.path(), 1 << 20).map(Self).is_some()
    }

    fn mount(place: &Path, bytes: usize) -> Self {
        std::fs::create_dir_all(place).expect("a directory");
        Self(Self::try_mount(place, bytes).expect("a disk"))
    }

    fn try_mount(place: &Path, bytes: usize) -> Option<PathBuf> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "tmpfs"]).arg(place);
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then(|| place.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open on it keeps it.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

fn run(api: &Api, content: &str) -> String {
    api.run(
        &json!({"kind": "script", "title": "x", "content": content, "interpreter": "sh", "settings": {"grace": "1s"}}),
    )
}

/// Waits for the end of an execution, and gives its status, reason and detail.
fn ended(api: &Api, id: &str) -> (String, String, String) {
    until("its end", || {
        let execution = api.get(&format!("/executions/{id}"));
        execution["finished_at"].is_string().then_some(())
    });
    let step = api.get(&format!("/executions/{id}/steps"))["items"][0].clone();
    let text = |field: &str| step[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("detail"))
}

fn full() {
    let home = Home::new();
    let _disk = Disk::mount(&home.data().join("logs"), ROOM);
    let serve = home.serve(&[]);
    let api = Api::of(&serve);
    let before = run(&api, "echo before");
    assert_eq!(ended(&api, &before).0, "succeeded");
    let much = run(
        &api,
        "i=0; while [ $i -lt 64 ]; do head -c 1000000 /dev/zero | tr '\\0' x; i=$((i+1)); done; echo $? > end",
    );
    let (status, reason, detail) = ended(&api, &much);
    assert_eq!((status.as_str(), reason.as_str()), ("failed", "storage_full"), "{detail}");
    assert!(detail.starts_with("its output could not be stored: the storage is full"), "{detail}");
    // What was stored before it was full can be read.
    assert_eq!(api.output(&before), b"before\n");
    let kept = api.output(&much);
    assert!(kept.len() > ROOM / 2 && kept.iter().all(|byte| *byte == b'x'), "{} bytes", kept.len());
    // Without output nothing needs room there; with output it fails for the same reason.
    assert_eq!(ended(&api, &run(&api, "true")).0, "succeeded");
    assert_eq!(ended(&api, &run(&api, "head -c 1000000 /dev/zero")).1, "storage_full");
    home.ok(&["-y", "execution", "delete", &much]);
    let after = run(&api, "echo after");
    assert_eq!(ended(&api, &after).0, "succeeded");
    assert_eq!(api.output(&after), b"after\n");
    serve.process.signal("TERM");
    assert_eq!(serve.process.end().code, Some(0));
}

/// The same as its user sees it.
fn full_client() {
    let home = Home::new();
    let _disk = Disk::mount(&home.data().join("logs"), ROOM);
    let script = home.file("much.sh", "while head -c 1000000 /dev/zero | tr '\\0' x; do :; done");
    let run = home.run(&["run", &script]);
    assert!(run.out.len() > ROOM / 2, "{} bytes", run.out.len());
    run.fails(
        &home,
        5,
        "execution <id> · much.sh · local\nfailed: its output could not be stored: the storage is full (<time>)\n\
         hint: retry it with  birun execution retry <id>\n",
    );
}

fn full_database() {
    let home = Home::new();
    let disk = Disk::mount(&home.data(), 24 * 1024 * 1024);
    let serve = home.serve(&[]);
    let api = Api::of(&serve);
    let before = run(&api, "echo before");
    assert_eq!(ended(&api, &before).0, "succeeded");
    let ballast = disk.0.join("ballast");
    fill(&ballast);
    let big = json!({"kind": "script", "title": "x", "content": format!("true # {}", "x".repeat(900_000))});
    let refused = until("a refusal", || {
        let answer = api.post("/executions", None, &big.to_string()).expect("an answer");
        (answer.status != 202).then_some(answer)
    });
    assert_eq!((refused.status, &refused.json()["code"]), (507, &json!("storage_full")), "{}", refused.json());
    assert_eq!(api.output(&before), b"before\n");
    std::fs::remove_file(ballast).expect("it is there");
    let after = run(&api, "echo after");
    assert_eq!(ended(&api, &after).0, "succeeded");
    assert_eq!(api.output(&after), b"after\n");
    serve.process.signal("TERM");
    assert_eq!(serve.process.end().code, Some(0));
}

/// Writes until there is no room.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).expect("a file");
    for block in [vec![0; 1 << 20], vec![0; 4096]] {
        while file.write_all(&block).is_ok() {}
    }
}

/// Another program, in the middle of a transaction.
struct Holder(Child);

impl Holder {
    fn of(home: &Home) -> Self {
        let mut sqlite = Command::new("sqlite3");
        let sqlite = sqlite.arg(home.data().join("birun.db")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = sqlite.spawn().expect("sqlite3");
        let stdin = child.stdin.as_mut().expect("stdin");
        stdin.write_all(b".timeout 10000\nBEGIN EXCLUSIVE;\nSELECT 'held';\n").expect("it reads");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("stdout")).read_line(&mut line).expect("it answers");
        assert_eq!(line, "held\n");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn locked_client() {
    let home = Home::new();
    home.ok(&["group", "create", "db"]);
    let holder = Holder::of(&home);
    let begun = Instant::now();
    home.run(&["group", "create", "web"]).fails(
        &home,
        1,
        "error: another process holds the storage\n  caused by: error returned from database: (code: 5) database is \
         locked\n\nhint: wait until the other process is done, or end it; then try again\n",
    );
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(holder);
    home.ok(&["group", "create", "web"]);
}

fn locked_server() {
    let home = Home::new();
    let serve = home.serve(&[]);
    let api = Api::of(&serve);
    let runs = run(&api, "echo one; touch begun; while [ ! -e go ]; do sleep 0.05; done; echo two");
    until("its beginning", || home.work().join("begun").exists().then_some(()));
    let holder = Holder::of(&home);
    std::fs::write(home.work().join("go"), "").expect("a file");
    // It is longer than the busy time-out: nothing can be written, and nothing gives up.
    let begun = Instant::now();
    let refused = api.post("/server-groups", None, r#"{"name": "web"}"#).expect("an answer");
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("locked")), "{}", refused.json());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let second = api.post("/server-groups", None, r#"{"name": "web"}"#).expect("an answer");
    assert_eq!(second.status, 503);
    assert_eq!(api.get(&format!("/executions/{runs}"))["status"], "running", "what can be read is told");
    drop(holder);
    assert_eq!(ended(&api, &runs).0, "succeeded");
    assert_eq!(api.output(&runs), b"one\ntwo\n");
    assert_eq!(ended(&api, &run(&api, "true")).0, "succeeded");
}
