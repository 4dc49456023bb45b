//! Output and changes as streams: their forms, where they go on, what they leave out, how they end.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use birun_core::testing::harness::Suite;
use serde_json::{Value, json};

use crate::auth::is_problem;
use crate::lists::Dice;
use crate::support::{Answer, Api, Call, FLOOD, flood, get, post, soon};

pub(crate) fn cases(suite: &mut Suite) {
    suite.test("output_is_lines_or_events_or_raw_bytes", &[], forms);
    suite.test("output_goes_on_after_any_record_in_any_form", &[], goes_on);
    suite.test("output_is_filtered_by_step_target_and_stream", &[], filters);
    suite.test("a_follower_of_a_running_execution_hears_it_to_its_end", &[], follows);
    suite.test("what_there_is_now_ends_at_once_and_says_so", &[], now_only);
    suite.test("a_client_that_reconnects_after_each_record_loses_and_doubles_nothing", &[], reconnects);
    suite.test("changes_are_told_by_rev_and_go_on_after_any", &[], changes);
    suite.test("a_silent_event_stream_remarks_that_it_is_still_there", &[], keeps_alive);
    suite.test("a_reader_that_stops_blocks_nobody_and_loses_nothing", &[], stopped_reader);
    suite.test("a_stream_without_permission_or_execution_is_a_problem", &[], refused);
}

/// Submits a command of the fake executor, and answers where it is.
async fn run(api: &Api, command: &str) -> (String, Value) {
    let answer =
        api.expect(202, post("/api/v1/executions").json(&json!({"kind": "command", "command": command}))).await;
    (answer.header("location").unwrap().to_owned(), answer.json())
}

async fn ended(api: &Api, command: &str) -> String {
    let (location, execution) = run(api, command).await;
    api.ended(&execution).await;
    location
}

fn logs(location: &str) -> Call {
    get(&format!("{location}/logs"))
}

fn as_events(call: Call) -> Call {
    call.header("Accept", "text/event-stream")
}

/// The values of a stream of lines.
fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One server-sent event: its name, its id, its data.
fn event(text: &str) -> (String, u64, Value) {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    (field("event").to_owned(), field("id").parse().unwrap(), serde_json::from_str(field("data")).unwrap())
}

fn events(answer: &Answer) -> Vec<(String, u64, Value)> {
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    answer.text().split_terminator("\n\n").filter(|text| !text.starts_with(':')).map(event).collect()
}

fn written(records: &[Value], stream: &str) -> String {
    let of_stream = records.iter().filter(|record| record["stream"] == stream);
    of_stream.map(|record| record["data"].as_str().unwrap()).collect()
}

