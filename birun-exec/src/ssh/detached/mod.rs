//! Detached runs: the program runs by itself, and birun follows what it leaves in a directory.
//!
//! The directory is `$TMPDIR/birun-<uid>/<step id>`, with `/tmp` where there is no `$TMPDIR`; made for one
//! run and never used again, for its user alone. In it:
//!
//! | file | what it holds |
//! |---|---|
//! | `stdout`, `stderr` | the output, at most 256 MiB each; `stdout.cut` is there when there was more |
//! | `opening` | the line by which the shell told that the program began, or why not |
//! | `pid` | number, instant of birth and boot of the shell that runs the program, its group's leader |
//! | `code` | exit code and signal, as soon as the program has ended |
//! | `exit` | the same with the sizes of the output, once all of that is there |
//!
//! Each of the last four appears whole. `start.sh` makes the directory and begins `keep.sh`, which
//! outlives the connection; `follow.sh` copies the output to birun, from any place on. Nobody removes the
//! directory but birun, when the end of the run is journalled, or `keep.sh`, when the program has ended and
//! nobody has followed it for 7 days.

mod feed;
mod follow;
mod texts;

use std::sync::Arc;
use std::time::Duration;

use birun_core::Result;
use birun_core::execution::{Ending, Resume, ServerTarget, Work, WorkIo};
use birun_core::id::StepId;

use self::follow::Follower;
use self::texts::Places;
use crate::bootstrap::Bootstrap;
use crate::ssh::channel::{Errand, ask};
use crate::ssh::kill::KnownKeysOnly;
use crate::ssh::pool::{Freshness, Lane, Pool};
use crate::ssh::run::Site;

/// A directory that cannot be removed in this time removes itself later.
const FORGET: Duration = Duration::from_secs(5);

/// Begins a run and follows it to its end.
pub(super) async fn run(site: Site<'_>, bootstrap: &Bootstrap, work: &Work, io: &WorkIo) -> Ending {
    Follower::new(site, work, io, Resume::default()).run(Some(bootstrap)).await
}

/// Follows a run that began earlier, from a place on.
pub(super) async fn adopt(site: Site<'_>, work: &Work, io: &WorkIo, from: Resume) -> Ending {
    Follower::new(site, work, io, from).run(None).await
}

/// Removes what a server keeps of a run whose end is known.
pub(super) async fn forget(pool: &Pool, target: &Arc<ServerTarget>, step: StepId) {
    match tokio::time::timeout(FORGET, remove(pool, target, step)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%step, %error, "a run directory is left to remove itself"),
        Err(_) => tracing::debug!(%step, "a run directory is left to remove itself: the server does not answer"),
    }
}

async fn remove(pool: &Pool, target: &Arc<ServerTarget>, step: StepId) -> Result<()> {
    let lease = pool.lease(target, &KnownKeysOnly, Lane::Kill, Freshness::Any).await?;
    ask(&lease.connection, Errand { command: &texts::forget(step), input: "", limit: FORGET }).await?;
    lease.give_back();
    Ok(())
}

/// The line that begins a run, for those who look at what it does.
#[cfg(feature = "testing")]
pub(crate) fn detached_text(bootstrap: &Bootstrap, step: StepId, sign: &str) -> String {
    texts::start(bootstrap, step, &texts::Name::from(sign), Duration::from_secs(1))
}

impl Places {
    fn of(from: &Resume) -> Self {
        Self { stdout: from.stdout, stderr: from.stderr }
    }
}
