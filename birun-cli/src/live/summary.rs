//! What is said before and after the output: the header, a mark for each target, the end, and what to do next.

use birun_core::ErrorCode;
use birun_core::execution::Amount;
use serde::Deserialize;
use serde_json::Value;

use super::Board;
use super::board::StepView;
use crate::ui::{Paint, Tone, Ui, elapsed, visible};

/// Targets with a mark of their own; beyond that only those that did not succeed have one.
const ALL_MARKED: usize = 20;
/// Marks that are shown at most.
const MAX_MARKS: usize = 50;
/// Width to which marks are put side by side.
const WIDTH: usize = 100;
/// Targets whose unconfirmed kill has a hint of its own.
const KILLS: usize = 3;
/// Targets that one hint names at most, besides the one that it is for.
const NAMED: usize = 5;

/// The error of a target on which nothing can be retried: its server is gone.
const SERVER_DELETED: &str = ErrorCode::ServerDeleted.as_str();

/// `execution 7d20c1a9 · disk-report v7 · 3 targets · parallel 3`
pub(crate) fn header(board: &Board) -> String {
    let mut parts = vec![format!("execution {}", board.short_id()), subject_of(&board.execution)];
    let total = board.total();
    if total == 1 {
        parts.push(board.text("targets").unwrap_or_default().to_owned());
    } else {
        parts.push(format!("{total} targets"));
        // What is skipped before anything runs was left out.
        parts.extend(widths(&board.execution, total - board.count("skipped")));
    }
    visible(&parts.join(" · ")).into_owned()
}

/// How many targets are run on at once: in batches, in parallel, or so many of each batch in parallel.
fn widths(execution: &Value, total: u64) -> Vec<String> {
    let strategy = |field: &str| execution.pointer(&format!("/strategy/{field}"));
    if strategy("failover") == Some(&Value::Bool(true)) {
        return vec!["failover".to_owned()];
    }
    let parallel = strategy("parallel").and_then(Value::as_u64).unwrap_or(1).min(total);
    let batch = strategy("batch").and_then(|batch| Amount::deserialize(batch).ok());
    let batch = batch.map(|batch| batch.of(usize::try_from(total).unwrap_or(usize::MAX)) as u64);
    match batch.filter(|batch| *batch < total) {
        None => vec![format!("parallel {parallel}")],
        Some(batch) if parallel < batch => vec![format!("batches of {batch}"), format!("parallel {parallel}")],
        Some(batch) => vec![format!("batches of {batch}")],
    }
}

/// What an execution runs: its title, and the version of a stored script.
pub(crate) fn subject_of(execution: &Value) -> String {
    let title = execution.get("title").and_then(Value::as_str).unwrap_or_default();
    match execution.get("script_version").and_then(Value::as_u64) {
        Some(version) => format!("{title} v{version}"),
        None => title.to_owned(),
    }
}

/// Says how an execution ended: a mark for each target, the end in words, and what can be done next.
pub(crate) fn tell_end(ui: &Ui, board: &Board) {
    let paint = ui.err_paint();
    if board.total() > 1 {
        marks(board, paint).iter().for_each(|line| ui.note(line));
    }
    ui.note(&end(board, paint));
    hints(board).iter().for_each(|hint| ui.hint(&visible(hint)));
}

/// A mark for each target, several on a line.
fn marks(board: &Board, paint: Paint) -> Vec<String> {
    let all: Vec<&StepView> = board.steps().collect();
    let shown = all.iter().filter(|step| all.len() <= ALL_MARKED || !step.succeeded());
    let marks: Vec<(usize, String)> = shown.map(|step| mark(step, paint)).collect();
    let left_out = marks.len().saturating_sub(MAX_MARKS);
    let mut lines = side_by_side(marks.into_iter().take(MAX_MARKS));
    if left_out > 0 {
        lines.push(format!("… and {left_out} more"));
    }
    lines
}

/// The mark of one target, and its width.
fn mark(step: &StepView, paint: Paint) -> (usize, String) {
    let (sign, tone) = match step.status.as_str() {
        "succeeded" => ("✔", Tone::Good),
        "cancelled" | "skipped" | "pending" => ("−", Tone::Warn),
        _ => ("✖", Tone::Bad),
    };
    let text = format!("{} {}", visible(&step.target), how(step));
    (text.chars().count() + 2, format!("{} {text}", paint.tone(tone, sign)))
}

