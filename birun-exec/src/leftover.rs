//! What a program leaves behind: processes that hold its output open after its own end.

use birun_core::execution::{Kill, OutputSender, Stream};
use bytes::Bytes;

/// Tells in the output what became of processes that the program left behind.
pub(crate) async fn remark(output: &OutputSender, kill: &Kill) {
    let said = match kill {
        Kill::Gone => return,
        Kill::Confirmed => "held its output open; they were ended".to_owned(),
        Kill::Unconfirmed { detail } => format!("hold its output open: {detail}"),
    };
    let text = format!("[birun: processes that the program left behind {said}]\n");
    if output.send(Stream::System, Bytes::from(text)).await.is_err() {
        tracing::debug!("nobody takes the remark about what was left behind");
    }
}
