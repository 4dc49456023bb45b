//! An SSH server that does what its script says, right or wrong, and remembers what was asked of it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use birun_core::execution::ServerTarget;
use birun_core::inventory::{HostKey, HostKeyStatus, OpenCredential};
use birun_core::vault::Secret;
use bytes::Bytes;
use russh::keys::{Algorithm, PrivateKey};
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
    run_stream,
};
use russh::{Channel, ChannelId, Disconnect, Limits, MethodKind, MethodSet};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{Act, Admission, Opening, Script, key_text, private_key, recorded, server_target};

/// What happened on a server.
#[derive(Debug, Default)]
pub struct Witness {
    connections: AtomicUsize,
    attempts: AtomicUsize,
    commands: AtomicUsize,
    input: AtomicUsize,
    started: AtomicUsize,
    granted: AtomicUsize,
    refused: AtomicUsize,
}

impl Witness {
    /// TCP connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Requests to sign in, of any kind.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.attempts.load(Ordering::SeqCst)
    }

    /// Requests to run something.
    #[must_use]
    pub fn commands(&self) -> usize {
        self.commands.load(Ordering::SeqCst)
    }

    /// Bytes of input that arrived for commands.
    #[must_use]
    pub fn input(&self) -> usize {
        self.input.load(Ordering::SeqCst)
    }

    /// Programs that were said to have begun.
    #[must_use]
    pub fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    /// Channels that the client let the server open.
    #[must_use]
    pub fn granted(&self) -> usize {
        self.granted.load(Ordering::SeqCst)
    }

    /// Channels that the client did not let the server open.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

/// A scripted server on a loopback port. Its connections end when it is dropped.
#[derive(Debug)]
pub struct ScriptedServer {
    port: u16,
    host_keys: Vec<HostKey>,
    witness: Arc<Witness>,
    accepting: JoinHandle<()>,
}

impl ScriptedServer {
    /// Starts a server.
    pub async fn start(script: Script) -> Self {
        let keys: Vec<PrivateKey> = script.host_keys.iter().cloned().map(private_key).collect();
        Self::with_keys(script, keys).await
    }

    /// Starts a server that has these host keys.
    pub async fn with_keys(script: Script, keys: Vec<PrivateKey>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let host_keys = keys.iter().map(|key| recorded(key.public_key(), HostKeyStatus::Approved)).collect();
        let witness = Arc::<Witness>::default();
        let accepting = tokio::spawn(accept(listener, Arc::new(config(&script, keys)), script, Arc::clone(&witness)));
        Self { port, host_keys, witness, accepting }
    }

    /// The port it listens on, on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What happened so far.
    #[must_use]
    pub fn witness(&self) -> &Witness {
        &self.witness
    }

    /// Its host keys, approved.
    #[must_use]
    pub fn host_keys(&self) -> &[HostKey] {
        &self.host_keys
    }

    /// The server as a target, with a key to sign in and its host keys approved.
    #[must_use]
    pub fn target(&self) -> ServerTarget {
        let key = Secret::new(key_text(&private_key(Algorithm::Ed25519)));
        let credential = OpenCredential::PrivateKey { key, passphrase: None, certificate: None };
        server_target(self.port, "deploy", credential, self.host_keys.clone())
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn config(script: &Script, keys: Vec<PrivateKey>) -> Config {
    Config {
        keys,
        preferred: script.preferred.clone(),
        window_size: script.window,
        auth_rejection_time: Duration::ZERO,
        inactivity_timeout: None,
        limits: Limits::new(script.rekey_bytes, script.rekey_bytes, Duration::from_secs(3600)),
        nodelay: true,
        ..Config::default()
    }
}

async fn accept(listener: TcpListener, config: Arc<Config>, script: Script, witness: Arc<Witness>) {
    let script = Arc::new(script);
    let mut sessions = tokio::task::JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        witness.connections.fetch_add(1, Ordering::SeqCst);
        let end = Arc::<End>::default();
        let stream = Stream { tcp, end: Arc::clone(&end) };
        let clerk = Clerk {
            script: Arc::clone(&script),
            witness: Arc::clone(&witness),
            end,
            input: HashMap::new(),
            held: Vec::new(),
            channels: 0,
            rounds: 0,
        };
        let config = Arc::clone(&config);
        sessions.spawn(async move {
            if let Ok(session) = run_stream(config, stream, clerk).await {
                // How a session ends is the client's affair.
                session.await.ok();
            }
        });
    }
}

/// How a connection is to end, when its script says so.
#[derive(Debug, Default)]
struct End {
    how: Mutex<Option<Ending>>,
    wake: Mutex<Option<std::task::Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Reset,
    Fin,
}

impl End {
    fn now(&self, ending: Ending) {
        *self.how.lock().unwrap_or_else(PoisonError::into_inner) = Some(ending);
        if let Some(waker) = self.wake.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }

