//! The HTTP API as it is on the wire: no client stands between a test and the bytes.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::birun::Served;

/// A server to ask, and what to show there.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    host: String,
    token: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Every byte that came, the head included.
    pub(crate) wire: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// No answer takes longer. Streams end with their execution.
const LIMIT: Duration = Duration::from_secs(60);

impl Api {
    pub(crate) fn of(serve: &Served) -> Self {
        Self::at(&serve.address, &serve.token)
    }

    pub(crate) fn at(address: &str, token: &str) -> Self {
        Self { host: address.trim_start_matches("http://").to_owned(), token: token.to_owned() }
    }

    /// Asks for something below `/api/v1`.
    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.send("GET", &format!("/api/v1{path}"), &[], "").expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.wire));
        answer.json()
    }

    /// Every item of a list, page by page.
    pub(crate) fn list(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut page = self.get(&format!("{path}?limit=100"));
        loop {
            items.extend(page["items"].as_array().expect("items").iter().cloned());
            let Some(next) = page["next"].as_str() else { return items };
            page = self.get(&format!("{path}?limit=100&cursor={next}"));
        }
    }

    /// Has something run, and gives its id.
    pub(crate) fn run(&self, body: &Value) -> String {
        let answer = self.post("/executions", None, &body.to_string()).expect("an answer");
        assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.wire));
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    /// Sends something to a place below `/api/v1`.
    pub(crate) fn post(&self, path: &str, key: Option<&str>, body: &str) -> io::Result<Answer> {
        let key = key.map(|key| format!("Idempotency-Key: {key}"));
        let heads: Vec<&str> = ["Content-Type: application/json"].into_iter().chain(key.as_deref()).collect();
        self.send("POST", &format!("/api/v1{path}"), &heads, body)
    }

    /// Every byte of an execution's output.
    pub(crate) fn output(&self, id: &str) -> Vec<u8> {
        let answer = self.send("GET", &format!("/api/v1/executions/{id}/logs?raw=true"), &[], "").expect("an answer");
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.wire));
        answer.body
    }

    /// Sends a request, and reads the answer to its end.
    pub(crate) fn send(&self, method: &str, path: &str, heads: &[&str], body: &str) -> io::Result<Answer> {
        let mut tcp = TcpStream::connect(&self.host)?;
        tcp.set_read_timeout(Some(LIMIT))?;
        let heads: String = heads.iter().map(|head| format!("{head}\r\n")).collect();
        let (host, token, length) = (&self.host, &self.token, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n{heads}\r\n{body}"
        );
        tcp.write_all(request.as_bytes())?;
        let mut wire = Vec::new();
        tcp.read_to_end(&mut wire)?;
        Answer::parse(wire)
    }
}

impl Answer {
    fn parse(wire: Vec<u8>) -> io::Result<Self> {
        let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let end = wire.windows(4).position(|at| at == b"\r\n\r\n").ok_or_else(cut)?;
        let (head, body) = (String::from_utf8_lossy(&wire[..end]).to_lowercase(), &wire[end + 4..]);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let body = match length {
            Some(length) if body.len() < length => return Err(cut()),
            None if head.contains("transfer-encoding: chunked") => joined(body).ok_or_else(cut)?,
            _ => body.to_vec(),
        };
        Ok(Self { status, wire, body })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// The content of a body that came in chunks; nothing, if its end is missing.
fn joined(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let line = body.windows(2).position(|at| at == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&body[..line]).ok()?.trim(), 16).ok()?;
        if length == 0 {
            return Some(content);
        }
        content.extend_from_slice(body.get(line + 2..line + 2 + length)?);
        body = body.get(line + 4 + length..)?;
    }
}
