//! Bad input: the whole of stderr for each kind, with the hint that says what to do next.

use std::net::TcpListener;

use birun_core::testing::harness::{Need, Suite};
use birun_exec::testing::{Act, Admission, Script, ScriptedServer};

use crate::birun::Home;

pub(crate) fn add(suite: &mut Suite) {
    suite.plain("unknown_server_is_named_and_a_similar_one_suggested", &[], unknown_server);
    suite.plain("unknown_script_is_named_and_a_similar_one_suggested", &[], unknown_script);
    suite.plain("expression_without_a_match_is_an_error", &[], no_match);
    suite.plain("expression_that_is_none_is_explained", &[], bad_expression);
    suite.plain("bad_parameters_are_named", &[], bad_parameters);
    suite.plain("parameter_that_is_given_twice_is_named", &[], repeated_parameter);
    suite.plain("version_of_what_is_not_stored_is_refused", &[], version_of_a_file);
    suite.plain("byte_order_mark_that_hides_the_first_line_is_refused", &[], byte_order_mark);
    suite.plain("default_targets_that_match_nothing_are_warned_of", &[], unknown_default_targets);
    suite.plain("file_that_cannot_be_read_is_named", &[], unreadable_file);
    suite.plain("file_without_a_secret_is_named", &[], empty_secret);
    suite.plain("key_that_is_none_is_refused_before_anything_is_stored", &[], unreadable_key);
    suite.plain("passphrase_that_is_missing_is_asked_for", &[], missing_passphrase);
    suite.plain("passphrase_that_is_wrong_is_told_without_it", &[], wrong_passphrase);
    suite.plain("address_that_is_none_is_explained", &[], bad_address);
    suite.plain("execution_that_is_unknown_is_named", &[], unknown_execution);
    suite.plain("retry_of_what_succeeded_is_refused", &[], nothing_to_retry);
    suite.plain("retry_on_a_server_that_was_deleted_says_so", &[], retry_on_deleted);
    suite.plain("execution_that_was_deleted_is_told_by_its_short_id", &[], deleted_execution);
    suite.plain("server_that_cannot_be_reached_is_named", &[], unreachable_server);
    suite.plain("host_that_cannot_be_reached_is_told", &[], unreachable_host);
    suite.plain("sshd_that_hangs_is_told_with_the_phase", &[], hanging_sshd);
    suite.test("sshd_that_tells_no_exit_status_is_no_success", &[], || async { silent_end().await });
    suite.plain("credential_in_use_is_not_deleted", &[], credential_in_use);
    suite.plain("credential_that_was_made_for_a_server_goes_with_it", &[], credential_of_a_server);
    suite.plain("server_that_exists_is_told_before_its_credential", &[], server_exists);
    suite.plain("deleting_without_a_yes_is_refused", &[], delete_needs_yes);
    suite.plain("config_file_with_a_fault_shows_the_place", &[], config_fault);
    suite.plain("password_in_the_address_of_a_database_is_refused", &[], database_password);
    suite.plain("database_url_that_is_none_is_a_usage_error", &[], database_url);
    suite.plain("failure_in_this_process_is_told_once", &[Need::program("sqlite3")], local_failure);
    suite.plain("doctor_says_what_it_found", &[], doctor);
    suite.plain("project_file_may_not_choose_the_server", &[], project_file);
}

fn unknown_server() {
    let home = Home::new();
    home.ok(&["server", "add", "web-1", "deploy@10.0.0.5"]);
    home.run(&["server", "get", "wbe-1"]).fails(&home, 6, "error: no server `wbe-1`\n\nhint: did you mean `web-1`?\n");
    home.run(&["exec", "--on", "wbe-1", "--", "uptime"]).fails(
        &home,
        6,
        "error: no server `wbe-1`\n\n\
         hint: see what there is with  birun server list\n\
         hint: did you mean `web-1`?\n",
    );
}

