//! Host keys: no attempt to sign in and no byte of the script for a server that is not trusted.

use std::sync::Arc;

use birun_core::ErrorCode;
use birun_core::execution::{Executor, ServerTarget, Stage, StageStatus, Target};
use birun_core::inventory::{HostKeyPolicy, HostKeyStatus, Refusal, Verdict};
use birun_core::testing::harness::Suite;
use birun_exec::ssh::SshExecutor;
use birun_exec::testing::{Notes, Script, ScriptedServer, private_key, recorded};
use russh::keys::ssh_key::private::RsaKeypair;
use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};

use super::support::{patient, run, run_trusting, work};

const ECDSA: Algorithm = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };

pub(crate) fn add_to(suite: &mut Suite) {
    suite.test("ssh::host_key::an_unknown_key_is_refused", &[], an_unknown_key_is_refused);
    suite.test("ssh::host_key::a_changed_key_is_refused", &[], a_changed_key_is_refused);
    suite.test("ssh::host_key::another_type_is_a_changed_key", &[], another_type_is_a_changed_key);
    suite.test("ssh::host_key::a_revoked_key_is_refused", &[], a_revoked_key_is_refused);
    suite.test("ssh::host_key::a_pending_key_is_refused", &[], a_pending_key_is_refused);
    suite.test("ssh::host_key::a_new_key_is_accepted_and_noted_first", &[], a_new_key_is_accepted);
    suite.test("ssh::host_key::accept_new_refuses_a_changed_key", &[], accept_new_refuses_a_changed_key);
    suite.test("ssh::host_key::after_a_revoked_key_no_key_is_new", &[], after_a_revoked_key_no_key_is_new);
    suite.test("ssh::host_key::a_target_has_its_own_policy", &[], a_target_has_its_own_policy);
    suite.test("ssh::host_key::what_cannot_be_noted_is_not_trusted", &[], what_cannot_be_noted);
    suite.test("ssh::host_key::a_server_with_several_keys_shows_the_recorded_one", &[], several_keys);
    suite.test("ssh::host_key::a_short_rsa_key_is_refused", &[], a_short_rsa_key_is_refused);
    suite.test("ssh::host_key::a_kept_connection_is_not_used_once_its_key_is_revoked", &[], revoked_while_kept);
    suite.test("ssh::host_key::killing_trusts_nothing_new", &[], killing_trusts_nothing_new);
    suite.test("ssh::host_key::a_probe_names_the_stage", &[], a_probe_names_the_stage);
}

async fn server() -> (ScriptedServer, ServerTarget) {
    let server = ScriptedServer::start(Script::default()).await;
    let target = server.target();
    (server, target)
}

/// Runs against a refusal and checks what every refusal has in common.
async fn refused(server: &ScriptedServer, target: ServerTarget, code: ErrorCode) -> (String, Verdict) {
    let target = Arc::new(target);
    let notes = Notes::new();
    let ran = run_trusting(&patient(), work(&target, "true"), Arc::clone(&notes) as _).await;
    let error = ran.unreachable();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.hint().is_some());
    assert!(!error.is_retryable());
    assert_eq!(server.witness().attempts(), 0, "nobody tried to sign in");
    assert_eq!((server.witness().commands(), server.witness().input()), (0, 0), "nothing was sent");
    let mut verdicts = notes.verdicts();
    assert_eq!(verdicts.len(), 1);
    let text = format!("{error}; {}", error.hint().unwrap_or_default());
    (text, verdicts.remove(0))
}

async fn an_unknown_key_is_refused() {
    let (server, mut target) = server().await;
    target.host_keys.clear();
    let (text, verdict) = refused(&server, target, ErrorCode::HostKeyUnknown).await;
    let fingerprint = &server.host_keys()[0].fingerprint;
    assert!(text.contains(&format!("birun server host-key approve web-1 {fingerprint}")), "{text}");
    assert_eq!(verdict, Verdict::Refuse(Refusal::Unknown));
}

