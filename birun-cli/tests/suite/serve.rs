//! `birun serve`, and the same commands against it.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use birun_core::testing::harness::{Need, Suite};

use crate::api::Api;
use crate::birun::{Home, Started, content_of, normal, until};

pub(crate) fn add(suite: &mut Suite) {
    suite.plain("client_finds_the_server_that_owns_the_directory", &[], found);
    suite.plain("client_elsewhere_works_with_address_and_token", &[], remote);
    suite.plain("own_server_is_reached_by_its_address_without_a_token", &[], by_address);
    suite.plain("run_through_a_server_is_byte_exact_too", &[], byte_exact);
    suite.plain("a_directory_has_one_server", &[], one_server);
    suite.plain("serve_listens_on_loopback_only_without_tls", &[], loopback);
    suite.plain("serve_takes_no_token_that_can_be_guessed", &[], weak_token);
    suite.plain("serve_waits_for_what_runs_when_told_to_stop", &[], drain);
    suite.plain("serve_stops_what_runs_when_told_twice", &[], drain_twice);
    suite.plain("follower_survives_a_restart_of_the_server", &[], restart);
    suite.plain("follower_finds_its_server_again", &[], found_again);
    suite.plain("lost_server_is_told_once_and_followed_on_when_it_is_back", &[], lost);
    suite.plain("interrupt_without_the_server_says_no_more_than_is_known", &[], lost_for_good);
    suite.plain("no_follow_says_that_a_worker_was_started", &[], no_follow);
    suite.plain("scripts_do_not_see_the_address_of_the_database", &[], database_url);
    suite.plain("serve_under_a_path_is_found_there", &[], base_path);
    suite.plain("serve_answers_metrics_and_readiness", &[Need::program("curl")], metrics);
    suite.plain("worker_runs_what_a_server_without_one_accepted", &[], worker);
    suite.plain("what_was_accepted_survives_a_kill_of_the_server", &[], killed);
}

fn found() {
    let home = Home::new();
    let serve = home.serve(&[]);
    let mode = home.data().join("serve.json").metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    home.ok(&["group", "create", "db"]);
    let status = home.json(&["status"]);
    // One worker: the server's. The client has none.
    assert_eq!(status["workers"].as_array().map(Vec::len), Some(1));
    assert_eq!(home.ok(&["run", "-q", &home.file("x.sh", "ps -o ppid= -p $PPID >/dev/null; echo hi")]), "hi\n");
    serve.process.signal("TERM");
    assert_eq!(serve.process.end().code, Some(0));
    assert!(!home.data().join("serve.json").exists());
    assert_eq!(home.ok(&["group", "list", "-o", "name"]), "db\n");
}

fn remote() {
    let home = Home::new();
    let serve = home.serve(&[]);
    let client = Home::new();
    client.file("disk.sh", "echo limit $LIMIT");
    let env = [("BIRUN_SERVER", serve.address.as_str()), ("BIRUN_TOKEN", serve.token.as_str())];
    let create = ["script", "create", "disk-report", "--file", "disk.sh", "--param", "LIMIT:number=80"];
    assert_eq!(client.run_with(&create, &env, "").code, Some(0));
    let ended = client.run_with(&["run", "disk-report", "--on", "local", "-p", "LIMIT=90"], &env, "");
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "limit 90\n"), "{ended:#?}");
    assert!(ended.err.contains("disk-report v1 · local"), "{ended:#?}");
    assert!(!client.data().exists());
}

fn by_address() {
    let home = Home::new();
    let serve = home.serve(&[]);
    home.ok(&["--server", &serve.address, "status"]);
    home.ok(&["--server", &serve.address.replace("127.0.0.1", "localhost"), "status"]);
}

fn byte_exact() {
    let home = Home::new();
    let _serve = home.serve(&[]);
    let bytes: Vec<u8> = (1..=255).cycle().take(300_000).collect();
    std::fs::write(home.work().join("bytes"), &bytes).expect("a file");
    let ended = home.run_raw(&["run", "-q", &home.file("bytes.sh", "cat bytes; cat bytes >&2")]);
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.stdout == bytes && ended.stderr == bytes);
}

fn one_server() {
    let home = Home::new();
    let serve = home.serve(&[]);
    let pid = serve.process.pid();
    home.run(&["serve", "--listen", "127.0.0.1:0"]).fails(
        &home,
        1,
        &format!(
            "error: another server owns <home>/.local/share/birun at http://127.0.0.1:<port> (process {pid})\n\n\
             hint: stop it first, or serve another directory with  --data-dir\n"
        ),
    );
}

fn loopback() {
    let home = Home::new();
    home.run(&["serve", "--listen", "0.0.0.0:0"]).fails(
        &home,
        2,
        "error: listening on 0.0.0.0:0 without TLS would send the token in clear over the network\n\n\
         hint: listen on 127.0.0.1, or give --tls-cert and --tls-key, or say --insecure-listen behind a proxy that \
         adds TLS\n",
    );
}

