//! Stopping and killing.

use std::time::{Duration, Instant};

use super::Subject;
use super::running::{answer, processes_of, run, script, start, start_with};
use crate::execution::{Ending, Handle, Kill, Stop};

super::list_cases! {
    stop_ends_the_whole_tree,
    stop_leaves_time_to_clean_up,
    what_ignores_term_is_killed_after_its_grace,
    stop_now_kills_at_once,
    work_that_is_stopped_before_it_began_is_not_started,
    work_whose_output_nobody_takes_is_stopped,
    the_private_file_of_stopped_work_is_gone,
    kill_finds_work_by_its_handle_alone,
    kill_of_nothing_is_gone,
    kill_spares_everyone_else,
}

/// Children that trap TERM, in the same session and in one of their own, one of them stopped.
const FAMILY: &str = "
    stubborn='trap \"\" TERM; while :; do sleep 600; done'
    sh -c \"$stubborn\" &
    setsid sh -c \"$stubborn\" &
    setsid sh -c 'sleep 600; :' >/dev/null 2>&1 &
    sleep 600 & kill -STOP $!
    (sh -c \"$stubborn\" &)
    echo ready
    wait
    while :; do sleep 600; done
";

async fn stop_ends_the_whole_tree(subject: Subject) {
    let mut work = script(&subject, FAMILY, &[]);
    work.grace = Duration::from_millis(500);
    let step = work.step;
    let mut running = start(&subject, work);
    running.until("ready").await;
    assert!(processes_of(&subject, step).await >= 6);
    running.stop().await.assert_stopped();
    assert_eq!(processes_of(&subject, step).await, 0);
}

async fn stop_leaves_time_to_clean_up(subject: Subject) {
    let body = "trap 'sleep 0.5; echo cleaned up; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let mut work = script(&subject, body, &[]);
    work.grace = Duration::from_secs(60);
    let mut running = start(&subject, work);
    running.until("ready").await;
    let begun = Instant::now();
    let ran = running.stop().await;
    ran.assert_stopped();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "ready\ncleaned up\n");
    assert!(begun.elapsed() < Duration::from_secs(30), "the whole grace was waited for");
}

async fn what_ignores_term_is_killed_after_its_grace(subject: Subject) {
    let mut work = script(&subject, "trap '' TERM; echo ready; while :; do sleep 0.05; done", &[]);
    work.grace = Duration::from_millis(700);
    let mut running = start(&subject, work);
    running.until("ready").await;
    let begun = Instant::now();
    running.stop().await.assert_stopped();
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(20), "{took:?}");
}

async fn stop_now_kills_at_once(subject: Subject) {
    let mut work = script(&subject, FAMILY, &[]);
    work.grace = Duration::from_secs(600);
    let step = work.step;
    let mut running = start(&subject, work);
    running.until("ready").await;
    running.stop.gracefully.cancel();
    running.stop.now.cancel();
    running.end().await.assert_stopped();
    assert_eq!(processes_of(&subject, step).await, 0);
}

async fn work_that_is_stopped_before_it_began_is_not_started(subject: Subject) {
    let work = script(&subject, "echo >\"/tmp/witness-$BIRUN_STEP_ID\"", &[]);
    let witness = format!("/tmp/witness-{}", work.step);
    let stop = Stop::default();
    stop.gracefully.cancel();
    let ran = start_with(&subject, work, stop, 4).end().await;
    assert!(matches!(&ran.ending, Ending::Stopped { kill: Kill::Gone | Kill::Confirmed }), "{ran:?}");
    assert_eq!(answer(&subject, "ls \"$FILE\" 2>/dev/null || echo none", &[("FILE", &witness)]).await, "none\n");
}

async fn work_whose_output_nobody_takes_is_stopped(subject: Subject) {
    for body in [FAMILY, "echo ready; while :; do echo more; done"] {
        let mut work = script(&subject, body, &[]);
        work.grace = Duration::from_millis(300);
        let step = work.step;
        let mut running = start(&subject, work);
        running.until("ready").await;
        running.drop_receiver();
        running.end().await.assert_stopped();
        assert_eq!(processes_of(&subject, step).await, 0);
    }
}

async fn the_private_file_of_stopped_work_is_gone(subject: Subject) {
    let mut work = script(&subject, "#!/bin/sh -u\ntrap '' TERM; echo \"$0:\"; while :; do sleep 0.05; done", &[]);
    work.grace = Duration::from_millis(200);
    let mut running = start(&subject, work);
    running.until(":").await;
    let ran = running.stop().await;
    ran.assert_stopped();
    let path = String::from_utf8_lossy(&ran.stdout).trim().trim_end_matches(':').to_owned();
    assert_eq!(answer(&subject, "ls -d \"${OF%/*}\" 2>/dev/null || echo gone", &[("OF", &path)]).await, "gone\n");
}

async fn kill_finds_work_by_its_handle_alone(subject: Subject) {
    let work = script(&subject, FAMILY, &[]);
    let step = work.step;
    let handle: Handle = {
        let journalled = serde_json::to_string(&subject.executor.handle(&work)).unwrap();
        serde_json::from_str(&journalled).unwrap()
    };
    let mut running = start(&subject, work);
    running.until("ready").await;
    let grace = Duration::from_millis(300);
    assert_eq!(subject.other.kill(&subject.target, &handle, grace).await, Kill::Confirmed);
    assert_eq!(processes_of(&subject, step).await, 0);
    assert_eq!(subject.other.kill(&subject.target, &handle, grace).await, Kill::Gone);
    let ran = running.end().await;
    assert!(matches!(&ran.ending, Ending::Signaled { .. }), "{ran:?}");
}

async fn kill_of_nothing_is_gone(subject: Subject) {
    let never = script(&subject, "true", &[]);
    let handle = subject.executor.handle(&never);
    assert_eq!(subject.executor.kill(&subject.target, &handle, Duration::ZERO).await, Kill::Gone);
    let ended = script(&subject, "true", &[]);
    let handle = subject.executor.handle(&ended);
    assert_eq!(run(&subject, ended).await.code(), 0);
    assert_eq!(subject.executor.kill(&subject.target, &handle, Duration::ZERO).await, Kill::Gone);
}

async fn kill_spares_everyone_else(subject: Subject) {
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut running = start(&subject, script(&subject, "echo ready; sleep 600; :", &[]));
        running.until("ready").await;
        others.push(running);
    }
    let victim = others.remove(1);
    let handle = subject.executor.handle(&victim.work);
    assert_eq!(subject.other.kill(&subject.target, &handle, Duration::from_secs(5)).await, Kill::Confirmed);
    assert!(matches!(victim.end().await.ending, Ending::Signaled { .. }));
    for other in others {
        assert_ne!(processes_of(&subject, other.work.step).await, 0);
        other.stop().await.assert_stopped();
    }
}
