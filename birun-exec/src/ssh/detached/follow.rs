//! Following one detached run, through as many connections as it takes.

use std::pin::pin;
use std::time::Duration;

use birun_core::execution::{Ending, Kill, LinkFault, Resume, Stream, Work, WorkIo};
use birun_core::{Error, ErrorCode};
use bytes::Bytes;
use futures::FutureExt;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::feed::{Feed, Piece, Word};
use super::texts::{self, Name, Places};
use crate::bootstrap::{Bootstrap, Start};
use crate::leftover::remark;
use crate::ssh::channel::{Channel, Exit, NotBegun, NotSent, Said};
use crate::ssh::kill::Killer;
use crate::ssh::listen::{Cause, Heard, LEAST_LINGER, Talk, both, until};
use crate::ssh::phase::{Endpoint, Phase, timed_out};
use crate::ssh::pool::Lease;
use crate::ssh::run::{Again, Site};
use crate::ssh::stop::{Stopper, asked_to_stop};
use crate::ssh::verdict::Verdict;

/// First wait before a server that was lost is looked for again.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// So many followers in a row may end without a word that makes sense …
const SILENT_FOLLOWERS: u32 = 5;
/// … for so long: a server that has too much to do, or is just starting, may refuse for a while.
const GIVE_UP: Duration = Duration::from_secs(600);
/// How long the output of a run may take that had ended before it was to be stopped.
const LAST_WORDS: Duration = Duration::from_secs(60);
/// A server that has been up for longer than a run, but for this, was started before it.
const BOOT_SLACK: Duration = Duration::from_secs(5);

/// Follows a run.
pub(super) struct Follower<'a> {
    site: Site<'a>,
    work: &'a Work,
    io: &'a WorkIo,
    /// How long ago the run began, when this was asked to follow it.
    age: Duration,
    since: Instant,
    places: Places,
    /// Whether the program was started, as far as was heard.
    started: bool,
    /// Whether nobody listens to the run now, and the output says so.
    away: bool,
    wait: Duration,
    /// How many followers in a row were of no use, and since when it goes badly.
    silent: u32,
    trouble: Option<Instant>,
    /// The run was to be stopped and nothing of it ran any more: it is looked at once, then that is all.
    last_look: bool,
    /// What was left behind has been ended once.
    cleared: bool,
}

/// A follower at work.
struct Visit<'a> {
    channel: Channel,
    feed: Feed,
    /// What the shell is to read, where the run begins with this follower.
    input: Option<&'a [u8]>,
}

/// How a visit ended.
struct Visited {
    cause: Cause,
    word: Option<Word>,
    exit: Option<Exit>,
    start: Start,
    /// Whether the program may have been started.
    delivered: bool,
}

/// What a run was asked.
#[derive(Clone, Copy)]
enum Asked {
    ToLeave,
    ToStop,
}

/// What follows from a visit.
enum Next {
    Ending(Ending),
    /// Another follower goes on.
    Again,
    /// The run is to be stopped or left.
    Asked(Asked),
    /// The server is to be looked for again.
    Reconnect(String),
}

impl<'a> Follower<'a> {
    pub(super) fn new(site: Site<'a>, work: &'a Work, io: &'a WorkIo, from: Resume) -> Self {
        Self {
            site,
            work,
            io,
            age: from.age,
            since: Instant::now(),
            places: Places::of(&from),
            started: false,
            away: false,
            wait: FIRST_WAIT,
            silent: 0,
            trouble: None,
            last_look: false,
            cleared: false,
        }
    }

