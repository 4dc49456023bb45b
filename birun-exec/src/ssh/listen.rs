//! Listening to one run, from the first byte of the script to the close of its channel.

use std::pin::{Pin, pin};
use std::time::Duration;

use birun_core::ErrorCode;
use birun_core::execution::{Ending, Kill, OutputSender, Stream, Work};
use birun_core::id::StepId;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::bootstrap::{Opening, Start};
use crate::leftover::remark;
use crate::ssh::channel::{Ear, Exit, Mouth, NotSent, Said};
use crate::ssh::phase::{Endpoint, Phase, SshLimits};
use crate::ssh::stop::{Stopper, asked_to_stop};
use crate::ssh::verdict::Verdict;

/// What is left behind may hold the output at least so long: the end of `… | tee log` takes its time.
pub(super) const LEAST_LINGER: Duration = Duration::from_secs(1);

/// What the one who listens to a run and the one who ends it tell each other.
#[derive(Debug, Default)]
pub(super) struct Talk {
    pub(super) heard: watch::Sender<Heard>,
    /// The run is being ended: what is left of the script is not sent, and no limit holds meanwhile.
    pub(super) ending: CancellationToken,
    /// What was left behind was ended, so that the output must end as well.
    ended: CancellationToken,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Heard {
    #[default]
    Nothing,
    /// Nobody listens any more.
    Lost,
    /// The program was started.
    Started,
    /// It has ended, and something else holds its output open.
    Lingers,
    /// The server closed the channel.
    Closed,
}

impl Heard {
    /// Whether the program was started, or can be started no more.
    pub(super) fn is_settled(self) -> bool {
        self >= Self::Started
    }
}

impl Talk {
    pub(super) fn tell(&self, heard: Heard) {
        self.heard.send_if_modified(|latest| {
            let is_news = heard > *latest;
            *latest = heard.max(*latest);
            is_news
        });
    }
}

pub(super) async fn until(mut heard: watch::Receiver<Heard>, far_enough: fn(Heard) -> bool) {
    // The sender outlives everyone who waits.
    let _seen = heard.wait_for(|heard| far_enough(*heard)).await.map(|heard| *heard);
}

/// How following a run ended.
pub(super) struct Followed {
    pub(super) cause: Cause,
    /// What became of its processes, if it was stopped.
    pub(super) kill: Option<Kill>,
}

/// Goes on listening to a run while it is killed; the cause is there if the run has ended by then.
pub(super) async fn both<T>(
    killing: impl Future<Output = Kill>,
    mut listening: Pin<&mut impl Future<Output = T>>,
) -> (Kill, Option<T>) {
    let mut killing = pin!(killing);
    let mut ended = None;
    loop {
        tokio::select! {
            kill = &mut killing => return (kill, ended),
            cause = &mut listening, if ended.is_none() => ended = Some(cause),
        }
    }
}

/// Why listening ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The server closed the channel.
    Closed,
    /// The connection is gone.
    LinkDown,
    /// A phase took longer than its limit.
    TimedOut(Phase, Duration),
}

/// A clock that stands still while output waits for its receiver.
struct Watch {
    begun: Instant,
    blocked: Duration,
}

impl Watch {
    fn new() -> Self {
        Self { begun: Instant::now(), blocked: Duration::ZERO }
    }

    /// What the clock shows.
    fn now(&self) -> Duration {
        self.begun.elapsed().saturating_sub(self.blocked)
    }

    /// When the clock will show this, if it does not stand still before.
    fn reaches(&self, time: Duration) -> Instant {
        self.begun + self.blocked + time
    }
}

/// What is known of a run so far. Times are those of its watch.
pub(super) struct Run<'a> {
    ear: Ear,
    output: &'a OutputSender,
    opening: Opening,
    limits: &'a SshLimits,
    /// How long what the program left behind may hold its output.
    linger: Duration,
    watch: Watch,
    /// When the input came to its end.
    said: Option<Duration>,
    /// When something was heard last.
    last: Duration,
    exits: Vec<Exit>,
    /// When the first of the exits was told.
    exited: Option<Duration>,
    /// When what was left behind had been ended.
    cleared: Option<Duration>,
}

impl<'a> Run<'a> {
    pub(super) fn new(ear: Ear, output: &'a OutputSender, work: &Work, limits: &'a SshLimits) -> Self {
        Self {
            ear,
            output,
            opening: Opening::new(work.step),
            limits,
            linger: work.grace.max(LEAST_LINGER),
            watch: Watch::new(),
            said: None,
            last: Duration::ZERO,
            exits: Vec::new(),
            exited: None,
            cleared: None,
        }
    }

    /// Sends the script and listens to the end of the run, or to the end that it is put to.
    pub(super) async fn follow(&mut self, script: (&Mouth, &[u8]), stopper: &Stopper<'_>, talk: &Talk) -> Followed {
        let patience = self.limits.close;
        let mut listening = pin!(self.listen(script, talk));
        tokio::select! {
            biased;
            () = asked_to_stop(stopper.io) => {
                talk.ending.cancel();
                let (kill, cause) = both(stopper.stop_for_good(talk.heard.subscribe()), listening.as_mut()).await;
                let cause = match cause {
                    Some(cause) => cause,
                    None => timeout(patience, listening).await.unwrap_or(Cause::TimedOut(Phase::Close, patience)),
                };
                Followed { cause, kill: Some(kill) }
            }
            cause = &mut listening => Followed { cause, kill: None },
            () = until(talk.heard.subscribe(), |heard| heard == Heard::Lingers) => {
                talk.ending.cancel();
                let (kill, cause) = both(stopper.stop(), listening.as_mut()).await;
                talk.ended.cancel();
                let cause = match cause {
                    Some(cause) => cause,
                    None => listening.await,
                };
                remark(&stopper.io.output, &kill).await;
                Followed { cause, kill: None }
            }
        }
    }

