//! The server that birun brings, over real sockets: hostile clients, absent clients, and its own end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use birun_core::testing::harness::{Need, Suite};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio_util::sync::CancellationToken;

use birun_http::{Tls, serve};

use crate::lists::Dice;
use crate::support::{Api, FLOOD, OWNER, flood, post, soon};

/// The limits that [`serve`] documents.
const HEAD: Duration = Duration::from_secs(30);
const HANDSHAKE: Duration = Duration::from_secs(10);
const MOST_EACH: usize = 128;

pub(crate) fn cases(suite: &mut Suite) {
    let openssl = Need::program("openssl");
    let network = Need::new("network", own_address().is_some());
    suite.test("requests_on_one_connection_are_answered_in_order", &[], answers_in_order);
    suite.test("garbage_is_refused_and_the_connection_closed", &[], garbage);
    suite.test("random_bytes_never_hurt_the_server", &[], random_bytes);
    suite.test("a_head_that_is_too_large_is_refused", &[], large_heads);
    suite.plain("a_client_has_thirty_seconds_for_a_head", &[], || on_a_fast_clock(slow_heads));
    suite.plain("a_client_has_thirty_seconds_for_a_body", &[], || on_a_fast_clock(slow_body));
    suite.plain("a_client_has_ten_seconds_for_a_handshake", &[openssl], || on_a_fast_clock(slow_handshake));
    suite.test("one_address_has_so_many_connections_and_gets_them_back", &[network], too_many);
    suite.test("clients_that_vanish_from_a_stream_are_noticed", &[network], vanished);
    suite.test("a_half_closed_connection_is_ended", &[], half_closed);
    suite.test("a_stop_ends_streams_and_no_reader_takes_it_for_the_end", &[], graceful_stop);
    suite.test("a_stop_waits_for_what_is_being_answered", &[], stop_waits);
    suite.test("readers_that_stop_hold_little_memory", &[], bounded_memory);
    suite.test("tls_carries_the_same_answers", &[openssl], over_tls);
    suite.test("a_base_path_is_served_and_nothing_beside_it", &[], base_path);
}

/// An application behind a socket.
struct Served {
    api: Api,
    address: SocketAddr,
    stop: CancellationToken,
    done: JoinHandle<()>,
}

impl Served {
    async fn start() -> Self {
        Self::with(Api::start().await, Ipv4Addr::LOCALHOST.into(), None).await
    }

    async fn with(api: Api, ip: IpAddr, tls: Option<Tls>) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let done = tokio::spawn(serve(listener, api.app.clone(), tls, stop.clone().cancelled_owned()));
        Self { api, address, stop, done }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and reads until the server closes.
    async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut socket = self.connect().await;
        // A server that has refused may close before everything was sent.
        let _refused = socket.write_all(bytes.as_ref()).await;
        soon(rest(&mut socket)).await
    }

    /// Panics unless the server answers on a new connection.
    async fn is_well(&self) {
        let answer = self.exchange(get("/healthz", "close")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }

    async fn stop(self) {
        self.stop.cancel();
        soon(self.done).await.expect("the server does not panic");
        self.api.shutdown().await;
    }
}

/// The address of this machine in a network; nothing is sent to find it out.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// A request for a path.
fn get(path: &str, connection: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OWNER}\r\nConnection: {connection}\r\n\r\n")
}