fn unknown_script() {
    let home = Home::new();
    home.file("disk.sh", "df");
    home.ok(&["script", "create", "disk-report", "--file", "disk.sh"]);
    home.run(&["run", "disk-reprot", "--on", "local"]).fails(
        &home,
        6,
        "error: no script `disk-reprot`\n\n\
         hint: see what there is with  birun script list;  a file needs a slash: ./NAME\n\
         hint: did you mean `disk-report`?\n",
    );
    home.run(&["run", "disk-report", "--on", "local", "--script-version", "9"]).fails(
        &home,
        6,
        "error: no script version `disk-report v9`\n",
    );
    home.run(&["run", "disk-report"]).fails(
        &home,
        2,
        "error: targets: `disk-report` has no default targets\n\n\
         hint: say where to run it, for example with  --on local\n",
    );
}

fn no_match() {
    let home = Home::new();
    home.run(&["exec", "--on", "tag:prod", "--", "uptime"]).fails(
        &home,
        6,
        "error: `tag:prod` matches no server\n\n\
         hint: see what there is with  birun server list,  or try an expression with  birun server list --on EXPR\n",
    );
}

fn bad_expression() {
    let home = Home::new();
    home.run(&["exec", "--on", "zone:eu", "--", "uptime"]).fails(
        &home,
        2,
        "error: targets: `zone:` is neither tag: nor group:\n\n\
         hint: a target expression looks like  web-1,tag:prod&group:db,!web-3  (or: local, all)\n",
    );
}

fn bad_parameters() {
    let home = Home::new();
    home.file("r.sh", "true");
    home.ok(&["script", "create", "r", "--file", "r.sh", "--param", "LIMIT:number=80", "--on", "local"]);
    home.run(&["run", "r", "-p", "LIMIT=many"]).fails(&home, 2, "error: params.LIMIT: `many` is not a number\n");
    home.run(&["run", "r", "-p", "LIMTI=1"]).fails(
        &home,
        2,
        "error: the script has no parameter `LIMTI`\n\nhint: it takes LIMIT\n",
    );
    home.run(&["run", "./r.sh", "-p", "LD_PRELOAD=x"]).fails(
        &home,
        2,
        "error: params.LD_PRELOAD: `LD_PRELOAD` is reserved and cannot be a parameter's name\n\n\
         hint: PATH, IFS, ENV, what shells keep to themselves (UID, RANDOM, …), BIRUN_*, BASH_*, LD_*, DYLD_* and PYTHON* are not for parameters\n",
    );
}

fn repeated_parameter() {
    let home = Home::new();
    home.run(&["run", &home.file("r.sh", "true"), "-p", "LIMIT=1", "-p", "LIMIT=2"]).fails(
        &home,
        2,
        "error: the parameter `LIMIT` is given twice\n\nhint: give each parameter once\n",
    );
}

fn version_of_a_file() {
    let home = Home::new();
    let file = home.file("r.sh", "true");
    for script in [file.as_str(), "-"] {
        home.run(&["run", script, "--script-version", "1"]).fails(
            &home,
            2,
            "error: only a stored script has versions\n\n\
             hint: leave out --script-version, or name a stored script; see them with  birun script list\n",
        );
    }
}

fn byte_order_mark() {
    let home = Home::new();
    let file = home.file("r.py", "\u{feff}#!/usr/bin/env python3\nprint(1)\n");
    let told = "error: content: begins with a byte order mark (BOM), which hides the first line from the shell\n\n\
        hint: save it as UTF-8 without BOM, or take the mark away with  sed -i '1s/^\\xEF\\xBB\\xBF//' FILE\n";
    home.run(&["run", &file]).fails(&home, 2, told);
    home.run(&["script", "create", "r", "--file", &file]).fails(&home, 2, told);
    assert_eq!(home.ok(&["run", "-q", &file, "--interpreter", "python3"]), "1\n");
    let sed = ["-i", r"1s/^\xEF\xBB\xBF//", "r.py"];
    let mended = std::process::Command::new("sed").args(sed).current_dir(home.work()).status();
    assert!(mended.expect("sed").success());
    assert_eq!(home.ok(&["run", "-q", &file]), "1\n");
}

