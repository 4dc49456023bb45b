//! Rows on their way out of the database.

use std::fmt::Display;
use std::str::FromStr;

use birun_core::store::{StoreError, StoreResult};
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use sqlx::postgres::{PgRow, Postgres};
use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Column as _, Decode, Row as _, Type};
use uuid::Uuid;

/// A row of either database.
#[derive(Debug)]
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// A type that both drivers can read.
pub(crate) trait Readable:
    for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{
}
impl<T> Readable for T where T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{}

impl Row {
    fn get<T: Readable>(&self, index: usize) -> sqlx::Result<T> {
        match self {
            Self::Sqlite(row) => row.try_get(index),
            Self::Postgres(row) => row.try_get(index),
        }
    }

    fn column(&self, index: usize) -> &str {
        match self {
            Self::Sqlite(row) => row.columns().get(index).map_or("?", |column| column.name()),
            Self::Postgres(row) => row.columns().get(index).map_or("?", |column| column.name()),
        }
    }

    /// The row's id, for messages about it: every statement names it first.
    pub(crate) fn id(&self) -> Option<Uuid> {
        self.get(0).ok()
    }

    /// Reads the columns one after the other.
    pub(crate) const fn columns(&self, table: &'static str) -> Columns<'_> {
        Columns { row: self, table, next: 0 }
    }
}

/// Reads all rows; the first that cannot be read is the error.
pub(crate) fn read_all<T>(rows: &[Row], read: impl Fn(&Row) -> StoreResult<T>) -> StoreResult<Vec<T>> {
    rows.iter().map(read).collect()
}

/// Reads a row's columns in the order in which the statement names them.
///
/// What cannot be read is [`StoreError::Corrupt`], naming table, row and column.
#[derive(Debug)]
pub(crate) struct Columns<'r> {
    row: &'r Row,
    table: &'static str,
    next: usize,
}

impl Columns<'_> {
    fn read<T: Readable>(&mut self) -> StoreResult<T> {
        self.next += 1;
        self.row.get(self.next - 1).map_err(|error| self.corrupt(error))
    }

    /// The error for the column that was read last.
    pub(crate) fn corrupt(&self, why: impl Display) -> StoreError {
        let id = self.row.id().map(|id| format!(" {id}")).unwrap_or_default();
        let column = self.row.column(self.next.saturating_sub(1));
        StoreError::Corrupt { what: format!("{}{id}, {column}: {why}", self.table) }
    }

    fn convert<T, U, E: Display>(&self, value: T, convert: impl FnOnce(T) -> Result<U, E>) -> StoreResult<U> {
        convert(value).map_err(|error| self.corrupt(error))
    }

    pub(crate) fn int(&mut self) -> StoreResult<i64> {
        self.read()
    }

    pub(crate) fn text(&mut self) -> StoreResult<String> {
        self.read()
    }

    pub(crate) fn opt_text(&mut self) -> StoreResult<Option<String>> {
        self.read()
    }

    pub(crate) fn bytes(&mut self) -> StoreResult<Vec<u8>> {
        self.read()
    }

    pub(crate) fn opt_bytes(&mut self) -> StoreResult<Option<Vec<u8>>> {
        self.read()
    }

    pub(crate) fn uuid(&mut self) -> StoreResult<Uuid> {
        self.read()
    }

    pub(crate) fn opt_uuid(&mut self) -> StoreResult<Option<Uuid>> {
        self.read()
    }

    /// A number of a smaller type.
    pub(crate) fn num<T>(&mut self) -> StoreResult<T>
    where
        T: TryFrom<i64>,
        T::Error: Display,
    {
        let value = self.int()?;
        self.convert(value, T::try_from)
    }

    pub(crate) fn opt_num<T>(&mut self) -> StoreResult<Option<T>>
    where
        T: TryFrom<i64>,
        T::Error: Display,
    {
        let value: Option<i64> = self.read()?;
        value.map(|value| self.convert(value, T::try_from)).transpose()
    }

    pub(crate) fn flag(&mut self) -> StoreResult<bool> {
        Ok(self.int()? != 0)
    }

    pub(crate) fn at(&mut self) -> StoreResult<DateTime<Utc>> {
        let micros = self.int()?;
        DateTime::from_timestamp_micros(micros).ok_or_else(|| self.corrupt("not an instant"))
    }

    pub(crate) fn opt_at(&mut self) -> StoreResult<Option<DateTime<Utc>>> {
        let micros: Option<i64> = self.read()?;
        let at = |micros| DateTime::from_timestamp_micros(micros).ok_or_else(|| self.corrupt("not an instant"));
        micros.map(at).transpose()
    }

    /// A value that has a text form: a name, an enum.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&mut self) -> StoreResult<T> {
        let text = self.text()?;
        self.convert(text.as_str(), str::parse)
    }

    pub(crate) fn opt_parsed<T: FromStr<Err: Display>>(&mut self) -> StoreResult<Option<T>> {
        let text = self.opt_text()?;
        text.map(|text| self.convert(text.as_str(), str::parse)).transpose()
    }

    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> StoreResult<T> {
        let text = self.text()?;
        self.convert(text.as_str(), serde_json::from_str)
    }

    pub(crate) fn opt_json<T: DeserializeOwned>(&mut self) -> StoreResult<Option<T>> {
        let text = self.opt_text()?;
        text.map(|text| self.convert(text.as_str(), serde_json::from_str)).transpose()
    }
}
