//! A secret goes in, and is seen nowhere.

use birun_core::testing::harness::Suite;

use crate::birun::{Home, content_of};

/// What must not be found.
const CANARY: &str = "correct-horse-battery-staple";

pub(crate) fn add(suite: &mut Suite) {
    suite.plain("secret_parameter_is_in_no_file_and_no_output", &[], parameter);
    suite.plain("secret_parameter_is_in_no_argument_list", &[], processes);
    suite.plain("password_of_a_server_is_in_no_file", &[], password);
    suite.plain("dry_run_shows_no_secret", &[], dry_run);
}

#[track_caller]
fn is_nowhere(home: &Home) {
    for (path, bytes) in home.data_bytes() {
        let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!found, "{} holds the secret", path.display());
    }
}

fn parameter() {
    let home = Home::new();
    home.file("token", CANARY);
    let script = home.file(
        "leak.sh",
        r#"echo "$TOKEN"; echo "$TOKEN" >&2; printf %s "$TOKEN" | base64; s=$TOKEN
           while [ -n "$s" ]; do printf %s "${s%"${s#?}"}"; s=${s#?}; done"#,
    );
    let ended = home.run(&["run", &script, "-p", "TOKEN=@token"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(
        ended.text().contains("***") && !ended.text().contains(CANARY) && !ended.err.contains(CANARY),
        "{ended:#?}"
    );
    let execution = home.json(&["execution", "list"]);
    assert_eq!(execution["items"][0]["params"]["TOKEN"], "***");
    assert!(!home.ok(&["audit", "list", "-o", "json"]).contains(CANARY));
    is_nowhere(&home);
}

fn processes() {
    let home = Home::new();
    home.file("token", CANARY);
    let script = home.file("wait.sh", "echo $$ > pid; while [ ! -e go ]; do sleep 0.05; done");
    let run = home.start(&["run", "-q", &script, "-p", "TOKEN=@token"]);
    content_of(&home.work().join("pid"));
    for entry in std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok) {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains(CANARY), "{}", entry.path().display());
    }
    std::fs::write(home.work().join("go"), "").expect("a file");
    assert_eq!(run.end().code, Some(0));
    is_nowhere(&home);
}

fn password() {
    let home = Home::new();
    home.file("password", CANARY);
    home.ok(&["server", "add", "web-1", "deploy@10.0.0.5", "--password-file", "password"]);
    for args in [["credential", "get", "web-1"], ["server", "get", "web-1"], ["audit", "list", "--all"]] {
        assert!(!home.json(&args).to_string().contains(CANARY), "{args:?}");
    }
    is_nowhere(&home);
}

fn dry_run() {
    let home = Home::new();
    home.file("token", CANARY);
    for args in [
        vec!["run", "./token", "-p", "TOKEN=@token", "--dry-run", "-o", "json"],
        vec!["server", "add", "web-1", "deploy@10.0.0.5", "--password-file", "token", "--dry-run"],
    ] {
        let ended = home.run(&args);
        let shown = ended.text().replace(&format!("\"content\": \"{CANARY}\""), "");
        assert!(ended.code == Some(0) && !shown.contains(CANARY), "{ended:#?}");
    }
}