fn unknown_default_targets() {
    let home = Home::new();
    home.ok(&["server", "add", "web-1", "deploy@10.0.0.5", "--tag", "prod"]);
    home.file("r.sh", "true");
    let create = |name: &str, on: &str| home.run(&["script", "create", name, "--file", "r.sh", "--on", on]);
    let created = create("good", "local,tag:prod&web-1,!web-1");
    assert_eq!((created.code, created.err.as_str()), (Some(0), "created script good v1\n"));
    let created = create("early", "web-1,web-2,tag:lab,!group:db");
    let told = "warning: no server matches these default targets yet: group:db, tag:lab, web-2\n";
    assert_eq!((created.code, created.err), (Some(0), format!("created script early v1\n{told}")));
    let edited = home.run(&["script", "edit", "good", "--on", "web-2"]);
    assert!(edited.code == Some(0) && edited.err.ends_with("default targets yet: web-2\n"), "{edited:#?}");
}

fn empty_secret() {
    let home = Home::new();
    home.file("empty", "\n");
    home.run(&["run", &home.file("r.sh", "true"), "-p", "TOKEN=@empty"]).fails(
        &home,
        2,
        "error: the file empty holds no secret: nothing is in it\n",
    );
}

fn unreadable_file() {
    let home = Home::new();
    home.run(&["run", "./nothing.sh"]).fails(
        &home,
        2,
        "error: cannot read ./nothing.sh\n  caused by: No such file or directory (os error 2)\n",
    );
    std::fs::write(home.work().join("binary"), [0xff, 0xfe]).expect("a file");
    home.run(&["run", "./binary"]).fails(&home, 2, "error: ./binary is not UTF-8 text\n");
}

fn unreadable_key() {
    let home = Home::new();
    let key = home.file("id", "this is no key\n");
    home.run(&["server", "add", "web-1", "deploy@10.0.0.5", "--key", &key]).fails(
        &home,
        2,
        "error: credential `web-1`: this is not a private key\n\n\
         hint: give a private key file, which begins with -----BEGIN … PRIVATE KEY-----\n",
    );
    assert_eq!(home.ok(&["credential", "list", "-o", "name"]) + &home.ok(&["server", "list", "-o", "name"]), "");
}

/// A key that is encrypted with the passphrase `hunter2`.
fn encrypted_key(home: &Home) -> String {
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-a", "1", "-N", "hunter2", "-f"])
        .arg(home.work().join("id_encrypted"))
        .status();
    assert!(made.expect("ssh-keygen").success());
    "./id_encrypted".to_owned()
}

fn missing_passphrase() {
    let home = Home::new();
    let key = encrypted_key(&home);
    home.run(&["server", "add", "web-1", "deploy@10.0.0.5", "--key", &key]).fails(
        &home,
        2,
        "error: ./id_encrypted needs a passphrase\n\nhint: give it with  --passphrase-file FILE\n",
    );
}

fn wrong_passphrase() {
    let home = Home::new();
    let key = encrypted_key(&home);
    home.file("wrong", "swordfish\n");
    let ended = home.run(&["credential", "create", "deploy", "--key", &key, "--passphrase-file", "wrong"]);
    ended.fails(
        &home,
        2,
        "error: credential `deploy`: the passphrase is wrong, or the key is damaged\n\nhint: try it with  ssh-keygen -y -f FILE\n",
    );
    home.file("right", "hunter2\n");
    home.ok(&["credential", "create", "deploy", "--key", &key, "--passphrase-file", "right"]);
}

fn bad_address() {
    let home = Home::new();
    home.run(&["server", "add", "web-1", "10.0.0.5"]).fails(
        &home,
        2,
        "error: invalid value '10.0.0.5' for '<USER@HOST[:PORT]>': it names no user; write  deploy@host  or  \
         deploy@host:2222\n\nFor more information, try '--help'.\n",
    );
    home.run(&["server", "add", "web-1", "deploy@-oProxyCommand=sh"]).fails(
        &home,
        2,
        "error: host: `-oProxyCommand=sh` is not a host name or address\n\n\
         hint: give a name like db1.example.com, an IPv4 address, or an IPv6 address without brackets\n",
    );
}

