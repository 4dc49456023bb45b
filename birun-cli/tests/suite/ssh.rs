//! Servers, over a real sshd.

use birun_core::inventory::OpenCredential;
use birun_core::testing::harness::{Need, Suite};
use birun_exec::testing::{SshAgent, Sshd, certificate, key_text, private_key};
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, HashAlg};
use serde_json::Value;

use crate::birun::{Home, content_of, lives, normal, signal};

pub(crate) fn add(suite: &mut Suite) {
    let sshd = [Need::new("sshd", Sshd::program().is_some())];
    suite.plain("server_is_added_tested_and_run_on", &sshd, whole_way);
    suite.plain("certificate_signs_in_and_is_renewed", &sshd, certified);
    let agent = [sshd[0], Need::new("ssh-agent", SshAgent::is_there())];
    suite.plain("agent_signs_in", &agent, agent_signs_in);
    suite.plain("answers_are_read_from_files", &[], answers);
    suite.plain("unknown_host_key_is_refused_until_it_is_approved", &sshd, unknown_key);
    suite.plain("changed_host_key_is_refused_with_both_fingerprints", &sshd, changed_key);
    suite.plain("approved_host_key_replaces_the_one_before", &sshd, replaced_key);
    suite.plain("several_targets_are_told_apart", &sshd, several);
    suite.plain("failover_goes_on_to_the_first_target_that_succeeds", &sshd, failover);
    suite.plain("servers_in_maintenance_are_left_out", &sshd, maintenance);
    suite.plain("unreachable_host_names_the_stage", &[], unreachable);
    suite.plain("unconfirmed_kill_is_told_wherever_the_end_is", &sshd, unconfirmed_kill);
    suite.plain("retry_runs_what_did_not_succeed", &sshd, retry);
}

/// A home that knows how to sign in to a server.
pub(crate) struct Fleet {
    pub(crate) home: Home,
    sshd: Sshd,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let (home, sshd) = (Home::new(), Sshd::start());
        let OpenCredential::PrivateKey { key, .. } = sshd.credential() else { panic!("a key") };
        home.file("id_ed25519", key.expose());
        Self { home, sshd }
    }

    fn address(&self) -> String {
        let target = self.sshd.target();
        format!("{}@{}:{}", target.user, target.host, target.port)
    }

    /// Adds a server whose host key is known to be right.
    pub(crate) fn add(&self, name: &str, tag: &str) {
        let key = if name == "web-1" { ["--key", "./id_ed25519"] } else { ["--credential", "web-1"] };
        let address = self.address();
        self.home.ok(&[&["server", "add", name, &address, "--tag", tag][..], &key].concat());
        for host_key in self.sshd.host_keys() {
            let line = format!("{} {}", host_key.algorithm, host_key.key);
            self.home.ok(&["server", "host-key", "add", name, &line]);
        }
    }
}

fn whole_way() {
    let fleet = Fleet::new();
    let (home, address) = (&fleet.home, fleet.address());
    let added = home.run(&[
        "server",
        "add",
        "web-1",
        &address,
        "--key",
        "./id_ed25519",
        "--tag",
        "prod",
        "--test",
        "--trust-host-key",
    ]);
    assert_eq!(added.code, Some(0), "{added:#?}");
    let key = &fleet.sshd.host_keys()[0];
    let told = format!("added server web-1\ntrusted the host key of web-1: {} {}\n", key.algorithm, key.fingerprint);
    assert_eq!(added.err, told);
    let stages: Vec<(String, String)> = added
        .text()
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .map(|words| (words[0].to_owned(), words[1].to_owned()))
        .collect();
    let expected = ["resolve", "connect", "handshake", "host_key", "authentication", "shell"];
    assert_eq!(stages, expected.map(|stage| (stage.to_owned(), "ok".to_owned())));
    home.file("disk.sh", "echo limit $LIMIT on $BIRUN_TARGET");
    home.ok(&["script", "create", "disk-report", "--file", "disk.sh", "--param", "LIMIT:number=80"]);
    assert_eq!(home.ok(&["run", "-q", "disk-report", "--on", "tag:prod"]), "limit 80 on web-1\n");
    assert_eq!(home.ok(&["exec", "-q", "--on", "tag:prod", "--", "echo", "a  b"]), "a  b\n");
}

