//! SQL of a user: read-only by construction.
//!
//! Three locks, each enough alone: the file is opened to read, `query_only` is set, and SQLite's
//! authorizer admits nothing but reading while a statement is compiled.

use crate::spec::problem::nearest;
use crate::store::StoreError;
use crate::store::connection::read_options;
use crate::store::open::Store;
use futures_util::TryStreamExt;
use libsqlite3_sys as ffi;
use sqlx::sqlite::SqliteValueRef;
use sqlx::{AssertSqlSafe, ConnectOptions, Decode, Row, SqliteConnection, TypeInfo, ValueRef};
use std::ffi::{CStr, CString, c_char, c_int, c_void};

/// A value of a result.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

/// A result in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

/// A compiled statement of a user.
#[derive(Debug)]
pub struct Query<'s> {
    store: &'s Store,
    connection: SqliteConnection,
    sql: String,
    columns: Vec<String>,
}

/// `PRAGMA`s that only look.
const PRAGMAS: [&str; 8] = [
    "table_info",
    "table_xinfo",
    "table_list",
    "index_list",
    "index_info",
    "foreign_key_list",
    "quick_check",
    "integrity_check",
];

const ONLY_READS: &str = "a query only reads: it is one SELECT, WITH, VALUES or EXPLAIN";

impl Store {
    /// Compiles `sql`, one statement that only reads. An error says what is wrong with it and, for an
    /// unknown name, the nearest known one.
    pub async fn query(&self, sql: &str) -> Result<Query<'_>, StoreError> {
        let mut connection = read_options(&self.path)
            .connect()
            .await
            .map_err(self.sql())?;
        let compiled = {
            let mut handle = connection.lock_handle().await.map_err(self.sql())?;
            let database = handle.as_raw_handle().as_ptr();
            // SAFETY: the handle is open and locked; the callback has no state.
            unsafe { ffi::sqlite3_set_authorizer(database, Some(authorize), std::ptr::null_mut()) };
            compile(database, sql)
        };
        match compiled {
            Ok(columns) => Ok(Query {
                store: self,
                connection,
                sql: sql.to_owned(),
                columns,
            }),
            Err(problem) => Err(self.explain(sql, problem).await?),
        }
    }

    /// [`Store::query`] and all its rows.
    pub async fn query_all(&self, sql: &str) -> Result<Rows, StoreError> {
        let query = self.query(sql).await?;
        let columns = query.columns.clone();
        let mut rows = Vec::new();
        query
            .for_each(|row| {
                rows.push(row);
                Ok::<(), StoreError>(())
            })
            .await?;
        Ok(Rows { columns, rows })
    }

    /// The error for `problem`, with the nearest name where one is unknown.
    async fn explain(&self, sql: &str, problem: Problem) -> Result<StoreError, StoreError> {
        if problem.code == ffi::SQLITE_CORRUPT || problem.code == ffi::SQLITE_NOTADB {
            return Ok(StoreError::Damaged {
                path: self.path.clone(),
                what: problem.message,
            });
        }
        let mut message = problem.message;
        let unknown = |kind: &str| {
            message
                .strip_prefix(kind)
                .map(|name| name.trim().to_owned())
        };
        let suggestion = if let Some(name) = unknown("no such table:") {
            let names: Vec<String> = sqlx::query_scalar(
                "SELECT name FROM sqlite_schema WHERE type IN ('view', 'table')",
            )
            .fetch_all(&self.readers)
            .await
            .map_err(self.sql())?;
            nearest(&name, names.iter().map(String::as_str)).map(str::to_owned)
        } else if let Some(name) = unknown("no such column:") {
            let column = name.rsplit('.').next().unwrap_or(&name).to_owned();
            let names: Vec<String> = sqlx::query_scalar(
                "SELECT DISTINCT c.name FROM sqlite_schema s JOIN pragma_table_info(s.name) c
                 WHERE s.type IN ('view', 'table') AND instr(lower(?), s.name) > 0",
            )
            .bind(sql)
            .fetch_all(&self.readers)
            .await
            .map_err(self.sql())?;
            nearest(&column, names.iter().map(String::as_str)).map(str::to_owned)
        } else {
            None
        };
        if let Some(name) = suggestion {
            message.push_str(&format!("; did you mean `{name}`?"));
        }
        if message.starts_with("no such") {
            message.push_str(" (`ablate query --schema` lists the views and their columns)");
        }
        if let Some(offset) = problem.offset
            && let (Some(before), Some(after)) = (sql.get(..offset), sql.get(offset..))
        {
            let line = before.rsplit('\n').next().unwrap_or("");
            let rest = after.lines().next().unwrap_or("");
            let column = line.chars().count();
            message.push_str(&format!("\n  {line}{rest}\n  {:column$}^", ""));
        }
        Ok(StoreError::Sql { message })
    }
}