fn unknown_execution() {
    let home = Home::new();
    home.run(&["logs", "7d20c1a9"]).fails(&home, 6, "error: no execution `<id>`\n");
    home.run(&["execution", "get", "nonsense"]).fails(&home, 6, "error: no execution `nonsense`\n");
}

fn nothing_to_retry() {
    let home = Home::new();
    let id = home.ok(&["run", &home.file("ok.sh", "true"), "-o", "name"]);
    home.run(&["execution", "retry", id.trim(), "--failed-only"]).fails(
        &home,
        7,
        "error: every target of execution <id> succeeded\n\n\
         hint: leave out --failed-only to run all of them again\n",
    );
    assert_eq!(home.run(&["execution", "retry", id.trim()]).code, Some(0));
}

fn retry_on_deleted() {
    let home = Home::new();
    add_server(&home, "db-1", 1);
    home.run(&["exec", "--on", "db-1", "--", "true"]);
    home.ok(&["-y", "server", "delete", "db-1"]);
    let id = home.ok(&["execution", "list", "-o", "name"]);
    home.run(&["execution", "retry", id.trim(), "--failed-only"]).fails(
        &home,
        5,
        "execution <id> · true · db-1\nfailed: server `db-1` was deleted (<time>)\n\
         hint: a retry runs on the very servers of the first run; to run on another one, start anew with  birun run  \
         or  birun exec\n",
    );
}

fn deleted_execution() {
    let home = Home::new();
    let id = home.ok(&["run", &home.file("ok.sh", "true"), "-o", "name"]);
    let deleted = home.run(&["-y", "execution", "delete", id.trim()]);
    let short = id.trim().get(28..).expect("the last eight digits");
    assert_eq!((deleted.code, deleted.err), (Some(0), format!("deleted execution {short}\n")));
    home.run(&["-y", "execution", "delete", short]).fails(&home, 6, "error: no execution `<id>`\n");
}

fn unreachable_server() {
    let home = Home::new();
    home.run(&["--server", "http://127.0.0.1:1", "status"]).fails(
        &home,
        1,
        "error: cannot reach http://127.0.0.1:<port>\n  caused by: client error (Connect)\n  \
         caused by: tcp connect error\n  caused by: Connection refused (os error 111)\n\n\
         hint: is the server running there? one is started with  birun serve\n",
    );
    home.run(&["--server", "127.0.0.1:1", "status"]).fails(
        &home,
        2,
        "error: `127.0.0.1:<port>` is not the address of a server\n\n\
         hint: an address looks like  https://birun.example.com  or  http://127.0.0.1:<port>\n",
    );
}

/// A server of this name, which is reached by a password that is never asked for.
fn add_server(home: &Home, name: &str, port: u16) {
    home.file("password", "hunter2");
    home.ok(&["server", "add", name, &format!("deploy@127.0.0.1:{port}"), "--password-file", "password"]);
}

fn unreachable_host() {
    let home = Home::new();
    add_server(&home, "db-1", 1);
    home.run(&["exec", "--on", "db-1", "--", "true"]).fails(
        &home,
        5,
        "execution <id> · true · db-1\nfailed: connect 127.0.0.1:<port>: connection refused (<time>)\n\
         hint: nothing listens there; check the port, and whether the SSH server runs\n\
         hint: retry it with  birun execution retry <id>\n",
    );
    home.run(&["server", "test", "db-1"]).fails(
        &home,
        1,
        "error: cannot reach server db-1: connect 127.0.0.1:<port>: connection refused\n\n\
         hint: nothing listens there; check the port, and whether the SSH server runs\n",
    );
}

/// It takes connections, and says nothing.
fn hanging_sshd() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    add_server(&home, "web-1", listener.local_addr().expect("an address").port());
    home.run(&["exec", "--on", "web-1", "--", "true"]).fails(
        &home,
        5,
        "execution <id> · true · web-1\nfailed: 127.0.0.1:<port>: timed out in banner after 10s (<time>)\n\
         hint: see which stage fails, and what can be done, with  birun server test web-1\n\
         hint: retry it with  birun execution retry <id>\n",
    );
}