/// A certificate is stored with its key, shown, and replaced alone; an expired one is warned of.
fn certified() {
    let (home, sshd) = (Home::new(), Sshd::options().line("AuthorizedKeysFile none"));
    let authority = private_key(Algorithm::Ed25519);
    let public = home.file("authority.pub", &authority.public_key().to_openssh().expect("a key"));
    let sshd = sshd.line(format!("TrustedUserCAKeys {}", home.work().join(public).display())).start();
    let key = sshd.client_key();
    let signed = |window| certificate(key, &authority, CertType::User, &[sshd.user()], window);
    home.file("id_ed25519", &key_text(key));
    home.file("old-cert.pub", &signed((10, 20)));
    home.file("new-cert.pub", &signed((10, u64::MAX)));
    let address = format!("{}@127.0.0.1:{}", sshd.user(), sshd.port());
    let given = ["--key", "./id_ed25519", "--certificate", "./old-cert.pub"];
    let created = home.run(&[&["credential", "create", "deploy"][..], &given].concat());
    let warning = "warning: the certificate of credential deploy expired at 1970-01-01 ";
    assert!(created.code == Some(0) && created.err.starts_with(warning), "{created:#?}");
    home.ok(&["server", "add", "web-1", &address, "--credential", "deploy"]);
    for host_key in sshd.host_keys() {
        home.ok(&["server", "host-key", "add", "web-1", &format!("{} {}", host_key.algorithm, host_key.key)]);
    }
    let refused = home.run(&["exec", "--on", "web-1", "--", "true"]);
    assert!(refused.err.contains("; the certificate expired at 1970-01-01T00:00:20Z"), "{refused:#?}");
    assert!(refused.err.contains("hint: have its key signed anew"), "{refused:#?}");
    let renewed = home.run(&["credential", "edit", "deploy", "--certificate", "./new-cert.pub"]);
    assert_eq!((renewed.code, renewed.err.as_str()), (Some(0), "changed credential deploy\n"));
    let shown = home.json(&["credential", "get", "deploy"]);
    let facts = &shown["certificate"];
    assert_eq!((&facts["principals"][0], &facts["valid_before"]), (&sshd.user().into(), &Value::Null));
    assert_eq!(facts["valid_after"], "1970-01-01T00:00:10.000000Z");
    home.ok(&["exec", "--on", "web-1", "--", "true"]);
    let stranger = private_key(Algorithm::Ed25519);
    home.file("other-cert.pub", &certificate(&stranger, &authority, CertType::User, &["ana"], (10, 20)));
    let refused = home.run(&["credential", "edit", "deploy", "--certificate", "./other-cert.pub"]);
    assert!(refused.code == Some(2) && refused.err.contains("the certificate is for the key SHA256:"), "{refused:#?}");
}

/// The agent of the environment, and the one that a credential names.
fn agent_signs_in() {
    let (fleet, agent) = (Fleet::new(), SshAgent::start());
    let (home, address) = (&fleet.home, fleet.address());
    agent.add(fleet.sshd.client_key(), &[]);
    let socket = agent.socket().display().to_string();
    home.ok(&["server", "add", "web-1", &address, "--agent"]);
    home.run(&["server", "test", "web-1", "--trust-host-key"]);
    let run = ["exec", "-q", "--on", "web-1", "--", "echo hi"];
    let found = home.run_with(&run, &[("SSH_AUTH_SOCK", &socket)], "");
    assert_eq!((found.code, found.text().as_str()), (Some(0), "hi\n"), "{found:#?}");
    let missing = home.run(&["exec", "--on", "web-1", "--", "echo hi"]);
    assert_eq!(missing.code, Some(5), "{missing:#?}");
    assert!(missing.err.contains("no ssh-agent is known here"), "{missing:#?}");
    let fingerprint = fleet.sshd.client_key().fingerprint(HashAlg::Sha256).to_string();
    home.ok(&["credential", "edit", "web-1", "--agent", "--agent-socket", &socket, "--agent-key", &fingerprint]);
    assert_eq!(home.ok(&run), "hi\n");
    let shown = home.json(&["credential", "get", "web-1"]);
    assert_eq!((&shown["kind"], &shown["fingerprint"]), (&"agent".into(), &fingerprint.into()));
}

