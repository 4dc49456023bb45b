//! What becomes of the bytes that a program writes.

use std::time::Instant;

use super::Subject;
use super::running::{answer, run, script, start, start_with};
use crate::execution::Stop;

super::list_cases! {
    both_streams_arrive_byte_for_byte,
    a_prompt_without_a_newline_arrives_at_once,
    a_line_of_ten_megabytes_arrives_whole,
    the_order_within_a_stream_is_kept,
    a_silent_program_has_no_output,
    two_hundred_megabytes_flow,
    a_slow_receiver_slows_the_program_down,
}

const MEGABYTE: usize = 1_000_000;

async fn both_streams_arrive_byte_for_byte(subject: Subject) {
    let octal: String = (0..=255).map(|byte| format!("\\{byte:03o}")).collect();
    let body = format!("printf '{octal}a\\rb'; printf '{octal}' >&2; printf '\\303' >&2");
    let ran = run(&subject, script(&subject, &body, &[])).await;
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(ran.code(), 0);
    assert_eq!(ran.stdout, [bytes.as_slice(), b"a\rb"].concat());
    assert_eq!(ran.stderr, [bytes.as_slice(), b"\xc3"].concat());
}

async fn a_prompt_without_a_newline_arrives_at_once(subject: Subject) {
    let mut running = start(&subject, script(&subject, "printf 'Password: '; sleep 600", &[]));
    running.until("Password: ").await;
    running.stop().await.assert_stopped();
}

async fn a_line_of_ten_megabytes_arrives_whole(subject: Subject) {
    let ran = run(&subject, script(&subject, "head -c 10000000 /dev/zero | tr '\\0' x", &[])).await;
    assert_eq!((ran.code(), ran.stdout.len()), (0, 10 * MEGABYTE));
    assert!(ran.stdout.iter().all(|byte| *byte == b'x'));
}

async fn the_order_within_a_stream_is_kept(subject: Subject) {
    let ran = run(&subject, script(&subject, "seq 1 50000; seq 1 50000 >&2", &[])).await;
    let expected: String = (1..=50_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(ran.code(), 0);
    assert!(ran.stdout == expected.as_bytes() && ran.stderr == expected.as_bytes());
}

async fn a_silent_program_has_no_output(subject: Subject) {
    let ran = run(&subject, script(&subject, "true", &[])).await;
    assert_eq!((ran.code(), ran.stdout.len(), ran.stderr.len()), (0, 0, 0));
}

async fn two_hundred_megabytes_flow(subject: Subject) {
    let begun = Instant::now();
    let mut running = start(&subject, script(&subject, "head -c 200000000 /dev/zero", &[]));
    let mut received = 0;
    while running.receive().await {
        received += running.forget();
    }
    assert_eq!((running.end().await.code(), received), (0, 200 * MEGABYTE));
    let seconds = begun.elapsed().as_secs_f64();
    // Even a debug build on a busy machine does ten times as much.
    assert!(seconds < 40.0, "{seconds} s");
}

async fn a_slow_receiver_slows_the_program_down(subject: Subject) {
    let body = "echo \"$0 $BIRUN_STEP_ID\" >&2; n=0; \
        while :; do head -c 1000000 /dev/zero; n=$((n + 1)); echo $n >\"/tmp/witness-$BIRUN_STEP_ID\"; done";
    let work = script(&subject, body, &[]);
    let witness = format!("/tmp/witness-{}", work.step);
    let running = start_with(&subject, work, Stop::default(), 4);
    // Nothing is received: the count must come to rest, soon.
    let (mut last, mut same) = (String::new(), 0);
    while same < 20 {
        let now = answer(&subject, "cat \"$FILE\" 2>/dev/null || echo 0", &[("FILE", &witness)]).await;
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    let megabytes: usize = last.trim().parse().unwrap();
    running.stop().await.assert_stopped();
    answer(&subject, "rm -f \"$FILE\"", &[("FILE", &witness)]).await;
    assert!(megabytes <= 16, "{megabytes} MB were written that nobody took");
}