    fn check(&self, cx: &Context<'_>, tcp: &TcpStream) -> io::Result<()> {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        let Some(ending) = *self.how.lock().unwrap_or_else(PoisonError::into_inner) else { return Ok(()) };
        if ending == Ending::Reset {
            socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO))?;
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

/// A TCP connection that ends when its script says so.
struct Stream {
    tcp: TcpStream,
    end: Arc<End>,
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.end.check(cx, &self.tcp)?;
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let reset = *self.end.how.lock().unwrap_or_else(PoisonError::into_inner) == Some(Ending::Reset);
        if reset { Poll::Ready(Ok(())) } else { Pin::new(&mut self.tcp).poll_shutdown(cx) }
    }
}

/// The input of one command.
#[derive(Default)]
struct Input {
    end: Notify,
    /// What ends a large body, and the last of what arrived.
    tail: Mutex<(Vec<u8>, Vec<u8>)>,
    whole: Notify,
}

impl Input {
    fn expect(&self, step: &str) {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).0 = format!("\n.{step}").into_bytes();
    }

    fn take(&self, data: &[u8]) {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let (end, latest) = &mut *tail;
        latest.extend_from_slice(data);
        if latest.windows(end.len().max(1)).any(|part| part == end.as_slice()) {
            self.whole.notify_one();
        }
        let surplus = latest.len().saturating_sub(end.len());
        latest.drain(..surplus);
    }
}

/// Serves one connection.
struct Clerk {
    script: Arc<Script>,
    witness: Arc<Witness>,
    end: Arc<End>,
    input: HashMap<ChannelId, Arc<Input>>,
    /// Requests that are never answered.
    held: Vec<ChannelOpenHandle>,
    channels: usize,
    /// How many rounds of questions were asked, or methods taken.
    rounds: usize,
}

/// A round of questions.
fn ask(round: &'static [(&'static str, &'static str)]) -> Auth {
    let prompts = round.iter().map(|(prompt, _)| (Cow::Borrowed(*prompt), prompt.ends_with('?'))).collect();
    Auth::Partial { name: "".into(), instructions: "".into(), prompts: Cow::Owned(prompts) }
}

