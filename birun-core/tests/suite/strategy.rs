//! Which targets an execution takes, in which order, and which it leaves out.

use std::time::Duration;

use birun_core::execution::{
    Amount, ExecutionStatus, PlannedTarget, Preview, Reason, RetryOptions, Run, StepStatus, Strategy,
};
use birun_core::id::Selector;
use birun_core::inventory::ServerPatch;
use birun_core::page::PageRequest;
use birun_core::script::ParamValue;
use birun_core::vault::Secret;
use birun_core::{ErrorCode, Gate};

use crate::engine::{fleet, script, steps};

async fn change(gate: &Gate, server: &str, patch: ServerPatch) {
    let selector: Selector = server.parse().expect("a name");
    gate.update_server(&selector, patch, None).await.expect("changed");
}

async fn maintain(gate: &Gate, server: &str, maintenance: bool) {
    change(gate, server, ServerPatch { maintenance: Some(maintenance), ..ServerPatch::default() }).await;
}

fn on_fleet(body: &str, strategy: Strategy) -> Run {
    script(body).on("tag:fleet").strategy(strategy)
}

pub(crate) async fn a_server_in_maintenance_is_left_out_and_no_failure() {
    let (fake, engine) = fleet(3).await;
    let gate = engine.gate();
    maintain(&gate, "web-0001", true).await;
    let strategy = Strategy { max_failures: Some(Amount::Count(1)), ..Strategy::default() };
    let run = gate.run(on_fleet("exit 0", strategy)).await.expect("accepted");
    let ended = run.outcome().await.expect("ends").execution;
    assert_eq!((ended.status, ended.counts.succeeded, ended.counts.skipped), (ExecutionStatus::Succeeded, 2, 1));
    let left_out = &steps(&gate, &run).await[2];
    assert_eq!((left_out.target.to_string().as_str(), left_out.status), ("web-0001", StepStatus::Skipped));
    assert_eq!((left_out.reason, left_out.finished_at), (Some(Reason::Maintenance), Some(ended.created_at)));
    maintain(&gate, "web-0001", false).await;
    let options = RetryOptions { failed_only: true, ..RetryOptions::default() };
    let again = gate.retry(&run.id().into(), options).await.expect("accepted");
    assert_eq!(again.outcome().await.expect("ends").execution.counts.succeeded, 1);
    assert_eq!(fake.runs().last().map(|(_, target)| target.as_str()), Some("web-0001"));
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn where_all_are_in_maintenance_nothing_is_accepted() {
    let (_, engine) = fleet(2).await;
    let gate = engine.gate();
    let run = gate.run(on_fleet("exit 1", Strategy::default())).await.expect("accepted");
    run.outcome().await.expect("ends");
    for server in ["web-0000", "web-0001"] {
        maintain(&gate, server, true).await;
    }
    let options = RetryOptions { failed_only: true, ..RetryOptions::default() };
    for refused in [
        gate.run(on_fleet("exit 0", Strategy::default())).await,
        gate.run(script("exit 0").on("web-0000")).await,
        gate.retry(&run.id().into(), options).await,
    ] {
        let error = refused.expect_err("refused");
        assert_eq!(error.code(), ErrorCode::Conflict);
        assert!(error.to_string().ends_with("is in maintenance"), "{error}");
    }
    let page = gate.executions(&Default::default(), PageRequest::default()).await.expect("listed");
    assert_eq!(page.items.len(), 1);
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn ranks_come_before_the_order() {
    let (fake, engine) = fleet(4).await;
    let gate = engine.gate();
    let tags = |tag: &str| {
        let tags = ["fleet", tag].map(|tag| tag.parse().expect("a tag")).to_vec();
        ServerPatch { tags: Some(tags), ..ServerPatch::default() }
    };
    change(&gate, "web-0003", tags("primary")).await;
    change(&gate, "web-0001", tags("standby")).await;
    let ranks = ["primary", "standby"].map(|tag| tag.parse().expect("a tag")).to_vec();
    let run = || on_fleet("exit 0", Strategy { parallel: 1, ranks: ranks.clone(), ..Strategy::default() });
    let planned: Vec<String> = preview(&gate, &run()).await.targets.iter().map(|t| t.name.to_string()).collect();
    assert_eq!(planned, ["web-0003", "web-0001", "web-0000", "web-0002"]);
    let first = gate.run(run()).await.expect("accepted");
    first.outcome().await.expect("ends");
    let again = gate.retry(&first.id().into(), RetryOptions::default()).await.expect("accepted");
    again.outcome().await.expect("ends");
    let taken: Vec<String> = fake.runs().into_iter().map(|(_, target)| target).collect();
    assert_eq!(taken, [planned.clone(), planned].concat(), "a retry keeps the order");
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn with_failover_the_rest_is_skipped_after_the_first_success() {
    let (fake, engine) = fleet(3).await;
    let gate = engine.gate();
    let run = gate.run(on_fleet("exit 0", Strategy { failover: true, ..Strategy::default() })).await.expect("accepted");
    let ended = run.outcome().await.expect("ends").execution;
    assert_eq!((ended.status, ended.counts.succeeded, ended.counts.skipped), (ExecutionStatus::Succeeded, 1, 2));
    assert_eq!(steps(&gate, &run).await[2].reason, Some(Reason::FirstSuccess));
    assert_eq!(fake.runs().len(), 1);
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_preview_checks_like_a_run_and_starts_nothing() {
    let (fake, engine) = fleet(3).await;
    let gate = engine.gate();
    maintain(&gate, "web-0001", true).await;
    let strategy = Strategy { parallel: 7, batch: Some(Amount::Count(2)), ..Strategy::default() };
    let planned = |number: usize, batch, left_out| PlannedTarget {
        name: format!("web-{number:04}").parse().expect("a name"),
        batch,
        left_out,
    };
    let expected = Preview {
        targets: vec![
            planned(0, Some(1), None),
            planned(2, Some(1), None),
            planned(1, None, Some(Reason::Maintenance)),
        ],
        width: 2,
        batches: 1,
    };
    assert_eq!(preview(&gate, &on_fleet("exit 0", strategy)).await, expected);
    for (run, code) in [
        (script("exit 0").on("tag:none"), ErrorCode::NoTargetMatched),
        (script("exit 0").on("web-0001"), ErrorCode::Conflict),
        (script("exit 0").on("web-0000").timeout(Duration::ZERO), ErrorCode::Invalid),
        (script("exit 0").on("web-0000").param_value("T", ParamValue::Secret(Secret::new("x"))), ErrorCode::KeyMissing),
        (Run::script("nothing"), ErrorCode::NotFound),
        (script("exit 0").on("web-0000").param("PATH", "x"), ErrorCode::Invalid),
    ] {
        assert_eq!(gate.preview(&run).await.expect_err("refused").code(), code);
    }
    let page = gate.executions(&Default::default(), PageRequest::default()).await.expect("listed");
    assert!(page.items.is_empty() && fake.runs().is_empty());
    engine.shutdown().await.expect("it stops");
}

async fn preview(gate: &Gate, run: &Run) -> Preview {
    gate.preview(run).await.expect("a preview")
}
