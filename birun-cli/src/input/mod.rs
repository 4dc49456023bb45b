//! What users give on the command line, read and checked.

mod address;
mod file;
mod known_hosts;
mod params;
mod spec;
mod ssh_config;

use std::time::Duration;

use birun_core::{Clock, SystemClock};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::builder::PossibleValuesParser;

pub(crate) use address::Address;
pub(crate) use file::{is_encrypted_key, read_secret_file, read_text, read_value};
pub(crate) use known_hosts::{KnownHost, Mark, parse as parse_known_hosts};
pub(crate) use params::ParamArgs;
pub(crate) use spec::parse_spec;
pub(crate) use ssh_config::{Entry, HomeFiles, SshConfig};

/// Reads a length of time: `90s`, `5m`, `2h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    birun_core::duration::parse(text).map_err(|error| match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    })
}

/// The values of one of the core's enumerations, for an argument.
pub(crate) fn one_of<T: Copy + 'static>(all: &'static [T], text: fn(T) -> &'static str) -> PossibleValuesParser {
    PossibleValuesParser::new(all.iter().map(move |value| text(*value)))
}

/// Reads a moment: an instant, or how long ago it was.
pub(crate) fn moment(text: &str) -> Result<String, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.with_timezone(&Utc).to_rfc3339_opts(SecondsFormat::Micros, true));
    }
    let ago = duration(text).map_err(|error| format!("{error}, or an instant such as 2026-11-02T10:00:00Z"))?;
    let at = TimeDelta::from_std(ago).ok().and_then(|ago| SystemClock::new().now().checked_sub_signed(ago));
    at.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true)).ok_or_else(|| "that is before all time".to_owned())
}

/// Sets a field of a JSON object.
pub(crate) fn put(object: &mut serde_json::Value, field: &str, value: serde_json::Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}