async fn a_changed_key_is_refused() {
    let (server, mut target) = server().await;
    let other = recorded(private_key(Algorithm::Ed25519).public_key(), HostKeyStatus::Approved);
    target.host_keys = vec![other.clone()];
    let (text, verdict) = refused(&server, target, ErrorCode::HostKeyMismatch).await;
    for fingerprint in [&other.fingerprint, &server.host_keys()[0].fingerprint] {
        assert!(text.contains(fingerprint.as_str()), "{text}");
    }
    assert_eq!(verdict, Verdict::Refuse(Refusal::Changed { expected: vec![other.fingerprint] }));
}

/// The server is asked for the recorded type, has none, and is asked once more for any.
async fn another_type_is_a_changed_key() {
    let (server, mut target) = server().await;
    let other = recorded(private_key(ECDSA).public_key(), HostKeyStatus::Approved);
    target.host_keys = vec![other.clone()];
    let (text, _) = refused(&server, target, ErrorCode::HostKeyMismatch).await;
    for fingerprint in [&other.fingerprint, &server.host_keys()[0].fingerprint] {
        assert!(text.contains(fingerprint.as_str()), "{text}");
    }
    assert_eq!(server.witness().connections(), 2);
}

async fn a_revoked_key_is_refused() {
    let (server, mut target) = server().await;
    target.host_keys[0].status = HostKeyStatus::Revoked;
    let (_, verdict) = refused(&server, target, ErrorCode::HostKeyRevoked).await;
    assert_eq!(verdict, Verdict::Refuse(Refusal::Revoked));
}

async fn after_a_revoked_key_no_key_is_new() {
    let (server, mut target) = server().await;
    target.host_keys = vec![recorded(private_key(ECDSA).public_key(), HostKeyStatus::Revoked)];
    target.host_key_policy = Some(HostKeyPolicy::AcceptNew);
    let named = target.host_keys[0].fingerprint.clone();
    let ran = run(&patient(), &Arc::new(target), "true").await;
    assert_eq!(ran.unreachable().code(), ErrorCode::HostKeyUnknown);
    assert!(ran.unreachable().to_string().contains(&format!("whose {named} was revoked")), "{ran:?}");
    assert_eq!(server.witness().attempts(), 0);
}

async fn a_pending_key_is_refused() {
    let (server, mut target) = server().await;
    target.host_keys[0].status = HostKeyStatus::Pending;
    refused(&server, target, ErrorCode::HostKeyUnknown).await;
}

async fn a_new_key_is_accepted() {
    let (server, mut target) = server().await;
    target.host_keys.clear();
    let executor = SshExecutor::builder(HostKeyPolicy::AcceptNew).build().unwrap();
    let notes = Notes::new();
    let target = Arc::new(target);
    let ran = run_trusting(&executor, work(&target, "true"), Arc::clone(&notes) as _).await;
    assert_eq!(ran.code(), 0);
    assert_eq!(notes.verdicts(), [Verdict::TrustAndRecord]);
    assert!(server.witness().attempts() > 0);
}

async fn accept_new_refuses_a_changed_key() {
    let (server, mut target) = server().await;
    target.host_keys = vec![recorded(private_key(Algorithm::Ed25519).public_key(), HostKeyStatus::Approved)];
    target.host_key_policy = Some(HostKeyPolicy::AcceptNew);
    refused(&server, target, ErrorCode::HostKeyMismatch).await;
}

async fn a_target_has_its_own_policy() {
    let (server, mut target) = server().await;
    target.host_keys.clear();
    target.host_key_policy = Some(HostKeyPolicy::AcceptNew);
    assert_eq!(run(&patient(), &Arc::new(target.clone()), "true").await.code(), 0);
    target.host_key_policy = Some(HostKeyPolicy::Strict);
    target.revision += 1;
    let lenient = SshExecutor::builder(HostKeyPolicy::AcceptNew).build().unwrap();
    let ran = run(&lenient, &Arc::new(target), "true").await;
    assert_eq!(ran.unreachable().code(), ErrorCode::HostKeyUnknown);
    drop(server);
}

