//! What goes over the wire: types apart from the core's, converted by hand.

pub(crate) mod actor;
pub(crate) mod audit;
pub(crate) mod credential;
pub(crate) mod execution;
pub(crate) mod group;
pub(crate) mod host_key;
pub(crate) mod output;
pub(crate) mod preview;
pub(crate) mod run;
pub(crate) mod script;
pub(crate) mod secret;
pub(crate) mod server;
pub(crate) mod settings;
pub(crate) mod step;
pub(crate) mod strategy;
pub(crate) mod system;

use std::str::FromStr;

use birun_core::{Error, ErrorCode, Result};
use poem_openapi::types::MaybeUndefined;

use crate::schema::{Vocabulary, in_field};

/// Reads a field's text; the error names the field.
pub(crate) fn parsed<T: FromStr<Err = Error>>(field: &str, text: &str) -> Result<T> {
    in_field(field, text.parse())
}

/// Reads every text of a list.
pub(crate) fn each<T: FromStr<Err = Error>>(field: &str, texts: &[String]) -> Result<Vec<T>> {
    texts.iter().zip(0..).map(|(text, at)| parsed(&format!("{field}.{at}"), text)).collect()
}

/// A change of something that can be taken away: left out, `null`, or a new value.
pub(crate) fn new_value<T, U>(
    given: MaybeUndefined<T>,
    convert: impl FnOnce(T) -> Result<U>,
) -> Result<Option<Option<U>>> {
    match given {
        MaybeUndefined::Undefined => Ok(None),
        MaybeUndefined::Null => Ok(Some(None)),
        MaybeUndefined::Value(value) => Ok(Some(Some(convert(value)?))),
    }
}

/// Words separated by commas, in a query parameter.
pub(crate) fn words<E: Vocabulary>(field: &str, text: Option<&str>) -> Result<Vec<E>> {
    let parts = text.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            part.parse().map_err(|error: Error| {
                Error::new(ErrorCode::Malformed, format!("{field}: {error}")).with_field(field, error.to_string())
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use birun_core::execution::ExecutionStatus;

    #[test]
    fn words_are_separated_by_commas() {
        let read = words::<ExecutionStatus>("status", Some("failed, lost,")).unwrap();
        assert_eq!(read, [ExecutionStatus::Failed, ExecutionStatus::Lost]);
        let error = words::<ExecutionStatus>("status", Some("broken")).unwrap_err();
        assert_eq!(error.fields()[0].field, "status");
    }
}