/// It runs the command, and closes the channel without a word about how it ended.
async fn silent_end() {
    let script = Script {
        admission: Admission::Password("hunter2"),
        ..Script::running([Act::out("hello\n"), Act::Eof, Act::Close])
    };
    let server = ScriptedServer::start(script).await;
    let home = Home::new();
    add_server(&home, "web-1", server.port());
    home.run(&["server", "test", "web-1"]);
    home.ok(&["server", "host-key", "approve", "web-1"]);
    home.run(&["exec", "--on", "web-1", "--", "true"]).fails(
        &home,
        5,
        "execution <id> · true · web-1\n\
         lost: 127.0.0.1:<port>: the channel was closed without an exit status (<time>)\n\
         hint: look first whether it was done on web-1, or still runs there; again with  birun execution retry <id>\n",
    );
}

fn credential_in_use() {
    let home = Home::new();
    home.file("password", "hunter2");
    home.ok(&["credential", "create", "deploy", "--password-file", "password"]);
    home.ok(&["server", "add", "web-1", "deploy@10.0.0.5", "--credential", "deploy"]);
    home.run(&["-y", "credential", "delete", "deploy"]).fails(
        &home,
        7,
        "error: a server uses the credential `deploy`\n",
    );
    home.ok(&["-y", "server", "delete", "web-1"]);
    home.ok(&["-y", "credential", "delete", "deploy"]);
}

/// A credential that was made for a server goes with the last server that uses it; one that a person
/// stored stays.
fn credential_of_a_server() {
    let home = Home::new();
    home.file("password", "hunter2");
    let add = |name: &str, credential: [&str; 2]| {
        home.ok(&[&["server", "add", name, "deploy@10.0.0.5"][..], &credential].concat());
    };
    let credentials = || home.ok(&["credential", "list", "-o", "name"]);
    home.ok(&["credential", "create", "deploy", "--password-file", "password"]);
    for _ in 0..2 {
        add("web-1", ["--password-file", "password"]);
        add("web-2", ["--credential", "web-1"]);
        add("web-3", ["--credential", "deploy"]);
        let dry = home.ok(&["server", "delete", "web-1", "--dry-run"]);
        assert!(dry.contains("/credentials/web-1"), "{dry}");
        home.ok(&["-y", "server", "delete", "web-1", "web-3"]);
        assert_eq!(credentials(), "web-1\ndeploy\n");
        let ended = home.run(&["-y", "server", "delete", "web-2"]);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), "deleted server web-2\ndeleted credential web-1\n"));
        assert_eq!(credentials(), "deploy\n");
    }
    // What was left behind, by a process that was killed between the two, is replaced.
    add("web-1", ["--password-file", "password"]);
    home.ok(&["server", "edit", "web-1", "--no-credential"]);
    home.ok(&["-y", "server", "delete", "web-1"]);
    assert_eq!(credentials(), "web-1\ndeploy\n");
    add("web-1", ["--password-file", "password"]);
    home.run(&["server", "add", "deploy", "deploy@10.0.0.5", "--password-file", "password"]).fails(
        &home,
        7,
        "error: a credential named `deploy` exists already\n\n\
         hint: use the credential that there is with  --credential deploy\n",
    );
}

/// A server that exists is told of, whether or not its credential is there, and nothing is left behind.
fn server_exists() {
    let home = Home::new();
    home.file("password", "hunter2");
    home.ok(&["server", "add", "web-1", "deploy@10.0.0.5", "--password-file", "password"]);
    home.ok(&["server", "add", "web-2", "deploy@10.0.0.6"]);
    for (name, credential) in [
        ("web-1", ["--password-file", "password"]),
        ("web-2", ["--password-file", "password"]),
        ("web-2", ["--credential", "web-1"]),
    ] {
        home.run(&[&["server", "add", name, "deploy@10.0.0.7"][..], &credential].concat()).fails(
            &home,
            7,
            &format!(
                "error: a server named `{name}` exists already\n\nhint: change it with  birun server edit {name}\n"
            ),
        );
    }
    assert_eq!(home.ok(&["credential", "list", "-o", "name"]), "web-1\n");
    assert_eq!(
        home.json(&["audit", "list", "--action", "credential.create"])["items"].as_array().map(Vec::len),
        Some(1)
    );
}