impl Clerk {
    /// The next round, if the answers to the one before are right.
    fn interview(&mut self, rounds: &[&'static [(&'static str, &'static str)]], answers: &[Bytes]) -> Auth {
        let asked = self.rounds.checked_sub(1).and_then(|round| rounds.get(round));
        self.rounds += 1;
        if !asked.copied().unwrap_or_default().iter().map(|(_, right)| right.as_bytes()).eq(answers.iter()) {
            return Auth::reject();
        }
        rounds.get(self.rounds - 1).map_or(Auth::Accept, |round| ask(round))
    }

    async fn admit(&mut self, by_key: bool, password: Option<&str>) -> Auth {
        let more = |method: MethodKind| Auth::Reject {
            proceed_with_methods: Some(MethodSet::from(&[method][..])),
            partial_success: true,
        };
        let script = Arc::clone(&self.script);
        match &script.admission {
            Admission::Both(order, known) => {
                let wanted = order.get(self.rounds).copied();
                let right = if by_key {
                    wanted == Some(MethodKind::PublicKey)
                } else {
                    wanted == Some(MethodKind::Password) && password == Some(*known)
                };
                self.rounds += usize::from(right);
                order.get(self.rounds).map_or(Auth::Accept, |next| Auth::Reject {
                    proceed_with_methods: Some(MethodSet::from(&[*next][..])),
                    partial_success: right,
                })
            }
            Admission::Anyone => Auth::Accept,
            Admission::Password(known) if password == Some(known) => Auth::Accept,
            Admission::Password(_) | Admission::Nobody => Auth::reject(),
            Admission::Partial if by_key => more(MethodKind::Password),
            Admission::Prompts(_) | Admission::Asks(_) => Auth::Reject {
                proceed_with_methods: Some(MethodSet::from(&[MethodKind::KeyboardInteractive][..])),
                partial_success: false,
            },
            Admission::Partial => Auth::reject(),
            Admission::Hang | Admission::HangAfterKey => std::future::pending().await,
        }
    }
}

impl Handler for Clerk {
    type Error = russh::Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, russh::Error> {
        self.witness.attempts.fetch_add(1, Ordering::SeqCst);
        Ok(Auth::reject())
    }

    async fn auth_password(&mut self, _: &str, password: &str) -> Result<Auth, russh::Error> {
        self.witness.attempts.fetch_add(1, Ordering::SeqCst);
        Ok(self.admit(false, Some(password)).await)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        if response.is_none() {
            self.witness.attempts.fetch_add(1, Ordering::SeqCst);
        }
        let answers: Vec<Bytes> = response.into_iter().flatten().collect();
        let script = Arc::clone(&self.script);
        match script.admission {
            Admission::Prompts(rounds) => Ok(self.interview(rounds, &answers)),
            Admission::Asks(prompt) => {
                self.rounds += 1;
                let prompt = if self.rounds > 1 { format!("{prompt}{}", self.rounds) } else { prompt.to_owned() };
                let prompts = Cow::Owned(vec![(Cow::Owned(prompt), false)]);
                Ok(Auth::Partial { name: "".into(), instructions: "".into(), prompts })
            }
            _ => Ok(Auth::reject()),
        }
    }