/// How a step ended, in a word or two: how long it took, if all went well.
fn how(step: &StepView) -> String {
    let how = match (step.status.as_str(), step.exit_code, &step.signal) {
        ("succeeded", _, _) => match (step.started_at, step.finished_at) {
            (Some(from), Some(to)) => elapsed(from, to),
            _ => "ok".to_owned(),
        },
        ("failed", Some(code), _) => format!("exit {code}"),
        ("failed", _, Some(signal)) => format!("signal {signal}"),
        ("failed", ..) => step.reason.as_deref().unwrap_or("failed").replace('_', " "),
        ("skipped", ..) => match &step.reason {
            Some(reason) => format!("skipped: {}", reason.replace('_', " ")),
            None => "skipped".to_owned(),
        },
        (status, ..) => status.replace('_', " "),
    };
    match &step.kill {
        Some(kill) if kill.result == "unconfirmed" => format!("{how}, kill unconfirmed"),
        _ => how,
    }
}

fn side_by_side(marks: impl Iterator<Item = (usize, String)>) -> Vec<String> {
    const GAP: usize = 3;
    let mut lines: Vec<String> = Vec::new();
    let mut used = 0;
    for (width, mark) in marks {
        match lines.last_mut() {
            Some(line) if used + GAP + width <= WIDTH => {
                line.extend([" ".repeat(GAP).as_str(), mark.as_str()]);
                used += GAP + width;
            }
            _ => {
                lines.push(mark);
                used = width;
            }
        }
    }
    lines
}

/// `failed: 2 succeeded, 1 unreachable (10.1s)`
fn end(board: &Board, paint: Paint) -> String {
    let status = board.status();
    let word = paint.tone(Tone::of_status(status), status.replace('_', " "));
    let took = match (board.instant("created_at"), board.instant("finished_at")) {
        (Some(from), Some(to)) => format!(" ({})", elapsed(from, to)),
        _ => String::new(),
    };
    let what = particulars(board);
    if what.is_empty() { format!("{word}{took}") } else { format!("{word}: {}{took}", visible(&what)) }
}

fn particulars(board: &Board) -> String {
    if board.total() > 1 {
        return counts(board);
    }
    let step = board.steps().next().filter(|step| step.has_ended() && !step.succeeded());
    let said = step.map(|step| (how(step), step.detail.as_deref()));
    let plain = board.status().replace('_', " ");
    match (said, board.text("detail")) {
        (Some((_, Some(detail))), _) => detail.to_owned(),
        (Some((how, None)), None) if how != plain => how.replacen("exit", "exit code", 1),
        (_, Some(detail)) => detail.to_owned(),
        _ => String::new(),
    }
}

fn counts(board: &Board) -> String {
    const ORDER: [&str; 8] =
        ["succeeded", "failed", "timed_out", "unreachable", "lost", "cancelled", "skipped", "pending"];
    let counted = ORDER.iter().map(|status| (board.count(status), status.replace('_', " ")));
    let parts: Vec<String> =
        counted.filter(|(count, _)| *count > 0).map(|(count, status)| format!("{count} {status}")).collect();
    parts.join(", ")
}

/// What can be done after an end that was none of success.
fn hints(board: &Board) -> Vec<String> {
    let mut hints = hints_by_kill(board);
    hints.extend(hints_by_error(board));
    hints.extend(retry_hint(board));
    hints
}

/// How to run it again where it did not succeed, if that can come to anything.
fn retry_hint(board: &Board) -> Option<String> {
    let worth = |step: &&StepView| !step.succeeded() && step.error.as_deref() != Some(SERVER_DELETED);
    let unsuccessful = board.steps().filter(worth).count();
    if board.status() == "succeeded" || unsuccessful == 0 {
        return None;
    }
    let again = format!("birun execution retry {}", board.short_id());
    let again = match board.total() {
        1 => again,
        _ if board.text("reason") == Some("target_lost") => again,
        _ => format!("{again} --failed-only"),
    };
    if let Some(unseen) = board.steps().find(|step| step.may_have_done_it()) {
        let target = &unseen.target;
        return Some(format!("look first whether it was done on {target}, or still runs there; again with  {again}"));
    }
    if board.total() == 1 {
        // Whoever had it cancelled knows what to do.
        return (board.status() != "cancelled").then(|| format!("retry it with  {again}"));
    }
    let what = if unsuccessful == 1 { "target" } else { "targets" };
    let done = if board.status() == "cancelled" { "unfinished" } else { "failed" };
    Some(format!("retry the {done} {what} with  {again}"))
}