/// A server that asks; answers come from files, and are not repeated where they were given in another way.
fn answers() {
    let home = Home::new();
    home.file("dog", "canary-rex\n");
    home.ok(&["credential", "create", "bastion", "--answer", "*dog*=@dog"]);
    assert_eq!(home.json(&["credential", "get", "bastion"])["kind"], "keyboard_interactive");
    let typed = home.run(&["credential", "create", "other", "--answer", "*dog*=canary-rex"]);
    assert_eq!(typed.code, Some(2), "{typed:#?}");
    assert!(typed.err.contains("'PROMPT=@FILE'") && !typed.err.contains("canary"), "{typed:#?}");
    let both = ["credential", "create", "both", "--agent", "--answer", "*dog*=@dog", "--order"];
    home.ok(&[&both[..], &["keyboard_interactive,agent"]].concat());
    assert_eq!(home.json(&["credential", "get", "both"])["kind"], "several");
    let refused = home.run(&[&both[..], &["agent"]].concat());
    assert!(refused.code == Some(2) && refused.err.contains("order: must name"), "{refused:#?}");
}

fn unknown_key() {
    let fleet = Fleet::new();
    let (home, address) = (&fleet.home, fleet.address());
    home.ok(&["server", "add", "web-1", &address, "--key", "./id_ed25519"]);
    let tested = home.run(&["server", "test", "web-1"]);
    let offered = &fleet.sshd.host_keys()[0].fingerprint;
    tested.fails(
        home,
        1,
        &format!(
            "web-1 offers a host key that is not known: ssh-ed25519 {offered}\n\
             error: cannot reach server web-1: 127.0.0.1:<port>: no host key is approved for web-1; \
             it offers ssh-ed25519 {offered}\n\n\
             hint: compare the fingerprint with the server's own, then run  \
             birun server host-key approve web-1 {offered}\n"
        ),
    );
    home.run(&["exec", "--on", "web-1", "--", "true"]).fails(
        home,
        5,
        &format!(
            "execution <id> · true · web-1\nfailed: 127.0.0.1:<port>: no host key is approved for web-1; \
             it offers ssh-ed25519 {offered} (<time>)\n\
             hint: compare the fingerprint with the server's own, then run  \
             birun server host-key approve web-1 {offered}\n\
             hint: retry it with  birun execution retry <id>\n"
        ),
    );
    let stranger = home.run(&["server", "host-key", "approve", "web-1", "SHA256:none"]);
    assert_eq!(stranger.code, Some(6), "{stranger:#?}");
    home.ok(&["server", "host-key", "approve", "web-1", offered]);
    home.ok(&["server", "test", "web-1"]);
    home.ok(&["exec", "--on", "web-1", "--", "true"]);
}

/// A key of the same algorithm as the test server's, which nobody has.
const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
const OTHER_FINGERPRINT: &str = "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU";

fn changed_key() {
    let fleet = Fleet::new();
    let (home, address) = (&fleet.home, fleet.address());
    home.ok(&["server", "add", "web-1", &address, "--key", "./id_ed25519"]);
    home.ok(&["server", "host-key", "add", "web-1", OTHER]);
    let run = home.run(&["exec", "--on", "web-1", "--", "touch ran"]);
    let offered = &fleet.sshd.host_keys()[0].fingerprint;
    let hint = format!(
        "hint: someone may be answering in the server's place; only if you know why the key changed, run  \
         birun server host-key approve web-1 {offered}\n"
    );
    run.fails(
        home,
        5,
        &format!(
            "execution <id> · touch ran · web-1\nfailed: 127.0.0.1:<port>: the host key of web-1 changed: \
             expected {OTHER_FINGERPRINT}, it offers ssh-ed25519 {offered} (<time>)\n{hint}\
             hint: retry it with  birun execution retry <id>\n"
        ),
    );
    let tested = home.run(&["server", "test", "web-1"]);
    assert!(tested.err.ends_with(&hint), "it says the same: {tested:#?}");
}

/// Approving the new key revokes the one whose place it takes, whichever way it is approved.
fn replaced_key() {
    for by_adding in [false, true] {
        let fleet = Fleet::new();
        let (home, address) = (&fleet.home, fleet.address());
        home.ok(&["server", "add", "web-1", &address, "--key", "./id_ed25519"]);
        home.ok(&["server", "host-key", "add", "web-1", OTHER]);
        home.run(&["server", "test", "web-1"]);
        let offered = &fleet.sshd.host_keys()[0];
        if by_adding {
            home.ok(&["server", "host-key", "add", "web-1", &format!("{} {}", offered.algorithm, offered.key)]);
        } else {
            let approved = home.run(&["server", "host-key", "approve", "web-1", &offered.fingerprint]);
            let told = format!("revoked the host key that it replaces: ssh-ed25519 {OTHER_FINGERPRINT} of web-1\n");
            assert!(approved.err.ends_with(&told), "{approved:#?}");
        }
        let keys = home.json(&["server", "host-key", "list", "web-1"]);
        let status = |fingerprint: &str| {
            let keys = keys["items"].as_array().expect("a list");
            keys.iter().find(|key| key["fingerprint"] == fingerprint).expect("the key")["status"].clone()
        };
        assert_eq!((status(&offered.fingerprint), status(OTHER_FINGERPRINT)), ("approved".into(), "revoked".into()));
        home.ok(&["exec", "--on", "web-1", "--", "true"]);
        for action in ["host_key.approve", "host_key.revoke"] {
            let entries = home.json(&["audit", "list", "--action", action]);
            assert_eq!(entries["items"].as_array().map(Vec::len), Some(1), "{action}");
        }
        let again = home.run(&["server", "host-key", "add", "web-1", OTHER]);
        assert_eq!(again.code, Some(7), "what was revoked is not approved by adding it: {again:#?}");
    }
}