async fn forms() {
    let api = Api::start().await;
    let location = ended(&api, "print one\nerror two\nprint grüß dich\nexit 3").await;
    let mut records = lines(&api.expect(200, logs(&location)).await);
    let end = records.pop().unwrap();
    assert_eq!(written(&records, "stdout"), "one\ngrüß dich\n");
    assert_eq!(written(&records, "stderr"), "two\n");
    let seqs: Vec<u64> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    for record in &records {
        assert_eq!((&record["step"], &record["target"], &record["attempt"]), (&json!(0), &json!("local"), &json!(1)));
        assert!(record["at"].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(end, json!({"end": true, "status": "failed", "seq": seqs.last()}));

    let mut told = events(&api.expect(200, as_events(logs(&location))).await);
    let (name, id, last) = told.pop().unwrap();
    assert_eq!((name.as_str(), Some(&id), last), ("end", seqs.last(), end));
    for ((name, id, data), record) in told.iter().zip(&records) {
        assert_eq!((name.as_str(), Some(*id), data), ("record", record["seq"].as_u64(), record));
    }
    assert_eq!(told.len(), records.len());

    let raw = api.expect(200, logs(&location).query("raw=true")).await;
    assert_eq!(raw.header("content-type"), Some("application/octet-stream"));
    assert_eq!(raw.text(), "one\ntwo\ngrüß dich\n");
    let raw = api.expect(200, logs(&location).query("raw=true&stream=stderr")).await;
    assert_eq!(raw.text(), "two\n");
    for accept in ["text/event-stream", "TEXT/EVENT-STREAM;q=0.9", "application/json, text/event-stream"] {
        let answer = api.expect(200, logs(&location).header("Accept", accept)).await;
        assert_eq!(answer.header("content-type"), Some("text/event-stream"), "{accept}");
    }
    // A form that the client says it does not take is not chosen because it is named.
    let answer = api.expect(200, logs(&location).header("Accept", "application/x-ndjson, text/event-stream;q=0")).await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
}

async fn goes_on() {
    let api = Api::start().await;
    let location = ended(&api, "print a\nerror b\nprint c\nerror d\nprint e").await;
    let whole = lines(&api.expect(200, logs(&location)).await);
    let count = whole.len() - 1;
    for after in 0..count + 2 {
        let expected: Vec<&Value> = whole[..count].iter().skip(after).collect();
        for follow in ["", "&follow=true"] {
            let rest = lines(&api.expect(200, logs(&location).query(&format!("after={after}{follow}"))).await);
            assert_eq!(rest[..rest.len() - 1].iter().collect::<Vec<_>>(), expected, "after {after}");
            let end = rest.last().unwrap();
            assert_eq!((&end["end"], &end["seq"]), (&json!(true), &json!(after.max(count))), "after {after}");
        }
        // What the browser sends by itself counts more than what stands in the address.
        let call = as_events(logs(&location).query("after=0")).header("Last-Event-ID", after.to_string());
        let rest = events(&api.expect(200, call).await);
        assert_eq!(rest[..rest.len() - 1].iter().map(|(_, _, data)| data).collect::<Vec<_>>(), expected);
    }
    for bad in ["after=-1", "after=x", "after=18446744073709551616", "follow=maybe", "raw=2", "stream=stdin"] {
        let answer = api.send(logs(&location).query(bad)).await;
        is_problem(&answer, 400, "malformed");
        assert_eq!(answer.fields(), [bad.split('=').next().unwrap()], "{bad}");
    }
    let answer = api.send(logs(&location).header("Last-Event-ID", "seven")).await;
    is_problem(&answer, 400, "malformed");
    assert_eq!(answer.fields(), ["Last-Event-ID"]);
    let largest = api.expect(200, logs(&location).query(&format!("after={}", u64::MAX))).await;
    assert_eq!(lines(&largest).len(), 1, "nothing but the end: {}", largest.text());
}

async fn filters() {
    let api = Api::start().await;
    for name in ["s-1", "s-2"] {
        api.make("/api/v1/servers", json!({"name": name, "host": "h", "user": "u", "executor": "ssh"})).await;
    }
    let body = json!({"kind": "command", "command": "print out\nerror err", "targets": "all"});
    let run = api.expect(202, post("/api/v1/executions").json(&body)).await;
    let location = run.header("location").unwrap().to_owned();
    api.ended(&run.json()).await;
    let steps = api.expect(200, get(&format!("{location}/steps"))).await.json();
    let step = &steps["items"][1];
    let (id, short) = (step["id"].as_str().unwrap(), step["short_id"].as_str().unwrap());
    let target = step["target"].as_str().unwrap();
    for (query, count) in [
        (format!("target={target}"), 2),
        (format!("step={id}"), 2),
        (format!("step={short}"), 2),
        (format!("step={}", id.replace('-', "")), 2),
        (format!("step={id}&stream=stderr"), 1),
        ("stream=stdout".to_owned(), 2),
        ("stream=stdout&target=s-1".to_owned(), 1),
        ("target=nobody".to_owned(), 0),
        ("target=S-1".to_owned(), 0),
        (format!("step={}", uuid::Uuid::now_v7()), 0),
    ] {
        for follow in ["", "&follow=true"] {
            let records = lines(&api.expect(200, logs(&location).query(&format!("{query}{follow}"))).await);
            let (end, records) = records.split_last().unwrap();
            assert_eq!(records.len(), count, "{query}");
            // The end names the last record that was looked at, so that going on repeats no search.
            assert_eq!((&end["end"], &end["seq"], &end["status"]), (&json!(true), &json!(4), &json!("succeeded")));
            for record in records {
                assert!(!query.contains("step") || record["target"] == target, "{query}: {record}");
            }
        }
    }
    let named = api.send(logs(&location).query("step=s-1")).await;
    is_problem(&named, 422, "invalid");
    assert_eq!(named.fields(), ["step"]);
}

async fn follows() {
    let api = Api::start().await;
    for form in ["lines", "events", "raw"] {
        let (location, execution) = run(&api, "print first\nhold\nerror second\nhold\nprint third\nexit 4").await;
        let call = logs(&location).query(if form == "raw" { "follow=true&raw=true" } else { "follow=true" });
        let mut stream = api.open(if form == "events" { as_events(call) } else { call }).await;
        let mut all = String::new();
        for word in ["first", "second", "third"] {
            // A line is told while the process still runs: it waits for a release that comes after.
            all += &released(&api, stream.until(word)).await.unwrap();
        }
        while let Some(rest) = released(&api, stream.until("\n")).await {
            all += &rest;
        }
        assert_eq!(all.contains(r#""end":true"#), form != "raw", "{all}");
        assert_eq!(all.contains(r#""status":"failed""#), form != "raw", "{all}");
        assert_eq!(api.ended(&execution).await["status"], "failed");
    }
    api.shutdown().await;
}

/// Waits for something, letting go every run that holds.
async fn released<T>(api: &Api, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    loop {
        match tokio::time::timeout(Duration::from_millis(5), future.as_mut()).await {
            Ok(done) => return done,
            Err(_) => api.local.release(),
        }
    }
}

async fn now_only() {
    let api = Api::start().await;
    let (location, execution) = run(&api, "print first\nhang").await;
    let mut follower = api.open(logs(&location).query("follow=true")).await;
    follower.until("first").await.unwrap();
    let now = lines(&api.expect(200, logs(&location)).await);
    assert_eq!(written(&now, "stdout"), "first\n");
    assert_eq!(now.last().unwrap(), &json!({"end": true, "status": "running", "seq": 1}));
    assert_eq!(api.expect(200, logs(&location).query("raw=true")).await.text(), "first\n");
    api.expect(202, post(&format!("{location}/cancel"))).await;
    assert_eq!(api.ended(&execution).await["status"], "cancelled");
    let mut rest = String::new();
    while let Some(line) = follower.until("\n").await {
        rest += &line;
    }
    assert!(rest.ends_with("\"status\":\"cancelled\",\"seq\":1}\n"), "{rest}");
    let store = std::sync::Arc::new(birun_store::SqlStore::memory().await.unwrap());
    let queued = Api::stopped(store, |builder| builder, |mount| mount).await;
    let (location, _) = run(&queued, "print x").await;
    let now = lines(&queued.expect(200, logs(&location)).await);
    assert_eq!(now, [json!({"end": true, "status": "queued", "seq": 0})]);
}

/// Reads the next record, or the end, of a stream that may begin with remarks.
async fn next_item(stream: &mut crate::support::Pulled, as_events: bool) -> Option<Value> {
    loop {
        let text = stream.until(if as_events { "\n\n" } else { "\n" }).await?;
        if !text.starts_with(':') {
            return Some(if as_events { event(&text).2 } else { serde_json::from_str(&text).unwrap() });
        }
    }
}

async fn reconnects() {
    let mut dice = Dice::new("reconnects");
    let api = Api::start().await;
    for _ in 0..6 {
        let mut script = String::new();
        for number in 0..10 + dice.roll(30) {
            let verb = if dice.roll(3) == 0 { "error" } else { "print" };
            writeln!(script, "{verb} {number} {}", "x".repeat(dice.roll(60))).unwrap();
            if dice.roll(3) == 0 {
                script += "hold\n";
            }
        }
        let (location, execution) = run(&api, &script).await;
        let mut met = Vec::new();
        let mut after = 0;
        let end = loop {
            let events = dice.roll(2) == 0;
            let call = logs(&location).query(&format!("follow=true&after={after}"));
            let mut stream = api.open(if events { as_events(call) } else { call }).await;
            // Most often one record and away; sometimes a few.
            let mut patience = 1 + dice.roll(4) / 3 * dice.roll(5);
            let mut end = None;
            while patience > 0 && end.is_none() {
                let item = released(&api, next_item(&mut stream, events)).await.expect("a stream ends with its end");
                if item["end"] == true {
                    end = Some(item);
                } else {
                    after = item["seq"].as_u64().unwrap();
                    met.push(item);
                    patience -= 1;
                }
            }
            if let Some(end) = end {
                break end;
            }
        };
        api.ended(&execution).await;
        let mut whole = lines(&api.expect(200, logs(&location)).await);
        assert_eq!(whole.pop().unwrap(), end);
        assert_eq!(met, whole);
        let numbers: BTreeSet<&str> =
            script.lines().filter(|line| *line != "hold").map(|line| line[6..].trim()).collect();
        let text: Vec<String> = ["stdout", "stderr"].iter().map(|stream| written(&met, stream)).collect();
        assert_eq!(text.concat().lines().collect::<BTreeSet<_>>(), numbers);
    }
}

async fn changes() {
    let api = Api::start().await;
    let (location, execution) = run(&api, "hold\nexit 3").await;
    let path = format!("{location}/events");
    let mut stream = api.open(get(&path)).await;
    let mut told = Vec::new();
    while let Some(text) = released(&api, stream.until("\n\n")).await {
        if !text.starts_with(':') {
            told.push(event(&text));
        }
    }
    let (name, last, end) = told.pop().unwrap();
    assert_eq!((name.as_str(), &end), ("end", &json!({"end": true, "status": "failed", "rev": last})));
    assert!(told.iter().map(|(_, rev, _)| *rev).is_sorted_by(|a, b| a < b), "{told:?}");
    for (name, rev, data) in &told {
        assert_eq!((name.as_str(), data["execution"]["rev"].as_u64()), ("change", Some(*rev)));
    }
    let (_, rev, final_change) = told.last().unwrap();
    assert_eq!((*rev, &final_change["execution"]["status"]), (last, &json!("failed")));
    assert_eq!(final_change["execution"]["id"], execution["id"]);
    assert_eq!(final_change["steps"][0]["exit_code"], 3);
    for rev in 0..=last + 1 {
        for call in [get(&path).query(&format!("after={rev}")), get(&path).header("Last-Event-ID", rev.to_string())] {
            let rest = events(&api.expect(200, call).await);
            let (name, id, end) = rest.last().unwrap();
            assert_eq!((name.as_str(), *id, &end["status"]), ("end", rev.max(last), &json!("failed")), "after {rev}");
            // Whoever has seen the last change hears nothing twice; whoever has not hears it.
            assert_eq!(rest.len() > 1, rev < last, "after {rev}: {rest:?}");
            for (_, id, _) in &rest[..rest.len() - 1] {
                assert!(*id > rev, "after {rev}: {id}");
            }
        }
    }
    is_problem(&api.send(get(&path).query("after=x")).await, 400, "malformed");
}

async fn keeps_alive() {
    let api = Api::start().await;
    let (location, execution) = run(&api, "print first\nhang").await;
    let mut output = api.open(as_events(logs(&location).query("follow=true"))).await;
    let mut changes = api.open(get(&format!("{location}/events"))).await;
    // Both are silent for their fifteen seconds at the same time.
    let (mut output, mut changes) =
        tokio::join!(async { (output.until(": still here\n\n").await.unwrap(), output).1 }, async {
            (changes.until(": still here\n\n").await.unwrap(), changes).1
        });
    api.expect(202, post(&format!("{location}/cancel"))).await;
    api.ended(&execution).await;
    assert!(output.until("event: end").await.is_some());
    assert!(changes.until("event: end").await.is_some());
}

async fn stopped_reader() {
    let api = Api::start_with(|builder| builder.job("flood", flood), |mount| mount).await;
    let body = json!({"kind": "job", "job": "flood"});
    let accepted = api.expect(202, post("/api/v1/executions").json(&body)).await;
    let location = accepted.header("location").unwrap().to_owned();
    let call = || logs(&location).query("follow=true&raw=true");
    let mut stopped = api.open(call()).await;
    assert_eq!(stopped.until("\n").await.unwrap().len(), 1000);
    let mut eager = api.open(call()).await;
    assert_eq!(eager.whole().await.len(), FLOOD * 1000, "another reader is not held up");
    assert_eq!(soon(api.ended(&accepted.json())).await["status"], "succeeded", "nor is the execution");
    // The one that stopped has lost nothing. What it holds meanwhile is measured over a socket.
    assert_eq!(stopped.whole().await.len() + 1000, FLOOD * 1000);
}

async fn refused() {
    let api = Api::start().await;
    for stream in ["logs", "events"] {
        let path = format!("/api/v1/executions/{}/{stream}", uuid::Uuid::now_v7());
        for call in [get(&path), as_events(get(&path))] {
            is_problem(&api.send(call.clone()).await, 404, "not_found");
            is_problem(&api.send(call.token(None)).await, 401, "unauthenticated");
        }
    }
}
