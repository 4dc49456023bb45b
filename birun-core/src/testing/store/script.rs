//! Promises about scripts.

use serde_json::json;

use super::make::{at, audit, audited, elsewhere, here, name, script_run, submit};
use crate::execution::{ExecutionStatus, Submission};
use crate::id::{ProjectId, ScriptId};
use crate::page::PageRequest;
use crate::script::{
    Content, Interpreter, ParamKind, ParamSpec, RunSettings, Script, ScriptFilter, ScriptSpec, ScriptSummary,
    ScriptVersion,
};
use crate::store::{Store, StoreError};

fn script(text: &str) -> Script {
    Script {
        id: ScriptId::new(),
        project_id: ProjectId::DEFAULT,
        name: name(text),
        description: "a script".to_owned(),
        latest: 1,
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

fn version(script: &Script, number: u32, body: &str) -> ScriptVersion {
    let parameter = ParamSpec {
        name: "LIMIT".parse().unwrap(),
        kind: ParamKind::Number,
        required: true,
        default: Some(json!(80)),
        pattern: None,
        choices: Vec::new(),
        description: "percent".to_owned(),
    };
    ScriptVersion {
        script_id: script.id,
        number,
        spec: ScriptSpec {
            content: Content::new(body).unwrap(),
            interpreter: Interpreter::Path("/opt/ruby/bin/ruby".to_owned()),
            parameters: vec![parameter],
            targets: Some("tag:prod,!web-3".parse().unwrap()),
            timeout_ms: Some(60_000),
            settings: RunSettings::default(),
        },
        created_at: at(i64::from(number)),
        created_by: "ana".to_owned(),
    }
}

async fn create(store: &dyn Store, script: &Script, body: &str) {
    let first = version(script, 1, body);
    store.create_script(&here(), script, &first, &audit("script.create")).await.unwrap();
}

pub(super) async fn a_created_script_reads_back_as_it_was(store: &dyn Store) {
    let script = script("disk");
    let first = version(&script, 1, "df -h\n# ünïcödé 🐘\r\n\ttab");
    store.create_script(&here(), &script, &first, &audit("script.create")).await.unwrap();
    assert_eq!(store.script(&here(), &script.id.into()).await.unwrap(), script);
    assert_eq!(store.script(&here(), &script.name.clone().into()).await.unwrap(), script);
    assert_eq!(store.script_version(&here(), script.id, 1).await.unwrap(), first);
    let unknown = store.script_version(&here(), script.id, 2).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })), "{unknown:?}");
    let bare = ScriptVersion {
        spec: ScriptSpec { targets: None, timeout_ms: None, parameters: Vec::new(), ..first.spec.clone() },
        number: 2,
        ..first
    };
    let next = Script { latest: 2, version: 2, ..script };
    store.update_script(&here(), &next, Some(&bare), &audit("script.edit")).await.unwrap();
    assert_eq!(store.script_version(&here(), next.id, 2).await.unwrap(), bare);
}

pub(super) async fn a_script_name_is_taken_once_in_a_project(store: &dyn Store) {
    create(store, &script("disk"), "df").await;
    let namesake = script("disk");
    let first = version(&namesake, 1, "du");
    let second = store.create_script(&here(), &namesake, &first, &audit("script.create")).await;
    assert!(matches!(second, Err(StoreError::Conflict { .. })), "{second:?}");
    // Its body was not kept either.
    assert!(store.content(&here(), &first.spec.content.hash()).await.is_err());
    store.create_script(&elsewhere(), &namesake, &first, &audit("script.create")).await.unwrap();
}

