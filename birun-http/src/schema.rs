//! Types that stand in requests and answers and that the OpenAPI document describes by hand.

use std::borrow::Cow;
use std::str::FromStr;

use birun_core::audit::AuditOutcome;
use birun_core::execution::{
    ExecutionKind, ExecutionStatus, Order, Reason, Stage, StageStatus, StepStatus, Stream, Trigger,
};
use birun_core::identity::ActorKind;
use birun_core::inventory::{CredentialKind, HostKeyOrigin, HostKeyPolicy, HostKeyStatus, ImportStatus};
use birun_core::script::{LostPolicy, OutputPolicy, ParamKind, RunMode};
use birun_core::{Error, ErrorCode};
use chrono::{DateTime, SecondsFormat, Utc};
use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseFromParameter, ParseResult, ToJSON, Type};
use serde_json::Value;

/// Describes a type of this crate in the OpenAPI document, and has serde read and write it.
macro_rules! described {
    ($ty:ty, $name:expr, $schema:expr) => {
        impl poem_openapi::types::Type for $ty {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn schema_ref() -> poem_openapi::registry::MetaSchemaRef {
                poem_openapi::registry::MetaSchemaRef::Inline(Box::new($schema))
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(std::iter::once(self))
            }
        }

        impl poem_openapi::types::ParseFromJSON for $ty {
            fn parse_from_json(value: Option<serde_json::Value>) -> poem_openapi::types::ParseResult<Self> {
                serde_json::from_value(value.unwrap_or_default()).map_err(poem_openapi::types::ParseError::custom)
            }
        }

        impl poem_openapi::types::ToJSON for $ty {
            fn to_json(&self) -> Option<serde_json::Value> {
                serde_json::to_value(self).ok()
            }
        }
    };
}
pub(crate) use described;

/// An instant: RFC 3339, UTC, microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timestamp(pub(crate) DateTime<Utc>);

impl From<DateTime<Utc>> for Timestamp {
    fn from(instant: DateTime<Utc>) -> Self {
        Self(instant)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DateTime::deserialize(deserializer).map(Self)
    }
}

described!(Timestamp, "string_date-time", MetaSchema::new_with_format("string", "date-time"));

impl ParseFromParameter for Timestamp {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        let instant = DateTime::parse_from_rfc3339(value)
            .map_err(|_| ParseError::custom("not an instant such as 2026-11-21T10:00:00Z"))?;
        Ok(Self(instant.to_utc()))
    }
}

/// A set of words that the core defines and that the document lists.
pub(crate) trait Vocabulary:
    Copy + FromStr<Err = Error> + serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static
{
    /// The name of the schema.
    const NAME: &'static str;
    /// What the words are about.
    const MEANING: &'static str;

    /// Every word.
    fn words() -> Vec<&'static str>;

    /// This word.
    fn word(self) -> &'static str;
}

/// One word of a [`Vocabulary`]. The core's enums are spelled in one way everywhere, so they are
/// not written down a second time here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Word<E>(pub(crate) E);

impl<E: Vocabulary> Type for Word<E> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        E::NAME.into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Reference(E::NAME.to_owned())
    }

    fn register(registry: &mut Registry) {
        registry.create_schema::<Self, _>(E::NAME.to_owned(), |_| MetaSchema {
            description: Some(E::MEANING),
            enum_items: E::words().into_iter().map(Value::from).collect(),
            ..MetaSchema::new("string")
        });
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl<E: Vocabulary> ParseFromJSON for Word<E> {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        serde_json::from_value(value.unwrap_or_default()).map_err(ParseError::custom)
    }
}

impl<E: Vocabulary> ParseFromParameter for Word<E> {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        value.parse().map(Self).map_err(ParseError::custom)
    }
}

impl<E: Vocabulary> ToJSON for Word<E> {
    fn to_json(&self) -> Option<Value> {
        Some(Value::from(self.0.word()))
    }
}

/// Names the field that an error is about, unless the error names one itself.
pub(crate) fn in_field<T>(field: &str, result: birun_core::Result<T>) -> birun_core::Result<T> {
    result.map_err(|error| {
        if !error.fields().is_empty() {
            return error;
        }
        let why = error.to_string();
        let mut named = Error::new(error.code(), format!("{field}: {why}")).with_field(field, why);
        if let Some(hint) = error.hint() {
            named = named.with_hint(hint);
        }
        named.with_source(error)
    })
}

macro_rules! vocabularies {
    ($($ty:ty, $name:literal, $meaning:literal;)+) => {$(
        impl Vocabulary for $ty {
            const NAME: &'static str = $name;
            const MEANING: &'static str = $meaning;

            fn words() -> Vec<&'static str> {
                Self::ALL.iter().map(|word| word.as_str()).collect()
            }

            fn word(self) -> &'static str {
                self.as_str()
            }
        }
    )+};
}

vocabularies! {
    ActorKind, "ActorKind", "What kind of being acts.";
    AuditOutcome, "AuditOutcome", "Whether the action was carried out.";
    CredentialKind, "CredentialKind", "What a credential is made of.";
    ErrorCode, "ErrorCode", "What went wrong, in a form that programs can rely on.";
    ExecutionKind, "ExecutionKind", "What kind of work an execution is.";
    ExecutionStatus, "ExecutionStatus", "How an execution stands. What is neither queued, waiting nor running has ended and never changes again.";
    HostKeyOrigin, "HostKeyOrigin", "How a key came to be recorded.";
    HostKeyPolicy, "HostKeyPolicy", "How an unknown host key is met. A changed or revoked key is refused under every policy.";
    HostKeyStatus, "HostKeyStatus", "Whether a recorded key is trusted.";
    ImportStatus, "ImportStatus", "What became of a server that was to be imported.";
    LostPolicy, "LostPolicy", "What happens to a step that was in flight when its worker died: it ends `lost`, or is tried again.";
    RunMode, "RunMode", "How a program on a server hangs together with birun: it ends with its connection, or runs by itself.";
    Order, "Order", "In which order targets are taken.";
    OutputPolicy, "OutputPolicy", "What happens when a step writes more than is kept: the middle is cut out and marked, or the step fails.";
    ParamKind, "ParameterType", "The type of a parameter.";
    Reason, "Reason", "Why an execution or step stands as it does, where the status alone does not say.";
    Stage, "Stage", "One stage of reaching a target.";
    StageStatus, "StageStatus", "How a stage went.";
    StepStatus, "StepStatus", "How a step stands. `unreachable`: nothing was started. `lost`: we do not know how it ended.";
    Stream, "Stream", "Where output came from: the program, or birun itself (`system`).";
    Trigger, "Trigger", "What started an execution.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_have_microseconds_and_a_z() {
        let instant = Timestamp(DateTime::from_timestamp_micros(1_700_000_000_000_000).unwrap());
        assert_eq!(instant.to_json(), Some(Value::from("2023-11-14T22:13:20.000000Z")));
        let read = Timestamp::parse_from_parameter("2023-11-14T23:13:20+01:00");
        assert_eq!(read.map(|read| read.0).map_err(ParseError::into_message), Ok(instant.0));
    }
}
