//! One attached run, from the first byte of the script to the close of its channel.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use birun_core::execution::{Ending, Kill, LinkFault, OutputSender, ServerTarget, Stream, Work, WorkIo};
use birun_core::id::StepId;
use birun_core::{Error, ErrorCode};
use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::bootstrap::{Bootstrap, Opening, Start};
use crate::ssh::channel::{Channel, Ear, Exit, Mouth, NotBegun, NotSent, Said};
use crate::ssh::connection::Connection;
use crate::ssh::executor::Settings;
use crate::ssh::kill::{Killer, remove_directory};
use crate::ssh::phase::{Endpoint, Phase, SshLimits, timed_out};
use crate::ssh::pool::{Freshness, Lane, Lease, Pool};

/// Runs a piece of work on a server.
pub(super) async fn run(pool: &Pool, settings: &Settings, target: Arc<ServerTarget>, work: Work, io: WorkIo) -> Ending {
    let bootstrap = match Bootstrap::new(&work) {
        Ok(bootstrap) => bootstrap,
        Err(error) => return Ending::NotStarted(error),
    };
    let endpoint = Endpoint { host: target.host.clone(), port: target.port };
    let site = Site { pool, limits: &settings.limits, target: &target, endpoint: &endpoint };
    let begun = tokio::select! {
        biased;
        () = asked_to_stop(&io) => return Ending::Stopped { kill: Kill::Gone },
        begun = site.begin(&bootstrap, &io) => begun,
    };
    match begun {
        Ok((lease, channel)) => site.finish(&bootstrap, &work, &io, lease, channel).await,
        Err(NotBegun::Link(error)) => Ending::Unreachable(error),
        Err(NotBegun::Refused(error)) => Ending::NotStarted(error),
    }
}

/// Resolves when the run is to be stopped, by request or because nobody takes its output.
async fn asked_to_stop(io: &WorkIo) {
    tokio::select! {
        () = io.stop.gracefully.cancelled() => {}
        () = io.stop.now.cancelled() => {}
        () = io.output.closed() => {}
    }
}

/// Where a run takes place.
#[derive(Clone, Copy)]
struct Site<'a> {
    pool: &'a Pool,
    limits: &'a SshLimits,
    target: &'a Arc<ServerTarget>,
    endpoint: &'a Endpoint,
}

impl Site<'_> {
    /// Gets a connection on which the server agreed to run the bootstrap text.
    ///
    /// A kept connection that turns out to be dead is replaced once: nothing of the script was sent.
    async fn begin(&self, bootstrap: &Bootstrap, io: &WorkIo) -> Result<(Lease, Channel), NotBegun> {
        let mut freshness = Freshness::Any;
        loop {
            let lane = Lane::Work(&io.waits);
            let lease = self.pool.lease(self.target, &*io.trust, lane, freshness).await.map_err(NotBegun::Link)?;
            let command = bootstrap.command_line();
            match Channel::begin(&lease.connection, &command).await {
                Ok(channel) => return Ok((lease, channel)),
                Err(NotBegun::Link(_)) if lease.reused => freshness = Freshness::New,
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the script, passes its output on, and ends it when asked to.
    async fn finish(&self, bootstrap: &Bootstrap, work: &Work, io: &WorkIo, lease: Lease, channel: Channel) -> Ending {
        let Channel { ear, mouth } = channel;
        let killer = Killer { pool: self.pool, target: self.target };
        let stopper = Stopper { killer, work, io, own: &lease.connection, limits: self.limits };
        let talk = Talk::default();
        let mut run = Run::new(ear, &io.output, work, self.limits);
        let mut followed = run.follow((&mouth, bootstrap.input()), &stopper, &talk).await;
        if followed.kill.is_none() && io.output.closed().now_or_never().is_some() {
            followed.kill = Some(stopper.stop_for_good(talk.heard.subscribe()).await);
        }
        // Whoever kills removes the directory as well.
        let leftovers = bootstrap.leaves_file() && followed.kill != Some(Kill::Confirmed);
        let ending = match followed.kill {
            Some(kill) => Ending::Stopped { kill },
            None => run.ending(&followed.cause, self.endpoint, lease.connection.why(), mouth.is_whole()).await,
        };
        match followed.cause {
            Cause::Closed if lease.connection.is_dead() => {}
            Cause::Closed if leftovers => tidy_up(lease, work.step),
            Cause::Closed => lease.give_back(),
            Cause::LinkDown | Cause::TimedOut(..) => {}
        }
        ending
    }
}

/// Removes the private directory of a program that has ended, then gives the connection back, if it
/// proved to be good. Nobody waits for it: dropped half way, with the runtime, it leaves a directory
/// behind that its user alone can read, and nothing else.
fn tidy_up(lease: Lease, step: StepId) {
    tokio::spawn(async move {
        if remove_directory(&lease.connection, step).await {
            lease.give_back();
        }
    });
}

/// Ends one run.
struct Stopper<'a> {
    killer: Killer<'a>,
    work: &'a Work,
    io: &'a WorkIo,
    own: &'a Connection,
    limits: &'a SshLimits,
}

impl Stopper<'_> {
    async fn stop(&self) -> Kill {
        self.killer.stop(self.work, self.io, self.own).await
    }

    /// Ends a run that may not have begun yet: to find none of its processes proves something only
    /// if the program had been started, or can be started no more, before they were looked for.
    async fn stop_for_good(&self, heard: watch::Receiver<Heard>) -> Kill {
        for _ in 0..LOOKS {
            let settled = heard.borrow().is_settled();
            match self.stop().await {
                Kill::Gone if settled => return Kill::Confirmed,
                Kill::Gone => self.wait_for_news(heard.clone()).await,
                kill => return kill,
            }
        }
        let why = "the server agreed to run the script, then neither started it nor closed its channel";
        self.killer.unconfirmed(self.work.step, why)
    }

    async fn wait_for_news(&self, heard: watch::Receiver<Heard>) {
        let news = until(heard.clone(), |heard| heard != Heard::Nothing);
        if timeout(self.limits.exec, news).await.is_ok() && *heard.borrow() == Heard::Lost {
            sleep(AFTER_LOSS).await;
        }
    }
}

