//! The one place that knows two drivers: a connection that runs statements.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use futures::future::BoxFuture;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe, Either, Executor as _, SqlSafeStr, SqlStr};
use tokio::time::timeout;

use crate::sql::{Bind, DbError, Kind, Row};

/// Which database answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }

    /// The text for this database, where one text cannot serve both.
    pub(crate) const fn pick<T: Copy>(self, sqlite: T, postgres: T) -> T {
        match self {
            Self::Sqlite => sqlite,
            Self::Postgres => postgres,
        }
    }
}

/// Whoever waits longer for PostgreSQL's answer to one text has lost it: a connection that was cut without
/// notice never answers. What happened to the text is unknown then, and the connection must be given up.
pub(crate) const POSTGRES_LIMIT: Duration = Duration::from_secs(4);

/// Takes the place of the one writer at once, not at the first change.
pub(crate) const BEGIN_SQLITE: &str = "BEGIN IMMEDIATE";

/// Longest text that SQLite is given at once.
const LONGEST: usize = 32 * 1024;

/// Most values of statements that PostgreSQL is given at once: each text that differs is prepared anew.
const MOST_VALUES: usize = 512;

/// A statement with its values.
#[derive(Clone)]
pub(crate) struct Statement {
    sql: SqlStr,
    binds: Vec<Bind>,
}

/// Statements that are ready to be run in this order. Whoever has time puts them together: while the
/// writer does so, everybody waits.
#[derive(Clone)]
pub(crate) struct Batch(Vec<Statement>);

impl Batch {
    /// Each statement sees what those before it did.
    ///
    /// SQLite gets them as one text: each text is a way to sqlx's thread and back, which takes longer
    /// than a statement itself.
    pub(crate) fn new(dialect: Dialect, statements: Vec<Statement>) -> Self {
        let length: usize = statements.iter().map(|statement| statement.sql.as_str().len()).sum();
        match dialect {
            Dialect::Sqlite if length <= LONGEST => Self(vec![joined(statements)]),
            _ => Self(statements),
        }
    }

    /// Statements that do not build on one another, and whose outcomes nobody asks for.
    ///
    /// PostgreSQL gets them as one too, since each is a way to the server and back.
    pub(crate) fn at_once(dialect: Dialect, statements: Vec<Statement>) -> Self {
        let values: usize = statements.iter().map(|statement| statement.binds.len()).sum();
        match dialect {
            Dialect::Postgres if values <= MOST_VALUES => Self(vec![woven(statements)]),
            _ => Self::new(dialect, statements),
        }
    }

    /// One text that is this batch as a transaction of its own, where there is one.
    pub(crate) fn as_transaction(&self, dialect: Dialect) -> Option<Statement> {
        let [only] = &*self.0 else { return None };
        Some(match dialect {
            Dialect::Sqlite => {
                let text = only.sql.as_str().trim_end().trim_end_matches(';');
                Statement::new(format!("{BEGIN_SQLITE};\n{text};\nCOMMIT"), only.binds.clone())
            }
            // A statement outside of any transaction is one.
            Dialect::Postgres => only.clone(),
        })
    }
}

/// What a statement came to.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) rows: Vec<Row>,
    pub(crate) changed: u64,
}

/// A connection, lent for one operation.
///
/// It remembers what the writer must know afterwards: whether anything was changed, and whether a
/// statement failed (PostgreSQL then refuses the rest of the transaction).
#[derive(Debug)]
pub(crate) struct Tx<'c> {
    conn: Conn<'c>,
    changed: bool,
    fault: Option<Kind>,
}

#[derive(Debug)]
enum Conn<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl<'c> Tx<'c> {
    pub(crate) fn sqlite(conn: &'c mut SqliteConnection) -> Self {
        Self { conn: Conn::Sqlite(conn), changed: false, fault: None }
    }

    pub(crate) fn postgres(conn: &'c mut PgConnection) -> Self {
        Self { conn: Conn::Postgres(conn), changed: false, fault: None }
    }

