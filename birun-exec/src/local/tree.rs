//! Ending everything that a step has started.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use birun_core::execution::Kill;
use birun_core::id::StepId;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::proc_fs;
use super::processes::{Process, ProcessTable, Session};

/// How long killed processes are waited for before birun says that it cannot tell.
const VERIFY: Duration = Duration::from_secs(5);
/// The first wait between two looks; each further one is twice as long, up to the last.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(100);

/// The processes of a step.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    table: &'a ProcessTable,
    step: StepId,
    /// The session that was begun for the program, if that is known.
    session: Option<Session>,
    /// Fires when the leader was collected: from then on its number may become another process's.
    collected: CancellationToken,
}

impl<'a> Tree<'a> {
    /// The tree of a step whose program leads `session`, if that is known.
    pub(super) fn new(table: &'a ProcessTable, step: StepId, session: Option<Session>) -> Self {
        Self { table, step, session, collected: CancellationToken::new() }
    }

    /// To be fired when the program has been collected.
    pub(super) fn collected(&self) -> CancellationToken {
        self.collected.clone()
    }

    /// Ends it: TERM to each process, after `grace` (at once when `now` fires) KILL, until none is left.
    ///
    /// Processes that are started in the meantime are met in the same way.
    pub(super) async fn end(&self, grace: Duration, now: &CancellationToken) -> Kill {
        match self.end_each(grace, now).await {
            Ok(kill) => kill,
            Err(error) => self.end_group(grace, now, &error).await,
        }
    }

    async fn end_each(&self, grace: Duration, now: &CancellationToken) -> io::Result<Kill> {
        let deadline = Instant::now() + grace;
        let mut looks = Looks::default();
        let mut told = HashSet::new();
        let mut alive = self.alive().await?;
        if alive.is_empty() {
            return Ok(Kill::Gone);
        }
        while !alive.is_empty() && !now.is_cancelled() && Instant::now() < deadline {
            for process in alive.iter().filter(|process| told.insert((process.pid, process.started))) {
                terminate(process);
            }
            tokio::select! {
                () = looks.pause(deadline) => {}
                () = now.cancelled() => {}
            }
            alive = self.alive().await?;
        }
        self.kill_each(alive).await
    }

    async fn kill_each(&self, mut alive: Vec<Process>) -> io::Result<Kill> {
        let deadline = Instant::now() + VERIFY;
        let mut looks = Looks::default();
        let mut refused = None;
        while !alive.is_empty() {
            if Instant::now() >= deadline {
                return Ok(unconfirmed(&alive, refused));
            }
            for process in &alive {
                refused = proc_fs::signal(process, Signal::KILL).err().or(refused);
            }
            looks.pause(deadline).await;
            alive = self.alive().await?;
        }
        Ok(Kill::Confirmed)
    }

    async fn alive(&self) -> io::Result<Vec<Process>> {
        self.table.of_step(self.step, self.session).await
    }

    /// What can be done without a process table: end the process group of the leader.
    async fn end_group(&self, grace: Duration, now: &CancellationToken, error: &io::Error) -> Kill {
        let detail = format!("the process table cannot be read ({error}); look for BIRUN_STEP_ID={}", self.step);
        let deadline = Instant::now() + grace;
        let mut looks = Looks::default();
        let mut left = self.signal_group(Signal::TERM);
        while left && !now.is_cancelled() && Instant::now() < deadline {
            looks.pause(deadline).await;
            left = self.group().is_some_and(|group| test_kill_process_group(group).is_ok());
        }
        if left && !self.signal_group(Signal::KILL) {
            tracing::debug!("the process group was gone before it was killed");
        }
        Kill::Unconfirmed { detail }
    }

    /// The group of the leader, while its number is certainly its own.
    fn group(&self) -> Option<Pid> {
        self.session.filter(|_| !self.collected.is_cancelled()).map(|session| session.leader)
    }

    fn signal_group(&self, signal: Signal) -> bool {
        self.group().is_some_and(|group| kill_process_group(group, signal).is_ok())
    }
}

/// Waits that grow from look to look.
#[derive(Default)]
struct Looks(u32);

impl Looks {
    /// Waits before the next look, but never beyond the deadline.
    async fn pause(&mut self, deadline: Instant) {
        let wait = FIRST_LOOK.saturating_mul(1 << self.0.min(8)).min(LAST_LOOK);
        self.0 += 1;
        sleep(wait.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
}

/// Asks a process to end. One that cannot be asked will be killed later, and told of then.
fn terminate(process: &Process) {
    let told = proc_fs::signal(process, Signal::TERM);
    if process.stopped && told == Ok(true) && proc_fs::signal(process, Signal::CONT).is_err() {
        tracing::debug!("a stopped process could not be continued");
    }
}

fn unconfirmed(alive: &[Process], refused: Option<Errno>) -> Kill {
    let pids: Vec<String> = alive.iter().map(|process| process.pid.to_string()).collect();
    let pids = pids.join(" ");
    let why = match refused {
        Some(error) => format!("could not be killed ({error})"),
        None => format!("did not end within {} s", VERIFY.as_secs()),
    };
    Kill::Unconfirmed { detail: format!("process {pids} {why}; run on this machine: sudo kill -KILL {pids}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;

    async fn end_group(tree: &Tree<'_>) {
        let error = io::Error::other("for the test");
        let kill = tree.end_group(Duration::ZERO, &CancellationToken::new(), &error).await;
        assert!(matches!(kill, Kill::Unconfirmed { .. }), "{kill:?}");
    }

    #[tokio::test]
    async fn a_group_is_left_alone_once_its_leader_was_collected() {
        let mut sleeper = std::process::Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let session = Session::of_new(Pid::from_child(&sleeper));
        let table = ProcessTable::default();
        let tree = Tree::new(&table, StepId::new(), Some(session));
        tree.collected().cancel();
        end_group(&tree).await;
        assert_eq!(sleeper.try_wait().unwrap(), None);
        end_group(&Tree::new(&table, StepId::new(), Some(session))).await;
        assert!(!sleeper.wait().unwrap().success());
    }
}