    /// Follows the run to its end; begins it, if it is given what with.
    pub(super) async fn run(mut self, mut bootstrap: Option<&Bootstrap>) -> Ending {
        loop {
            let next = match self.reach(&mut bootstrap).await {
                Ok((lease, visit)) => self.visit(lease, visit).await,
                Err(next) => next,
            };
            let asked = match next {
                Next::Ending(ending) => return ending,
                Next::Again => None,
                Next::Asked(asked) => Some(asked),
                Next::Reconnect(_) if self.last_look => return self.ended_before(),
                Next::Reconnect(why) => {
                    self.say_away(&why).await;
                    self.pause().await
                }
            };
            if let Some(asked) = asked
                && let Some(ending) = self.end(asked, bootstrap.is_none()).await
            {
                return ending;
            }
        }
    }

    /// Has a follower begun on the server.
    async fn reach<'b>(&mut self, bootstrap: &mut Option<&'b Bootstrap>) -> Result<(Lease, Visit<'b>), Next> {
        let (name, step) = (Name::new(), self.work.step);
        let (command, again) = match bootstrap {
            Some(bootstrap) => (texts::start(bootstrap, step, &name, self.patience()), Again::Unheard),
            None => (texts::follow(step, &name, self.patience(), self.places), Again::Always),
        };
        let begun = tokio::select! {
            biased;
            asked = self.asked(), if !self.last_look => return Err(Next::Asked(asked)),
            begun = self.site.begin(&command, self.io, again) => begun,
        };
        let (lease, channel) = begun.map_err(|error| self.not_reached(error, bootstrap.is_some()))?;
        let input = bootstrap.take().map(Bootstrap::input);
        Ok((lease, Visit { channel, feed: Feed::new(step, name), input }))
    }

    /// How long what the program left behind may hold its output.
    fn patience(&self) -> Duration {
        self.work.grace.max(LEAST_LINGER)
    }

    /// Resolves when the run is to be stopped or left.
    async fn asked(&self) -> Asked {
        tokio::select! {
            biased;
            () = self.io.stop.leave.cancelled() => Asked::ToLeave,
            () = asked_to_stop(self.io) => Asked::ToStop,
        }
    }

    /// Leaves or stops a run that nobody listens to now. One that has not begun is not left to anyone:
    /// nothing of it runs. One of which nothing runs any more may have ended by itself, and its output may
    /// wait: that is looked for once.
    async fn end(&mut self, asked: Asked, begun: bool) -> Option<Ending> {
        match asked {
            _ if !begun => Some(Ending::Stopped { kill: Kill::Gone }),
            Asked::ToLeave => Some(Ending::Left),
            Asked::ToStop => {
                let killer = Killer { pool: self.site.pool, target: self.site.target };
                let kill = killer.stop(self.work, self.io, None).await;
                self.last_look = kill == Kill::Gone;
                (!self.last_look).then_some(Ending::Stopped { kill })
            }
        }
    }

    /// Nothing ran any more when it was to be stopped, and nobody can tell how it ended.
    const fn ended_before(&self) -> Ending {
        Ending::Stopped { kill: if self.started { Kill::Confirmed } else { Kill::Gone } }
    }

    /// Waits before the server is looked for again.
    async fn pause(&mut self) -> Option<Asked> {
        let wait = self.wait;
        self.wait = (wait * 2).min(LONGEST_WAIT);
        tokio::select! {
            biased;
            asked = self.asked() => Some(asked),
            () = sleep(wait) => None,
        }
    }

    fn not_reached(&mut self, error: NotBegun, is_first: bool) -> Next {
        match error {
            NotBegun::Link(error) | NotBegun::NoReply(error) if is_first => Next::Ending(Ending::Unreachable(error)),
            NotBegun::Refused(error) if is_first => Next::Ending(Ending::NotStarted(error)),
            NotBegun::Refused(error) => self.again(&error.to_string()),
            NotBegun::Link(error) | NotBegun::NoReply(error) if self.is_away(&error) => {
                Next::Reconnect(error.to_string())
            }
            NotBegun::Link(error) | NotBegun::NoReply(error) => {
                let detail = format!("{error}, while the program ran");
                Next::Ending(Ending::Lost { fault: LinkFault::LinkLost, detail })
            }
        }
    }

    /// Whether an error may pass by itself. A server that is just starting refuses sign-ins for a while.
    fn is_away(&mut self, error: &Error) -> bool {
        use ErrorCode::{AuthFailed, ConnectFailed, ConnectTimeout, PhaseTimeout, ResolveFailed};
        match error.code() {
            ConnectFailed | ConnectTimeout | PhaseTimeout | ResolveFailed => true,
            AuthFailed => self.trouble.get_or_insert_with(Instant::now).elapsed() < GIVE_UP,
            _ => false,
        }
    }

    /// Lets one follower copy output until it ends, or the run is stopped or left.
    async fn visit(&mut self, lease: Lease, visit: Visit<'_>) -> Next {
        let visited = match self.attend(&lease, visit).await {
            Ok(visited) => visited,
            Err(ending) => return Next::Ending(ending),
        };
        let why = lease.connection.why().to_owned();
        if visited.cause == Cause::Closed && !lease.connection.is_dead() {
            lease.give_back();
        }
        self.judge(visited, &why).await
    }

    async fn attend(&mut self, lease: &Lease, visit: Visit<'_>) -> Result<Visited, Ending> {
        let (site, io, work) = (self.site, self.io, self.work);
        let killer = Killer { pool: site.pool, target: site.target };
        let stopper = Stopper { killer, work, io, own: Some(&lease.connection), limits: site.limits };
        let talk = Talk::default();
        let begins = visit.input.is_some();
        let mut listening = pin!(self.listen(visit, &talk));
        let visited = tokio::select! {
            biased;
            () = may_be_left(io, begins, &talk) => return Err(Ending::Left),
            () = asked_to_stop(io) => {
                talk.ending.cancel();
                let settled = talk.heard.borrow().is_settled();
                let (first, ended) = both(stopper.stop(), listening.as_mut()).await;
                // The last of the output is worth waiting for, and no more than that.
                let patience = match first {
                    Kill::Gone if begins && !settled => Duration::ZERO,
                    Kill::Gone => LAST_WORDS,
                    _ => site.limits.close,
                };
                let ended = match ended {
                    Some(visited) => Some(visited),
                    None => timeout(patience, listening.as_mut()).await.ok(),
                };
                return match (first, ended) {
                    // Nothing was there to be ended: it had ended by itself.
                    (Kill::Gone, Some(visited)) if matches!(visited.word, Some(Word::Exit { .. })) => Ok(visited),
                    (Kill::Gone, _) => Err(stopper.stop_for_good(talk.heard.subscribe()).await),
                    // What was seen may have been on its way to begin the program.
                    (first, _) if !settled => Err(stopper.once_more(first).await),
                    (first, _) => Err(first),
                }
                .map_err(|kill| Ending::Stopped { kill });
            }
            visited = &mut listening => visited,
        };
        if io.output.closed().now_or_never().is_some() {
            return Err(Ending::Stopped { kill: stopper.stop_for_good(talk.heard.subscribe()).await });
        }
        Ok(visited)
    }

    async fn listen(&mut self, visit: Visit<'_>, talk: &Talk) -> Visited {
        let Visit { channel: Channel { mut ear, mouth }, mut feed, input } = visit;
        let (before, mut exit) = (self.places, None);
        let mut said = input.is_none();
        let mut saying = pin!(mouth.say(input.unwrap_or_default(), &talk.ending));
        let (mut silence, mut spoken) = (true, false);
        let mut due = Instant::now() + self.site.limits.exec;
        let cause = loop {
            tokio::select! {
                sent = saying.as_mut(), if !spoken => {
                    (spoken, said) = (true, true);
                    due = Instant::now() + self.site.limits.exec;
                    if sent == Err(NotSent::Stuck) {
                        break Cause::TimedOut(Phase::Script, self.site.limits.exec);
                    }
                }
                heard = ear.next() => match heard {
                    Some(Said::Output(stream, bytes)) => {
                        self.pass_on(stream, feed.push(stream, bytes)).await;
                        if feed.is_started() {
                            talk.tell(Heard::Started);
                        }
                        if silence && feed.is_begun() {
                            silence = false;
                            self.say_back().await;
                        }
                        if feed.word().is_some() {
                            due = Instant::now() + self.site.limits.close;
                        }
                    }
                    Some(Said::Exit(how)) => exit = Some(how),
                    Some(Said::Closed) => break Cause::Closed,
                    Some(Said::Accepted | Said::Refused | Said::Nothing) => {}
                    None => break Cause::LinkDown,
                },
                () = sleep_until(due), if feed.word().is_some() => break Cause::TimedOut(Phase::Close, self.site.limits.close),
                () = sleep_until(due), if said && !feed.is_started() => {
                    break Cause::TimedOut(Phase::Script, self.site.limits.exec);
                }
            }
        };
        talk.tell(if cause == Cause::Closed { Heard::Closed } else { Heard::Lost });
        self.started |= feed.is_started();
        if self.places != before {
            (self.silent, self.trouble, self.wait) = (0, None, FIRST_WAIT);
        }
        let (word, delivered) = (feed.word(), self.started || input.is_none() || mouth.is_whole());
        let (start, rest) = feed.end();
        self.pass_on(Stream::Stderr, Piece { noise: Bytes::new(), output: rest }).await;
        Visited { cause, word, exit, start, delivered }
    }

    /// Passes on what a follower copied; what the login shell said before is no part of the output.
    async fn pass_on(&mut self, stream: Stream, piece: Piece) {
        let place = if stream == Stream::Stderr { &mut self.places.stderr } else { &mut self.places.stdout };
        *place += piece.output.len() as u64;
        // When nobody takes output any more, the run is stopped from outside of here.
        for (stream, bytes) in [(Stream::System, piece.noise), (stream, piece.output)] {
            if !bytes.is_empty() {
                let _closed = self.io.output.send(stream, bytes).await;
            }
        }
    }

    /// What follows from the end of a visit.
    async fn judge(&mut self, visited: Visited, why: &str) -> Next {
        let endpoint = self.site.endpoint;
        let Visited { cause, word, exit, start, delivered } = visited;
        if let Start::Refused(error) = start {
            let unreachable = error.code() == ErrorCode::ConnectFailed;
            return Next::Ending(if unreachable { Ending::Unreachable(error) } else { Ending::NotStarted(error) });
        }
        let exits: Vec<Exit> = exit.into_iter().collect();
        let verdict = Verdict { endpoint, exits: &exits, delivered };
        match word {
            Some(Word::Exit { code, .. }) if !self.started => Next::Ending(Ending::NotStarted(silent(endpoint, code))),
            Some(Word::Exit { code, signal, stdout, stderr, cut }) => {
                if (self.places.stdout, self.places.stderr) != (stdout, stderr) {
                    return self.again("it did not copy all of the output");
                }
                self.tell_cuts(&cut, stdout, stderr).await;
                Next::Ending(match signal {
                    Some(signal) => Ending::Signaled { signal },
                    None => Ending::Exited { code },
                })
            }
            Some(Word::Lingers { code }) => self.clear(code).await,
            Some(Word::Gone { uptime }) => Next::Ending(self.gone(uptime)),
            Some(Word::Rebooted) => Next::Ending(rebooted()),
            Some(Word::Dead) => Next::Ending(Ending::Lost {
                fault: LinkFault::NoExitStatus,
                detail: "the program ended, and whatever was to note its exit status had ended before".to_owned(),
            }),
            Some(Word::Stuck) => self.again("it could not read the output"),
            None if !delivered => Next::Ending(match cause {
                Cause::Closed => verdict.silent(),
                Cause::LinkDown => verdict.link_down(why),
                Cause::TimedOut(phase, limit) => verdict.timed_out(phase, limit),
            }),
            None => match cause {
                Cause::LinkDown => Next::Reconnect(why.to_owned()),
                Cause::Closed => self.again("it ended without a word"),
                Cause::TimedOut(phase, _) => self.again(&format!("timed out in {}", phase.name())),
            },
        }
    }

    /// Lets another follower try, unless too many have failed.
    fn again(&mut self, why: &str) -> Next {
        self.silent += 1;
        let since = *self.trouble.get_or_insert_with(Instant::now);
        if self.silent < SILENT_FOLLOWERS || since.elapsed() < GIVE_UP {
            return Next::Reconnect(format!("nothing follows the run there: {why}"));
        }
        let detail = format!("{}: {} times, nothing could follow the run: {why}", self.site.endpoint, self.silent);
        Next::Ending(Ending::Lost { fault: LinkFault::NoExitStatus, detail })
    }

    /// Ends what the program left behind and what holds its output open.
    async fn clear(&mut self, code: i32) -> Next {
        if std::mem::replace(&mut self.cleared, true) {
            let limit = self.patience();
            let error = timed_out(self.site.endpoint, Phase::Close, limit);
            let detail = format!("{error}, after exit status {code}");
            return Next::Ending(Ending::Lost { fault: LinkFault::LinkLost, detail });
        }
        let killer = Killer { pool: self.site.pool, target: self.site.target };
        let kill = killer.stop(self.work, self.io, None).await;
        remark(&self.io.output, &kill).await;
        Next::Again
    }

    /// The run is not there: because the server was started again, if it tells that.
    fn gone(&self, uptime: Option<u64>) -> Ending {
        let age = self.age + self.since.elapsed();
        match uptime {
            Some(uptime) if Duration::from_secs(uptime) + BOOT_SLACK < age => rebooted(),
            _ => Ending::Lost {
                fault: LinkFault::RunDirectoryGone,
                detail: format!("{}: there is no directory of this run any more", self.site.endpoint),
            },
        }
    }

    async fn tell_cuts(&self, cut: &[Stream], stdout: u64, stderr: u64) {
        for stream in cut {
            let kept = if *stream == Stream::Stderr { stderr } else { stdout };
            let name = &self.site.target.name;
            self.tell(format!("[birun: {name} kept {kept} bytes of {stream}, and there was more: at most 256 MiB are kept, and what the disk there has room for]\n")).await;
        }
    }

    async fn say_away(&mut self, why: &str) {
        if !std::mem::replace(&mut self.away, true) {
            let name = &self.site.target.name;
            self.tell(format!("[birun: lost {name} ({why}); the program runs on there, and is looked for]\n")).await;
        }
    }

    /// The follower has begun: if nobody listened for a while, that is over.
    async fn say_back(&mut self) {
        if std::mem::take(&mut self.away) {
            self.tell(format!("[birun: {} is back]\n", self.site.target.name)).await;
        }
    }

    async fn tell(&self, text: String) {
        if self.io.output.send(Stream::System, Bytes::from(text)).await.is_err() {
            tracing::debug!(step = %self.work.step, "nobody takes a remark about a detached run");
        }
    }
}

/// Resolves when a run is to be left, and is more than a script that is still on its way.
async fn may_be_left(io: &WorkIo, begins: bool, talk: &Talk) {
    io.stop.leave.cancelled().await;
    if begins {
        until(talk.heard.subscribe(), Heard::is_settled).await;
    }
}

fn rebooted() -> Ending {
    let detail = "the server was started again while the program ran".to_owned();
    Ending::Lost { fault: LinkFault::HostRebooted, detail }
}

/// The shell that was to run the program ended without a word.
fn silent(endpoint: &Endpoint, code: i32) -> Error {
    let message = format!("{endpoint}: the shell did not start the script (exit status {code})");
    Error::new(ErrorCode::SpawnFailed, message).with_hint("its own words are in the output")
}
