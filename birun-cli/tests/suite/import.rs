//! What OpenSSH knows is taken over: its configuration, and its file of known hosts.

use birun_core::testing::harness::{Need, Suite};
use birun_exec::testing::{Sshd, key_text, private_key};
use russh::keys::Algorithm;
use serde_json::Value;

use crate::birun::Home;

pub(crate) fn add(suite: &mut Suite) {
    let sshd = [Need::new("sshd", Sshd::program().is_some())];
    suite.plain("import_of_servers_reports_each_host", &[], servers);
    suite.plain("import_of_servers_leaves_nothing_of_what_was_refused", &[], nothing_is_left);
    suite.plain("import_of_known_hosts_reports_each_key", &[], host_keys);
    suite.plain("imported_server_is_run_on", &sshd, whole_way);
}

/// A report, a text a row: name or line, status, and what is said of it.
fn rows(report: &Value, field: &str) -> Vec<(String, String, String)> {
    let text = |row: &Value, field: &str| match &row[field] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let items = report["items"].as_array().expect("a report");
    items.iter().map(|row| (text(row, field), text(row, "status"), text(row, "reason"))).collect()
}

fn names(home: &Home, what: &str) -> Vec<String> {
    let mut names: Vec<String> = home.ok(&[what, "list", "-o", "name"]).lines().map(str::to_owned).collect();
    names.sort();
    names
}

const CONFIG: &str = "
Host web-1 web-2
    HostName %h.example.com
    IdentityFile ~/keys/none
Host db-1
    HostName 10.0.0.7
    Port 2222
    User dba
Host behind
    ProxyJump db-1
Host tunnel
    ProxyCommand nc %h %p
Host locked
    IdentityFile ~/keys/locked
Host local
Host taken
    HostName 10.0.0.9
Host web-*
    IdentityFile ~/keys/shared
    User deploy
Match exec \"true\"
    User nobody
";

fn home_with_keys() -> Home {
    let home = Home::new();
    let keys = home.home().join("keys");
    std::fs::create_dir_all(&keys).expect("a directory");
    std::fs::write(keys.join("shared"), key_text(&private_key(Algorithm::Ed25519))).expect("a key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-a", "1", "-N", "hunter2", "-f"])
        .arg(keys.join("locked"))
        .status();
    assert!(made.expect("ssh-keygen").success());
    home.file("config", CONFIG);
    home
}

fn servers() {
    let home = home_with_keys();
    home.file("password", "hunter2");
    home.ok(&["server", "add", "taken", "root@10.0.0.8", "--password-file", "password"]);
    let dry = home.json(&["server", "import", "--ssh-config", "config", "--dry-run"]);
    assert_eq!(dry["items"][0]["status"], "would_create");
    assert_eq!(
        (names(&home, "server"), names(&home, "credential")),
        (vec!["taken".to_owned()], vec!["taken".to_owned()])
    );
    let imported = home.run(&["server", "import", "--ssh-config", "config", "-o", "json"]);
    assert_eq!(imported.code, Some(0), "{imported:#?}");
    assert!(imported.err.contains("warning: what stands under `Match exec true` is left out"), "{imported:#?}");
    let report: Value = serde_json::from_str(&imported.text()).expect("JSON");
    let expected = [
        ("web-1", "created", ""),
        ("web-2", "created", ""),
        ("db-1", "created", "it names no key; give it one with  birun server edit db-1 --credential NAME"),
        ("behind", "skipped", "ProxyJump db-1, which birun cannot do yet"),
        ("tunnel", "skipped", "ProxyCommand nc %h %p, which birun cannot do yet"),
        ("locked", "skipped", "is encrypted; import where birun can ask"),
        ("local", "skipped", "its name cannot be a server's"),
        ("taken", "skipped", "a server of this name is at root@10.0.0.8, port 22"),
    ];
    let rows_of = rows(&report, "name");
    assert_eq!(rows_of.len(), expected.len(), "{rows_of:#?}");
    for ((name, status, reason), row) in expected.iter().zip(&rows_of) {
        assert!(row.0 == *name && row.1 == *status && row.2.contains(reason), "{row:?}");
    }
    assert_eq!(names(&home, "credential"), ["shared", "taken"], "the key of two servers is stored once");
    let web = home.json(&["server", "get", "web-2"]);
    assert_eq!((&web["host"], &web["user"], &web["port"]), (&"web-2.example.com".into(), &"deploy".into(), &22.into()));
    let again = home.json(&["server", "import", "--ssh-config", "config"]);
    let statuses: Vec<String> = rows(&again, "name").into_iter().map(|row| row.1).take(3).collect();
    assert_eq!(statuses, ["exists", "exists", "exists"]);
    assert_eq!(names(&home, "credential"), ["shared", "taken"]);
    home.ok(&["credential", "create", "mine", "--key", &key(&home, "locked"), "--passphrase-file", "password"]);
    let known = home.json(&["server", "import", "--ssh-config", "config"]);
    let locked = known["items"].as_array().expect("a report").iter().find(|row| row["name"] == "locked").expect("it");
    assert_eq!((&locked["status"], &locked["credential"]), (&"created".into(), &"mine".into()));
}

