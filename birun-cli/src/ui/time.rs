//! Instants and spans, as people read them.

use std::time::Duration;

use birun_core::{Clock, SystemClock};
use chrono::{DateTime, Local, Utc};

/// An instant in the user's own time zone, to the second.
pub(crate) fn instant(at: DateTime<Utc>) -> String {
    at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// How long ago an instant was, in one unit.
pub(crate) fn age(at: DateTime<Utc>) -> String {
    let past = (SystemClock::new().now() - at).to_std().unwrap_or_default().as_secs();
    match past {
        0..60 => format!("{past}s"),
        60..3_600 => format!("{}m", past / 60),
        3_600..172_800 => format!("{}h", past / 3_600),
        _ => format!("{}d", past / 86_400),
    }
}

/// The span between two instants.
pub(crate) fn elapsed(from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    seconds((to - from).to_std().unwrap_or_default())
}

/// A span: tenths of a second while that matters, then minutes and hours.
pub(crate) fn seconds(span: Duration) -> String {
    let whole = span.as_secs();
    match whole {
        0..60 => format!("{}.{}s", whole, span.subsec_millis() / 100),
        60..3_600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3_600, whole % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_what_matters() {
        for (millis, text) in [(0, "0.0s"), (840, "0.8s"), (59_999, "59.9s"), (61_000, "1m01s"), (7_380_000, "2h03m")] {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
    }
}
