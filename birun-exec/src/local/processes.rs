//! The process table, and which of its processes belong to a step.

use std::io;
use std::sync::Arc;

use birun_core::id::StepId;
use rustix::process::{Pid, getpid};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::proc_fs;

/// A living process, identified by its number and the moment when it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// Its number, which another process may get after its end.
    pub(super) pid: Pid,
    /// Who started it, or who adopted it.
    pub(super) parent: Option<Pid>,
    /// The session that it is in: the number of the process that began it.
    pub(super) session: Option<Pid>,
    /// When it was started, in clock ticks since boot.
    pub(super) started: u64,
    /// Whether it was stopped by a signal, so that it cannot obey before it continues.
    pub(super) stopped: bool,
    /// The step whose `BIRUN_STEP_ID` it carries.
    pub(super) step: Option<StepId>,
}

/// The session that was begun for a program, which leads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// The number of the leader.
    pub(super) leader: Pid,
    /// When the leader was started, if that could be seen.
    pub(super) started: Option<u64>,
}

impl Session {
    /// The session of a program that was just started and has not been collected.
    pub(super) fn of_new(leader: Pid) -> Self {
        let started = proc_fs::started(leader).unwrap_or_else(|error| {
            tracing::debug!(%error, "the start of a program could not be read");
            None
        });
        Self { leader, started }
    }

    /// Whether the number is not another process's by now. While anyone is left in a session, its
    /// number is given to nobody.
    fn is_still(&self, table: &[Process]) -> bool {
        table.iter().all(|process| process.pid != self.leader || Some(process.started) == self.started)
    }
}

/// Reads the process table, once for all who ask at the same time.
#[derive(Debug, Default)]
pub(super) struct ProcessTable {
    latest: Mutex<Option<Reading>>,
}

#[derive(Debug)]
struct Reading {
    begun: Instant,
    processes: Arc<[Process]>,
}

impl ProcessTable {
    /// The processes of a step that were alive at some moment after the call, oldest first.
    ///
    /// Those are the ones that carry its mark, everyone in `session` (that of a program whose leader
    /// is known) and in sessions that a marked process leads, and the descendants of all these: so
    /// a child that hides its environment (`sudo`, `env -i`) is found as well. The calling process
    /// is never among them.
    ///
    /// # Errors
    /// If the table cannot be read to its end, or does not show even the calling process: then an
    /// empty list would prove nothing.
    pub(super) async fn of_step(&self, step: StepId, session: Option<Session>) -> io::Result<Vec<Process>> {
        complete(&self.read().await?, getpid()).map(|table| members(table, step, session, getpid()))
    }

    /// A reading that began after the call.
    async fn read(&self) -> io::Result<Arc<[Process]>> {
        let asked = Instant::now();
        let mut latest = self.latest.lock().await;
        if let Some(reading) = latest.as_ref().filter(|reading| reading.begun >= asked) {
            return Ok(Arc::clone(&reading.processes));
        }
        let begun = Instant::now();
        let processes: Arc<[Process]> = tokio::task::spawn_blocking(proc_fs::read_all).await??.into();
        *latest = Some(Reading { begun, processes: Arc::clone(&processes) });
        Ok(processes)
    }
}

fn complete(table: &[Process], own: Pid) -> io::Result<&[Process]> {
    let shows_us = table.iter().any(|process| process.pid == own);
    if shows_us { Ok(table) } else { Err(io::Error::other("it does not show even this process")) }
}