/// Everything until the server closes. A reset is an end, too.
async fn rest(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = socket.read(&mut piece).await {
        all.extend_from_slice(&piece[..count]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Reads up to and including `end`.
async fn until(socket: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(end.as_bytes()) {
        all.push(soon(socket.read_u8()).await.unwrap_or_else(|error| {
            panic!("{error} after {}", String::from_utf8_lossy(&all));
        }));
    }
    String::from_utf8(all).unwrap()
}

/// Runs a case on one thread whose clock jumps to the next timer whenever nothing else is to be done.
fn on_a_fast_clock<F, Fut>(case: F)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = std::thread::spawn(move || runtime().block_on(case())).join();
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// An application without a worker: nothing but the server's own timers runs.
async fn still() -> Api {
    let store = std::sync::Arc::new(birun_store::SqlStore::memory().await.unwrap());
    Api::stopped(store, |builder| builder, |mount| mount).await
}

async fn answers_in_order() {
    let served = Served::start().await;
    let both = get("/healthz", "keep-alive") + &get("/nothing", "keep-alive") + &get("/api/v1/servers", "close");
    let answers = served.exchange(both).await;
    let starts: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(starts, ["200", "404", "200"], "{answers}");
    assert!(answers.ends_with(r#"{"items":[],"next":null}"#), "{answers}");
    let head = served.exchange(get("/api/v1/servers", "close").replacen("GET", "HEAD", 1)).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let head = served.exchange(get("/nothing", "close").replacen("GET", "HEAD", 1)).await;
    assert!(head.starts_with("HTTP/1.1 404 ") && head.ends_with("\r\n\r\n"), "{head}");
    served.stop().await;
}

async fn garbage() {
    let served = Served::start().await;
    let bad: [&[u8]; 13] = [
        b"GARBAGE\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / FTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad\0Name: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded: x\r\n\r\n",
    ];
    for bytes in bad {
        let answer = served.exchange(bytes).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{:?}: {answer}", String::from_utf8_lossy(bytes));
        // The same behind a request that is well: it is answered first, then the connection is closed.
        let mut pipelined = get("/healthz", "keep-alive").into_bytes();
        pipelined.extend_from_slice(bytes);
        let answers = served.exchange(&pipelined).await;
        let starts: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(starts, ["200", "400"], "{:?}: {answers}", String::from_utf8_lossy(bytes));
    }
    // A length beside chunks is how requests are smuggled: never two requests out of it.
    let smuggled = format!(
        "POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{}",
        get("/healthz", "close")
    );
    let answers = served.exchange(smuggled).await;
    assert!(!answers.contains("\"ok\""), "{answers}");
    for chunks in ["zz\r\n\r\n", "5\r\nab\r\n0\r\n\r\n", "fffffffffffffffff\r\nx"] {
        let body = "POST /api/v1/servers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\n\
                    Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = served.exchange(format!("{body}{chunks}")).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{chunks:?}: {answer}");
    }
    served.is_well().await;
    served.stop().await;
}

async fn random_bytes() {
    let mut dice = Dice::new("random_bytes");
    let served = Served::start().await;
    let pieces: [&[u8]; 14] = [
        b"GET ",
        b"/api/v1/servers",
        b" HTTP/1.1",
        b"\r\n",
        b"\r\n\r\n",
        b"Host: x",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\x04\x08\0",
        b":",
        b"Upgrade: h2c\r\nConnection: upgrade",
        b"OPTIONS * HTTP/1.1",
    ];
    for _ in 0..300 {
        let mut bytes = Vec::new();
        for _ in 0..dice.roll(20) {
            if dice.roll(3) == 0 {
                bytes.push(u8::try_from(dice.roll(256)).unwrap());
            } else {
                bytes.extend_from_slice(pieces[dice.roll(pieces.len())]);
            }
        }
        let mut socket = served.connect().await;
        let _refused = socket.write_all(&bytes).await;
        let _closed = socket.shutdown().await;
        let answer = soon(rest(&mut socket)).await;
        assert!(!answer.contains(" 500 "), "{:?}: {answer}", String::from_utf8_lossy(&bytes));
    }
    served.is_well().await;
    served.stop().await;
}

async fn large_heads() {
    let served = Served::start().await;
    let fits = get("/healthz", "close").replace("Host: x", &format!("Host: x\r\nX-Long: {}", "x".repeat(60_000)));
    assert!(served.exchange(fits).await.starts_with("HTTP/1.1 200 "));
    for large in [
        get("/healthz", "close").replace("Host: x", &format!("Host: x\r\nX-Long: {}", "x".repeat(200_000))),
        get("/healthz", "close").replace("Host: x", &format!("Host: x\r\n{}", "X-Many: x\r\n".repeat(500))),
        get(&format!("/{}", "x".repeat(200_000)), "close"),
    ] {
        let answer = served.exchange(&large).await;
        let status = answer.get(..12).unwrap_or_default();
        assert!(["", "HTTP/1.1 431", "HTTP/1.1 414"].contains(&status), "{answer}");
    }
    // A head without an end is cut when it is too large, not collected.
    let mut socket = served.connect().await;
    let mut sent = 0;
    while socket.write_all(&[b'x'; 4096]).await.is_ok() {
        sent += 4096;
        assert!(sent < 64 << 20, "the server reads a head without an end");
    }
    served.is_well().await;
    served.stop().await;
}

/// Clients that send a head slowly, in part, or not at all.
async fn slow_heads() {
    let served = Served::with(still().await, Ipv4Addr::LOCALHOST.into(), None).await;
    for begin in ["", "P", "PRI * HT", "G", "GET /healthz HTTP/1.1\r\nHost: x\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut socket = served.connect().await;
        socket.write_all(begin.as_bytes()).await.unwrap();
        cut_after(HEAD, &mut socket, begin).await;
    }
    // One byte now and then is as good as none.
    let mut socket = served.connect().await;
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    while socket.write_all(b"G").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(begun.elapsed() < 2 * HEAD, "a head is sent for {:?}", begun.elapsed());
    }
    tokio::time::resume();
    // After an answer, the next head has the same time.
    let mut socket = served.connect().await;
    socket.write_all(get("/healthz", "keep-alive").as_bytes()).await.unwrap();
    until(&mut socket, r#"{"status":"ok"}"#).await;
    cut_after(HEAD, &mut socket, "an idle connection").await;
    served.stop().await;
}

/// The server closes after its limit: not before, and not much later.
async fn cut_after(limit: Duration, socket: &mut TcpStream, what: &str) -> String {
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let answer = tokio::time::timeout(10 * limit, rest(socket)).await;
    let took = begun.elapsed();
    tokio::time::resume();
    let answer = answer.unwrap_or_else(|_| panic!("{what:?}: never cut"));
    assert!(
        took > limit - Duration::from_secs(1) && took < limit + Duration::from_secs(2),
        "{what:?}: cut after {took:?}"
    );
    answer
}

async fn slow_body() {
    let served = Served::with(still().await, Ipv4Addr::LOCALHOST.into(), None).await;
    let mut socket = served.connect().await;
    let head = "POST /api/v1/servers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\n\
                Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"name\":";
    socket.write_all(head.as_bytes()).await.unwrap();
    let answer = cut_after(HEAD, &mut socket, "a body").await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    let problem: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((&problem["status"], &problem["code"]), (&json!(408), &json!("malformed")));
    served.stop().await;
}

async fn slow_handshake() {
    let (tls, _) = certificate();
    let served = Served::with(still().await, Ipv4Addr::LOCALHOST.into(), Some(tls)).await;
    for begin in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"] {
        let mut socket = served.connect().await;
        socket.write_all(begin).await.unwrap();
        cut_after(HANDSHAKE, &mut socket, "a handshake").await;
    }
    served.stop().await;
}

async fn too_many() {
    let address = own_address().unwrap();
    let served = Served::with(Api::start().await, address, None).await;
    let mut taken = Vec::new();
    for _ in 0..MOST_EACH {
        let mut socket = served.connect().await;
        socket.write_all(get("/healthz", "keep-alive").as_bytes()).await.unwrap();
        until(&mut socket, r#"{"status":"ok"}"#).await;
        taken.push(socket);
    }
    // One more is closed without a word, and disturbs none of those that are there.
    assert_eq!(served.exchange(get("/healthz", "close")).await, "");
    let last = taken.last_mut().unwrap();
    last.write_all(get("/healthz", "keep-alive").as_bytes()).await.unwrap();
    until(last, r#"{"status":"ok"}"#).await;
    taken.pop();
    has_room(&served).await;
    drop(taken);
    served.stop().await;
}

/// Waits until a new connection is answered.
async fn has_room(served: &Served) {
    let asks = async {
        while served.exchange(get("/healthz", "close")).await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon(asks).await;
}

/// Submits a command, and answers the path of its logs.
async fn logs(api: &Api, command: &str) -> String {
    let run = post("/api/v1/executions").json(&json!({"kind": "command", "command": command}));
    format!("{}/logs", api.expect(202, run).await.header("location").unwrap())
}

async fn vanished() {
    let address = own_address().unwrap();
    let served = Served::with(Api::start().await, address, None).await;
    let path = logs(&served.api, "print first\nhang").await + "?follow=true";
    // Half of them say goodbye, half are torn off; the execution stays silent all the while.
    for round in 0..2 {
        let mut followers = Vec::new();
        for _ in 0..MOST_EACH {
            let mut socket = served.connect().await;
            socket.write_all(get(&path, "keep-alive").as_bytes()).await.unwrap();
            until(&mut socket, "first\\n\"}\n").await;
            if round == 0 {
                socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
            }
            followers.push(socket);
        }
        drop(followers);
        has_room(&served).await;
        let all_gone = async {
            let mut taken = Vec::new();
            while taken.len() < MOST_EACH {
                let mut socket = served.connect().await;
                let _refused = socket.write_all(get("/healthz", "keep-alive").as_bytes()).await;
                match socket.read_u8().await {
                    Ok(_) => taken.push(socket),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        soon(all_gone).await;
        has_room(&served).await;
    }
    served.stop().await;
}

async fn half_closed() {
    let served = Served::start().await;
    let path = logs(&served.api, "print first\nhang").await + "?follow=true";
    let mut socket = served.connect().await;
    socket.write_all(get(&path, "keep-alive").as_bytes()).await.unwrap();
    until(&mut socket, "first\\n\"}\n").await;
    socket.shutdown().await.unwrap();
    let answer = soon(rest(&mut socket)).await;
    assert!(!answer.contains("\"end\":true") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    // In the middle of a head or a body, there is nobody to wait for.
    let body = "POST /api/v1/servers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\n\
                Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"name\":";
    for begin in ["", "GET /healthz HT", body] {
        let mut socket = served.connect().await;
        socket.write_all(begin.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        let answer = soon(rest(&mut socket)).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{begin:?}: {answer}");
    }
    let servers = served.exchange(get("/api/v1/servers", "close")).await;
    assert!(servers.ends_with(r#"{"items":[],"next":null}"#), "{servers}");
    served.stop().await;
}

async fn graceful_stop() {
    let served = Served::start().await;
    let path = logs(&served.api, "print first\nhang").await;
    let mut followers = Vec::new();
    for (query, accept) in
        [("follow=true", "*/*"), ("follow=true", "text/event-stream"), ("follow=true&raw=true", "*/*")]
    {
        let mut socket = served.connect().await;
        let request =
            get(&format!("{path}?{query}"), "keep-alive").replace("Host: x", &format!("Host: x\r\nAccept: {accept}"));
        socket.write_all(request.as_bytes()).await.unwrap();
        until(&mut socket, "first").await;
        followers.push((query, socket));
    }
    let mut idle = served.connect().await;
    idle.write_all(get("/healthz", "keep-alive").as_bytes()).await.unwrap();
    until(&mut idle, r#"{"status":"ok"}"#).await;
    let fresh = served.connect().await;
    let begun = std::time::Instant::now();
    served.stop.cancel();
    for (query, mut socket) in followers {
        let rest = soon(rest(&mut socket)).await;
        assert!(!rest.contains("\"end\":true"), "{query}: it has not ended: {rest}");
        // What has a last word ends in an orderly way without it; raw bytes have none, so they break off.
        assert_eq!(rest.ends_with("0\r\n\r\n"), !query.contains("raw"), "{query}: {rest}");
    }
    assert_eq!(soon(rest(&mut idle)).await, "");
    soon(served.done).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "nobody is waited for: {:?}", begun.elapsed());
    assert!(TcpStream::connect(served.address).await.is_err(), "nothing new is taken");
    drop(fresh);
    served.api.shutdown().await;
}

async fn stop_waits() {
    let served = Served::start().await;
    let body = json!({"name": "web", "host": "h", "user": "u"}).to_string();
    let (first, second) = body.split_at(10);
    let mut socket = served.connect().await;
    let head = format!(
        "POST /api/v1/servers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\nContent-Type: application/json\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    // The handler is at work now: it has asked for the body.
    until(&mut socket, "100 Continue\r\n\r\n").await;
    socket.write_all(first.as_bytes()).await.unwrap();
    served.stop.cancel();
    let refused = async {
        while TcpStream::connect(served.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    soon(refused).await;
    socket.write_all(second.as_bytes()).await.unwrap();
    let answer = soon(rest(&mut socket)).await;
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    soon(served.done).await.unwrap();
    served.api.expect(200, crate::support::get("/api/v1/servers/web")).await;
}

async fn bounded_memory() {
    let api = Api::start_with(|builder| builder.job("flood", flood), |mount| mount).await;
    let served = Served::with(api, Ipv4Addr::LOCALHOST.into(), None).await;
    let run = post("/api/v1/executions").json(&json!({"kind": "job", "job": "flood"}));
    let run = served.api.expect(202, run).await;
    let path = format!("{}/logs?follow=true&raw=true", run.header("location").unwrap());
    assert_eq!(served.api.ended(&run.json()).await["status"], "succeeded");
    let before = resident();
    let mut stopped = Vec::new();
    for _ in 0..12 {
        let mut socket = served.connect().await;
        socket.write_all(get(&path, "close").as_bytes()).await.unwrap();
        until(&mut socket, "xxxx").await;
        stopped.push(socket);
    }
    // Another reader is served whole beside them.
    let whole = soon(served.exchange(get(&path, "close"))).await;
    assert!(whole.len() > FLOOD * 1000, "{} bytes", whole.len());
    drop(whole);
    let grown = resident().saturating_sub(before);
    assert!(grown < 96 << 20, "12 readers that do not read of 24 MB each hold {} MB", grown >> 20);
    let last = soon(rest(&mut stopped.pop().unwrap())).await;
    assert!(last.ends_with("\r\n0\r\n\r\n"), "the one that goes on reading gets everything");
    drop(stopped);
    served.stop().await;
}

/// Memory of this process, in bytes; 0 where the system does not tell.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok()).unwrap_or_default() * 1024
}

/// A certificate for `localhost`, made for one test, and a client that trusts it.
fn certificate() -> (Tls, ClientConfig) {
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "-", "-out", "-"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&made.stdout).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(std::sync::Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Tls::from_pem(&made.stdout, &made.stdout).unwrap(), client)
}

async fn over_tls() {
    let (tls, client) = certificate();
    assert_eq!(format!("{tls:?}"), "Tls");
    let served = Served::with(Api::start().await, Ipv4Addr::LOCALHOST.into(), Some(tls)).await;
    for (offered, chosen) in
        [(vec![], None), (vec!["http/1.1"], Some("http/1.1")), (vec!["h2", "http/1.1"], Some("h2"))]
    {
        let mut client = client.clone();
        client.alpn_protocols = offered.into_iter().map(|name: &str| name.as_bytes().to_vec()).collect();
        let connector = TlsConnector::from(std::sync::Arc::new(client));
        let name = ServerName::try_from("localhost").unwrap();
        let mut secure = soon(connector.connect(name, served.connect().await)).await.unwrap();
        let agreed = secure.get_ref().1.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap());
        assert_eq!(agreed.as_deref(), chosen);
        if chosen == Some("h2") {
            assert_h2(&mut secure).await;
        } else {
            secure.write_all(get("/api/v1/servers", "close").as_bytes()).await.unwrap();
            let answer = soon(rest(&mut secure)).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\"next\":null}"), "{answer}");
        }
    }
    // Without TLS there is no answer of the application, and a handshake that hangs does not hold up the stop.
    let clear = served.exchange(get("/healthz", "close")).await;
    assert!(!clear.contains("HTTP/1.1"), "{clear}");
    let mut socket = served.connect().await;
    socket.write_all(b"\x16\x03\x01").await.unwrap();
    served.stop().await;
}

/// The server answers the preface of HTTP/2 with its settings.
async fn assert_h2(socket: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut frame = [0; 9];
    soon(socket.read_exact(&mut frame)).await.unwrap();
    assert_eq!(frame[3], 4, "a frame of settings comes first: {frame:?}");
}

async fn base_path() {
    let api = Api::start_with(|builder| builder, |mount| mount.base_path("/ops/")).await;
    let served = Served::with(api, Ipv4Addr::LOCALHOST.into(), None).await;
    for (path, status) in [
        ("/ops/healthz", "200"),
        ("/ops/api/v1/servers?limit=1", "200"),
        ("/ops/api/docs", "200"),
        ("/healthz", "404"),
        ("/opshealthz", "404"),
        ("/ops", "404"),
        ("/ops/ops/healthz", "404"),
        ("//ops/healthz", "404"),
    ] {
        let answer = served.exchange(get(path, "close")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        assert!(status == "200" || answer.contains("application/problem+json"), "{path}: {answer}");
    }
    let document = served.exchange(get("/ops/api/v1/openapi.json", "close")).await;
    assert!(document.contains(r#""url": "/ops""#), "the document says where it is");
    served.stop().await;
}
