//! Values on their way into a statement.

use birun_core::id::{
    AuditId, CredentialId, ExecutionId, GroupId, HostKeyId, ProjectId, ScriptId, ServerId, StepId, WorkerId,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// A value for a placeholder. Each variant is one column type, and is nullable.
#[derive(Clone, Debug)]
pub(crate) enum Bind {
    Int(Option<i64>),
    Text(Option<String>),
    Uuid(Option<Uuid>),
    Bytes(Option<Vec<u8>>),
}

/// Lists values for `$1`, `$2`, … in order.
macro_rules! binds {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::Bind::from($value)),*] };
}
pub(crate) use binds;

/// Instants are kept as microseconds since 1970, UTC.
pub(crate) const fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

/// PostgreSQL cannot keep NUL in text, so nothing keeps it.
fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// Counters are far below 2^63; one beyond is kept as the largest there is.
fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

macro_rules! bind_from {
    ($($variant:ident: $type:ty => |$value:ident| $convert:expr;)+) => {$(
        impl From<$type> for Bind {
            fn from($value: $type) -> Self {
                Self::$variant(Some($convert))
            }
        }

        impl From<Option<$type>> for Bind {
            fn from(value: Option<$type>) -> Self {
                Self::$variant(value.map(|$value| $convert))
            }
        }
    )+};
}

bind_from! {
    Int: i64 => |value| value;
    Int: i32 => |value| i64::from(value);
    Int: u16 => |value| i64::from(value);
    Int: u32 => |value| i64::from(value);
    Int: u64 => |value| whole(value);
    Int: bool => |value| i64::from(value);
    Int: DateTime<Utc> => |value| micros(value);
    Text: &str => |value| clean(value.to_owned());
    Text: String => |value| clean(value);
    Text: &String => |value| clean(value.clone());
    Bytes: &[u8] => |value| value.to_vec();
    Bytes: Vec<u8> => |value| value;
    Uuid: Uuid => |value| value;
    Uuid: AuditId => |value| value.as_uuid();
    Uuid: CredentialId => |value| value.as_uuid();
    Uuid: ExecutionId => |value| value.as_uuid();
    Uuid: GroupId => |value| value.as_uuid();
    Uuid: HostKeyId => |value| value.as_uuid();
    Uuid: ProjectId => |value| value.as_uuid();
    Uuid: ScriptId => |value| value.as_uuid();
    Uuid: ServerId => |value| value.as_uuid();
    Uuid: StepId => |value| value.as_uuid();
    Uuid: WorkerId => |value| value.as_uuid();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_replaced_at_the_edge() {
        let Bind::Text(Some(text)) = Bind::from("a\0b") else { panic!("not text") };
        assert_eq!(text, "a\u{fffd}b");
    }
}
