//! A faulty line: a TCP proxy that delays, swallows, half-closes, resets, or cuts at a given byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ssh::{Ear, Next};

/// What the line does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// Every chunk takes this much longer.
    Delay(Duration),
    /// Everything disappears, in both directions, and nobody is told.
    BlackHole,
    /// New connections are reset; those that exist go on.
    Refuse,
    /// What is said in one direction disappears, its end too.
    Mute(Direction),
    /// The client is told that the server will say no more, which is not true.
    HalfClose,
    /// Both ends are reset.
    Reset,
    /// After so many bytes in one direction, the end.
    Cut(Direction, u64, Cut),
    /// The server's words are held back from this point of the key exchange on.
    Hold(Stage),
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The server.
    FromServer,
    /// The client.
    FromClient,
}

/// How a cut shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// As a reset.
    Reset,
    /// As an orderly close.
    Close,
    /// Not at all.
    Silence,
}

/// A point of the key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before the server's identification.
    Banner,
    /// Before its `KEXINIT`.
    KexInit,
    /// Before its half of the key exchange.
    KexReply,
    /// Before its `NEWKEYS`.
    NewKeys,
    /// Before anything encrypted: its answer to the request for a service.
    Service,
}

#[derive(Debug, Default)]
struct Counts {
    made: AtomicUsize,
    ended: AtomicUsize,
    over: AtomicUsize,
    silent: AtomicUsize,
    from_server: AtomicU64,
    from_client: AtomicU64,
}

impl Counts {
    fn bytes(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::FromServer => &self.from_server,
            Direction::FromClient => &self.from_client,
        }
    }
}

/// A proxy on a loopback port. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    fault: watch::Sender<Fault>,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy in front of a port of this machine.
    pub async fn start(upstream: u16, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, receiver) = watch::channel(fault);
        let counts = Arc::<Counts>::default();
        let count = Arc::clone(&counts);
        let accepting = tokio::spawn(async move {
            let upstream = SocketAddr::from(([127, 0, 0, 1], upstream));
            let mut lines = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                count.made.fetch_add(1, Ordering::SeqCst);
                let (fault, count) = (receiver.clone(), Arc::clone(&count));
                lines.spawn(async move {
                    serve(client, upstream, fault, &count).await;
                    count.over.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, fault: sender, counts, accepting }
    }

    /// The port to connect to.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Changes the fault, for connections that exist and for new ones.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.counts.made.load(Ordering::SeqCst)
    }

    /// How many bytes passed in one direction, over all connections.
    #[must_use]
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.counts.bytes(direction).load(Ordering::SeqCst)
    }

    /// How many of them fell silent.
    #[must_use]
    pub fn silent(&self) -> usize {
        self.counts.silent.load(Ordering::SeqCst)
    }

    /// How many of them are over.
    #[must_use]
    pub fn over(&self) -> usize {
        self.counts.over.load(Ordering::SeqCst)
    }

    /// How many of them the client has ended.
    #[must_use]
    pub fn ended_by_client(&self) -> usize {
        self.counts.ended.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut client: TcpStream, upstream: SocketAddr, mut fault: watch::Receiver<Fault>, counts: &Counts) {
    if *fault.borrow() == Fault::Refuse {
        return reset(&client);
    }
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).expect("nodelay");
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    let down = pump(from_server, to_client, Gate::new(Direction::FromServer, fault.clone()), counts);
    let up = pump(from_client, to_server, Gate::new(Direction::FromClient, fault.clone()), counts);
    let both = async { tokio::try_join!(down, up).err() };
    let cut = tokio::select! {
        cut = both => cut,
        cut = struck(&mut fault) => Some(cut),
    };
    match cut {
        Some(Cut::Reset) => {
            reset(&client);
            reset(&server);
        }
        Some(Cut::Silence) => {
            counts.silent.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        Some(Cut::Close) | None => {}
    }
}

/// Makes the connection end with a reset when it is dropped.
fn reset(socket: &TcpStream) {
    socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).expect("linger");
}

/// Waits for a fault that strikes a whole connection at once.
async fn struck(fault: &mut watch::Receiver<Fault>) -> Cut {
    loop {
        match *fault.borrow_and_update() {
            Fault::Reset => return Cut::Reset,
            Fault::BlackHole => return Cut::Silence,
            _ => {}
        }
        if fault.changed().await.is_err() {
            return Cut::Close;
        }
    }
}

async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut gate: Gate, counts: &Counts) -> Result<(), Cut> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            () = gate.half_closed() => 0,
        };
        let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else {
            if gate.direction == Direction::FromClient {
                counts.ended.fetch_add(1, Ordering::SeqCst);
            }
            gate.unless_mute().await;
            // The other end may be gone already.
            to.shutdown().await.ok();
            return Ok(());
        };
        let (pass, cut) = gate.judge(chunk);
        gate.delay().await;
        counts.bytes(gate.direction).fetch_add(u64::try_from(pass).unwrap_or(u64::MAX), Ordering::SeqCst);
        if to.write_all(chunk.get(..pass).unwrap_or(chunk)).await.is_err() {
            return Ok(());
        }
        if let Some(cut) = cut {
            return Err(cut);
        }
    }
}

/// Decides how much of what is said in one direction passes.
struct Gate {
    direction: Direction,
    fault: watch::Receiver<Fault>,
    passed: u64,
    ear: Ear,
}

impl Gate {
    fn new(direction: Direction, fault: watch::Receiver<Fault>) -> Self {
        Self { direction, fault, passed: 0, ear: Ear::default() }
    }

    async fn delay(&self) {
        let fault = *self.fault.borrow();
        if let Fault::Delay(by) = fault {
            tokio::time::sleep(by).await;
        }
    }

    /// Resolves unless this direction's end disappears too.
    async fn unless_mute(&self) {
        if *self.fault.borrow() == Fault::Mute(self.direction) {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when this direction is to end though its speaker has not ended.
    async fn half_closed(&mut self) {
        let from_server = self.direction == Direction::FromServer;
        if !from_server || self.fault.wait_for(|fault| *fault == Fault::HalfClose).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// How many bytes of the chunk pass, and what happens then.
    fn judge(&mut self, chunk: &[u8]) -> (usize, Option<Cut>) {
        let fault = *self.fault.borrow();
        let (pass, cut) = match fault {
            Fault::Cut(direction, at, how) if direction == self.direction => {
                let left = usize::try_from(at.saturating_sub(self.passed)).unwrap_or(usize::MAX);
                if chunk.len() < left { (chunk.len(), None) } else { (left, Some(how)) }
            }
            Fault::Mute(direction) if direction == self.direction => (0, None),
            Fault::Hold(stage) if self.direction == Direction::FromServer => match self.until(stage, chunk) {
                Some(pass) => (pass, Some(Cut::Silence)),
                None => (chunk.len(), None),
            },
            _ => (chunk.len(), None),
        };
        self.passed += u64::try_from(pass).unwrap_or(u64::MAX);
        (pass, cut)
    }

    /// How many bytes of the chunk come before the stage, if the stage is reached in it.
    fn until(&mut self, stage: Stage, chunk: &[u8]) -> Option<usize> {
        let next = match stage {
            Stage::Banner => Next::Identification,
            Stage::KexInit => Next::KexInit,
            Stage::KexReply => Next::KexReply,
            Stage::NewKeys => Next::NewKeys,
            Stage::Service => Next::Encrypted,
        };
        for (index, byte) in chunk.iter().enumerate() {
            if self.ear.next() == next && self.ear.is_between() {
                return Some(index);
            }
            self.ear.hear(*byte);
        }
        None
    }
}
