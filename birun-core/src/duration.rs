//! Lengths of time as people write them: `250ms`, `90s`, `5m`, `2h30m`, `7d`.

use std::fmt::Write as _;
use std::time::Duration;

use crate::error::{Error, Result};

/// Every unit with its length in milliseconds, longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const HINT: &str = "write a number and a unit (ms, s, m, h, d), longest unit first:  250ms 90s 5m 2h30m 7d";

/// Reads a length of time: whole numbers, each with its unit, longest unit first, no unit twice.
///
/// # Errors
/// [`ErrorCode::Invalid`](crate::ErrorCode::Invalid) with a hint: no unit, an unknown unit, units out of order,
/// fractions, signs, white space, or more milliseconds than 64 bits hold.
pub fn parse(text: &str) -> Result<Duration> {
    parse_millis(text).map(Duration::from_millis).ok_or_else(|| {
        let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
        Error::invalid(format!("`{shown}` is not a length of time")).with_hint(HINT)
    })
}

/// Writes a length of time so that [`parse`] reads it: `2h30m`. What is below a millisecond is cut off.
#[must_use]
pub fn format(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, millis) in UNITS {
        let count = rest / millis;
        rest %= millis;
        if count > 0 {
            // Writing into a string does not fail.
            write!(text, "{count}{unit}").ok();
        }
    }
    text
}

fn parse_millis(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut units = UNITS.as_slice();
    let mut total = 0_u64;
    loop {
        let (count, tail) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, tail) = split_where(tail, |c| c.is_ascii_digit());
        let at = units.iter().position(|(name, _)| *name == unit)?;
        let (&(_, millis), shorter) = units.get(at..)?.split_first()?;
        total = total.checked_add(count.parse::<u64>().ok()?.checked_mul(millis)?)?;
        if tail.is_empty() {
            return Some(total);
        }
        (rest, units) = (tail, shorter);
    }
}

fn split_where(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_people_write_them() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("90s", 90_000),
            ("5m", 300_000),
            ("2h30m", 9_000_000),
            ("7d", 604_800_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("1h5ms", 3_600_005),
        ] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_hint() {
        for bad in [
            "",
            "5",
            "m",
            "5 m",
            " 5m",
            "5m ",
            "1.5h",
            "-5m",
            "+5m",
            "5M",
            "5min",
            "30m2h",
            "5m5m",
            "2h30",
            "5ü",
            "٣m",
            "213503982335d",
            "99999999999999999999s",
        ] {
            assert!(parse(bad).unwrap_err().hint().is_some(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (millis, text) in
            [(0, "0s"), (1, "1ms"), (1_000, "1s"), (90_000, "1m30s"), (9_000_250, "2h30m250ms"), (86_400_000, "1d")]
        {
            let duration = Duration::from_millis(millis);
            assert_eq!(format(duration), text);
            assert_eq!(parse(text).unwrap(), duration);
        }
        assert_eq!(parse(&format(Duration::MAX)).unwrap(), Duration::from_millis(u64::MAX));
        assert_eq!(format(Duration::from_micros(1_999)), "1ms");
    }
}