    pub(crate) const fn dialect(&self) -> Dialect {
        match self.conn {
            Conn::Sqlite(_) => Dialect::Sqlite,
            Conn::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Whether rows may have been changed.
    pub(crate) const fn changed(&self) -> bool {
        self.changed
    }

    /// What the last failed statement meant, if one failed.
    pub(crate) const fn fault(&self) -> Option<Kind> {
        self.fault
    }

    /// Runs a statement and tells how many rows it changed.
    pub(crate) async fn exec(&mut self, sql: impl Into<Sql>, binds: Vec<Bind>) -> Result<u64, DbError> {
        let sql = sql.into().0;
        let result = match &mut self.conn {
            Conn::Sqlite(conn) => {
                let query = sqlx::query_with(sql, sqlite_arguments(binds));
                answered(query.execute(&mut **conn)).await.map(|done| done.rows_affected())
            }
            Conn::Postgres(conn) => {
                let query = sqlx::query_with(sql, pg_arguments(binds));
                in_time(query.execute(&mut **conn)).await.map(|done| done.rows_affected())
            }
        };
        let rows = self.note(result)?;
        self.changed |= rows > 0;
        Ok(rows)
    }

    /// Runs a statement and answers its rows.
    pub(crate) async fn all(&mut self, sql: impl Into<Sql>, binds: Vec<Bind>) -> Result<Vec<Row>, DbError> {
        let sql = sql.into().0;
        let reads = sql.as_str().starts_with("SELECT");
        let result = match &mut self.conn {
            Conn::Sqlite(conn) => {
                let rows = answered(sqlx::query_with(sql, sqlite_arguments(binds)).fetch_all(&mut **conn)).await;
                rows.map(|rows| rows.into_iter().map(Row::Sqlite).collect::<Vec<_>>())
            }
            Conn::Postgres(conn) => {
                let rows = in_time(sqlx::query_with(sql, pg_arguments(binds)).fetch_all(&mut **conn)).await;
                rows.map(|rows| rows.into_iter().map(Row::Postgres).collect())
            }
        };
        let rows = self.note(result)?;
        self.changed |= !reads && !rows.is_empty();
        Ok(rows)
    }

    /// Runs a statement and answers its first row.
    pub(crate) async fn one(&mut self, sql: impl Into<Sql>, binds: Vec<Bind>) -> Result<Option<Row>, DbError> {
        Ok(self.all(sql, binds).await?.into_iter().next())
    }

    /// Runs statements one after the other, and tells what each came to. The first that fails is the last.
    pub(crate) async fn several(&mut self, statements: Vec<Statement>) -> Result<Vec<Done>, DbError> {
        self.batch(Batch::new(self.dialect(), statements)).await
    }

    /// Runs what was put together before, and tells what each text of it came to.
    pub(crate) async fn batch(&mut self, batch: Batch) -> Result<Vec<Done>, DbError> {
        let mut done = Vec::new();
        for statement in batch.0 {
            done.append(&mut self.run(statement).await?);
        }
        Ok(done)
    }

    /// Runs a text that [`Batch::as_transaction`] gave, outside of any transaction.
    pub(crate) async fn transaction(&mut self, text: Statement) -> Result<Vec<Done>, DbError> {
        let mut done = self.run(text).await?;
        if self.dialect() == Dialect::Sqlite {
            // The beginning and the commit came to nothing that anyone asks for.
            done.pop();
            done.drain(..1.min(done.len()));
        }
        Ok(done)
    }

    /// Runs a text of one or more statements.
    async fn run(&mut self, text: Statement) -> Result<Vec<Done>, DbError> {
        let Statement { sql, binds } = text;
        let result = match &mut self.conn {
            Conn::Sqlite(conn) => {
                let answer = conn.fetch_many(sqlx::query_with(sql, sqlite_arguments(binds)));
                answered(collect(answer, Row::Sqlite, |done| done.rows_affected())).await
            }
            Conn::Postgres(conn) => {
                let answer = conn.fetch_many(sqlx::query_with(sql, pg_arguments(binds)));
                in_time(collect(answer, Row::Postgres, |done| done.rows_affected())).await
            }
        };
        let done = self.note(result)?;
        self.changed |= done.iter().any(|done| done.changed > 0);
        Ok(done)
    }

    /// Runs several statements without values: a migration, `BEGIN`, `COMMIT`.
    pub(crate) async fn script(&mut self, sql: &'static str) -> Result<(), DbError> {
        let result = match &mut self.conn {
            Conn::Sqlite(conn) => answered(sqlx::raw_sql(sql).execute(&mut **conn)).await.map(drop),
            Conn::Postgres(conn) => in_time(sqlx::raw_sql(sql).execute(&mut **conn)).await.map(drop),
        };
        self.note(result)
    }

    fn note<T>(&mut self, result: Result<T, DbError>) -> Result<T, DbError> {
        result.inspect_err(|error| self.fault = Some(error.kind))
    }
}

/// An operation: a function over a connection and its arguments, so that it can be run again.
pub(crate) type Operation<A, T> = for<'t, 'c> fn(&'t mut Tx<'c>, &'t A) -> BoxFuture<'t, T>;

/// The text of a statement: a constant, or built from constants.
pub(crate) struct Sql(SqlStr);

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Self(text.into_sql_str())
    }
}

/// Only for texts that this crate puts together from its own constants.
impl From<String> for Sql {
    fn from(text: String) -> Self {
        Self(AssertSqlSafe(Arc::new(text)).into_sql_str())
    }
}

impl Statement {
    pub(crate) fn new(sql: impl Into<Sql>, binds: Vec<Bind>) -> Self {
        Self { sql: sql.into().0, binds }
    }
}

/// One text of several: the placeholders of each count on from those before.
fn joined(statements: Vec<Statement>) -> Statement {
    let mut text = String::new();
    let mut values = Vec::new();
    for Statement { sql, mut binds } in statements {
        push_counting_on(&mut text, sql.as_str(), values.len());
        text.push_str(";\n");
        values.append(&mut binds);
    }
    Statement::new(text, values)
}

/// One statement of several that change rows: the last is the main one, the others go before it.
fn woven(mut statements: Vec<Statement>) -> Statement {
    let Some(last) = statements.pop() else { return Statement::new("SELECT 1", Vec::new()) };
    let mut text = String::new();
    let mut values = Vec::new();
    for (number, Statement { sql, mut binds }) in statements.into_iter().enumerate() {
        text.push_str(if number == 0 { "WITH " } else { ", " });
        // Writing into a String cannot fail.
        let _: Result<(), _> = write!(text, "part{number} AS (");
        push_counting_on(&mut text, sql.as_str(), values.len());
        text.push_str(")\n");
        values.append(&mut binds);
    }
    push_counting_on(&mut text, last.sql.as_str(), values.len());
    values.extend(last.binds);
    Statement::new(text, values)
}

/// Appends a statement whose `$1` becomes `$1 + before`. No text of this crate has a `$` but before a number.
fn push_counting_on(text: &mut String, sql: &str, before: usize) {
    let mut parts = sql.split('$');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (number, rest) = part.split_at(digits);
        let number = number.parse::<usize>().unwrap_or_default() + before;
        // Writing into a String cannot fail.
        let _: Result<(), _> = write!(text, "${number}{rest}");
    }
}