fn several() {
    let fleet = Fleet::new();
    fleet.add("web-1", "prod");
    fleet.add("web-2", "prod");
    let home = &fleet.home;
    let ended =
        home.run(&["exec", "--on", "tag:prod", "--parallel", "1", "--", r"printf 'hi\n\033[2Jx\n'; echo err >&2"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let mut lines: Vec<String> = ended.text().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["web-1 │ \\u{1b}[2Jx", "web-1 │ hi", "web-2 │ \\u{1b}[2Jx", "web-2 │ hi"]);
    let err = normal(&ended.err, home);
    assert!(err.contains(" · 2 targets · parallel 1\n"), "{err}");
    assert!(err.contains("web-1 │ err\n") && err.contains("web-2 │ err\n"), "{err}");
    assert!(err.ends_with("✔ web-1 <time>   ✔ web-2 <time>\nsucceeded: 2 succeeded (<time>)\n"), "{err}");
}

fn failover() {
    let fleet = Fleet::new();
    for name in ["web-1", "web-2", "web-3"] {
        fleet.add(name, "prod");
    }
    let home = &fleet.home;
    home.ok(&["server", "add", "dead", "root@127.0.0.1:1", "--credential", "web-1", "--tag", "prod"]);
    home.ok(&["server", "edit", "web-3", "--tag", "primary"]);
    let ended = home.run(&[
        "exec",
        "--on",
        "tag:prod",
        "--failover",
        "--first",
        "primary",
        "--skip-unreachable",
        "--",
        "echo $BIRUN_TARGET",
    ]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "web-3 │ web-3\n"), "{ended:#?}");
    let ended = home.run(&["exec", "--on", "tag:prod", "--failover", "--", "echo $BIRUN_TARGET"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "web-1 │ web-1\n"), "{ended:#?}");
    assert!(ended.err.contains(" · 4 targets · failover\n"), "{ended:#?}");
    assert!(ended.err.contains("succeeded: 1 succeeded, 1 unreachable, 2 skipped"), "{ended:#?}");
}

fn maintenance() {
    let fleet = Fleet::new();
    fleet.add("web-1", "prod");
    fleet.add("web-2", "prod");
    let home = &fleet.home;
    home.ok(&["server", "edit", "web-2", "--maintenance"]);
    assert_eq!(home.json(&["server", "get", "web-2"])["maintenance"], true);
    let preview = home.run(&["exec", "--on", "tag:prod", "--batch", "1", "--preview", "--", "true"]);
    assert_eq!(preview.code, Some(0), "{preview:#?}");
    let table = preview.text();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1..], [vec!["web-1", "1"], vec!["web-2", "maintenance"]], "{preview:#?}");
    assert_eq!(preview.err, "2 targets, 1 of them left out; 1 at once; nothing was started\n");
    let names = ["exec", "--on", "tag:prod", "--preview", "-o", "name", "--", "true"];
    assert_eq!(home.ok(&names), "web-1\nweb-2\n");
    assert_eq!(home.json(&["execution", "list"])["items"].as_array().map(Vec::len), Some(0));
    let ended = home.run(&["exec", "--on", "tag:prod", "--", "true"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.err.contains("− web-2 skipped: maintenance\nsucceeded: 1 succeeded, 1 skipped"), "{ended:#?}");
    home.run(&["exec", "--on", "web-2", "--", "true"]).fails(
        home,
        7,
        "error: every server that `web-2` names is in maintenance\n\n\
         hint: end it with  birun server edit web-2 --no-maintenance\n",
    );
    home.ok(&["server", "edit", "web-2", "--no-maintenance"]);
    assert_eq!(home.run(&["exec", "--on", "web-2", "--", "true"]).code, Some(0));
}

