//! Commands over SSH, beside a bare russh client that does the same work on the same sshd.

use std::sync::Arc;
use std::time::{Duration, Instant};

use birun_core::execution::{Ending, Executor as _, OutputSender, ServerTarget, Stop, Target, Waits, Work, WorkIo};
use birun_core::id::{ExecutionId, ServerId, StepId};
use birun_core::inventory::HostKeyPolicy;
use birun_core::script::{Content, EnvName, Interpreter, RunMode};
use birun_core::vault::Secret;
use birun_exec::SshExecutor;
use birun_exec::testing::{Notes, Sshd, exec_text};
use futures::future::{BoxFuture, FutureExt as _, try_join_all};
use tokio::task::JoinSet;

use crate::Outcome;
use crate::bare::Bare;
use crate::machine::cpu_seconds;
use crate::settings::Settings;
use crate::table::{Goal, Line, Table, median};

const TARGETS: usize = 50;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
/// How often all targets are connected to in a round.
const COLD_TIMES: usize = 2;
/// How many connections are made one after the other.
const SINGLE_TIMES: usize = 20;

pub(crate) async fn measure(settings: &Settings, table: &mut Table) -> Outcome {
    let sshd = Arc::new(start(settings));
    let fleet = Fleet::new(&sshd)?;
    pooled(&fleet, table).await?;
    cold(&fleet, table).await?;
    single(&fleet, table).await
}

/// An sshd that serves the user of the bench.
pub(crate) fn start(settings: &Settings) -> Sshd {
    let options = Sshd::options().line("LogLevel ERROR").line("MaxSessions 100");
    match &settings.ssh_user {
        Some(user) => options.user(user).start(),
        None => {
            eprintln!("  BIRUN_BENCH_SSH_USER is not set: commands run as this user, with whatever profile it has");
            options.start()
        }
    }
}

/// What is measured, and what it is measured with.
struct Fleet {
    sshd: Arc<Sshd>,
    targets: Vec<Arc<ServerTarget>>,
    command: Arc<str>,
    input: Arc<[u8]>,
}

impl Fleet {
    fn new(sshd: &Arc<Sshd>) -> Outcome<Self> {
        let target = sshd.target();
        let targets: Vec<_> =
            (0..TARGETS).map(|_| Arc::new(ServerTarget { id: ServerId::new(), ..target.clone() })).collect();
        let (command, input) = exec_text(&work(&Arc::new(target))?)?;
        Ok(Self { sshd: Arc::clone(sshd), targets, command: command.into(), input: input.into() })
    }
}

/// The smallest work, with as many variables as the engine gives.
fn work(target: &Arc<ServerTarget>) -> Outcome<Work> {
    let (execution, step) = (ExecutionId::new(), StepId::new());
    let own = [
        ("BENCH_EXECUTION_ID", execution.to_string()),
        ("BENCH_STEP_ID", step.to_string()),
        ("BENCH_TARGET", target.name.to_string()),
        ("BENCH_ATTEMPT", "1".to_owned()),
        ("BENCH_STARTED_AT", "2026-01-01T00:00:00.000000Z".to_owned()),
    ];
    let env = own.into_iter().map(|(name, value)| Ok((name.parse::<EnvName>()?, Secret::new(value))));
    Ok(Work {
        execution,
        step,
        target: Target::Server(Arc::clone(target)),
        content: Content::new("true")?,
        interpreter: Interpreter::Sh,
        env: env.collect::<Result<_, birun_core::Error>>()?,
        grace: Duration::from_secs(5),
        mode: RunMode::Attached,
    })
}

fn executor() -> Outcome<SshExecutor> {
    Ok(SshExecutor::builder(HostKeyPolicy::Strict).connections_per_server(1).build()?)
}

async fn run(executor: SshExecutor, target: Arc<ServerTarget>) -> Outcome {
    let (output, mut chunks) = OutputSender::channel(16);
    let io = WorkIo { output, stop: Stop::default(), trust: Notes::new(), waits: Waits::default() };
    let drain = async { while chunks.recv().await.is_some() {} };
    let (ending, ()) = tokio::join!(executor.run(work(&target)?, io), drain);
    match ending {
        Ending::Exited { code: 0 } => Ok(()),
        other => Err(format!("a command ended badly: {other:?}").into()),
    }
}

/// One way to run the command on the connection of one target.
type Once = Arc<dyn Fn() -> BoxFuture<'static, Outcome> + Send + Sync>;

/// What a round of commands came to.
#[derive(Clone, Copy)]
struct Round {
    rate: f64,
    cpu_ms: f64,
}

/// Every target's command again and again, all targets at once.
async fn repeat(all: &[Once]) -> Outcome<Round> {
    let (begin, cpu) = (Instant::now(), cpu_seconds());
    let mut tasks = JoinSet::new();
    for once in all {
        let once = Arc::clone(once);
        tasks.spawn(async move {
            let mut done: u32 = 0;
            while begin.elapsed() < ROUND {
                once().await?;
                done += 1;
            }
            Outcome::Ok(done)
        });
    }
    let mut done = 0;
    while let Some(count) = tasks.join_next().await {
        done += count??;
    }
    Ok(Round::of(f64::from(done), begin, cpu))
}

impl Round {
    fn of(done: f64, begin: Instant, cpu: f64) -> Self {
        Self { rate: done / begin.elapsed().as_secs_f64(), cpu_ms: (cpu_seconds() - cpu) * 1000.0 / done }
    }
}

