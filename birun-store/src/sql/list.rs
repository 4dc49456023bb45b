//! Lists: conditions are put together as they are needed, so that each list keeps its index.

use birun_core::id::ProjectId;
use birun_core::page::PageRequest;

use crate::sql::{Bind, Table};

/// A `SELECT` of one project's rows in the making.
#[derive(Debug)]
pub(crate) struct List {
    sql: String,
    binds: Vec<Bind>,
}

impl List {
    /// All rows of the project.
    pub(crate) fn of(table: &Table, project: ProjectId) -> Self {
        Self { sql: format!("{} WHERE project_id = $1", table.select()), binds: vec![project.into()] }
    }

    /// Adds a condition whose `?` stands for the value.
    pub(crate) fn and(mut self, condition: &str, value: impl Into<Bind>) -> Self {
        self.binds.push(value.into());
        self.sql.push_str(" AND ");
        self.sql.push_str(&condition.replacen('?', &format!("${}", self.binds.len()), 1));
        self
    }

    /// Adds a condition without a value.
    pub(crate) fn fixed(mut self, condition: &str) -> Self {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self
    }

    /// Adds a condition if there is a value for it.
    pub(crate) fn and_if(self, condition: &str, value: Option<impl Into<Bind>>) -> Self {
        match value {
            Some(value) => self.and(condition, value),
            None => self,
        }
    }

    /// Newest first, one row more than the page holds.
    pub(crate) fn page(self, request: PageRequest) -> (String, Vec<Bind>) {
        self.and_if("id < ?", request.after.map(|cursor| cursor.0)).ordered("id DESC", request.limit() + 1)
    }

    /// In this order, at most `limit` rows.
    pub(crate) fn ordered(mut self, order: &str, limit: u32) -> (String, Vec<Bind>) {
        self.binds.push(limit.into());
        self.sql.extend([" ORDER BY ", order, " LIMIT $", &self.binds.len().to_string()]);
        (self.sql, self.binds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_there_only_when_they_are_needed() {
        let table = Table { name: "t", kind: "thing", columns: "id, name", named: true };
        let list = || List::of(&table, ProjectId::DEFAULT);
        let (sql, binds) = list().and_if("a = ?", None::<i64>).page(PageRequest::default());
        assert_eq!(sql, "SELECT id, name FROM t WHERE project_id = $1 ORDER BY id DESC LIMIT $2");
        assert_eq!(binds.len(), 2);
        let (sql, binds) = list().and_if("a = ?", Some(1_i64)).fixed("b IS NULL").ordered("name", 5);
        assert_eq!(sql, "SELECT id, name FROM t WHERE project_id = $1 AND a = $2 AND b IS NULL ORDER BY name LIMIT $3");
        assert_eq!(binds.len(), 3);
    }
}
