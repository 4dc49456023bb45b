//! What a program is given, and how it is started.

use super::Subject;
use super::running::{answer, no_notes, run, script};
use crate::error::ErrorCode;
use crate::execution::{Ending, Stage, StageStatus};
use crate::script::Interpreter;

super::list_cases! {
    parameters_become_environment_variables_as_they_are,
    variables_of_one_program_are_not_seen_by_the_next,
    every_process_carries_the_step_id,
    secrets_and_body_stand_in_no_command_line,
    stdin_is_at_its_end,
    a_body_of_one_mebibyte_is_run_whole,
    an_interpreter_is_given_the_body_as_a_private_file,
    the_private_file_is_gone_afterwards,
    a_shebang_is_obeyed,
    a_missing_interpreter_is_told_and_nothing_is_started,
    many_programs_run_at_once,
    a_probe_reaches_the_target,
}

async fn parameters_become_environment_variables_as_they_are(subject: Subject) {
    let values = [
        "",
        " ",
        "plain",
        "two\nlines\n",
        "\n.\n",
        "+x\n-n\n@program=sh",
        "it's \"$(id)\" `id` ${HOME} $$ \\n \\",
        "!! ~ * ?",
        "tab\tcr\r\u{1}\u{7f}",
        "ünï\u{81}漢\u{1f600}",
        "%s%n",
        "a=b=c",
    ];
    for value in values {
        let ran = run(&subject, script(&subject, "printenv VALUE; printf '%s' \"$VALUE\"", &[("VALUE", value)])).await;
        assert_eq!(ran.code(), 0);
        assert_eq!(String::from_utf8_lossy(&ran.stdout), format!("{value}\n{value}"));
    }
}

async fn variables_of_one_program_are_not_seen_by_the_next(subject: Subject) {
    assert_eq!(answer(&subject, "printenv LEFT_OVER", &[("LEFT_OVER", "x")]).await, "x\n");
    assert_eq!(run(&subject, script(&subject, "printenv LEFT_OVER", &[])).await.code(), 1);
}

async fn every_process_carries_the_step_id(subject: Subject) {
    let work = script(&subject, "echo \"$BIRUN_STEP_ID\"; sh -c 'printenv BIRUN_STEP_ID'", &[]);
    let step = work.step;
    let ran = run(&subject, work).await;
    assert_eq!(String::from_utf8_lossy(&ran.stdout), format!("{step}\n{step}\n"));
}

async fn secrets_and_body_stand_in_no_command_line(subject: Subject) {
    // The pattern of the search is read from a pipe that a builtin writes: it is in no command line either.
    let search = "printf '%s\\n' \"$TOKEN\" \"body-\"marker | grep -slFf - /proc/[0-9]*/cmdline || echo none";
    for padding in ["", &"# padding\n".repeat(1000)] {
        let body = format!("# body-marker\n{padding}{search}");
        assert_eq!(answer(&subject, &body, &[("TOKEN", "canary-4711-canary")]).await, "none\n");
    }
    let mut work =
        script(&subject, "BEGIN { system(\"grep -slF canary-\" \"4712 /proc/[0-9]*/cmdline\") } # canary-4712", &[]);
    work.interpreter = Interpreter::Shebang;
    work.content = crate::script::Content::new(format!("#!/usr/bin/awk -f\n{}", work.content.as_str())).unwrap();
    let ran = run(&subject, work).await;
    // The search itself is the only one: `sh -c` and `grep` of awk's own making.
    assert_eq!(ran.code(), 0);
    assert!(String::from_utf8_lossy(&ran.stdout).lines().count() <= 2, "{ran:?}");
}

async fn stdin_is_at_its_end(subject: Subject) {
    let body = "if read -r line; then echo \"read: $line\"; else echo end; fi; cat; echo done";
    assert_eq!(answer(&subject, body, &[]).await, "end\ndone\n");
    assert_eq!(answer(&subject, &format!("{body}{}", "\n# padding".repeat(1000)), &[]).await, "end\ndone\n");
}

async fn a_body_of_one_mebibyte_is_run_whole(subject: Subject) {
    let line = "# a line of padding\n";
    let body = format!("{}echo end; exit 7", line.repeat((1024 * 1024 - 64) / line.len()));
    let ran = run(&subject, script(&subject, &body, &[])).await;
    assert_eq!((ran.code(), ran.stdout.as_slice()), (7, b"end\n".as_slice()));
}

async fn an_interpreter_is_given_the_body_as_a_private_file(subject: Subject) {
    let body = "first\n\nlast without newline";
    let mut work = script(&subject, body, &[]);
    work.interpreter = Interpreter::Path("/bin/cat".to_owned());
    let ran = run(&subject, work).await;
    assert_eq!((ran.code(), String::from_utf8_lossy(&ran.stdout).as_ref()), (0, body));
    let modes = "#!/bin/sh -u\nls -ld \"${0%/*}\" \"$0\" | cut -c1-10";
    assert_eq!(answer(&subject, modes, &[]).await, "drwx------\n-rw-------\n");
}

async fn the_private_file_is_gone_afterwards(subject: Subject) {
    for (body, code) in [("#!/bin/sh -u\necho \"$0\"", 0), ("#!/bin/sh -u\necho \"$0\"; exit 3", 3)] {
        let ran = run(&subject, script(&subject, body, &[])).await;
        assert_eq!(ran.code(), code);
        let path = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
        assert!(path.starts_with('/'), "{path}");
        // It may be removed after the ending was told: nobody waits for that.
        answer(&subject, "while [ -e \"${OF%/*}\" ]; do sleep 0.05; done", &[("OF", &path)]).await;
    }
}

async fn a_shebang_is_obeyed(subject: Subject) {
    assert_eq!(answer(&subject, "#!/usr/bin/awk -f\nBEGIN { print 6 * 7 }\n", &[]).await, "42\n");
    assert_eq!(answer(&subject, "#!/usr/bin/env cat\n", &[]).await, "#!/usr/bin/env cat\n");
}

async fn a_missing_interpreter_is_told_and_nothing_is_started(subject: Subject) {
    for program in ["/no/such/interpreter", "/etc/passwd"] {
        let mut work = script(&subject, "echo started", &[]);
        work.interpreter = Interpreter::Path(program.to_owned());
        let ran = run(&subject, work).await;
        let Ending::NotStarted(error) = &ran.ending else { panic!("{ran:?}") };
        assert_eq!(error.code(), ErrorCode::SpawnFailed);
        assert!(error.to_string().contains(program) && error.hint().is_some(), "{error:?}");
        assert!(ran.stdout.is_empty() && ran.stderr.is_empty(), "{ran:?}");
    }
}

async fn many_programs_run_at_once(subject: Subject) {
    let run_one = async |number: i32| {
        let answer = answer(&subject, "echo $N; sleep 0.1; echo $N", &[("N", &number.to_string())]).await;
        assert_eq!(answer, format!("{number}\n{number}\n"));
    };
    futures::future::join_all((0..20).map(run_one)).await;
}

async fn a_probe_reaches_the_target(subject: Subject) {
    let probe = subject.executor.probe(&subject.target, no_notes()).await;
    assert!(probe.ok, "{probe:?}");
    assert!(probe.stages.iter().all(|stage| stage.status == StageStatus::Ok), "{probe:?}");
    assert_eq!(probe.stages.last().map(|stage| stage.stage), Some(Stage::Shell));
}
