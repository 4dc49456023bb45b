//! Server-sent events, as far as birun's API uses them.

use std::io;

use super::Body;
use super::lines::Lines;

/// Reads a body event by event. Comments, which keep the connection alive, are passed over.
pub(super) struct Events(Lines);

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its kind.
    pub(super) kind: String,
    /// What it says; lines joined by line feeds.
    pub(super) data: String,
}

impl Events {
    /// The events of a body.
    pub(super) fn new(body: Body) -> Self {
        Self(Lines::new(body))
    }

    /// The next event; `None` when the body ends. One that was cut off is left out.
    pub(super) async fn next(&mut self) -> io::Result<Option<Event>> {
        let mut event = Event::default();
        while let Some(line) = self.0.next().await? {
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
            if line.is_empty() {
                if !event.kind.is_empty() || !event.data.is_empty() {
                    return Ok(Some(event));
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut event.kind),
                "data" if event.data.is_empty() => value.clone_into(&mut event.data),
                "data" => event.data.extend(["\n", value]),
                _ => {}
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines::body_of;
    use super::*;

    #[tokio::test]
    async fn events_are_told_and_comments_are_not() {
        let text =
            &[": keep-alive\n\n", "event: change\nid: 3\nda", "ta: {\"a\":\ndata: 1}\r\n\n", "event:end\n\nevent: cut"];
        let mut events = Events::new(body_of(text));
        let change = Event { kind: "change".to_owned(), data: "{\"a\":\n1}".to_owned() };
        assert_eq!(events.next().await.unwrap(), Some(change));
        assert_eq!(events.next().await.unwrap().unwrap().kind, "end");
        assert_eq!(events.next().await.unwrap(), None);
    }
}
