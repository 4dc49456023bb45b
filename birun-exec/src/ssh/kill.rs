//! Ending a step's processes, through a connection of its own.
//!
//! The connection of the run may be dead, or busy with output that nobody reads; and ending a
//! connection ends nothing on the server. So the processes are looked for by the step's mark, from
//! outside, and ended until none is left.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use birun_core::execution::executor::HostTrust;
use birun_core::execution::{Kill, ServerTarget, Work, WorkIo};
use birun_core::id::StepId;
use birun_core::inventory::{OfferedKey, Verdict};
use birun_core::{Error, ErrorCode, Result};

use crate::bootstrap::cleanup_line;
use crate::ssh::channel::{Answer, Errand, SHELL, ask};
use crate::ssh::connection::Connection;
use crate::ssh::phase::{Phase, limited};
use crate::ssh::pool::{Freshness, Lane, Pool};

const PROGRAM: &str = include_str!("kill.sh");
/// What the program may take beyond the grace: ten seconds of KILL, and looks that take their time on a
/// server that has too much to do.
const EXTRA: Duration = Duration::from_secs(60);
/// The unit in which the program is told the grace.
const HUNDREDTH: Duration = Duration::from_millis(10);
/// A directory that cannot be removed in this time stays behind: nobody waits for it.
const CLEANUP: Duration = Duration::from_secs(3);

/// Ends processes on one server.
#[derive(Clone, Copy)]
pub(super) struct Killer<'a> {
    pub(super) pool: &'a Pool,
    pub(super) target: &'a Arc<ServerTarget>,
}

impl Killer<'_> {
    /// Ends a run: TERM and the work's grace, cut short when `stop.now` fires.
    ///
    /// `own` is the connection of the run; it serves where no other can be had.
    pub(super) async fn stop(&self, work: &Work, io: &WorkIo, own: Option<&Connection>) -> Kill {
        let trust = &*io.trust;
        tokio::select! {
            kill = self.end(work.step, work.grace, trust, own) => kill,
            () = io.stop.now.cancelled() => self.end(work.step, Duration::ZERO, trust, own).await,
        }
    }

    /// Ends what is left of a step: TERM, after `grace` KILL, verified.
    pub(super) async fn end(
        &self,
        step: StepId,
        grace: Duration,
        trust: &dyn HostTrust,
        own: Option<&Connection>,
    ) -> Kill {
        let input = program(step, grace);
        let errand = Errand { command: SHELL, input: &input, limit: grace + EXTRA };
        match self.ask(errand, trust, own).await {
            Ok(answer) => self.read(step, &answer),
            Err(error) => self.unconfirmed(step, &error.to_string()),
        }
    }

    async fn ask(&self, errand: Errand<'_>, trust: &dyn HostTrust, own: Option<&Connection>) -> Result<Answer> {
        let mut freshness = Freshness::Any;
        loop {
            let lease = match self.pool.lease(self.target, trust, Lane::Kill, freshness).await {
                Ok(lease) => lease,
                Err(error) => {
                    let Some(own) = own.filter(|own| !own.is_dead()) else { return Err(error) };
                    return ask(own, errand).await.map_err(|_| error);
                }
            };
            match ask(&lease.connection, errand).await {
                Ok(answer) => {
                    lease.give_back();
                    return Ok(answer);
                }
                // Asking twice does no harm.
                Err(_) if lease.reused => freshness = Freshness::New,
                Err(error) => return Err(error),
            }
        }
    }

    fn read(&self, step: StepId, answer: &Answer) -> Kill {
        match answer.text.lines().last().unwrap_or_default() {
            "gone" => Kill::Gone,
            "confirmed" => Kill::Confirmed,
            "unknown" => self.unconfirmed(step, "the server could not look at all of its processes"),
            line => match line.strip_prefix("left ") {
                Some(left) => {
                    let left = left.trim_end();
                    let name = &self.target.name;
                    let detail = format!("processes {left} are still there; run on {name}:  sudo kill -KILL {left}");
                    Kill::Unconfirmed { detail }
                }
                None => self.unconfirmed(step, &format!("the server answered `{line}`")),
            },
        }
    }

    /// What to answer when nobody can tell, with a command that finishes the job.
    pub(super) fn unconfirmed(&self, step: StepId, why: &str) -> Kill {
        let find = format!("grep -lsz BIRUN_STEP_ID={step} /proc/[0-9]*/environ | cut -d/ -f3");
        let detail = format!("{why}; run on {}:  kill -KILL $({find})", self.target.name);
        Kill::Unconfirmed { detail }
    }
}

/// Constants, the step's id and a number: nothing of the work itself.
fn program(step: StepId, grace: Duration) -> String {
    let hundredths = grace.as_millis().div_ceil(HUNDREDTH.as_millis());
    format!("id={step}\ngrace={hundredths}\n{PROGRAM}")
}

/// Removes the private directory of a program that has ended, and tells whether the server did it. A
/// failure leaves a file behind that its user alone can read, and is logged.
pub(super) async fn remove_directory(connection: &Connection, step: StepId) -> bool {
    let endpoint = connection.endpoint();
    let errand = Errand { command: &cleanup_line(step), input: "", limit: CLEANUP };
    let asked = limited(endpoint, Phase::Answer, CLEANUP, ask(connection, errand)).await;
    if let Err(error) = &asked {
        tracing::warn!(%endpoint, %step, %error, "the script's directory could not be removed");
    }
    asked.is_ok()
}

/// Takes no notes: what only looks or kills trusts no key that was not trusted before.
#[derive(Debug)]
pub(super) struct KnownKeysOnly;

#[async_trait]
impl HostTrust for KnownKeysOnly {
    async fn note(&self, server: &ServerTarget, _: &OfferedKey, verdict: &Verdict) -> Result<()> {
        match verdict {
            Verdict::Trust | Verdict::Refuse(_) => Ok(()),
            Verdict::TrustAndRecord => {
                Err(Error::new(ErrorCode::HostKeyUnknown, format!("no host key is approved for {}", server.name)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::DIRECTORY;

    #[test]
    fn the_grace_is_rounded_up_to_hundredths() {
        let told = |grace| program(StepId::new(), grace).lines().nth(1).map(str::to_owned).unwrap();
        assert_eq!(told(Duration::from_millis(245)), "grace=25");
        assert_eq!(told(Duration::from_secs(10)), "grace=1000");
        assert_eq!(told(Duration::ZERO), "grace=0");
    }

    #[test]
    fn the_program_uses_the_directory_of_the_bootstrap() {
        assert!(PROGRAM.contains(&format!("/{DIRECTORY}$id\"")));
    }
}
