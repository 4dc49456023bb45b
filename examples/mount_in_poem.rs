//! birun's HTTP API inside a poem application, below a path of its own.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use birun_core::engine::{Engine, Roles};
use birun_exec::LocalExecutor;
use birun_store::SqlStore;
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{Route, Server, get, handler};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[handler]
fn front_page() -> &'static str {
    "the rest of the application\n"
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = SqlStore::memory().await?;
    store.migrate().await?;
    let engine = Engine::builder(store).executor(LocalExecutor::new()).build().await?;
    let running = engine.start(Roles::all()).await?;

    // Who may do what is the application's to say; without `.auth(…)` nobody may do anything.
    let ops = birun_http::mount(&engine).base_path("/ops").build()?;
    let app = Route::new().at("/", get(front_page)).nest("/ops", ops);

    let listener = TcpListener::bind("127.0.0.1:0").into_acceptor().await?;
    let address = listener.local_addr().remove(0).as_socket_addr().copied().ok_or("no address")?;
    let server = tokio::spawn(Server::new_with_acceptor(listener).run(app));

    // A real program would go on serving; this one asks itself a few things and leaves.
    for path in ["/ops/healthz", "/ops/api/v1/servers", "/"] {
        println!("GET {path}: {}", ask(address, path).await?);
    }

    server.abort();
    running.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

/// The status line that a GET is answered with.
async fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
