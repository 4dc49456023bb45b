//! The data directory: who may read it, what breaks it, who shares it.

use std::os::unix::fs::PermissionsExt;

use birun_core::testing::harness::{Need, Suite};
use serde_json::Value;

use crate::birun::{Home, content_of, until};

pub(crate) fn add(suite: &mut Suite) {
    suite.plain("data_directory_is_its_users_alone", &[], permissions);
    suite.plain("key_is_made_once_however_many_begin_at_once", &[], one_key);
    suite.plain("missing_key_over_a_filled_store_refuses_to_start", &[], missing_key);
    suite.plain("wrong_key_over_a_filled_store_refuses_to_start", &[], wrong_key);
    suite.plain("key_that_is_none_is_named", &[], bad_key);
    suite.plain("key_may_come_from_the_environment_or_a_file", &[], given_key);
    suite.plain("database_that_is_damaged_is_told", &[], damaged);
    suite.plain("database_with_another_schema_is_told", &[Need::program("sqlite3")], other_schema);
    suite.plain("database_of_a_newer_birun_is_refused", &[Need::program("sqlite3")], newer);
    suite.plain("two_clients_share_a_directory", &[], shared);
    suite.plain("no_follow_hands_over_to_a_worker_of_its_own", &[], no_follow);
    suite.plain("prune_deletes_what_is_not_kept", &[], prune);
    suite.plain("audit_log_tells_who_did_what", &[], audit);
    suite.plain("doctor_says_how_to_mend_what_is_wrong", &[], doctor);
}

fn permissions() {
    let home = Home::new();
    home.ok(&["run", "-q", &home.file("x.sh", "true")]);
    let mode = |path: &str| home.data().join(path).metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode("."), mode("birun.key")), (0o700, 0o600));
}

fn one_key() {
    let home = Home::new();
    let script = home.file("x.sh", "true");
    let started: Vec<_> = (0..6).map(|_| home.start(&["run", "-q", &script])).collect();
    for ended in started.into_iter().map(crate::birun::Started::end) {
        assert_eq!(ended.code, Some(0), "{ended:#?}");
    }
    assert_eq!(home.json(&["execution", "list"])["items"].as_array().map(Vec::len), Some(6));
}

fn missing_key() {
    let home = Home::new();
    home.ok(&["server", "list"]);
    std::fs::remove_file(home.data().join("birun.key")).expect("the key is there");
    home.run(&["server", "list"]).fails(
        &home,
        1,
        "error: the store holds sealed values, and no master key was given\n\n\
         hint: give the key that this database was filled with: BIRUN_MASTER_KEY, BIRUN_MASTER_KEY_FILE, or \
         birun.key in the data directory\n",
    );
    assert!(!home.data().join("birun.key").exists());
}

fn wrong_key() {
    let home = Home::new();
    home.ok(&["server", "list"]);
    let other = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    home.run_with(&["server", "list"], &[("BIRUN_MASTER_KEY", other)], "").fails(
        &home,
        1,
        "error: another master key sealed this value\n\n\
         hint: give the master key that this database was filled with; if it was rotated since, add the new key as \
         the first line, above the old one\n\
         hint: the key that was tried is BIRUN_MASTER_KEY\n",
    );
    home.ok(&["server", "list"]);
}

fn bad_key() {
    let home = Home::new();
    home.run_with(&["server", "list"], &[("BIRUN_MASTER_KEY", "hunter2")], "").fails(
        &home,
        1,
        "error: BIRUN_MASTER_KEY: the master key in line 1 is not 32 bytes in base64\n\n\
         hint: make one with  head -c 32 /dev/urandom | base64\n",
    );
    home.run_with(&["server", "list"], &[("BIRUN_MASTER_KEY_FILE", "/none")], "").fails(
        &home,
        1,
        "error: cannot read the master key /none\n  caused by: No such file or directory (os error 2)\n",
    );
}

fn given_key() {
    let home = Home::new();
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    assert_eq!(home.run_with(&["server", "list"], &[("BIRUN_MASTER_KEY", key)], "").code, Some(0));
    assert!(!home.data().join("birun.key").exists());
    home.file("key", key);
    assert_eq!(home.run_with(&["server", "list"], &[("BIRUN_MASTER_KEY_FILE", "key")], "").code, Some(0));
    assert_eq!(home.run(&["server", "list"]).code, Some(1));
}