fn median_of(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> f64 {
    median(rounds.iter().map(figure).collect())
}

async fn pooled(fleet: &Fleet, table: &mut Table) -> Outcome {
    let executor = executor()?;
    let ours: Vec<Once> = fleet.targets.iter().map(|target| through(&executor, target)).collect();
    let bare = try_join_all(fleet.targets.iter().map(|_| Bare::connect(&fleet.sshd))).await?;
    let bare: Vec<Arc<Bare>> = bare.into_iter().map(Arc::new).collect();
    let same: Vec<Once> = bare.iter().map(|bare| by(bare, &fleet.command, &fleet.input)).collect();
    let plain: Vec<Once> = bare.iter().map(|bare| by(bare, &Arc::from("true"), &Arc::from([]))).collect();
    try_join_all(ours.iter().map(|once| once())).await?;
    let (mut us, mut them, mut trues) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        us.push(repeat(&ours).await?);
        them.push(repeat(&same).await?);
        trues.push(repeat(&plain).await?);
    }
    let (rate, peer) = (median_of(&us, |round| round.rate), median_of(&them, |round| round.rate));
    let measure = format!("SSH commands, {TARGETS} pooled connections");
    table.add(Line::new(&measure, rate, "/s", Goal::ShareOfPeer(0.9)).beside("bare russh", peer));
    let trues = median_of(&trues, |round| round.rate);
    table.add(Line::new(measure, rate, "/s", Goal::None).beside("bare russh, `true`", trues));
    let cpu = Line::new("client CPU per pooled command", median_of(&us, |round| round.cpu_ms), "ms", Goal::Below(0.3));
    table.add(cpu.beside("bare russh", median_of(&them, |round| round.cpu_ms)));
    Ok(())
}

fn through(executor: &SshExecutor, target: &Arc<ServerTarget>) -> Once {
    let (executor, target) = (executor.clone(), Arc::clone(target));
    Arc::new(move || run(executor.clone(), Arc::clone(&target)).boxed())
}

fn by(bare: &Arc<Bare>, command: &Arc<str>, input: &Arc<[u8]>) -> Once {
    let (bare, command, input) = (Arc::clone(bare), Arc::clone(command), Arc::clone(input));
    Arc::new(move || {
        let (bare, command, input) = (Arc::clone(&bare), Arc::clone(&command), Arc::clone(&input));
        async move { bare.run(&command, &input).await.map(drop) }.boxed()
    })
}

async fn cold(fleet: &Fleet, table: &mut Table) -> Outcome {
    let (mut us, mut them) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        us.push(cold_round(fleet, our_cold).await?);
        them.push(cold_round(fleet, bare_cold).await?);
    }
    let measure = format!("SSH cold connect + run, {TARGETS} targets at once");
    let line = Line::new(measure, median_of(&us, |round| round.rate), "/s", Goal::ShareOfPeer(0.9));
    table.add(line.beside("bare russh", median_of(&them, |round| round.rate)));
    let cpu = median_of(&us, |round| round.cpu_ms);
    let line = Line::new("client CPU per cold connection + exec", cpu, "ms", Goal::Below(1.2));
    table.add(line.beside("bare russh", median_of(&them, |round| round.cpu_ms)));
    Ok(())
}

type Cold = for<'f> fn(&'f Fleet, usize) -> BoxFuture<'f, Outcome>;

async fn cold_round(fleet: &Fleet, way: Cold) -> Outcome<Round> {
    let (begin, cpu) = (Instant::now(), cpu_seconds());
    for _ in 0..COLD_TIMES {
        way(fleet, TARGETS).await?;
    }
    #[expect(clippy::cast_precision_loss, reason = "it is a hundred")]
    let done = (COLD_TIMES * TARGETS) as f64;
    Ok(Round::of(done, begin, cpu))
}

/// Runs on so many targets with an executor that has no connection yet.
fn our_cold(fleet: &Fleet, targets: usize) -> BoxFuture<'_, Outcome> {
    async move {
        let executor = executor()?;
        let mut tasks = JoinSet::new();
        for target in fleet.targets.iter().take(targets) {
            tasks.spawn(run(executor.clone(), Arc::clone(target)));
        }
        all(tasks).await
    }
    .boxed()
}

fn bare_cold(fleet: &Fleet, targets: usize) -> BoxFuture<'_, Outcome> {
    async move {
        let mut tasks = JoinSet::new();
        for _ in 0..targets {
            let (sshd, command, input) =
                (Arc::clone(&fleet.sshd), Arc::clone(&fleet.command), Arc::clone(&fleet.input));
            tasks.spawn(async move {
                let bare = Bare::connect(&sshd).await?;
                bare.run(&command, &input).await?;
                bare.leave().await
            });
        }
        all(tasks).await
    }
    .boxed()
}

async fn all(mut tasks: JoinSet<Outcome>) -> Outcome {
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn single(fleet: &Fleet, table: &mut Table) -> Outcome {
    let (mut us, mut them) = (Vec::new(), Vec::new());
    for _ in 0..SINGLE_TIMES {
        us.push(millis(our_cold(fleet, 1)).await?);
        them.push(millis(bare_cold(fleet, 1)).await?);
    }
    let line = Line::new("SSH cold exec, one at a time, median", median(us), "ms", Goal::Below(45.0));
    table.add(line.beside("bare russh", median(them)));
    Ok(())
}

async fn millis(work: BoxFuture<'_, Outcome>) -> Outcome<f64> {
    let begin = Instant::now();
    work.await?;
    Ok(begin.elapsed().as_secs_f64() * 1000.0)
}