/// Waits for SQLite's answer, however long it may take: the file is here, and nothing is lost on the way.
async fn answered<T>(answer: impl Future<Output = sqlx::Result<T>>) -> Result<T, DbError> {
    answer.await.map_err(|error| DbError::new(Dialect::Sqlite, error))
}

/// Waits for PostgreSQL's answer, so long as it may take.
async fn in_time<T>(answer: impl Future<Output = sqlx::Result<T>>) -> Result<T, DbError> {
    match timeout(POSTGRES_LIMIT, answer).await {
        Ok(answer) => answer.map_err(|error| DbError::new(Dialect::Postgres, error)),
        Err(_) => Err(DbError::timed_out(Dialect::Postgres)),
    }
}

/// Sorts what a text yields by statement.
async fn collect<D, R>(
    mut items: impl futures::Stream<Item = sqlx::Result<Either<D, R>>> + Unpin + Send,
    row: impl Fn(R) -> Row,
    changed: impl Fn(&D) -> u64,
) -> sqlx::Result<Vec<Done>>
where
    D: Send,
    R: Send,
{
    let mut all = Vec::new();
    let mut rows = Vec::new();
    while let Some(item) = items.try_next().await? {
        match item {
            Either::Right(found) => rows.push(row(found)),
            Either::Left(done) => all.push(Done { rows: std::mem::take(&mut rows), changed: changed(&done) }),
        }
    }
    Ok(all)
}

