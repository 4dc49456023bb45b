//! Finding one row by what a person typed.

use std::fmt::Display;

use birun_core::id::{IdPart, ProjectId, SHORT_LEN, Selector};
use birun_core::store::{StoreError, StoreResult};
use uuid::Uuid;

use crate::sql::{Bind, Row, Tx, binds};

/// A table whose rows selectors name.
#[derive(Debug)]
pub(crate) struct Table {
    /// Its name in the database.
    pub(crate) name: &'static str,
    /// What people call a row.
    pub(crate) kind: &'static str,
    /// Its columns, in the order in which rows are read.
    pub(crate) columns: &'static str,
    /// Whether rows have names.
    pub(crate) named: bool,
}

impl Table {
    pub(crate) fn select(&self) -> String {
        format!("SELECT {} FROM {}", self.columns, self.name)
    }

    pub(crate) fn not_found(&self, selector: impl ToString) -> StoreError {
        StoreError::NotFound { kind: self.kind, selector: selector.to_string() }
    }

    /// The error for a name that another row has.
    pub(crate) fn taken(&self, name: impl Display) -> StoreError {
        StoreError::Conflict { why: format!("a {} named `{name}` exists already", self.kind) }
    }

    /// The row that the selector names in the project.
    pub(crate) async fn find(&self, tx: &mut Tx<'_>, project: ProjectId, selector: &Selector) -> StoreResult<Row> {
        let Some((condition, mut values)) = self.condition(selector) else { return Err(self.not_found(selector)) };
        values.insert(0, project.into());
        // Two rows are enough to know that there is more than one.
        let sql = format!("{} WHERE project_id = $1 AND {condition} LIMIT 2", self.select());
        let mut rows = tx.all(sql, values).await?.into_iter();
        match (rows.next(), rows.next()) {
            (Some(row), None) => Ok(row),
            (None, _) => Err(self.not_found(selector)),
            (Some(_), Some(_)) => Err(StoreError::Ambiguous { kind: self.kind, selector: selector.to_string() }),
        }
    }

    /// Why an `UPDATE` or `DELETE` for a version touched no row: the row is not there, or has another version.
    pub(crate) async fn stale(&self, tx: &mut Tx<'_>, project: ProjectId, id: Uuid) -> StoreResult<StoreError> {
        let sql = format!("SELECT 1 FROM {} WHERE project_id = $1 AND id = $2", self.name);
        let there = tx.one(sql, binds![project, id]).await?.is_some();
        Ok(if there { StoreError::Stale { kind: self.kind } } else { self.not_found(id) })
    }

    fn condition(&self, selector: &Selector) -> Option<(&'static str, Vec<Bind>)> {
        match selector {
            Selector::Id(id) => Some(("id = $2", binds![*id])),
            Selector::Part(part) => Some(part_condition(part)),
            Selector::Name(name) if self.named => Some(("name = $2", binds![name.as_str()])),
            Selector::Name(_) => None,
        }
    }
}

/// The last eight hex digits of an id as a number: what the column `short` holds.
pub(crate) fn short(id: Uuid) -> i64 {
    let [.., a, b, c, d] = *id.as_bytes();
    i64::from(u32::from_be_bytes([a, b, c, d]))
}

fn part_condition(part: &IdPart) -> (&'static str, Vec<Bind>) {
    let (low, high) = part.range();
    match i64::from_str_radix(part.as_str(), 16) {
        Ok(short) if part.as_str().len() == SHORT_LEN => {
            ("(short = $2 OR (id >= $3 AND id <= $4))", binds![short, low, high])
        }
        _ => ("id >= $2 AND id <= $3", binds![low, high]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_is_the_end_of_the_id() {
        let id = Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_7d20_c1a9);
        assert_eq!(short(id), 0x7d20_c1a9);
    }
}
