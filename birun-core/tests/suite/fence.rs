//! A worker that cannot renew its leases.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use birun_core::engine::Engine;
use birun_core::execution::ExecutionStatus;
use birun_core::script::LostPolicy;
use birun_core::testing::{ManualClock, TestEngine};
use chrono::DateTime;

use crate::engine::{end, local, script, settings, store};
use crate::faulty::{Faulty, unavailable};

const LEASE: Duration = Duration::from_secs(30);
/// So long before its end what another worker may run again is ended.
const MARGIN: Duration = Duration::from_secs(5);

/// Moves time on a little, twenty times as fast as it is, so that everyone can act on that.
async fn pass(clock: &ManualClock) {
    clock.advance(Duration::from_millis(100));
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// Waits for what happens while time stands still.
async fn until(what: &str, is_so: impl Fn() -> bool + Send + Sync) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect(what);
}

pub(crate) async fn before_its_lease_runs_out_a_worker_ends_what_another_may_run_again_and_nothing_else() {
    let (outage, fake) = (Arc::new(AtomicBool::new(false)), local());
    let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
    // When the last renewal was sent that was answered: from then on the lease is counted.
    let contact = Arc::new(Mutex::new(Duration::ZERO));
    let meet = {
        let (outage, clock, contact) = (Arc::clone(&outage), Arc::clone(&clock), Arc::clone(&contact));
        move |method: &'static str| {
            if outage.load(SeqCst) {
                return unavailable();
            }
            if method == "renew" {
                *contact.lock().unwrap_or_else(PoisonError::into_inner) = clock.elapsed();
            }
            None
        }
    };
    let since_contact = || clock.elapsed() - *contact.lock().unwrap_or_else(PoisonError::into_inner);
    let faulty = Faulty::new(store().await, meet).with_leases_of(LEASE);
    let builder =
        Engine::builder_over(Arc::new(faulty)).executor(fake.clone()).clock(Arc::<ManualClock>::clone(&clock));
    let engine = TestEngine::start(builder).await.expect("starts");
    let gate = engine.gate();
    let repeatable = settings(|settings| settings.on_lost = LostPolicy::Retry);
    let repeated = gate.run(script("hang").settings(repeatable)).await.expect("accepted");
    let kept = gate.run(script("hang")).await.expect("accepted");
    fake.has_begun(2).await;
    while since_contact() == clock.elapsed() {
        pass(&clock).await;
    }
    outage.store(true, SeqCst);
    while since_contact() < LEASE - MARGIN - Duration::from_secs(1) {
        assert_eq!(fake.running(), 2, "ended {:?} after the last renewal", since_contact());
        pass(&clock).await;
    }
    // From here on the time that is left is not touched: another worker may run it when that is over.
    let left = LEASE - Duration::from_millis(200) - since_contact();
    clock.advance(left);
    until("what another may run has ended", || fake.running() == 1).await;
    // Nothing ends what nobody else would run, however long it takes.
    for _ in 0..100 {
        pass(&clock).await;
    }
    assert_eq!(fake.running(), 1);
    // Storage is back, and nobody took anything over: one is run again, the other never stopped.
    outage.store(false, SeqCst);
    while fake.runs().len() < 3 {
        clock.advance(Duration::from_millis(100));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(fake.running(), 2);
    for run in [&repeated, &kept] {
        gate.cancel(&run.id().into()).await.expect("requested");
        assert_eq!(end(&clock, run).await.status, ExecutionStatus::Cancelled);
    }
    assert_eq!(fake.runs().len(), 3, "what may not be repeated ran once");
}