/// How often a run is looked for that may not have begun.
const LOOKS: usize = 2;
/// How long a server may take to notice that its client is gone.
const AFTER_LOSS: Duration = Duration::from_secs(1);
/// What is left behind may hold the output at least so long: the end of `… | tee log` takes its time.
const LEAST_LINGER: Duration = Duration::from_secs(1);

/// What the one who listens to a run and the one who ends it tell each other.
#[derive(Debug, Default)]
struct Talk {
    heard: watch::Sender<Heard>,
    /// The run is being ended: what is left of the script is not sent, and no limit holds meanwhile.
    ending: CancellationToken,
    /// What was left behind was ended, so that the output must end as well.
    ended: CancellationToken,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Heard {
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
    fn is_settled(self) -> bool {
        self >= Self::Started
    }
}

impl Talk {
    fn tell(&self, heard: Heard) {
        self.heard.send_if_modified(|latest| {
            let is_news = heard > *latest;
            *latest = heard.max(*latest);
            is_news
        });
    }
}

async fn until(mut heard: watch::Receiver<Heard>, far_enough: fn(Heard) -> bool) {
    // The sender outlives everyone who waits.
    let _seen = heard.wait_for(|heard| far_enough(*heard)).await.map(|heard| *heard);
}

/// How following a run ended.
struct Followed {
    cause: Cause,
    /// What became of its processes, if it was stopped.
    kill: Option<Kill>,
}

/// Goes on listening to a run while it is killed; the cause is there if the run has ended by then.
async fn both(
    killing: impl Future<Output = Kill>,
    mut listening: Pin<&mut impl Future<Output = Cause>>,
) -> (Kill, Option<Cause>) {
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
enum Cause {
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
struct Run<'a> {
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
    fn new(ear: Ear, output: &'a OutputSender, work: &Work, limits: &'a SshLimits) -> Self {
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
    async fn follow(&mut self, script: (&Mouth, &[u8]), stopper: &Stopper<'_>, talk: &Talk) -> Followed {
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
    async fn ending(&mut self, cause: &Cause, endpoint: &Endpoint, why: &str, whole: bool) -> Ending {
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

/// Tells in the output what became of processes that the program left behind.
async fn remark(output: &OutputSender, kill: &Kill) {
    let text = match kill {
        Kill::Gone => return,
        Kill::Confirmed => "processes that the program left behind held its output open; they were ended\n".to_owned(),
        Kill::Unconfirmed { detail } => {
            format!("processes that the program left behind hold its output open: {detail}\n")
        }
    };
    // Whoever takes no output needs no remark.
    let _closed = output.send(Stream::System, Bytes::from(text)).await;
}

/// What a run's end says about the program.
struct Verdict<'a> {
    endpoint: &'a Endpoint,
    exits: &'a [Exit],
    /// Whether the program was started, or may have been; else nothing of it can have run.
    delivered: bool,
}

impl Verdict<'_> {
    /// The channel was closed after the program had been started.
    fn closed(&self) -> Ending {
        let endpoint = self.endpoint;
        match self.exits {
            // Windows uses all 32 bits, among them the sign.
            [Exit::Status(status)] => Ending::Exited { code: i32::from_ne_bytes(status.to_ne_bytes()) },
            [Exit::Signal(signal)] => Ending::Signaled { signal: signal.clone() },
            [] => no_exit_status(format!("{endpoint}: the channel was closed without an exit status")),
            [first, second, ..] => {
                no_exit_status(format!("{endpoint}: the server told two endings, {first} and {second}"))
            }
        }
    }

    /// The channel was closed, and the shell never said that it started the program.
    fn silent(&self) -> Ending {
        let endpoint = self.endpoint;
        let exit = self.exits.first().map_or_else(|| "no exit status".to_owned(), ToString::to_string);
        Ending::NotStarted(
            Error::new(
                ErrorCode::SpawnFailed,
                format!("{endpoint}: the login shell did not start the script ({exit})"),
            )
            .with_hint("the user's login shell must run commands; its own words are in the output"),
        )
    }

    fn link_down(&self, why: &str) -> Ending {
        let endpoint = self.endpoint;
        if !self.delivered {
            let message = format!("{endpoint}: {why} before the script was sent");
            return Ending::Unreachable(Error::new(ErrorCode::ConnectFailed, message));
        }
        link_lost(match self.exits.first() {
            Some(exit) => format!("{endpoint}: {why} after {exit}, before the channel was closed"),
            None => format!("{endpoint}: {why} while the program ran"),
        })
    }

    fn timed_out(&self, phase: Phase, limit: Duration) -> Ending {
        let error = timed_out(self.endpoint, phase, limit);
        if !self.delivered {
            return Ending::Unreachable(error);
        }
        link_lost(match self.exits.first() {
            Some(exit) => format!("{error}, after {exit}"),
            None => error.to_string(),
        })
    }
}

fn link_lost(detail: String) -> Ending {
    Ending::Lost { fault: LinkFault::LinkLost, detail }
}

fn no_exit_status(detail: String) -> Ending {
    Ending::Lost { fault: LinkFault::NoExitStatus, detail }
}
