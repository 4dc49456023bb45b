//! Streams that follow an execution: pulled by the reader, ended explicitly, cut by a shutdown.

pub(crate) mod change;
mod chunks;
pub(crate) mod output;
mod payload;

use std::io;
use std::time::Duration;

use birun_core::execution::RunEvent;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use poem::{Body, Request};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use chunks::Chunks;
pub(crate) use payload::{EventStream, JsonLines};

/// How long a stream is silent at most, where its form knows a remark without meaning.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Fires when the server that carries a request stops: its streams end then, without their last word, or break off
/// where they have none.
#[derive(Clone, Debug)]
pub(crate) struct Stopping(pub(crate) CancellationToken);

/// Gives what happens in an execution a form on the wire.
pub(crate) trait Encode: Send + 'static {
    /// Something happened.
    fn event(&mut self, event: RunEvent, chunks: &mut Chunks);

    /// Nothing more will happen: says so.
    fn end(&mut self, chunks: &mut Chunks);

    /// Whether the end is said in words, so that a stream without them is known to be cut.
    fn has_last_word(&self) -> bool;

    /// What to send when nothing happens for a while; `None` if the form has no remark without meaning.
    fn idle(&self) -> Option<&'static str>;
}

/// A body that follows an execution.
///
/// The reader pulls: as long as it does not read, nothing is read from the store, and no more than
/// one batch of output is held. An error of the store breaks the body off, so that it is not taken
/// for the end.
pub(crate) fn body<S, E>(request: &Request, events: S, encoder: E) -> Body
where
    S: Stream<Item = birun_core::Result<RunEvent>> + Send + Unpin + 'static,
    E: Encode,
{
    let stop = request.data::<Stopping>().map(|stopping| stopping.0.clone()).unwrap_or_default();
    let follower = Follower { events, encoder, chunks: Chunks::default(), ended: false, stop, spoke: Instant::now() };
    Body::from_bytes_stream(stream::try_unfold(follower, |mut follower| async move {
        Ok::<_, io::Error>(follower.next().await?.map(|chunk| (chunk, follower)))
    }))
}

struct Follower<S, E> {
    events: S,
    encoder: E,
    chunks: Chunks,
    ended: bool,
    stop: CancellationToken,
    /// When something was sent last. What happens and is not shown does not count.
    spoke: Instant,
}

impl<S, E> Follower<S, E>
where
    S: Stream<Item = birun_core::Result<RunEvent>> + Send + Unpin,
    E: Encode,
{
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(chunk) = self.chunks.next() {
                self.spoke = Instant::now();
                return Ok(Some(chunk));
            }
            if self.ended {
                return Ok(None);
            }
            tokio::select! {
                event = self.events.next() => self.encode(event)?,
                () = tokio::time::sleep_until(self.spoke + KEEP_ALIVE) => self.idle(),
                () = self.stop.cancelled() => return self.cut(),
            }
        }
    }

    fn encode(&mut self, event: Option<birun_core::Result<RunEvent>>) -> io::Result<()> {
        match event {
            Some(Ok(event)) => self.encoder.event(event, &mut self.chunks),
            Some(Err(error)) => {
                tracing::error!(code = %error.code(), %error, "a stream broke off");
                return Err(io::Error::other("the stream broke off"));
            }
            None => {
                self.encoder.end(&mut self.chunks);
                self.ended = true;
            }
        }
        Ok(())
    }

    /// The stream ends although the execution does not. Where no last word would be missed, only a
    /// connection that breaks tells the reader.
    fn cut(&self) -> io::Result<Option<Bytes>> {
        if self.encoder.has_last_word() { Ok(None) } else { Err(io::Error::other("the server stops")) }
    }

    fn idle(&mut self) {
        self.spoke = Instant::now();
        if let Some(remark) = self.encoder.idle() {
            self.chunks.push(Bytes::from_static(remark.as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows nothing of what happens.
    struct Blind;

    impl Encode for Blind {
        fn event(&mut self, _event: RunEvent, _chunks: &mut Chunks) {}

        fn end(&mut self, _chunks: &mut Chunks) {}

        fn has_last_word(&self) -> bool {
            true
        }

        fn idle(&self) -> Option<&'static str> {
            Some("here")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_shown_does_not_make_a_stream_silent_for_longer() {
        let noise = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok(RunEvent::Output(Vec::new())), ()))
        });
        let body = body(&Request::default(), Box::pin(noise), Blind);
        let mut remarks = std::pin::pin!(body.into_bytes_stream());
        for _ in 0..3 {
            let begun = Instant::now();
            let remark = tokio::time::timeout(10 * KEEP_ALIVE, remarks.next()).await.expect("it is never said");
            assert_eq!(remark.unwrap().unwrap(), "here");
            assert!(begun.elapsed() < KEEP_ALIVE + Duration::from_secs(2), "{:?}", begun.elapsed());
        }
    }
}