    async fn listen(&mut self, script: (&Mouth, &[u8]), talk: &Talk) -> Cause {
        let cause = self.listen_to_the_end(script, talk).await;
        talk.tell(if cause == Cause::Closed { Heard::Closed } else { Heard::Lost });
        cause
    }

    /// Listens until the channel is closed: output may follow the exit status.
    async fn listen_to_the_end(&mut self, (mouth, input): (&Mouth, &[u8]), talk: &Talk) -> Cause {
        let mut saying = pin!(mouth.say(input, &talk.ending));
        let mut limited = true;
        loop {
            let due = if limited || self.cleared.is_some() { self.due() } else { None };
            tokio::select! {
                said = saying.as_mut(), if self.said.is_none() => {
                    self.said = Some(self.watch.now());
                    if said == Err(NotSent::Stuck) {
                        return Cause::TimedOut(Phase::Script, self.limits.exec);
                    }
                }
                said = self.ear.next() => match said {
                    Some(Said::Closed) => return Cause::Closed,
                    Some(said) => self.hear(said, talk).await,
                    None => return Cause::LinkDown,
                },
                () = talk.ending.cancelled(), if limited => limited = false,
                () = talk.ended.cancelled(), if self.cleared.is_none() => self.cleared = Some(self.watch.now()),
                () = reached(&self.watch, due.as_ref()) => match due {
                    Some((_, Due::End(cause))) => return cause,
                    // From now on it is up to whoever ends what lingers.
                    Some((_, Due::Lingers)) | None => {
                        limited = false;
                        talk.tell(Heard::Lingers);
                    }
                },
            }
        }
    }

    /// When patience will be at its end, and what it means then.
    fn due(&self) -> Option<(Duration, Due)> {
        let end = |since: Duration, phase, limit| (since + limit, Due::End(Cause::TimedOut(phase, limit)));
        if let Some(cleared) = self.cleared {
            Some(end(cleared, Phase::Close, self.limits.close))
        } else if let Some(exited) = self.exited {
            Some((exited + self.linger, Due::Lingers))
        } else if self.opening.is_started() {
            self.limits.idle.map(|idle| end(self.last, Phase::Idle, idle))
        } else {
            // While input is under way, its own limit holds.
            self.said.map(|said| end(said, Phase::Script, self.limits.exec))
        }
    }

    async fn hear(&mut self, said: Said, talk: &Talk) {
        match said {
            Said::Output(Stream::Stderr, bytes) => {
                let bytes = self.opening.push(bytes);
                if self.opening.is_started() {
                    talk.tell(Heard::Started);
                }
                self.pass_on(Stream::Stderr, bytes).await;
            }
            Said::Output(stream, bytes) => self.pass_on(stream, bytes).await,
            Said::Exit(exit) => self.note_exit(exit),
            Said::Accepted | Said::Refused | Said::Nothing | Said::Closed => {}
        }
        self.last = self.watch.now();
    }

    fn note_exit(&mut self, exit: Exit) {
        self.exited.get_or_insert(self.watch.now());
        // Two are kept: that they are two is what matters.
        if self.exits.len() < 2 {
            self.exits.push(exit);
        }
    }

    async fn pass_on(&mut self, stream: Stream, bytes: Bytes) {
        if !bytes.is_empty() {
            let begun = Instant::now();
            // When nobody takes output any more, the run is stopped from outside of here.
            let _closed = self.output.send(stream, bytes).await;
            self.watch.blocked += begun.elapsed();
        }
    }

    /// What the end of listening means.
    pub(super) async fn ending(&mut self, cause: &Cause, endpoint: &Endpoint, why: &str, whole: bool) -> Ending {
        let (start, rest) = std::mem::replace(&mut self.opening, Opening::new(StepId::new())).end();
        self.pass_on(Stream::Stderr, rest).await;
        let delivered = whole || matches!(start, Start::Started);
        let verdict = Verdict { endpoint, exits: &self.exits, delivered };
        match (start, cause) {
            (Start::Refused(error), _) if error.code() == ErrorCode::ConnectFailed => Ending::Unreachable(error),
            (Start::Refused(error), _) => Ending::NotStarted(error),
            (Start::Silent, Cause::Closed) => verdict.silent(),
            (Start::Started, Cause::Closed) => verdict.closed(),
            (_, Cause::LinkDown) => verdict.link_down(why),
            (_, Cause::TimedOut(phase, limit)) => verdict.timed_out(*phase, *limit),
        }
    }
}

/// What the end of patience means.
enum Due {
    /// Listening has no point any more.
    End(Cause),
    /// Something that the program left behind is to be ended.
    Lingers,
}

/// Resolves when the watch shows the time that is due.
async fn reached(watch: &Watch, due: Option<&(Duration, Due)>) {
    match due {
        Some((time, _)) => sleep_until(watch.reaches(*time)).await,
        None => std::future::pending().await,
    }
}