impl Query<'_> {
    /// Names of the result's columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Hands every row to `each`, without keeping them; stops at its first error.
    pub async fn for_each<E: From<StoreError>>(
        mut self,
        mut each: impl FnMut(Vec<Cell>) -> Result<(), E>,
    ) -> Result<(), E> {
        let store = self.store;
        let failed = |error: sqlx::Error| -> StoreError {
            match StoreError::from_sqlx(&store.path, error) {
                // An error of evaluation: an overflow, malformed JSON.
                StoreError::Database { source, .. } => StoreError::Sql {
                    message: match source.as_database_error() {
                        Some(error) => error.message().to_owned(),
                        None => source.to_string(),
                    },
                },
                other => other,
            }
        };
        let mut rows = sqlx::query(AssertSqlSafe(self.sql))
            .persistent(false)
            .fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await.map_err(&failed)? {
            let cells: Result<Vec<Cell>, sqlx::Error> = (0..row.len())
                .map(|index| row.try_get_raw(index).and_then(cell))
                .collect();
            each(cells.map_err(&failed)?)?;
        }
        Ok(())
    }
}

fn cell(value: SqliteValueRef<'_>) -> Result<Cell, sqlx::Error> {
    if value.is_null() {
        return Ok(Cell::Null);
    }
    let kind = value.type_info().name().to_owned();
    let cell = match kind.as_str() {
        "INTEGER" => i64::decode(value).map(Cell::Integer),
        "REAL" => f64::decode(value).map(Cell::Real),
        "BLOB" => <Vec<u8>>::decode(value).map(Cell::Blob),
        // SQLite doesn't promise that text is UTF-8.
        _ => <Vec<u8>>::decode(value)
            .map(|bytes| Cell::Text(String::from_utf8_lossy(&bytes).into_owned())),
    };
    cell.map_err(sqlx::Error::Decode)
}

/// What is wrong with a statement.
struct Problem {
    code: c_int,
    message: String,
    /// Byte in the statement.
    offset: Option<usize>,
}

impl Problem {
    fn new(message: &str) -> Problem {
        Problem {
            code: ffi::SQLITE_ERROR,
            message: message.to_owned(),
            offset: None,
        }
    }
}

/// Compiles `sql` on a locked connection; returns the names of its columns.
fn compile(database: *mut ffi::sqlite3, sql: &str) -> Result<Vec<String>, Problem> {
    let Ok(text) = CString::new(sql) else {
        return Err(Problem::new("the statement contains a NUL byte"));
    };
    let mut columns = None;
    let mut rest: *const c_char = text.as_ptr();
    loop {
        let mut statement: *mut ffi::sqlite3_stmt = std::ptr::null_mut();
        let mut tail: *const c_char = std::ptr::null();
        // SAFETY: `rest` points into `text`, which ends with NUL; the connection is open and locked.
        let code =
            unsafe { ffi::sqlite3_prepare_v2(database, rest, -1, &mut statement, &mut tail) };
        if code != ffi::SQLITE_OK {
            // SAFETY: the connection is open; SQLite's message is valid until the next call on it.
            let (message, offset) = unsafe {
                (
                    CStr::from_ptr(ffi::sqlite3_errmsg(database))
                        .to_string_lossy()
                        .into_owned(),
                    ffi::sqlite3_error_offset(database),
                )
            };
            let message = match code & 0xff {
                ffi::SQLITE_AUTH => format!("{ONLY_READS} ({message})"),
                _ => message,
            };
            // SAFETY: both point into `text`.
            let start = unsafe { rest.offset_from(text.as_ptr()) } as usize;
            return Err(Problem {
                code: code & 0xff,
                message,
                offset: usize::try_from(offset).ok().map(|offset| start + offset),
            });
        }
        if statement.is_null() {
            // White space and comments to the end.
            return columns.ok_or_else(|| Problem::new("the statement is empty"));
        }
        // SAFETY: the statement was just compiled and is finalized once; names are valid until then.
        let (names, read_only) = unsafe {
            let count = ffi::sqlite3_column_count(statement);
            let names: Vec<String> = (0..count)
                .map(|index| match ffi::sqlite3_column_name(statement, index) {
                    name if name.is_null() => String::new(),
                    name => CStr::from_ptr(name).to_string_lossy().into_owned(),
                })
                .collect();
            let read_only = ffi::sqlite3_stmt_readonly(statement) != 0;
            ffi::sqlite3_finalize(statement);
            (names, read_only)
        };
        if !read_only {
            return Err(Problem::new(ONLY_READS));
        }
        if columns.is_some() {
            return Err(Problem::new("one statement at a time"));
        }
        columns = Some(names);
        rest = tail;
    }
}

/// SQLite asks this about every action of a statement while it compiles it.
unsafe extern "C" fn authorize(
    _state: *mut c_void,
    action: c_int,
    first: *const c_char,
    second: *const c_char,
    _database: *const c_char,
    _source: *const c_char,
) -> c_int {
    // SAFETY: SQLite passes NULL or a C string.
    let text = |pointer: *const c_char| match pointer.is_null() {
        true => None,
        false => unsafe { CStr::from_ptr(pointer) }.to_str().ok(),
    };
    let allowed = match action {
        ffi::SQLITE_SELECT | ffi::SQLITE_READ | ffi::SQLITE_RECURSIVE => true,
        ffi::SQLITE_FUNCTION => {
            text(second).is_some_and(|name| !name.eq_ignore_ascii_case("load_extension"))
        }
        ffi::SQLITE_PRAGMA => text(first).is_some_and(|name| {
            PRAGMAS
                .iter()
                .any(|pragma| pragma.eq_ignore_ascii_case(name))
        }),
        _ => false,
    };
    if allowed {
        ffi::SQLITE_OK
    } else {
        ffi::SQLITE_DENY
    }
}
