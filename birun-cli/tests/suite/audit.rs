//! The audit log shows what was done to it.

use birun_core::testing::harness::{Need, Suite};

use crate::birun::{Home, normal};

pub(crate) fn add(suite: &mut Suite) {
    suite.plain("an_untouched_audit_log_is_intact", &[], intact);
    suite.plain("any_change_of_the_audit_log_is_named", &[Need::program("sqlite3")], changed);
    suite.plain("retention_leaves_an_intact_audit_log", &[], pruned);
}

/// A home with five sealed entries.
fn filled() -> Home {
    let home = Home::new();
    for name in ["a", "b", "c", "d", "e"] {
        home.ok(&["group", "create", name, "--description", "x"]);
    }
    home
}

fn intact() {
    let home = filled();
    let check = home.json(&["audit", "verify"]);
    assert_eq!(
        (&check["intact"], &check["checked"], &check["unsealed"], &check["last"]),
        (&true.into(), &5.into(), &0.into(), &5.into())
    );
    let told = home.run(&["audit", "verify"]);
    told.fails(&home, 0, "5 entries are as they were sealed, 0 are not sealed yet\n");
    let serve = home.serve(&[]);
    home.ok(&["group", "create", "f"]);
    crate::birun::until("the seal", || (home.json(&["audit", "verify"])["last"] == 6).then_some(()));
    drop(serve);
}

fn changed() {
    let third = "WHERE seal_number = 3";
    let set = |what: &str| format!("UPDATE birun_audit_logs SET {what} {third}");
    let missing = "the entry is missing";
    let changed = "the entry was changed, or stands in another's place";
    let cases = [
        (set("at = at + 1"), 3, changed),
        (set("actor_kind = 'system'"), 3, changed),
        (set("actor_name = 'mallory'"), 3, changed),
        (set("action = 'group.delete'"), 3, changed),
        (set("outcome = 'refused'"), 3, changed),
        (set("resource_kind = 'server'"), 3, changed),
        (set("resource_id = NULL"), 3, changed),
        (set("resource_name = 'z'"), 3, changed),
        (set("state_before = '{}'"), 3, changed),
        (set("state_after = NULL"), 3, changed),
        (set("request_id = 'r'"), 3, changed),
        (set("project_id = x'00000000000000000000000000000000'"), 3, changed),
        (set("seal = zeroblob(32)"), 3, changed),
        (set("seal_number = NULL, seal = NULL"), 3, missing),
        (format!("DELETE FROM birun_audit_logs {third}"), 3, missing),
        ("DELETE FROM birun_audit_logs WHERE seal_number = 1".to_owned(), 1, missing),
        ("DELETE FROM birun_audit_logs WHERE seal_number >= 5".to_owned(), 5, missing),
        (
            "UPDATE birun_audit_logs SET seal_number = 100 - seal_number WHERE seal_number IN (2, 3);
             UPDATE birun_audit_logs SET seal_number = seal_number - 95 WHERE seal_number = 98;
             UPDATE birun_audit_logs SET seal_number = 2 WHERE seal_number = 97"
                .to_owned(),
            2,
            changed,
        ),
        (
            "UPDATE birun_settings SET value = CAST(replace(CAST(value AS TEXT), '\"number\":5', '\"number\":4') AS BLOB)
             WHERE key = 'audit.head'; DELETE FROM birun_audit_logs WHERE seal_number = 5"
                .to_owned(),
            4,
            "the head of the chain was changed",
        ),
        (
            "DELETE FROM birun_settings WHERE key = 'audit.head'; UPDATE birun_audit_logs SET action = 'x'
             WHERE seal_number = 3"
                .to_owned(),
            1,
            "the entry lies beyond the end of the chain",
        ),
    ];
    let home = filled();
    let database = home.data().join("birun.db");
    let untouched = home.work().join("untouched.db");
    sqlite(&database, &format!("PRAGMA wal_checkpoint(TRUNCATE); VACUUM INTO '{}'", untouched.display()));
    for (sql, number, what) in cases {
        for file in ["birun.db-wal", "birun.db-shm"] {
            drop(std::fs::remove_file(home.data().join(file)));
        }
        std::fs::copy(&untouched, &database).expect("a copy");
        home.ok(&["audit", "verify"]);
        sqlite(&database, &sql);
        let ended = home.run(&["audit", "verify"]);
        let told = normal(&ended.err, &home);
        assert_eq!(ended.code, Some(1), "{sql}: {ended:#?}");
        let begins = format!("the audit log was tampered with at number {number}");
        assert!(told.contains(&begins) && told.contains(what), "{sql}: {told}");
    }
}

fn sqlite(database: &std::path::Path, sql: &str) {
    let ended = std::process::Command::new("sqlite3").arg("-bail").arg(database).arg(sql).output().expect("sqlite3");
    assert!(ended.status.success(), "{sql}: {}", String::from_utf8_lossy(&ended.stderr));
}

fn pruned() {
    let home = filled();
    home.ok(&["admin", "prune", "--audit", "0s", "-y"]);
    let check = home.json(&["audit", "verify"]);
    assert_eq!((&check["intact"], &check["unsealed"]), (&true.into(), &0.into()), "{check}");
    assert!(check["last"].as_u64() >= Some(5) && check["checked"].as_u64() < Some(5), "{check}");
}
