//! Many rows of numbers at once.
//!
//! A row through `sqlx` is a copy of each of its values, handed from one thread to another: some microseconds, which
//! is seconds for a million points of curves. Here each row is looked at where SQLite has it.

use crate::store::StoreError;
use crate::store::open::Store;
use libsqlite3_sys as ffi;
use sqlx::AssertSqlSafe;
use std::ffi::{CStr, CString, c_int};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// A row under SQLite's hand. Columns count from 0; one that isn't there reads as NULL.
pub(super) struct ScanRow<'a> {
    statement: NonNull<ffi::sqlite3_stmt>,
    step: PhantomData<&'a ()>,
}

impl ScanRow<'_> {
    pub fn integer(&self, column: c_int) -> i64 {
        // SAFETY: the statement stands on a row as long as `self` lives.
        unsafe { ffi::sqlite3_column_int64(self.statement.as_ptr(), column) }
    }

    /// `None` for NULL.
    pub fn real(&self, column: c_int) -> Option<f64> {
        let statement = self.statement.as_ptr();
        // SAFETY: as above.
        unsafe {
            match ffi::sqlite3_column_type(statement, column) {
                ffi::SQLITE_NULL => None,
                _ => Some(ffi::sqlite3_column_double(statement, column)),
            }
        }
    }

    /// `None` for NULL, and for what isn't UTF-8.
    pub fn text(&self, column: c_int) -> Option<&str> {
        // SAFETY: as above; the text is valid until the next step or conversion of this column, and it is only asked
        // for as text.
        let text = unsafe { ffi::sqlite3_column_text(self.statement.as_ptr(), column) };
        match text.is_null() {
            true => None,
            false => unsafe { CStr::from_ptr(text.cast()) }.to_str().ok(),
        }
    }
}

impl Store {
    /// Calls `each` for every row of `sql`, whose only parameter is the text `parameter`. This thread waits meanwhile.
    pub(super) async fn scan(
        &self,
        sql: &str,
        parameter: &str,
        each: impl FnMut(&ScanRow<'_>),
    ) -> Result<(), StoreError> {
        let mut connection = self.readers.acquire().await.map_err(self.sql())?;
        let code = {
            let mut handle = connection.lock_handle().await.map_err(self.sql())?;
            scan(handle.as_raw_handle(), sql, parameter, each)
        };
        match code & 0xff {
            ffi::SQLITE_DONE => return Ok(()),
            ffi::SQLITE_BUSY => {
                return Err(StoreError::Busy {
                    path: self.path.clone(),
                });
            }
            _ => {}
        }
        // What is wrong with it is said best by whom all others ask.
        let again = sqlx::query(AssertSqlSafe(sql))
            .bind(parameter)
            .fetch_all(&mut *connection)
            .await;
        let error = match again {
            Err(error) => error,
            Ok(_) => sqlx::Error::Protocol(format!("reading it ended with SQLite's code {code}")),
        };
        Err(self.sql()(error))
    }
}

/// The result code of the last step: `SQLITE_DONE` after the last row.
fn scan(
    mut database: NonNull<ffi::sqlite3>,
    sql: &str,
    parameter: &str,
    mut each: impl FnMut(&ScanRow<'_>),
) -> c_int {
    let Ok(sql) = CString::new(sql) else {
        return ffi::SQLITE_MISUSE;
    };
    let Ok(length) = c_int::try_from(parameter.len()) else {
        return ffi::SQLITE_TOOBIG;
    };
    let mut statement: *mut ffi::sqlite3_stmt = std::ptr::null_mut();
    // SAFETY: the connection is open and locked by the caller, `sql` ends with NUL, the parameter is copied.
    let code = unsafe {
        let database = database.as_mut();
        let code = ffi::sqlite3_prepare_v2(
            database,
            sql.as_ptr(),
            -1,
            &mut statement,
            std::ptr::null_mut(),
        );
        match code {
            ffi::SQLITE_OK => ffi::sqlite3_bind_text(
                statement,
                1,
                parameter.as_ptr().cast(),
                length,
                ffi::SQLITE_TRANSIENT(),
            ),
            code => code,
        }
    };
    let finalize = Finalize(statement);
    let Some(statement) = NonNull::new(finalize.0).filter(|_| code == ffi::SQLITE_OK) else {
        return code;
    };
    loop {
        // SAFETY: the statement was compiled above and is finalized after the last step.
        match unsafe { ffi::sqlite3_step(statement.as_ptr()) } {
            ffi::SQLITE_ROW => each(&ScanRow {
                statement,
                step: PhantomData,
            }),
            code => return code,
        }
    }
}

/// Finalizes a statement, also when a caller's function panics.
struct Finalize(*mut ffi::sqlite3_stmt);

impl Drop for Finalize {
    fn drop(&mut self) {
        // SAFETY: it is finalized here only; NULL is no error.
        unsafe { ffi::sqlite3_finalize(self.0) };
    }
}
