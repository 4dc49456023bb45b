//! More output than fits into memory, or into a line.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};

use birun_core::testing::harness::Suite;
use serde_json::{Value, json};

use crate::api::Api;
use crate::birun::Home;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;
/// A step that writes as much as it likes may cost so much memory, at most.
const MOST_GROWTH: u64 = 64 * MIB;
/// What is kept from the end of output that is cut.
const TAIL: usize = 64 * 1024;

pub(crate) fn add(suite: &mut Suite) {
    suite.plain("two_gigabytes_are_kept_whole_in_little_memory", &[], whole);
    suite.plain("output_beyond_the_limit_is_cut_in_the_middle_and_the_cut_is_told", &[], cut);
    suite.plain("line_of_ten_megabytes_is_a_line", &[], long_line);
}

/// Bytes of every kind: most of them are no UTF-8.
fn block() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut block = Vec::with_capacity(usize::try_from(MIB).expect("a size"));
    while block.len() < block.capacity() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend_from_slice(&state.to_le_bytes());
    }
    block
}

/// Writes the block so many times.
fn script(times: u64) -> String {
    format!("i=0; while [ $i -lt {} ]; do cat {}; i=$((i+1)); done", times / 64, "block ".repeat(64))
}

fn request(times: u64, limit: Option<u64>) -> Value {
    let limit = limit.map_or(json!({}), |bytes| json!({"output": {"bytes": bytes}}));
    json!({"kind": "script", "title": "much", "content": script(times), "interpreter": "sh", "settings": limit})
}

fn whole() {
    let home = Home::new();
    let block = block();
    std::fs::write(home.work().join("block"), &block).expect("a file");
    let serve = home.serve(&[]);
    let api = Api::of(&serve);
    api.get("/status");
    let idle = high_water_mark(serve.process.pid());
    let id = api.run(&request(2 * GIB / MIB, Some(4 * GIB)));
    for when in ["while it is written", "when it is over"] {
        let mut logs = home.command(&["logs", &id, "-f", "--raw"]);
        let mut logs = logs.stdout(Stdio::piped()).spawn().expect("birun starts");
        assert_eq!(repeats(&mut logs, &block), 2 * GIB, "{when}");
        assert!(logs.wait().expect("birun ends").success());
    }
    let step = api.get(&format!("/executions/{id}/steps"))["items"][0].clone();
    assert_eq!((&step["status"], &step["output_bytes"]), (&json!("succeeded"), &json!(2 * GIB)), "{step:#}");
    assert_eq!(step["output_dropped"], 0);
    let grown = high_water_mark(serve.process.pid()).saturating_sub(idle);
    report("2 GiB through a server and two followers", idle, grown);
    assert!(grown < MOST_GROWTH, "{grown} bytes more than {idle}");
}

fn cut() {
    let home = Home::new();
    let block = block();
    std::fs::write(home.work().join("block"), &block).expect("a file");
    let serve = home.serve(&[]);
    let api = Api::of(&serve);
    api.get("/status");
    let idle = high_water_mark(serve.process.pid());
    let id = api.run(&request(256, None));
    assert!(home.run_raw(&["logs", &id, "-f", "--raw"]).status.success());
    let step = api.get(&format!("/executions/{id}/steps"))["items"][0].clone();
    let kept: u64 = 64 * MIB + u64::try_from(TAIL).expect("a size");
    let dropped = 256 * MIB - kept;
    assert_eq!((&step["status"], &step["output_bytes"]), (&json!("succeeded"), &json!(256 * MIB)), "{step:#}");
    assert_eq!(step["output_dropped"], dropped, "{step:#}");
    let output = api.output(&id);
    let (head, rest) = output.split_at(usize::try_from(64 * MIB).expect("a size"));
    assert!(head.chunks(block.len()).all(|part| part == block), "the beginning is what was written");
    let (mark, tail) = rest.split_at(rest.len() - TAIL);
    assert!(tail == &block[block.len() - TAIL..], "the end is what was written");
    let mark = String::from_utf8_lossy(mark);
    assert!(mark.contains(&dropped.to_string()), "{mark}");
    let grown = high_water_mark(serve.process.pid()).saturating_sub(idle);
    report("256 MiB beyond the limit", idle, grown);
    assert!(grown < MOST_GROWTH, "{grown} bytes more than {idle}");
}

fn long_line() {
    let home = Home::new();
    let line: Vec<u8> = [vec![b'x'; 10 * 1024 * 1024], b"\n".to_vec()].concat();
    std::fs::write(home.work().join("line"), &line).expect("a file");
    let ended = home.run_raw(&["run", "-q", &home.file("line.sh", "cat line")]);
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.stdout == line, "{} bytes", ended.stdout.len());
    let id = home.ok(&["execution", "list", "-o", "name"]);
    assert!(home.run_raw(&["logs", id.trim()]).stdout == line);
    // Looked through it comes in several lines, none of which takes much memory.
    let found = home.run_raw(&["logs", id.trim(), "--grep", "x$"]).stdout;
    assert!(found.iter().filter(|byte| **byte == b'x').count() == line.len() - 1, "{} bytes", found.len());
    assert!(home.run_raw(&["logs", id.trim(), "--raw"]).stdout == line);
}

/// Reads what a process writes; it must be the block again and again. Tells how much it was.
fn repeats(process: &mut Child, block: &[u8]) -> u64 {
    let mut stdout = process.stdout.take().expect("stdout");
    let (mut buffer, mut read) = (vec![0; 256 * 1024], 0_u64);
    loop {
        let length = stdout.read(&mut buffer).expect("output");
        if length == 0 {
            return read;
        }
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let at = usize::try_from(read % MIB).expect("a place");
            let (part, more) = rest.split_at(rest.len().min(block.len() - at));
            assert!(part == &block[at..at + part.len()], "differs between byte {read} and {}", part.len());
            read += u64::try_from(part.len()).expect("a length");
            rest = more;
        }
    }
}

/// The most memory that a process ever had, as the kernel counts.
fn high_water_mark(pid: u32) -> u64 {
    let mut status = String::new();
    let path = format!("/proc/{pid}/status");
    File::open(Path::new(&path)).and_then(|mut file| file.read_to_string(&mut status)).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[expect(clippy::print_stdout, reason = "a measured figure")]
fn report(what: &str, idle: u64, grown: u64) {
    println!("{what}: idle {} KiB, high-water mark {} KiB above", idle / 1024, grown / 1024);
}
