//! Ctrl-C.

use birun_core::testing::harness::Suite;

use crate::birun::{Home, content_of, lives, normal, step_processes, until};

pub(crate) fn add(suite: &mut Suite) {
    suite.plain("interrupt_cancels_a_local_run_and_its_whole_tree_dies", &[], local);
    suite.plain("second_interrupt_kills_what_does_not_want_to_end", &[], twice);
    suite.plain("interrupt_leaves_a_run_on_a_server_alone", &[], with_server);
    suite.plain("interrupt_in_the_first_moments_leaves_nothing_behind", &[], early);
    suite.plain("cancel_reaches_what_a_killed_client_left", &[], orphan);
    suite.plain("what_a_killed_client_left_is_ended_by_the_next_one", &[], killed);
    suite.plain("what_a_killed_client_left_keeps_no_other_one_waiting", &[], handed_over);
}

/// A script with a child of its own; both write down who they are.
const TREE: &str = "sh -c 'echo $$ > child; sleep 60' & echo $$ > parent; wait";

fn local() {
    let home = Home::new();
    let run = home.start(&["run", &home.file("tree.sh", TREE)]);
    let pids = [content_of(&home.work().join("parent")), content_of(&home.work().join("child"))];
    run.signal("INT");
    let ended = run.end();
    ended.fails(
        &home,
        3,
        "execution <id> · tree.sh · local\ncancelling; Ctrl-C again to kill at once\ncancelled (<time>)\n",
    );
    assert!(!pids.iter().any(|pid| lives(pid)), "{pids:?}");
    assert_eq!(home.json(&["execution", "list"])["items"][0]["status"], "cancelled");
}

fn twice() {
    let home = Home::new();
    let stubborn = "trap 'echo no >> refused' TERM; echo $$ > parent; while :; do sleep 0.1; done";
    let run = home.start(&["run", &home.file("stubborn.sh", stubborn)]);
    let pid = content_of(&home.work().join("parent"));
    run.signal("INT");
    content_of(&home.work().join("refused"));
    assert!(lives(&pid));
    run.signal("INT");
    let began = std::time::Instant::now();
    let ended = run.end();
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    // The grace is ten seconds: without the second signal it would have taken those.
    assert!(began.elapsed() < std::time::Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(!lives(&pid));
}

fn with_server() {
    let home = Home::new();
    let _serve = home.serve(&[]);
    let script = home.file("long.sh", "echo $$ > parent; while [ ! -e go ]; do sleep 0.05; done");
    // The server's working directory is the same as the client's here.
    let run = home.start(&["run", &script]);
    let pid = content_of(&home.work().join("parent"));
    run.signal("INT");
    run.end().fails(
        &home,
        130,
        "execution <id> · long.sh · local\nexecution <id> goes on\n\
         hint: cancel it with  birun execution cancel <id>,  follow it with  birun logs <id> -f\n",
    );
    assert!(lives(&pid));
    std::fs::write(home.work().join("go"), "").expect("a file");
    until("the end", || (home.json(&["execution", "list"])["items"][0]["status"] == "succeeded").then_some(()));
}

fn early() {
    let home = Home::new();
    let script = home.file("long.sh", "echo $$ >> pids; sleep 60");
    for millis in (0..120).step_by(8) {
        let run = home.start(&["run", &script]);
        std::thread::sleep(std::time::Duration::from_millis(millis));
        run.signal("INT");
        let ended = run.end();
        // Before it listens, the signal ends it as any other process; nothing has begun then.
        assert!(matches!(ended.code, None | Some(3 | 130)), "after {millis} ms: {ended:#?}");
        let left = step_processes(&home);
        assert!(left.is_empty(), "after {millis} ms: {left:?} {ended:#?}");
    }
}

fn orphan() {
    let home = Home::new();
    let run = home.start(&["run", &home.file("tree.sh", TREE)]);
    let pids = [content_of(&home.work().join("parent")), content_of(&home.work().join("child"))];
    run.signal("KILL");
    run.end();
    let id = home.ok(&["execution", "list", "-o", "name"]);
    home.ok(&["execution", "cancel", id.trim()]);
    until("the end of its processes", || (!pids.iter().any(|pid| lives(pid))).then_some(()));
    let status = || home.json(&["execution", "get", id.trim()])["status"].clone();
    until("the end", || (status() == "cancelled" || status() == "lost").then_some(()));
}

fn killed() {
    let home = Home::new();
    let run = home.start(&["run", &home.file("tree.sh", TREE)]);
    let pids = [content_of(&home.work().join("parent")), content_of(&home.work().join("child"))];
    run.signal("KILL");
    run.end();
    assert!(pids.iter().all(|pid| lives(pid)), "{pids:?}");
    home.ok(&["run", "-q", &home.file("next.sh", "true")]);
    until("the end of the orphan", || {
        let items = home.json(&["execution", "list"])["items"].clone();
        (items[1]["status"] == "lost").then_some(())
    });
    assert!(!pids.iter().any(|pid| lives(pid)), "{pids:?}");
    assert_eq!(step_processes(&home), [0_u32; 0]);
}

fn handed_over() {
    let home = Home::new();
    home.file("long.sh", "echo $BIRUN_ATTEMPT >> attempts; while [ ! -e go ]; do sleep 0.05; done");
    home.ok(&["script", "create", "long", "--file", "long.sh", "--on", "local", "--on-lost", "retry"]);
    let run = home.start(&["run", "long"]);
    content_of(&home.work().join("attempts"));
    run.signal("KILL");
    run.end();
    let next = home.run(&["run", &home.file("next.sh", "true")]);
    assert_eq!(next.code, Some(0), "{next:#?}");
    assert_eq!(
        normal(&next.err, &home),
        "a worker of its own goes on with what dead processes left\n\
         execution <id> · next.sh · local\nsucceeded (<time>)\n"
    );
    let orphan = || home.json(&["execution", "list"])["items"][1].clone();
    assert!(!matches!(orphan()["status"].as_str(), Some("succeeded" | "lost" | "failed")), "{:#}", orphan());
    // Taken over at once, and by nobody who is in a hurry.
    until("the second attempt", || {
        let attempts = std::fs::read_to_string(home.work().join("attempts")).expect("a file");
        (attempts.lines().count() == 2).then_some(())
    });
    std::fs::write(home.work().join("go"), "").expect("a file");
    until("the end of the orphan", || (orphan()["status"] == "succeeded").then_some(()));
}