fn weak_token() {
    let home = Home::new();
    home.file("token", "hunter2\n");
    home.run(&["serve", "--token-file", "token"]).fails(
        &home,
        2,
        "error: token holds no token\n\n\
         hint: a token is 16 or more printable ASCII characters; make one with  openssl rand -hex 32\n",
    );
}

fn drain() {
    let home = Home::new();
    let serve = home.serve(&[]);
    let script = home.file("long.sh", "echo $$ > pid; while [ ! -e go ]; do sleep 0.05; done; echo done");
    let run = home.start(&["run", "-q", &script]);
    content_of(&home.work().join("pid"));
    serve.process.signal("TERM");
    std::fs::write(home.work().join("go"), "").expect("a file");
    let ended = run.end();
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "done\n"), "{ended:#?}");
    assert_eq!(serve.process.end().code, Some(0));
}

fn drain_twice() {
    let home = Home::new();
    let serve = home.serve(&[]);
    let script = home.file("long.sh", "echo $$ > pid; sleep 60");
    let started = home.run(&["run", "-q", &script, "--no-follow"]);
    assert_eq!(started.code, Some(0), "{started:#?}");
    content_of(&home.work().join("pid"));
    serve.process.signal("TERM");
    let api = Api::of(&serve);
    until("the drain", || is_draining(&api).then_some(()));
    serve.process.signal("TERM");
    assert_eq!(serve.process.end().code, Some(0));
    let stopped = &home.json(&["execution", "list"])["items"][0];
    assert_eq!(stopped["status"], "failed", "{stopped:#}");
    let id = stopped["id"].as_str().expect("an id");
    let steps = home.json(&["execution", "steps", id]);
    assert_eq!(steps["items"][0]["reason"], "worker_stopped", "{steps:#}");
}

/// Whether the server says that it is about to stop.
fn is_draining(api: &Api) -> bool {
    let ready = api.send("GET", "/readyz", &[], "").expect("an answer");
    let names = |check: &serde_json::Value| check["name"] == "shutdown" && check["ok"] == false;
    ready.status == 503 && ready.json()["checks"].as_array().is_some_and(|checks| checks.iter().any(names))
}

fn restart() {
    let home = Home::new();
    home.file("token", "0123456789abcdef\n");
    let serve = home.serve(&["--roles", "api", "--token-file", "token"]);
    let address = serve.address.clone();
    let worker = home.start(&["worker"]);
    let script = home.file("two.sh", "echo one; touch one; while [ ! -e go ]; do sleep 0.05; done; echo two");
    let env = [("BIRUN_SERVER", address.as_str()), ("BIRUN_TOKEN", serve.token.as_str())];
    let run = home.start_with(&["run", "-q", &script], &env);
    until("the first line", || home.work().join("one").exists().then_some(()));
    let port = address.rsplit(':').next().expect("a port").to_owned();
    drop(serve);
    let listen = format!("127.0.0.1:{port}");
    let again = home.start(&["serve", "--roles", "api", "--token-file", "token", "--listen", &listen]);
    std::fs::write(home.work().join("go"), "").expect("a file");
    let ended = run.end();
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "one\ntwo\n"), "{ended:#?}");
    drop((again, worker));
}

fn found_again() {
    let home = Home::new();
    let serve = home.serve(&["--roles", "api"]);
    let worker = home.start(&["worker"]);
    let script = home.file("two.sh", "echo one; touch one; while [ ! -e go ]; do sleep 0.05; done; echo two");
    let run = home.start(&["run", "-q", &script]);
    until("the first line", || home.work().join("one").exists().then_some(()));
    serve.process.signal("KILL");
    serve.process.end();
    // Another port, and another token.
    let again = home.serve(&["--roles", "api"]);
    std::fs::write(home.work().join("go"), "").expect("a file");
    let ended = run.end();
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "one\ntwo\n"), "{ended:#?}");
    drop((again, worker));
}

/// A script that writes another line when it may.
const TWO: &str = "echo one; touch one; while [ ! -e go ]; do sleep 0.05; done; echo two";

/// Starts a command whose stderr goes into a file, and waits until its script has begun.
fn followed(home: &Home, args: &[&str], env: &[(&str, &str)]) -> (Started, std::path::PathBuf) {
    let told = home.work().join("told");
    let mut command = home.command(args);
    command.envs(env.iter().copied()).stdout(Stdio::piped()).stderr(File::create(&told).expect("a file"));
    let run = Started::of(command.spawn().expect("birun starts"));
    until("the first line", || home.work().join("one").exists().then_some(()));
    (run, told)
}

fn until_told(told: &std::path::Path, text: &str) {
    until(text, || std::fs::read_to_string(told).expect("a file").contains(text).then_some(()));
}