fn unreachable() {
    let home = Home::new();
    home.file("password", "hunter2");
    home.ok(&["server", "add", "db-1", "root@127.0.0.1:1", "--password-file", "password"]);
    let ended = home.run(&["exec", "--on", "db-1", "--", "true"]);
    assert_eq!(ended.code, Some(5), "{ended:#?}");
    assert!(ended.err.contains("connect 127.0.0.1:1: "), "{ended:#?}");
    let id = home.ok(&["execution", "list", "-o", "name"]);
    let logs = home.run(&["logs", id.trim()]);
    assert_eq!((logs.code, logs.text().as_str()), (Some(0), ""), "{logs:#?}");
    assert!(logs.err.starts_with("db-1: unreachable: connect 127.0.0.1:1: "), "{logs:#?}");
    assert_eq!(logs.err.lines().count(), 1, "{logs:#?}");
    let followed = home.run(&["logs", id.trim(), "-f"]).err;
    assert_eq!(followed.matches("connect 127.0.0.1:1: ").count(), 1, "{followed}");
    assert_eq!(home.run(&["logs", "-q", id.trim()]).err, "");
    let tested = home.run(&["server", "test", "db-1", "-o", "json"]);
    assert_eq!(tested.code, Some(1), "{tested:#?}");
    let probe: Value = serde_json::from_str(&tested.text()).expect("JSON");
    assert_eq!((&probe["stages"][1]["stage"], &probe["stages"][1]["status"]), (&"connect".into(), &"failed".into()));
}

fn retry() {
    let fleet = Fleet::new();
    fleet.add("web-1", "prod");
    let home = &fleet.home;
    home.ok(&["server", "add", "web-2", "root@127.0.0.1:1", "--tag", "prod", "--credential", "web-1"]);
    let ended = home.run(&["exec", "--on", "tag:prod", "--", "echo hi"]);
    assert_eq!(ended.code, Some(5), "{ended:#?}");
    let err = normal(&ended.err, home);
    assert!(
        err.contains("✔ web-1 <time>   ✖ web-2 unreachable\nfailed: 1 succeeded, 1 unreachable (<time>)\n"),
        "{err}"
    );
    assert!(err.contains("hint: nothing listens there; check the port, and whether the SSH server runs\n"), "{err}");
    assert!(err.ends_with("hint: retry the failed target with  birun execution retry <id> --failed-only\n"), "{err}");
    let address = fleet.address();
    home.ok(&["server", "edit", "web-2", "--address", &address]);
    for host_key in fleet.sshd.host_keys() {
        home.ok(&["server", "host-key", "add", "web-2", &format!("{} {}", host_key.algorithm, host_key.key)]);
    }
    let id = home.ok(&["execution", "list", "-o", "name"]);
    assert_eq!(home.ok(&["execution", "retry", "-q", id.trim(), "--failed-only"]), "hi\n");
    assert_eq!(home.json(&["execution", "list"])["items"][0]["targets"], "web-2");
}

/// The client dies, and its server is out of reach when the next one looks after what it left.
fn unconfirmed_kill() {
    let fleet = Fleet::new();
    fleet.add("web-1", "prod");
    let home = &fleet.home;
    let pid = home.work().join("pid");
    let run = home.start(&["exec", "--on", "web-1", "--", &format!("echo $$ > {}; exec sleep 60", pid.display())]);
    let process = content_of(&pid);
    run.signal("KILL");
    run.end();
    home.ok(&["server", "edit", "web-1", "--address", "root@127.0.0.1:1"]);
    home.ok(&["worker", "--until-idle"]);
    let id = home.ok(&["execution", "list", "-o", "name"]);
    let card = home.ok(&["execution", "get", id.trim()]);
    assert!(normal(&card, home).contains("unconfirmed on web-1; see  birun execution steps <id>\n"), "{card}");
    for told in [home.ok(&["execution", "steps", id.trim()]), home.run(&["logs", id.trim(), "-f"]).err] {
        assert_eq!(told.matches("kill -KILL $(grep").count(), 1, "{told}");
        assert_eq!(told.matches("its processes may still run").count(), 1, "{told}");
    }
    let logs = home.run(&["logs", id.trim()]);
    assert_eq!(logs.err, "web-1: lost: its worker died while it ran; its processes may still run\n");
    if lives(&process) {
        signal(process.trim().parse().expect("a number"), "KILL");
    }
}