fn damaged() {
    let home = Home::new();
    std::fs::create_dir_all(home.data()).expect("a directory");
    std::fs::write(home.data().join("birun.db"), "this is no database, but it is long enough".repeat(100))
        .expect("a file");
    home.run(&["server", "list"]).fails(
        &home,
        1,
        "error: stored data is damaged: error returned from database: (code: 26) file is not a database\n\n\
         hint: stop all work on the database, keep a copy, and restore the last good backup\n",
    );
}

/// Changes the database behind birun's back.
fn sql(home: &Home, sql: &str) {
    let changed = std::process::Command::new("sqlite3").arg(home.data().join("birun.db")).arg(sql).status();
    assert!(changed.expect("sqlite3").success());
}

fn other_schema() {
    let home = Home::new();
    home.ok(&["server", "list"]);
    sql(&home, "UPDATE birun_migrations SET checksum = x'00'");
    home.run(&["server", "list"]).fails(
        &home,
        1,
        "error: stored data is damaged: migration 0001_init was applied with another text than this birun's\n\n\
         hint: stop all work on the database, keep a copy, and restore the last good backup\n",
    );
}

fn newer() {
    let home = Home::new();
    home.ok(&["server", "list"]);
    sql(
        &home,
        "UPDATE birun_migrations SET version = 9999 WHERE version = (SELECT max(version) FROM birun_migrations)",
    );
    home.run(&["server", "list"]).fails(
        &home,
        1,
        "error: the database has schema version 9999, this birun knows only version 3\n\n\
         hint: use a newer birun, or another database\n",
    );
}

fn shared() {
    let home = Home::new();
    let long = home.file("long.sh", "echo $$ > pid; while [ ! -e go ]; do sleep 0.05; done; echo long");
    let first = home.start(&["run", "-q", &long]);
    content_of(&home.work().join("pid"));
    assert_eq!(home.ok(&["run", "-q", &home.file("short.sh", "echo short")]), "short\n");
    let list = home.json(&["execution", "list"]);
    let statuses: Vec<&Value> = list["items"].as_array().expect("items").iter().map(|item| &item["status"]).collect();
    assert_eq!(statuses, ["succeeded", "running"]);
    std::fs::write(home.work().join("go"), "").expect("a file");
    let ended = first.end();
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "long\n"));
}

fn no_follow() {
    let home = Home::new();
    let script = home.file("bg.sh", "sleep 0.3; ps -o sid= -p $PPID > sid; echo done > ended");
    // Another application's database stands in many shells: neither client nor worker looks at it.
    let foreign = [("DATABASE_URL", "postgres://127.0.0.1:1/shop")];
    let started = home.run_with(&["run", &script, "--no-follow"], &foreign, "");
    assert_eq!(started.code, Some(0), "{started:#?}");
    let id = started.text();
    assert_eq!(id.trim().len(), 8, "{id}");
    content_of(&home.work().join("ended"));
    let own = std::process::Command::new("ps").args(["-o", "sid=", "-p", &std::process::id().to_string()]).output();
    let own = String::from_utf8(own.expect("ps").stdout).expect("text");
    assert_ne!(content_of(&home.work().join("sid")).trim(), own.trim());
    until("the end", || (home.json(&["execution", "get", id.trim()])["status"] == "succeeded").then_some(()));
    until("the worker's end", || {
        let status = home.json(&["status"]);
        status["workers"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
}

fn prune() {
    let home = Home::new();
    let script = home.file("x.sh", "echo hello");
    for _ in 0..3 {
        home.ok(&["run", "-q", &script]);
    }
    home.run(&["admin", "prune", "--executions", "0s", "--keep", "1", "-y"]).fails(
        &home,
        0,
        "deleted 2 executions and 0 audit entries\n",
    );
    assert_eq!(home.json(&["execution", "list"])["items"].as_array().map(Vec::len), Some(1));
}

fn audit() {
    let home = Home::new();
    home.ok(&["group", "create", "db"]);
    home.ok(&["group", "edit", "db", "--description", "databases"]);
    let log = home.json(&["audit", "list"]);
    let told: Vec<_> =
        log["items"].as_array().expect("items").iter().map(|e| (&e["actor"]["name"], &e["action"])).collect();
    assert_eq!(
        format!("{told:?}"),
        r#"[(String("ana"), String("group.update")), (String("ana"), String("group.create"))]"#
    );
    assert_eq!(home.json(&["audit", "list", "--action", "group.create"])["items"].as_array().map(Vec::len), Some(1));
}

fn doctor() {
    let home = Home::new();
    home.ok(&["server", "list"]);
    let key = home.data().join("birun.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("it is ours");
    let ended = home.run(&["doctor"]);
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.err.contains(&format!("hint: make it yours alone with  chmod go= {}", key.display())), "{ended:#?}");
}