fn lost() {
    for named in [false, true] {
        let home = Home::new();
        home.file("token", "0123456789abcdef\n");
        let serve = home.serve(&["--roles", "api", "--token-file", "token"]);
        let worker = home.start(&["worker"]);
        let env = [("BIRUN_SERVER", serve.address.as_str()), ("BIRUN_TOKEN", serve.token.as_str())];
        let (run, told) = followed(&home, &["run", &home.file("two.sh", TWO)], if named { &env } else { &[] });
        let listen = serve.address.trim_start_matches("http://").to_owned();
        serve.process.signal("KILL");
        serve.process.end();
        until_told(&told, "connection lost: ");
        std::fs::write(home.work().join("go"), "").expect("a file");
        let again = home.start(&["serve", "--roles", "api", "--token-file", "token", "--listen", &listen]);
        let ended = run.end();
        let told = std::fs::read_to_string(told).expect("a file");
        assert_eq!((ended.code, ended.text().as_str()), (Some(0), "one\ntwo\n"), "{ended:#?} {told}");
        assert_eq!(
            normal(&told, &home),
            "execution <id> · two.sh · local\n\
             connection lost: cannot reach http://127.0.0.1:<port>; trying again for 1m\n\
             connected again\nsucceeded (<time>)\n",
        );
        drop((again, worker));
    }
}

fn lost_for_good() {
    let home = Home::new();
    let serve = home.serve(&[]);
    let (run, told) = followed(&home, &["run", &home.file("two.sh", TWO)], &[]);
    serve.process.signal("KILL");
    serve.process.end();
    until_told(&told, "connection lost: ");
    run.signal("INT");
    assert_eq!(run.end().code, Some(130));
    let told = normal(&std::fs::read_to_string(told).expect("a file"), &home);
    let last =
        "execution <id> goes on only while a server or a worker runs; follow it again with  birun logs <id> -f\n";
    assert!(told.ends_with(last), "{told}");
    std::fs::write(home.work().join("go"), "").expect("a file");
}

fn no_follow() {
    let home = Home::new();
    let started = home.json(&["run", "--no-follow", &home.file("x.sh", "true")]);
    assert_eq!(started["why"], "waits for the worker that was started for it", "{started:#}");
    let id = started["id"].as_str().expect("an id");
    until("the end", || (home.json(&["execution", "get", id])["status"] == "succeeded").then_some(()));
}

fn database_url() {
    let home = Home::new();
    let url = format!("sqlite://{}", home.work().join("other.db").display());
    let _serve = home.serve_with(&[], &[("DATABASE_URL", url.as_str())]);
    // The client finds the server of its directory, whatever database that works on.
    let script = home.file("env.sh", "echo \"${DATABASE_URL-none}\"");
    assert_eq!(home.ok(&["run", "-q", &script]), "none\n");
    assert!(home.work().join("other.db").exists() && !home.data().join("birun.db").exists());
}

fn base_path() {
    let home = Home::new();
    let serve = home.serve(&["--base-path", "/ops"]);
    assert!(serve.address.ends_with("/ops"), "{}", serve.address);
    home.ok(&["group", "create", "db"]);
    assert_eq!(home.ok(&["--server", &serve.address, "group", "list", "-o", "name"]), "db\n");
}

fn metrics() {
    let home = Home::new();
    let serve = home.serve(&[]);
    home.ok(&["status"]);
    let get = |path: &str| {
        let url = format!("{}{path}", serve.address);
        let bearer = format!("Authorization: Bearer {}", serve.token);
        let output = std::process::Command::new("curl").args(["-sS", "-H", &bearer, &url]).output().expect("curl");
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(get("/metrics").contains("birun_http_requests_total"), "{}", get("/metrics"));
    assert!(get("/readyz").contains("\"ok\""), "{}", get("/readyz"));
}

fn worker() {
    let home = Home::new();
    let _serve = home.serve(&["--roles", "api"]);
    let started = home.run(&["run", "-q", &home.file("x.sh", "echo hi"), "--no-follow", "-o", "name"]);
    let id = started.text();
    let why = home.json(&["execution", "get", id.trim()])["why"].clone();
    assert_eq!(why, "no worker is running; start one with  birun worker,  or  birun serve");
    let ended = home.run(&["worker", "--until-idle"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(home.json(&["execution", "get", id.trim()])["status"], "succeeded");
    assert_eq!(home.ok(&["logs", id.trim()]), "hi\n");
}

fn killed() {
    let home = Home::new();
    let serve = home.serve(&["--roles", "api"]);
    let started = home.run(&["run", "-q", &home.file("x.sh", "echo hi"), "--no-follow", "-o", "name"]);
    serve.process.signal("KILL");
    serve.process.end();
    assert_eq!(home.run(&["worker", "--until-idle"]).code, Some(0));
    assert_eq!(home.ok(&["logs", started.text().trim()]), "hi\n");
}
