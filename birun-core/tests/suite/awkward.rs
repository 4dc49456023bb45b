//! Parts that do not behave: an executor whose kills answer what a case says, and a clock that panics.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use birun_core::clock::{Clock, SystemClock};
use birun_core::execution::executor::HostTrust;
use birun_core::execution::{Ending, Executor, Handle, Kill, Probe, Target, Work, WorkIo};
use birun_core::inventory::{OfferedKey, Verdict};
use birun_core::testing::FakeExecutor;
use chrono::{DateTime, Utc};

/// What an awkward executor does when it is to kill.
#[derive(Clone, Debug)]
pub(crate) enum OnKill {
    Answers(Kill),
    Panics,
}

/// The executor of the tests, but for its kills and handles.
#[derive(Clone, Debug)]
pub(crate) struct Awkward {
    pub(crate) inner: FakeExecutor,
    pub(crate) on_kill: OnKill,
    /// Whether it panics when it is asked for a handle.
    pub(crate) no_handle: bool,
    /// The host key that it meets after its script, and what it thinks of it.
    pub(crate) meets: Option<(OfferedKey, Verdict)>,
    /// Whether its runs end at once.
    pub(crate) quick: bool,
}

impl Awkward {
    /// One whose runs end at once, whatever their scripts say.
    pub(crate) fn quick(name: &str) -> Self {
        Self { quick: true, ..Self::killing(&FakeExecutor::named(name), OnKill::Answers(Kill::Gone)) }
    }

    pub(crate) fn killing(inner: &FakeExecutor, on_kill: OnKill) -> Self {
        Self { inner: inner.clone(), on_kill, no_handle: false, meets: None, quick: false }
    }
}

#[async_trait]
impl Executor for Awkward {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn handle(&self, work: &Work) -> Handle {
        assert!(!self.no_handle, "no handle today");
        self.inner.handle(work)
    }

    async fn run(&self, work: Work, io: WorkIo) -> Ending {
        if self.quick {
            return Ending::Exited { code: 0 };
        }
        let (target, trust) = (work.target.clone(), Arc::clone(&io.trust));
        let ending = self.inner.run(work, io).await;
        if let (Some((offered, verdict)), Target::Server(server)) = (&self.meets, target)
            && let Err(error) = trust.note(&server, offered, verdict).await
        {
            return Ending::Unreachable(error);
        }
        ending
    }

    async fn kill(&self, target: &Target, handle: &Handle, grace: Duration) -> Kill {
        self.inner.kill(target, handle, grace).await;
        match &self.on_kill {
            OnKill::Answers(kill) => kill.clone(),
            OnKill::Panics => panic!("no kill today"),
        }
    }

    async fn probe(&self, target: &Target, trust: Arc<dyn HostTrust>) -> Probe {
        self.inner.probe(target, trust).await
    }
}

/// The machine's clock, which panics when it is to wait for one certain time.
#[derive(Debug, Default)]
pub(crate) struct Unlucky {
    pub(crate) inner: SystemClock,
    pub(crate) number: Duration,
}

#[async_trait]
impl Clock for Unlucky {
    fn now(&self) -> DateTime<Utc> {
        self.inner.now()
    }

    fn monotonic(&self) -> Duration {
        self.inner.monotonic()
    }

    async fn sleep(&self, duration: Duration) {
        assert_ne!(duration, self.number, "an unlucky number");
        self.inner.sleep(duration).await;
    }
}