async fn what_cannot_be_noted() {
    let (server, mut target) = server().await;
    target.host_keys.clear();
    target.host_key_policy = Some(HostKeyPolicy::AcceptNew);
    let ran = run_trusting(&patient(), work(&Arc::new(target), "true"), Notes::broken()).await;
    assert_eq!(ran.unreachable().to_string(), "the notes are closed");
    assert_eq!(server.witness().attempts(), 0);
}

async fn several_keys() {
    let host_keys = vec![Algorithm::Ed25519, ECDSA];
    let server = ScriptedServer::start(Script { host_keys, ..Script::default() }).await;
    for only in 0..2 {
        let mut target = server.target();
        target.host_keys = vec![server.host_keys()[only].clone()];
        assert_eq!(run(&patient(), &Arc::new(target), "true").await.code(), 0, "key {only}");
    }
}

async fn a_short_rsa_key_is_refused() {
    let short = RsaKeypair::random(&mut russh::keys::key::safe_rng(), 1024).unwrap();
    let server = ScriptedServer::with_keys(Script::default(), vec![PrivateKey::from(short)]).await;
    let ran = run(&patient(), &Arc::new(server.target()), "true").await;
    let error = ran.unreachable();
    assert_eq!(error.code(), ErrorCode::ProtocolError);
    assert!(error.to_string().contains("less than 2048 bits"), "{error}");
    assert_eq!(server.witness().attempts(), 0);
}

async fn revoked_while_kept() {
    let (server, mut target) = server().await;
    let executor = patient();
    assert_eq!(run(&executor, &Arc::new(target.clone()), "true").await.code(), 0);
    target.host_keys[0].status = HostKeyStatus::Revoked;
    let ran = run(&executor, &Arc::new(target), "true").await;
    assert_eq!(ran.unreachable().code(), ErrorCode::HostKeyRevoked);
    assert_eq!(server.witness().commands(), 1);
}

async fn killing_trusts_nothing_new() {
    let (server, mut target) = server().await;
    target.host_keys.clear();
    target.host_key_policy = Some(HostKeyPolicy::AcceptNew);
    let executor = patient();
    let target = Arc::new(target);
    let handle = executor.handle(&work(&target, "true"));
    let kill = executor.kill(&Target::Server(target), &handle, std::time::Duration::ZERO).await;
    let birun_core::execution::Kill::Unconfirmed { detail } = kill else { panic!("{kill:?}") };
    assert!(detail.contains("no host key is approved for web-1"), "{detail}");
    assert!(detail.contains("kill -KILL"), "{detail}");
    assert_eq!(server.witness().attempts(), 0);
}

async fn a_probe_names_the_stage() {
    let (server, mut target) = server().await;
    target.host_keys.clear();
    let probe = patient().probe(&Target::Server(Arc::new(target)), Notes::new()).await;
    let statuses: Vec<(Stage, StageStatus)> = probe.stages.iter().map(|stage| (stage.stage, stage.status)).collect();
    assert_eq!(
        statuses,
        [
            (Stage::Resolve, StageStatus::Ok),
            (Stage::Connect, StageStatus::Ok),
            (Stage::Handshake, StageStatus::Ok),
            (Stage::HostKey, StageStatus::Failed),
            (Stage::Authentication, StageStatus::NotTried),
            (Stage::Shell, StageStatus::NotTried),
        ]
    );
    assert!(!probe.ok);
    assert_eq!(probe.stages[3].code, Some(ErrorCode::HostKeyUnknown));
    assert!(probe.stages[3].hint.is_some());
    assert_eq!(probe.host_key, Some(format!("ssh-ed25519 {}", server.host_keys()[0].fingerprint)));
}