fn sqlite_arguments(binds: Vec<Bind>) -> SqliteArguments {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(binds.len(), 0);
    for bind in binds {
        // Encoding these four types cannot fail; a missing value would fail the statement.
        drop(match bind {
            Bind::Int(value) => Arguments::add(&mut arguments, value),
            Bind::Text(value) => Arguments::add(&mut arguments, value),
            Bind::Uuid(value) => Arguments::add(&mut arguments, value),
            Bind::Bytes(value) => Arguments::add(&mut arguments, value),
        });
    }
    arguments
}

fn pg_arguments(binds: Vec<Bind>) -> PgArguments {
    let mut arguments = PgArguments::default();
    for bind in binds {
        drop(match bind {
            Bind::Int(value) => Arguments::add(&mut arguments, value),
            Bind::Text(value) => Arguments::add(&mut arguments, value),
            Bind::Uuid(value) => Arguments::add(&mut arguments, value),
            Bind::Bytes(value) => Arguments::add(&mut arguments, value),
        });
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::Source;
    use crate::sql::binds;

    #[test]
    fn placeholders_of_joined_statements_count_on() {
        let one = Statement::new("UPDATE a SET b = $2, c = $10 WHERE d = $1", binds![1, 2]);
        let two = Statement::new("SELECT $1, $2", binds![3, 4]);
        let three = Statement::new("SELECT 5", binds![]);
        let all = joined(vec![one, two, three]);
        assert_eq!(all.sql.as_str(), "UPDATE a SET b = $2, c = $10 WHERE d = $1;\nSELECT $3, $4;\nSELECT 5;\n");
        assert_eq!(all.binds.len(), 4);
    }

    #[test]
    fn woven_statements_are_one() {
        let insert = |values| Statement::new("INSERT INTO t VALUES ($1)", values);
        let all = woven(vec![insert(binds![1]), insert(binds![2]), insert(binds![3])]);
        let text = "WITH part0 AS (INSERT INTO t VALUES ($1))\n, part1 AS (INSERT INTO t VALUES ($2))\nINSERT INTO t VALUES ($3)";
        assert_eq!((all.sql.as_str(), all.binds.len()), (text, 3));
        assert_eq!(woven(vec![insert(binds![1])]).sql.as_str(), "INSERT INTO t VALUES ($1)");
    }

    #[tokio::test]
    async fn each_of_several_statements_tells_what_it_came_to() {
        let mut memory = Source::Memory.link().await.unwrap();
        let mut tx = memory.tx();
        tx.script("CREATE TABLE t (a INTEGER)").await.unwrap();
        for padding in ["", &" ".repeat(LONGEST)] {
            let insert = Statement::new("INSERT INTO t VALUES ($1), ($2)", binds![1, 2]);
            let select = Statement::new(format!("SELECT a FROM t WHERE a > $1{padding}"), binds![1]);
            let delete = Statement::new("DELETE FROM t RETURNING a", binds![]);
            let done = tx.several(vec![insert, select, delete]).await.unwrap();
            let rows: Vec<usize> = done.iter().map(|done| done.rows.len()).collect();
            assert_eq!((rows, done[0].changed, done[2].changed), (vec![0, 1, 2], 2, 2));
        }
        let batch = Batch::new(
            Dialect::Sqlite,
            vec![
                Statement::new("INSERT INTO t VALUES ($1)", binds![7]),
                Statement::new("DELETE FROM t RETURNING a", binds![]),
            ],
        );
        let done = tx.transaction(batch.as_transaction(Dialect::Sqlite).unwrap()).await.unwrap();
        assert_eq!((done.len(), done[0].changed, done[1].rows.len()), (2, 1, 1));
        let fails = Statement::new("INSERT INTO nowhere VALUES ($1)", binds![1]);
        assert!(tx.several(vec![Statement::new("SELECT 1", binds![]), fails]).await.is_err());
        assert!(tx.fault().is_some());
    }
}
