//! How the end of a program is told.

use std::time::Duration;

use futures::StreamExt;

use super::Subject;
use super::running::{processes_of, run, script};
use crate::execution::Ending;

super::list_cases! {
    every_exit_code_is_told_exactly,
    the_shells_own_failures_are_exit_codes,
    death_by_signal_is_no_exit,
    a_file_run_program_ends_in_the_same_ways,
    output_of_background_processes_is_waited_for,
    what_holds_the_output_beyond_the_grace_is_ended,
    a_daemon_that_let_go_of_the_output_is_not_waited_for,
}

async fn every_exit_code_is_told_exactly(subject: Subject) {
    let run_one = async |code: i32| {
        let ran = run(&subject, script(&subject, "exit $CODE", &[("CODE", &code.to_string())])).await;
        assert_eq!(ran.code(), code);
    };
    futures::stream::iter(0..=255).for_each_concurrent(4, run_one).await;
}

async fn the_shells_own_failures_are_exit_codes(subject: Subject) {
    for (body, code) in [("no-such-program-anywhere", 127), ("/etc/passwd", 126), ("set -e; false; exit 9", 1)] {
        assert_eq!(run(&subject, script(&subject, body, &[])).await.code(), code, "{body}");
    }
    let ran = run(&subject, script(&subject, "if", &[])).await;
    assert_ne!(ran.code(), 0);
    assert!(!ran.stderr.is_empty());
}

async fn death_by_signal_is_no_exit(subject: Subject) {
    for name in ["TERM", "KILL", "SEGV", "HUP"] {
        let ran = run(&subject, script(&subject, "kill -s $NAME $$; sleep 60", &[("NAME", name)])).await;
        assert!(matches!(&ran.ending, Ending::Signaled { signal } if signal == name), "{name}: {ran:?}");
    }
}

async fn a_file_run_program_ends_in_the_same_ways(subject: Subject) {
    let file = "#!/bin/sh -u\n";
    for code in [0, 3, 126, 127, 143, 255] {
        assert_eq!(run(&subject, script(&subject, &format!("{file}exit {code}"), &[])).await.code(), code);
    }
    let ran = run(&subject, script(&subject, &format!("{file}kill -TERM $$"), &[])).await;
    assert!(matches!(&ran.ending, Ending::Signaled { signal } if signal == "TERM"), "{ran:?}");
}

async fn output_of_background_processes_is_waited_for(subject: Subject) {
    let ran = run(&subject, script(&subject, "(sleep 0.5; echo late) & echo early; exit 4", &[])).await;
    assert_eq!((ran.code(), ran.stdout.as_slice()), (4, b"early\nlate\n".as_slice()));
}

async fn what_holds_the_output_beyond_the_grace_is_ended(subject: Subject) {
    let mut work = script(&subject, "(trap '' TERM; sleep 600; sleep 600) & echo early; exit 4", &[]);
    work.grace = Duration::from_millis(300);
    let step = work.step;
    let ran = run(&subject, work).await;
    assert_eq!((ran.code(), ran.stdout.as_slice()), (4, b"early\n".as_slice()));
    assert_eq!(processes_of(&subject, step).await, 0);
}

async fn a_daemon_that_let_go_of_the_output_is_not_waited_for(subject: Subject) {
    let body = "nohup sh -c 'sleep 600; :' >/dev/null 2>&1 & echo started";
    let work = script(&subject, body, &[]);
    let (step, handle) = (work.step, subject.executor.handle(&work));
    let ran = run(&subject, work).await;
    assert_eq!((ran.code(), ran.stdout.as_slice()), (0, b"started\n".as_slice()));
    assert_ne!(processes_of(&subject, step).await, 0);
    subject.executor.kill(&subject.target, &handle, Duration::ZERO).await;
    assert_eq!(processes_of(&subject, step).await, 0);
}