fn key(home: &Home, name: &str) -> String {
    home.home().join("keys").join(name).display().to_string()
}

/// A user that no server takes: the credential goes with the server that is not made.
fn nothing_is_left() {
    let home = home_with_keys();
    home.file("bad", "Host web-1\nUser \"a b\"\nIdentityFile ~/keys/shared\n");
    let report = home.json(&["server", "import", "--ssh-config", "bad"]);
    assert_eq!(rows(&report, "name")[0].1, "skipped", "{report}");
    assert!(names(&home, "server").is_empty() && names(&home, "credential").is_empty());
}

fn host_keys() {
    let home = Home::new();
    home.file("password", "hunter2");
    for (name, address) in [("web-1", "deploy@web-1.example.com"), ("db-1", "dba@10.0.0.7:2222")] {
        home.ok(&["server", "add", name, address, "--password-file", "password"]);
    }
    let lines: Vec<String> =
        (0..4).map(|_| private_key(Algorithm::Ed25519).public_key().to_openssh().expect("a key")).collect();
    let file = format!(
        "web-1.example.com {}\n@revoked * {}\n[10.0.0.7]:2222 {}\n@cert-authority * {}\nelsewhere {}\nweb-1.example.com what\n",
        lines[0], lines[1], lines[2], lines[3], lines[3]
    );
    home.file("known_hosts", &file);
    let import = ["server", "host-key", "import", "--known-hosts", "known_hosts"];
    let dry = home.json(&[&import[..], &["--dry-run"]].concat());
    assert_eq!(rows(&dry, "line")[1].1, "would_approve");
    assert_eq!(home.json(&["server", "host-key", "list"])["items"].as_array().map(Vec::len), Some(0));
    let imported = home.run(&[&import[..], &["-o", "json"]].concat());
    assert!(
        imported.code == Some(0) && imported.err.contains("1 lines are about no server that is here"),
        "{imported:#?}"
    );
    let report: Value = serde_json::from_str(&imported.text()).expect("JSON");
    let seen: Vec<(String, String)> = rows(&report, "line").into_iter().map(|row| (row.0, row.1)).collect();
    let expected =
        [("6", "skipped"), ("1", "approved"), ("2", "revoked"), ("2", "revoked"), ("3", "approved"), ("4", "skipped")];
    assert_eq!(seen, expected.map(|(line, status)| (line.to_owned(), status.to_owned())), "{report:#}");
    let keys = home.json(&["server", "host-key", "list", "web-1"]);
    let mut statuses: Vec<&str> =
        keys["items"].as_array().expect("keys").iter().filter_map(|key| key["status"].as_str()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, ["approved", "revoked"]);
    let again = rows(&home.json(&import), "line");
    assert!(again[1..5].iter().all(|row| row.1 == "exists"), "{again:?}");
    home.file("other", &format!("web-1.example.com {}\nweb-1.example.com {}\n", lines[3], lines[1]));
    let other = rows(&home.json(&["server", "host-key", "import", "--known-hosts", "other"]), "line");
    assert!(other[0].1 == "skipped" && other[0].2.contains("another key is approved"), "{other:?}");
    assert!(other[1].1 == "skipped" && other[1].2 == "it was revoked here", "{other:?}");
}

/// From ssh's files to a run, without another word.
fn whole_way() {
    let (home, sshd) = (Home::new(), Sshd::start());
    let directory = home.home().join(".ssh");
    std::fs::create_dir_all(&directory).expect("a directory");
    std::fs::write(directory.join("id_web"), key_text(sshd.client_key())).expect("a key");
    let (user, port) = (sshd.user(), sshd.port());
    let config = format!("Host web-1\n HostName 127.0.0.1\n Port {port}\n User {user}\n IdentityFile ~/.ssh/id_web\n");
    home.file("config", &config);
    let key = &sshd.host_keys()[0];
    home.file("known_hosts", &format!("[127.0.0.1]:{port} {} {}\n", key.algorithm, key.key));
    home.ok(&["server", "import", "--ssh-config", "config"]);
    home.ok(&["server", "host-key", "import", "--known-hosts", "known_hosts"]);
    assert_eq!(home.ok(&["exec", "-q", "--on", "web-1", "--", "echo hi"]), "hi\n");
}