fn members(table: &[Process], step: StepId, session: Option<Session>, own: Pid) -> Vec<Process> {
    let session = session.filter(|session| session.is_still(table)).map(|session| session.leader);
    let (mut members, mut others): (Vec<Process>, Vec<Process>) =
        table.iter().filter(|process| process.pid != own).partition(|process| process.step == Some(step));
    loop {
        let belongs = |process: &Process| {
            let hangs_on = |member: &Process| [process.session, process.parent].contains(&Some(member.pid));
            (session.is_some() && process.session == session) || members.iter().any(hangs_on)
        };
        let (found, rest): (Vec<Process>, Vec<Process>) = others.into_iter().partition(belongs);
        if found.is_empty() {
            break;
        }
        members.extend(found);
        others = rest;
    }
    members.sort_by_key(|process| (process.started, process.pid.as_raw_nonzero()));
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, session: i32, step: Option<StepId>) -> Process {
        let (parent, session) = (Pid::from_raw(parent), Pid::from_raw(session));
        let pid = Pid::from_raw(pid).unwrap();
        Process { pid, parent, session, started: 100, stopped: false, step }
    }

    fn pids(table: &[Process], step: StepId, session: Option<i32>) -> Vec<i32> {
        let leader = session.and_then(Pid::from_raw);
        let session = leader.map(|leader| Session { leader, started: Some(100) });
        let found = members(table, step, session, Pid::from_raw(1000).unwrap());
        found.iter().map(|process| process.pid.as_raw_nonzero().get()).collect()
    }

    #[test]
    fn a_tree_is_what_is_marked_and_what_hangs_on_it() {
        let (step, other) = (StepId::new(), StepId::new());
        let table = [
            process(1, 0, 1, None),
            process(1000, 1, 900, None),
            process(10, 1000, 10, Some(step)),
            process(11, 10, 10, Some(step)),
            // It hides its environment, and its child does so too, in a session of its own.
            process(12, 11, 10, None),
            process(13, 12, 13, None),
            // Left its session and its parent, but not its mark.
            process(14, 1, 14, Some(step)),
            process(20, 1000, 20, Some(other)),
            process(21, 20, 20, None),
        ];
        assert_eq!(pids(&table, step, None), [10, 11, 12, 13, 14]);
        assert_eq!(pids(&table, other, None), [20, 21]);
        assert_eq!(pids(&table, StepId::new(), None), [] as [i32; 0]);
    }

    #[test]
    fn the_session_of_a_known_leader_counts_after_its_end() {
        let table = [process(12, 1, 10, None), process(30, 1, 30, None)];
        assert_eq!(pids(&table, StepId::new(), Some(10)), [12]);
    }

    #[test]
    fn a_number_that_another_process_has_got_is_no_session_of_ours() {
        let other = StepId::new();
        let newcomer = Process { started: 101, ..process(10, 1, 10, Some(other)) };
        let table = [newcomer, process(11, 10, 10, Some(other)), process(12, 1, 10, None)];
        assert_eq!(pids(&table, StepId::new(), Some(10)), [] as [i32; 0]);
        let table = [process(10, 1, 10, None), process(12, 1, 10, None)];
        assert_eq!(pids(&table, StepId::new(), Some(10)), [10, 12]);
    }

    #[test]
    fn a_table_without_its_reader_is_not_complete() {
        let table = [process(1, 0, 1, None), process(10, 1, 10, None)];
        assert!(complete(&table, Pid::from_raw(1000).unwrap()).is_err());
        assert!(complete(&table, Pid::from_raw(10).unwrap()).is_ok());
    }

    #[test]
    fn the_engine_itself_and_its_session_are_never_part_of_a_tree() {
        let step = StepId::new();
        let table =
            [process(1000, 900, 900, Some(step)), process(1001, 900, 900, None), process(1002, 1, 900, Some(step))];
        assert_eq!(pids(&table, step, None), [1002]);
    }

    #[tokio::test]
    async fn a_reading_is_shared_by_those_who_asked_before_it_began() {
        let table = ProcessTable::default();
        let first = table.read().await.unwrap();
        let second = table.read().await.unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        let (a, b, c) = tokio::join!(table.read(), table.read(), table.read());
        let distinct = [&a, &b, &c].map(|reading| Arc::as_ptr(reading.as_ref().unwrap()));
        assert_eq!(distinct[1], distinct[2]);
    }
}
