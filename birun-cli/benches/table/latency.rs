//! From a request over HTTP to the start of what it asks for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use birun_core::engine::Engine;
use birun_core::id::ExecutionId;
use birun_core::identity::Principal;
use birun_core::vault::Secret;
use birun_http::BearerToken;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Outcome;
use crate::engine::{Started, directory, sqlite};
use crate::settings::Settings;
use crate::table::{Goal, Line, Table};

const EACH: Duration = Duration::from_millis(20);
const TOKEN: &str = "a token of the bench, of no use elsewhere";

/// When the closure of each execution was called.
type Starts = Arc<Mutex<HashMap<ExecutionId, Instant>>>;

pub(crate) async fn measure(settings: &Settings, table: &mut Table) -> Outcome {
    let requests = if settings.full { 3000 } else { 500 };
    let directory = directory()?;
    let starts = Starts::default();
    let noted = Arc::clone(&starts);
    let job = move |cx: birun_core::execution::JobContext| {
        noted.lock().unwrap_or_else(PoisonError::into_inner).insert(cx.execution, Instant::now());
        async { Ok(()) }
    };
    let engine = Engine::builder(sqlite(directory.path()).await?).job("note", job).build().await?;
    let started = Started::start(engine).await?;
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}/api/v1/executions", listener.local_addr()?);
    let auth = BearerToken::new(&Secret::new(TOKEN), Principal::local("bench"));
    let app = birun_http::mount(&started.engine).auth(auth).build()?;
    let serving = tokio::spawn(birun_http::serve(listener, app, None, stop.clone().cancelled_owned()));
    // The first ones prepare statements and open connections.
    ask(&address, 50).await?;
    let asked = ask(&address, requests).await?;
    // What was accepted last has not started yet.
    started.idle().await;
    started.stop().await?;
    stop.cancel();
    serving.await?;
    let mut millis = waits(&asked, &starts)?;
    millis.sort_by(f64::total_cmp);
    let percentile = |share: usize| millis.get(millis.len() * share / 100).copied().unwrap_or(f64::NAN);
    let measure = format!("submit-to-start over HTTP, 50/s, {requests} requests");
    table.add(Line::new(format!("{measure}: p50"), percentile(50), "ms", Goal::Below(3.0)));
    table.add(Line::new(format!("{measure}: p99"), percentile(99), "ms", Goal::Below(25.0)));
    Ok(())
}

/// Asks 50 times a second, whether answers have come or not; tells when each was asked for.
async fn ask(address: &str, requests: u32) -> Outcome<Vec<(ExecutionId, Instant)>> {
    let client = Client::builder().no_proxy().build()?;
    let mut tasks = JoinSet::new();
    let begin = Instant::now();
    for number in 0..requests {
        tokio::time::sleep_until((begin + EACH * number).into()).await;
        let request = client.post(address).bearer_auth(TOKEN).json(&json!({"kind": "job", "job": "note"}));
        tasks.spawn(async move {
            let asked = Instant::now();
            let answer: Value = request.send().await?.error_for_status()?.json().await?;
            let id = answer.get("id").and_then(Value::as_str).ok_or("no id")?;
            Outcome::Ok((id.parse()?, asked))
        });
    }
    let mut asked = Vec::new();
    while let Some(done) = tasks.join_next().await {
        asked.push(done??);
    }
    Ok(asked)
}

/// How long each waited, in milliseconds.
fn waits(asked: &[(ExecutionId, Instant)], starts: &Starts) -> Outcome<Vec<f64>> {
    let starts = starts.lock().unwrap_or_else(PoisonError::into_inner);
    let wait = |(id, asked): &(ExecutionId, Instant)| {
        let start = starts.get(id).ok_or("an execution did not start")?;
        Ok(start.duration_since(*asked).as_secs_f64() * 1000.0)
    };
    asked.iter().map(wait).collect()
}
