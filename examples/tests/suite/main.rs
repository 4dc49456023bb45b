//! Every example runs, and prints what its readers are told.

#![expect(clippy::expect_used, reason = "a case fails by panicking")]

use std::process::{Command, ExitCode};

use birun_core::testing::harness::Suite;

fn check(program: &str, expected: &str) {
    let output = Command::new(program).output().expect("the example starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {}\n{stderr}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{stderr}");
}

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.plain("embed_minimal_tells_how_the_run_ended", &[], || {
        check(env!("CARGO_BIN_EXE_embed-minimal"), "hello ended failed\n");
    });
    suite.plain("stream_output_prints_every_line_and_the_end", &[], || {
        let expected = "stdout: line 1\nline 2\nline 3\nstderr: that was all\nended succeeded\n";
        check_lines(env!("CARGO_BIN_EXE_stream-output"), expected);
    });
    suite.plain("rust_job_succeeds_at_the_second_attempt", &[], || {
        let expected = "attempt 1: failed the printer is on fire\nattempt 2: succeeded \n";
        check(env!("CARGO_BIN_EXE_rust-job"), expected);
    });
    suite.plain("custom_executor_is_reached_through_its_server", &[], || {
        check(env!("CARGO_BIN_EXE_custom-executor"), "HELLO\n");
    });
    suite.plain("mount_in_poem_answers_below_its_path", &[], || {
        check(
            env!("CARGO_BIN_EXE_mount-in-poem"),
            "GET /ops/healthz: HTTP/1.1 200 OK\nGET /ops/api/v1/servers: HTTP/1.1 401 Unauthorized\nGET /: HTTP/1.1 200 OK\n",
        );
    });
    suite.run()
}

/// Lines may arrive in more or fewer records, and the two streams in either order: what counts is
/// that each line is there, and the end comes last.
fn check_lines(program: &str, expected: &str) {
    let output = Command::new(program).output().expect("the example starts");
    let strip = |text: &str| {
        let text = text.replace("stdout: ", "").replace("stderr: ", "");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let last = lines.pop();
        lines.sort();
        (lines, last)
    };
    assert_eq!(strip(&String::from_utf8_lossy(&output.stdout)), strip(expected));
}