    async fn auth_publickey_offered(&mut self, _: &str, _: PublicKeyOffer<'_>) -> Result<Auth, russh::Error> {
        self.witness.attempts.fetch_add(1, Ordering::SeqCst);
        match self.script.admission {
            Admission::Hang => std::future::pending().await,
            Admission::Password(_) => Ok(Auth::reject()),
            _ => Ok(Auth::Accept),
        }
    }

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        Ok(self.admit(true, None).await)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), russh::Error> {
        if self.script.opens_channels {
            tokio::spawn(open_channels(session.handle(), Arc::clone(&self.witness)));
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channels += 1;
        match self.script.opening {
            Opening::HangLater if self.channels > 1 => self.held.push(reply),
            Opening::Agree | Opening::HangLater => {
                self.input.insert(channel.id(), Arc::default());
                reply.accept().await;
            }
            Opening::Refuse => reply.reject(russh::ChannelOpenFailure::ResourceShortage).await,
            Opening::Hang => self.held.push(reply),
        }
        Ok(())
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        self.witness.commands.fetch_add(1, Ordering::SeqCst);
        let command = String::from_utf8_lossy(command).into_owned();
        let words: Vec<&str> = command.split_ascii_whitespace().collect();
        let step = match words.as_slice() {
            [.., "script", step] => Some((*step).to_owned()),
            _ => None,
        };
        let acts = if step.is_some() { &self.script.run } else { &self.script.errand };
        let (step, input) = (step.unwrap_or_default(), self.input.get(&id).map(Arc::clone).unwrap_or_default());
        input.expect(&step);
        let play = Play {
            handle: session.handle(),
            id,
            step,
            input,
            witness: Arc::clone(&self.witness),
            end: Arc::clone(&self.end),
        };
        tokio::spawn(play.all(acts.clone()));
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), russh::Error> {
        self.witness.input.fetch_add(data.len(), Ordering::SeqCst);
        if let Some(input) = self.input.get(&id) {
            input.take(data);
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        if let Some(input) = self.input.get(&id) {
            input.end.notify_one();
        }
        Ok(())
    }
}

/// Opens channels of every kind until the connection ends.
async fn open_channels(handle: Handle, witness: Arc<Witness>) {
    let mut open = 0;
    loop {
        open += 1;
        let opened = match open % 4 {
            0 => handle.channel_open_forwarded_tcpip("localhost", 22, "localhost", 22).await,
            1 => handle.channel_open_x11("localhost", 6000).await,
            2 => handle.channel_open_agent().await,
            _ => handle.channel_open_session().await,
        };
        match opened {
            Ok(_) => witness.granted.fetch_add(1, Ordering::SeqCst),
            Err(russh::Error::ChannelOpenFailure(_)) => witness.refused.fetch_add(1, Ordering::SeqCst),
            Err(_) => return,
        };
    }
}

/// One command being played.
struct Play {
    handle: Handle,
    id: ChannelId,
    step: String,
    input: Arc<Input>,
    witness: Arc<Witness>,
    end: Arc<End>,
}

impl Play {
    async fn all(self, acts: Vec<Act>) {
        for act in acts {
            // A connection that ended in the middle of it is no news to its script.
            self.one(act).await.ok();
        }
        // The channel stays as it is.
        std::future::pending::<()>().await;
    }

    async fn one(&self, act: Act) -> Result<(), ()> {
        let Self { handle, id, .. } = self;
        let id = *id;
        match act {
            Act::Accept => handle.channel_success(id).await,
            Act::Refuse => handle.channel_failure(id).await,
            Act::AwaitInput => {
                self.input.end.notified().await;
                Ok(())
            }
            Act::AwaitWhole => {
                self.input.whole.notified().await;
                Ok(())
            }
            Act::Started => {
                self.witness.started.fetch_add(1, Ordering::SeqCst);
                self.err(Bytes::from(format!("birun:{}:started\n", self.step))).await
            }
            Act::Refusal(why) => self.err(Bytes::from(format!("birun:{}:refused {why}\n", self.step))).await,
            Act::Stdout(bytes) => self.out(bytes).await,
            Act::Stderr(bytes) => self.err(bytes).await,
            Act::Flood(bytes, times) => {
                for _ in 0..times {
                    self.out(bytes.clone()).await?;
                }
                Ok(())
            }
            Act::Drip(bytes, pause, times) => {
                for _ in 0..times {
                    self.out(bytes.clone()).await?;
                    tokio::time::sleep(pause).await;
                }
                Ok(())
            }
            Act::Eof => handle.eof(id).await,
            Act::Status(status) => handle.exit_status_request(id, status).await,
            Act::Signal(signal) => handle.exit_signal_request(id, signal, false, String::new(), String::new()).await,
            Act::Close => handle.close(id).await,
            Act::Disconnect => handle
                .disconnect(Disconnect::ByApplication, "maintenance".to_owned(), String::new())
                .await
                .map_err(drop),
            Act::Reset => {
                self.end.now(Ending::Reset);
                Ok(())
            }
            Act::Fin => {
                self.end.now(Ending::Fin);
                Ok(())
            }
            Act::Pause(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Act::Hang => std::future::pending().await,
        }
    }

    async fn out(&self, bytes: Bytes) -> Result<(), ()> {
        self.handle.data(self.id, bytes).await.map_err(drop)
    }

    async fn err(&self, bytes: Bytes) -> Result<(), ()> {
        self.handle.extended_data(self.id, 1, bytes).await.map_err(drop)
    }
}
