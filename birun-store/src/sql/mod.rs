//! SQL without knowing which database answers: [`Tx`] dispatches, everything else builds on it.

mod bind;
mod error;
mod list;
mod row;
mod selector;
mod tx;
mod values;

pub(crate) use bind::{Bind, binds};
pub(crate) use error::{DbError, Kind, backend, in_migrated};
pub(crate) use list::List;
pub(crate) use row::{Columns, Row, read_all};
pub(crate) use selector::{Table, short};
pub(crate) use tx::{BEGIN_SQLITE, Batch, Dialect, Done, Operation, POSTGRES_LIMIT, Statement, Tx};
pub(crate) use values::{chunks, padded, placeholders, values};
