//! What people decide about host keys, several at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use birun_core::engine::Engine;
use birun_core::id::{HostKeyId, ProjectId, Selector};
use birun_core::inventory::{HostKey, HostKeyOrigin, HostKeyStatus};
use birun_core::store::StoreError;
use birun_core::testing::store::make::audit;
use birun_core::testing::{FakeExecutor, scope};
use birun_core::{ErrorCode, Gate, Store};

use crate::engine::{server, store};
use crate::faulty::Faulty;

async fn gate_over(store: Arc<dyn Store>) -> Gate {
    Engine::builder_over(store).executor(FakeExecutor::named("fake")).build().await.expect("builds").system()
}

/// A key that a server offered, and nobody has decided about.
async fn pending(store: &dyn Store, gate: &Gate, number: usize) -> Selector {
    let server = gate.create_server(server(number)).await.expect("a server is created");
    let key = HostKey {
        id: HostKeyId::new(),
        project_id: ProjectId::DEFAULT,
        server_id: server.id,
        algorithm: "ssh-ed25519".to_owned(),
        key: "AAAA".to_owned(),
        fingerprint: "SHA256:x".to_owned(),
        status: HostKeyStatus::Pending,
        origin: HostKeyOrigin::Manual,
        version: 1,
        created_at: server.created_at,
        updated_at: server.created_at,
    };
    store.create_host_key(&scope(ProjectId::DEFAULT), &key, &audit("host_key.pending")).await.expect("recorded");
    key.id.into()
}

/// Someone else decided between the look at the key and the decision.
pub(crate) async fn a_decision_that_came_second_looks_at_the_key_again() {
    for decision in ["approve_host_key", "update_host_key"] {
        let (inner, asked) = (store().await, Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&asked);
        let stale_once = move |method: &'static str| {
            let first = method == decision && counted.fetch_add(1, SeqCst) == 0;
            first.then_some(StoreError::Stale { kind: "host key" })
        };
        let gate = gate_over(Arc::new(Faulty::new(Arc::clone(&inner), stale_once))).await;
        let key = pending(&*inner, &gate, 0).await;
        assert_eq!(gate.approve_host_key(&key).await.expect("approved").status, HostKeyStatus::Approved);
        assert_eq!(gate.revoke_host_key(&key).await.expect("revoked").status, HostKeyStatus::Revoked);
        assert_eq!(asked.load(SeqCst), 2, "{decision}");
    }
}

pub(crate) async fn a_store_that_always_says_stale_is_not_asked_for_ever() {
    let inner = store().await;
    let decides = |method: &'static str| matches!(method, "approve_host_key" | "update_host_key");
    let stale = move |method: &'static str| decides(method).then_some(StoreError::Stale { kind: "host key" });
    let gate = gate_over(Arc::new(Faulty::new(Arc::clone(&inner), stale))).await;
    let key = pending(&*inner, &gate, 0).await;
    assert_eq!(gate.approve_host_key(&key).await.expect_err("refused").code(), ErrorCode::Conflict);
    assert_eq!(gate.revoke_host_key(&key).await.expect_err("refused").code(), ErrorCode::Conflict);
}

pub(crate) async fn of_an_approval_and_a_revocation_at_once_the_revocation_holds() {
    let inner = store().await;
    let gate = gate_over(Arc::clone(&inner)).await;
    for number in 0..20 {
        let key = pending(&*inner, &gate, number).await;
        let (approved, again, revoked) =
            tokio::join!(gate.approve_host_key(&key), gate.approve_host_key(&key), gate.revoke_host_key(&key));
        assert_eq!(revoked.expect("revoked").status, HostKeyStatus::Revoked);
        for refused in [approved, again].into_iter().filter_map(Result::err) {
            assert_eq!(refused.code(), ErrorCode::Conflict, "{refused}");
        }
        assert_eq!(gate.host_key(&key).await.expect("read").status, HostKeyStatus::Revoked);
    }
}