fn delete_needs_yes() {
    let home = Home::new();
    home.ok(&["group", "create", "db"]);
    home.run(&["group", "delete", "db"]).fails(
        &home,
        2,
        "error: delete group db? nobody is there to say yes\n\nhint: give  --yes\n",
    );
    home.ok(&["group", "delete", "db", "--yes"]);
    home.ok(&["server", "add", "web-1", "deploy@10.0.0.5"]);
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    home.ok(&["server", "host-key", "add", "web-1", key]);
    home.run(&["server", "host-key", "revoke", "web-1"]).fails(
        &home,
        2,
        "error: revoke host key ssh-ed25519 SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU of web-1? \
         nobody is there to say yes\n\nhint: give  --yes\n",
    );
    home.ok(&["server", "host-key", "revoke", "web-1", "--yes"]);
    let key = &home.json(&["server", "host-key", "list", "web-1"])["items"][0];
    assert_eq!(key["status"], "revoked");
    home.ok(&["-y", "server", "host-key", "delete", key["id"].as_str().expect("an id")]);
    assert_eq!(home.json(&["server", "host-key", "list", "web-1"])["items"].as_array().map(Vec::len), Some(0));
}

fn config_fault() {
    let home = Home::new();
    home.config("output = 'json'\nouptut = 'yaml'\n");
    let ended = home.run(&["version"]);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.err.contains("config.toml") && ended.err.contains("line 2") && ended.err.contains('^'), "{ended:#?}");
}

fn database_password() {
    let home = Home::new();
    home.run(&["--database-url", "postgres://ana:hunter2@db/birun", "status"]).fails(
        &home,
        2,
        "error: everyone on this machine can read a command line, and a password does not belong there\n\n\
         hint: give the URL in BIRUN_DATABASE_URL, or in your config file\n",
    );
}

/// A URL that is no database's is a mistake in the command line.
fn database_url() {
    let home = Home::new();
    home.run(&["--database-url", "bogus://", "status"]).fails(
        &home,
        2,
        "error: the database URL begins with neither sqlite:// nor postgres://\n\n\
         hint: a database is  sqlite://FILE  or  postgres://USER@HOST/NAME\n",
    );
}

/// What fails inside the engine of this process is told once, with what is underneath.
fn local_failure() {
    let home = Home::new();
    home.ok(&["status"]);
    let database = home.data().join("birun.db");
    let dropped = std::process::Command::new("sqlite3").arg(&database).arg("DROP TABLE birun_server_groups").status();
    assert!(dropped.expect("sqlite3").success());
    home.run(&["group", "list"]).fails(
        &home,
        1,
        "error: stored data is damaged: no such table: birun_server_groups\n\n\
         hint: stop all work on the database, keep a copy, and restore the last good backup\n",
    );
}

/// Every check of a sound installation says what was found.
fn doctor() {
    let home = Home::new();
    let checks = home.json(&["doctor"]);
    let checks = checks["items"].as_array().expect("a list");
    assert!(checks.len() >= 5, "{checks:#?}");
    for check in checks {
        assert_eq!(check["status"], "ok", "{check}");
        assert_ne!(check["message"], "", "{check}");
    }
}

fn project_file() {
    let home = Home::new();
    home.file("birun.toml", "server = 'https://evil.example.com'\n");
    home.run(&["run", &home.file("x.sh", "true")]).fails(
        &home,
        2,
        "error: birun.toml may not set `server`\n\n\
         hint: a project does not decide where its scripts run; set it in your own config file, or with a flag\n",
    );
}