/// What can be done about processes whose end nobody saw.
fn hints_by_kill(board: &Board) -> Vec<String> {
    let unconfirmed: Vec<String> = board
        .steps()
        .filter_map(|step| Some((step, step.kill.as_ref()?.detail.as_ref()?)))
        .map(|(step, detail)| format!("kill unconfirmed on {}: {detail}", step.target))
        .collect();
    let more = unconfirmed.len().saturating_sub(KILLS);
    let more = (more > 0)
        .then(|| format!("{more} more kills are unconfirmed; see  birun execution steps {}", board.short_id()));
    unconfirmed.into_iter().take(KILLS).chain(more).collect()
}

/// What can be done about each kind of error, told for the first target that met it; the others are
/// named where it is not the very same for them.
fn hints_by_error(board: &Board) -> Vec<String> {
    let mut kinds: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for step in board.steps() {
        let (Some(error), Some(hint)) = (&step.error, &step.hint) else { continue };
        match kinds.iter_mut().find(|(known, ..)| known == error) {
            Some((_, told, others)) if told != hint => others.push(&step.target),
            Some(_) => {}
            None => kinds.push((error, hint, Vec::new())),
        }
    }
    kinds.into_iter().map(|(_, hint, others)| format!("{hint}{}", likewise(&others))).collect()
}