pub(super) async fn an_update_adds_a_version_if_one_is_given(store: &dyn Store) {
    let first = script("disk");
    create(store, &first, "df").await;
    let renamed = Script { name: name("disks"), version: 2, updated_at: at(2), ..first };
    store.update_script(&here(), &renamed, None, &audit("script.edit")).await.unwrap();
    assert_eq!(store.script(&here(), &renamed.id.into()).await.unwrap(), renamed);
    let edited = Script { latest: 2, version: 3, ..renamed };
    let added = version(&edited, 2, "df -h");
    store.update_script(&here(), &edited, Some(&added), &audit("script.edit")).await.unwrap();
    assert_eq!(store.script(&here(), &edited.id.into()).await.unwrap(), edited);
    let numbers = store.script_versions(&here(), edited.id, None, 10).await.unwrap();
    assert_eq!(numbers.iter().map(|version| version.number).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(audited(store).await, 3);
}

pub(super) async fn a_stale_script_is_neither_updated_nor_deleted(store: &dyn Store) {
    let first = script("disk");
    create(store, &first, "df").await;
    let stale = Script { latest: 2, version: 3, ..first.clone() };
    let added = version(&stale, 2, "df -h");
    let updated = store.update_script(&here(), &stale, Some(&added), &audit("script.edit")).await;
    assert!(matches!(updated, Err(StoreError::Stale { .. })), "{updated:?}");
    let deleted = store.delete_script(&here(), &stale, &audit("script.delete")).await;
    assert!(matches!(deleted, Err(StoreError::Stale { .. })), "{deleted:?}");
    assert_eq!(store.script(&here(), &first.id.into()).await.unwrap(), first);
    assert_eq!(store.script_versions(&here(), first.id, None, 10).await.unwrap().len(), 1);
}

pub(super) async fn a_deleted_script_takes_its_versions_along(store: &dyn Store) {
    let script = script("disk");
    create(store, &script, "df").await;
    store.delete_script(&here(), &script, &audit("script.delete")).await.unwrap();
    assert!(matches!(store.script(&here(), &script.id.into()).await, Err(StoreError::NotFound { .. })));
    assert!(store.script_version(&here(), script.id, 1).await.is_err());
    assert!(store.script_versions(&here(), script.id, None, 10).await.unwrap().is_empty());
    assert!(store.content(&here(), &Content::new("df").unwrap().hash()).await.is_err());
}

pub(super) async fn a_body_is_kept_while_something_refers_to_it(store: &dyn Store) {
    let (one, two) = (script("one"), script("two"));
    let run = script_run(one.id, "one");
    let body = run.content.clone().unwrap();
    create(store, &one, body.as_str()).await;
    create(store, &two, body.as_str()).await;
    // The run says nothing of its body: it is stored.
    let run = Submission { content: None, ..run };
    submit(store, &run).await;
    for script in [&one, &two] {
        store.delete_script(&here(), script, &audit("script.delete")).await.unwrap();
        assert_eq!(store.content(&here(), &body.hash()).await.unwrap(), body);
    }
    let ran = store.execution(&here(), &run.execution.id.into()).await.unwrap();
    assert_eq!(ran.subject, run.execution.subject);
    let worker = super::make::worker(store).await;
    let claimed = super::make::claim_one(store, worker, 1).await;
    super::make::drive(store, &claimed, ExecutionStatus::Succeeded, 2).await;
    store.delete_execution(&here(), run.execution.id, &audit("execution.delete")).await.unwrap();
    assert!(store.content(&here(), &body.hash()).await.is_err());
}

pub(super) async fn scripts_are_found_by_a_part_of_their_name(store: &dyn Store) {
    for text in ["disk-report", "disk_clean", "report", "DISK"] {
        create(store, &script(text), text).await;
    }
    let found = |part: &str| {
        let filter = ScriptFilter { name_contains: Some(part.to_owned()) };
        async move {
            let page = store.scripts(&here(), &filter, PageRequest::default()).await.unwrap();
            let mut names: Vec<String> = page.items.iter().map(|listed| listed.script.name.to_string()).collect();
            names.sort_unstable();
            names
        }
    };
    assert_eq!(found("disk").await, ["disk-report", "disk_clean"]);
    assert_eq!(found("report").await, ["disk-report", "report"]);
    assert_eq!(found("_").await, ["disk_clean"]);
    assert!(found("%").await.is_empty());
    assert_eq!(found("").await.len(), 4);
}

pub(super) async fn scripts_are_listed_with_their_newest_version(store: &dyn Store) {
    let (one, two) = (script("one"), script("two"));
    create(store, &one, "df").await;
    create(store, &two, "df").await;
    let one = Script { latest: 2, version: 2, ..one };
    let mut added = version(&one, 2, "df -h");
    added.spec.timeout_ms = None;
    added.spec.interpreter = Interpreter::Sh;
    store.update_script(&here(), &one, Some(&added), &audit("script.edit")).await.unwrap();
    let renamed = Script { name: name("uno"), version: 3, ..one };
    store.update_script(&here(), &renamed, None, &audit("script.edit")).await.unwrap();

    let mut expected =
        [ScriptSummary::of(renamed, added.spec).0, ScriptSummary::of(two.clone(), version(&two, 1, "df").spec).0];
    expected.sort_by_key(|listed| std::cmp::Reverse(listed.script.id));
    let page = |request| async move { store.scripts(&here(), &ScriptFilter::default(), request).await.unwrap() };
    assert_eq!(page(PageRequest::default()).await.items, expected);
    let first = page(PageRequest::new(1, None).unwrap()).await;
    let rest = page(PageRequest::new(1, first.next).unwrap()).await;
    assert_eq!(([first.items, rest.items].concat().as_slice(), rest.next), (&expected[..], None));
}

pub(super) async fn a_version_that_does_not_exist_is_told_with_the_name_of_its_script(store: &dyn Store) {
    let script = script("disk");
    create(store, &script, "df").await;
    let missing = store.script_version(&here(), script.id, 9).await.unwrap_err();
    assert_eq!(missing.to_string(), "no script version `disk v9`");
}

pub(super) async fn versions_are_listed_newest_first(store: &dyn Store) {
    let mut script = script("disk");
    create(store, &script, "df 1").await;
    for number in 2..=5 {
        script = Script { latest: number, version: u64::from(number), ..script };
        let added = version(&script, number, &format!("df {number}"));
        store.update_script(&here(), &script, Some(&added), &audit("script.edit")).await.unwrap();
    }
    let numbers = |before: Option<u32>| async move {
        let versions = store.script_versions(&here(), script.id, before, 2).await.unwrap();
        versions.iter().map(|version| version.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(None).await, [5, 4]);
    assert_eq!(numbers(Some(4)).await, [3, 2]);
    assert_eq!(numbers(Some(2)).await, [1]);
}

pub(super) async fn a_script_of_another_project_does_not_exist(store: &dyn Store) {
    let script = script("disk");
    create(store, &script, "df").await;
    let scope = elsewhere();
    assert!(matches!(store.script(&scope, &script.id.into()).await, Err(StoreError::NotFound { .. })));
    assert!(store.script_version(&scope, script.id, 1).await.is_err());
    assert!(store.script_versions(&scope, script.id, None, 10).await.unwrap().is_empty());
    assert!(store.content(&scope, &Content::new("df").unwrap().hash()).await.is_err());
    let deleted = store.delete_script(&scope, &script, &audit("script.delete")).await;
    assert!(matches!(deleted, Err(StoreError::NotFound { .. })), "{deleted:?}");
    let page = store.scripts(&scope, &ScriptFilter::default(), PageRequest::default()).await.unwrap();
    assert!(page.items.is_empty());
}
