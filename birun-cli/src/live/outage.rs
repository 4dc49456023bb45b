//! What is said of a server that cannot be reached while it is followed.

use crate::client::PATIENCE;
use crate::ui::visible;

/// The connection is lost, for this reason.
pub(crate) fn lost(why: &str) -> String {
    let patience = birun_core::duration::format(PATIENCE);
    format!("connection lost: {}; trying again for {patience}", visible(why))
}

/// The connection is there again.
pub(crate) const fn regained() -> &'static str {
    "connected again"
}