fn likewise(others: &[&str]) -> String {
    match (others.get(..NAMED), others.get(NAMED..)) {
        (Some(named), Some(more)) if !more.is_empty() => {
            format!(" (likewise for {} and {} more)", named.join(", "), more.len())
        }
        _ if others.is_empty() => String::new(),
        _ => format!(" (likewise for {})", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PLAIN: Paint = Paint(false);

    fn board(status: &str, steps: &[Value]) -> Board {
        let count = |status: &str| steps.iter().filter(|step| step["status"] == status).count();
        let execution = json!({
            "short_id": "7d20c1a9", "title": "disk-report", "script_version": 7, "targets": "tag:prod",
            "strategy": {"parallel": 10}, "status": status, "detail": null,
            "created_at": "2026-11-02T10:00:00.000000Z", "finished_at": "2026-11-02T10:00:10.100000Z",
            "counts": {"total": steps.len(), "succeeded": count("succeeded"), "failed": count("failed"),
                       "unreachable": count("unreachable"), "cancelled": count("cancelled")},
        });
        let mut board = Board::new(Value::Null);
        board.change(execution, steps.to_vec());
        board
    }

    fn step(position: u64, target: &str, status: &str) -> Value {
        json!({
            "position": position, "target": target, "attempt": 1, "status": status,
            "started_at": "2026-11-02T10:00:00.000000Z", "finished_at": "2026-11-02T10:00:00.840000Z",
        })
    }

    #[test]
    fn the_form_is_the_one_of_the_contract() {
        let steps = [step(0, "web-1", "succeeded"), step(1, "web-2", "succeeded"), step(2, "db-1", "unreachable")];
        let board = board("failed", &steps);
        assert_eq!(header(&board), "execution 7d20c1a9 · disk-report v7 · 3 targets · parallel 3");
        assert_eq!(marks(&board, PLAIN), ["✔ web-1 0.8s   ✔ web-2 0.8s   ✖ db-1 unreachable"]);
        assert_eq!(end(&board, PLAIN), "failed: 2 succeeded, 1 unreachable (10.1s)");
        assert_eq!(hints(&board), ["retry the failed target with  birun execution retry 7d20c1a9 --failed-only"]);
    }

    #[test]
    fn one_target_is_told_without_counting() {
        let mut failed = step(0, "local", "failed");
        failed["exit_code"] = json!(7);
        assert_eq!(end(&board("failed", &[failed]), PLAIN), "failed: exit code 7 (10.1s)");
        assert_eq!(end(&board("succeeded", &[step(0, "local", "succeeded")]), PLAIN), "succeeded (10.1s)");
        let mut unreachable = step(0, "db-1", "unreachable");
        unreachable["detail"] = json!("connect 10.0.0.9:22: timed out after 10s");
        let board = board("failed", &[unreachable]);
        assert_eq!(end(&board, PLAIN), "failed: connect 10.0.0.9:22: timed out after 10s (10.1s)");
        assert_eq!(hints(&board), ["retry it with  birun execution retry 7d20c1a9"]);
    }

    #[test]
    fn a_search_that_ended_at_a_lost_target_is_not_repeated_blindly() {
        let mut lost = step(0, "db-1", "lost");
        lost["reason"] = json!("link_lost");
        let mut skipped = step(1, "db-2", "skipped");
        skipped["reason"] = json!("target_lost");
        let mut execution = board("lost", &[lost, skipped]);
        execution.execution["reason"] = json!("target_lost");
        execution.execution["strategy"] = json!({"parallel": 10, "failover": true});
        assert_eq!(header(&execution), "execution 7d20c1a9 · disk-report v7 · 2 targets · failover");
        assert_eq!(marks(&execution, PLAIN), ["✖ db-1 lost   − db-2 skipped: target lost"]);
        let expected =
            "look first whether it was done on db-1, or still runs there; again with  birun execution retry 7d20c1a9";
        assert_eq!(hints(&execution), [expected]);
    }

    #[test]
    fn what_cannot_be_retried_is_not_told_to_be() {
        let deleted = |position: u64| {
            let mut step = step(position, "db-1", "unreachable");
            step["error"] = json!("server_deleted");
            step["hint"] = json!("start anew");
            step
        };
        assert_eq!(hints(&board("failed", &[deleted(0)])), ["start anew"]);
        let hints = hints(&board("failed", &[deleted(0), step(1, "web-1", "failed"), deleted(2)]));
        assert!(hints[1].starts_with("retry the failed target with"), "{hints:?}");
    }

    #[test]
    fn batches_are_announced_as_batches() {
        let steps: Vec<Value> = (0..8).map(|at| step(at, &format!("web-{at}"), "pending")).collect();
        let mut board = board("running", &steps);
        for (parallel, batch, expected) in [
            (10, Value::Null, "8 targets · parallel 8"),
            (10, json!(2), "8 targets · batches of 2"),
            (10, json!("25%"), "8 targets · batches of 2"),
            (2, json!(4), "8 targets · batches of 4 · parallel 2"),
            (3, json!(20), "8 targets · parallel 3"),
        ] {
            board.execution["strategy"] = json!({"parallel": parallel, "batch": batch});
            assert_eq!(header(&board), format!("execution 7d20c1a9 · disk-report v7 · {expected}"));
        }
    }

    #[test]
    fn each_kind_of_error_has_one_hint() {
        let failed = |position: u64, target: &str, error: &str, hint: &str| {
            let mut step = step(position, target, "unreachable");
            step["error"] = json!(error);
            step["hint"] = json!(hint);
            step
        };
        let mut steps = vec![
            failed(0, "db-1", "connect_failed", "nothing listens there"),
            failed(1, "db-2", "connect_failed", "nothing listens there"),
            failed(2, "web-1", "host_key_unknown", "approve web-1"),
            failed(3, "web-2", "host_key_unknown", "approve web-2"),
            failed(4, "web-3", "host_key_unknown", "approve web-3"),
        ];
        let told = |steps: &[Value]| hints(&board("failed", steps));
        assert_eq!(told(&steps)[..2], ["nothing listens there", "approve web-1 (likewise for web-2, web-3)"]);
        steps.extend((5..12).map(|at| failed(at, &format!("web-{at}"), "host_key_unknown", &format!("{at}"))));
        let expected = "approve web-1 (likewise for web-2, web-3, web-5, web-6, web-7 and 4 more)";
        assert_eq!(told(&steps)[1], expected);
    }

    #[test]
    fn an_unconfirmed_kill_is_told_once_with_what_finishes_it() {
        let unconfirmed = |position: u64| {
            let mut step = step(position, &format!("web-{position}"), "cancelled");
            step["detail"] = json!("its processes may still run");
            step["kill"] = json!({"result": "unconfirmed", "detail": "no route; run on it:  kill 7"});
            step
        };
        let one = board("cancelled", &[unconfirmed(0)]);
        assert_eq!(end(&one, PLAIN), "cancelled: its processes may still run (10.1s)");
        assert_eq!(hints(&one)[0], "kill unconfirmed on web-0: no route; run on it:  kill 7");
        let many = board("cancelled", &(0..9).map(unconfirmed).collect::<Vec<_>>());
        assert!(marks(&many, PLAIN)[0].starts_with("− web-0 cancelled, kill unconfirmed"));
        assert_eq!(hints(&many)[3], "6 more kills are unconfirmed; see  birun execution steps 7d20c1a9");
    }

    #[test]
    fn of_many_targets_only_those_that_need_a_look_are_marked() {
        let mut steps: Vec<Value> = (0..200).map(|at| step(at, &format!("web-{at}"), "succeeded")).collect();
        steps[7] = step(7, "web-7", "failed");
        steps[7]["signal"] = json!("SEGV");
        assert_eq!(marks(&board("failed", &steps), PLAIN), ["✖ web-7 signal SEGV"]);
        let bad: Vec<Value> = (0..80).map(|at| step(at, &format!("web-{at}"), "unreachable")).collect();
        let lines = marks(&board("failed", &bad), PLAIN);
        assert_eq!(lines.last().unwrap(), "… and 30 more");
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH));
    }
}
