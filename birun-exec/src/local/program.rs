//! One program, from its start to its end.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process::ExitStatus;
use std::time::Duration;

use birun_core::execution::{Ending, Kill, OutputSender, Stop};
use futures::FutureExt;
use futures::future::{MaybeDone, maybe_done};
use process_wrap::tokio::ChildWrapper;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio_util::sync::CancellationToken;

use super::ending::{judge, unknown};
use super::pump::{Gauge, Pump};
use super::tree::Tree;
use crate::bootstrap::{Opening, Start};
use crate::leftover::remark;

/// What is left behind may hold the output at least so long: the end of `… | tee log` takes its time.
const LEAST_LINGER: Duration = Duration::from_secs(1);
/// How long the output of ended processes is waited for.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A program that was started.
pub(super) struct Program<'a> {
    pub(super) child: Box<dyn ChildWrapper>,
    pub(super) input: &'a [u8],
    pub(super) opening: Opening,
    pub(super) tree: Tree<'a>,
    pub(super) grace: Duration,
}

/// What is known when status and output have arrived.
type Whole = io::Result<(ExitStatus, Start)>;

impl Program<'_> {
    /// Follows the program to its end.
    pub(super) async fn run(self, output: &OutputSender, stop: &Stop) -> Ending {
        let Self { child, input, opening, tree, grace } = self;
        let (gauge, left) = (Gauge::default(), tree.collected());
        let whole = maybe_done(follow(child, input, opening, Pump::new(output, &gauge), &left));
        tokio::pin!(whole);
        let lingering = async {
            left.cancelled().await;
            gauge.elapsed(grace.max(LEAST_LINGER)).await;
        };
        tokio::select! {
            biased;
            () = &mut whole => {}
            () = stopped(output, stop) => {
                let kill = while_going(tree.end(grace, &stop.now), whole.as_mut()).await;
                last_words(whole.as_mut(), &gauge).await;
                return Ending::Stopped { kill: observed(kill) };
            }
            () = lingering => {
                let kill = while_going(tree.end(grace, &stop.now), whole.as_mut()).await;
                remark(output, &kill).await;
                last_words(whole.as_mut(), &gauge).await;
            }
        }
        if output.closed().now_or_never().is_some() {
            return Ending::Stopped { kill: observed(tree.end(grace, &stop.now).await) };
        }
        match whole.take_output() {
            Some(Ok((status, start))) => judge(start, status),
            Some(Err(error)) => unknown(format!("its output could not be read: {error}")),
            None => unknown("its output does not end: a process that is not its own holds it open".into()),
        }
    }
}

/// Feeds the program, reads it to the end of both streams, and collects its status.
async fn follow(
    mut child: Box<dyn ChildWrapper>,
    input: &[u8],
    opening: Opening,
    pump: Pump<'_>,
    left: &CancellationToken,
) -> Whole {
    let (stdin, stdout, stderr) = (child.stdin().take(), child.stdout().take(), child.stderr().take());
    let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
        return Err(io::Error::other("the program has no output pipes"));
    };
    let status = async {
        let status = child.wait().await;
        left.cancel();
        status
    };
    let ((), stdout, start, status) =
        tokio::join!(feed(stdin, input), pump.stdout(stdout), pump.stderr(stderr, opening), status);
    stdout?;
    Ok((status?, start?))
}

/// Writes the input, if the program does not have it yet.
async fn feed(stdin: Option<ChildStdin>, input: &[u8]) {
    let Some(mut stdin) = stdin else { return };
    if let Err(error) = stdin.write_all(input).await {
        // A shell that does not read to the end has its reason, and says it.
        tracing::debug!(%error, "the shell did not take its whole input");
    }
}

async fn stopped(output: &OutputSender, stop: &Stop) {
    tokio::select! {
        () = stop.gracefully.cancelled() => {}
        () = stop.now.cancelled() => {}
        () = output.closed() => {}
    }
}

/// Awaits `first` while `whole` goes on.
async fn while_going<T>(first: impl Future<Output = T>, whole: Pin<&mut MaybeDone<impl Future>>) -> T {
    tokio::pin!(first);
    tokio::select! {
        biased;
        result = &mut first => result,
        () = whole => first.await,
    }
}

/// Waits for the end of the output of a program that has been ended, but not for ever: what has
/// hidden itself from the tree may hold the pipes.
async fn last_words(whole: Pin<&mut MaybeDone<impl Future>>, gauge: &Gauge) {
    tokio::select! {
        biased;
        () = whole => {}
        () = gauge.elapsed(LAST_WORDS) => {}
    }
}

/// The program was there when it was to be stopped, so that "none left" means that it has ended.
fn observed(kill: Kill) -> Kill {
    if kill == Kill::Gone { Kill::Confirmed } else { kill }
}
