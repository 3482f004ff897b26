//! Queries on a connection of the agent's own; an error does not name the server, which the caller adds where it matters.

use super::failure;
use crate::error::{Error, Result};
use mysql::prelude::{ColumnIndex, FromRow, Queryable};
use mysql::{Conn, Row};

pub(crate) fn failed(e: mysql::Error) -> Error {
    failure("", "", &e)
}

pub(crate) fn rows<T: FromRow>(conn: &mut Conn, query: impl AsRef<str>) -> Result<Vec<T>> {
    conn.query(query).map_err(failed)
}

pub(crate) fn first<T: FromRow>(conn: &mut Conn, query: impl AsRef<str>) -> Result<Option<T>> {
    conn.query_first(query).map_err(failed)
}

pub(crate) fn run(conn: &mut Conn, statement: impl AsRef<str>) -> Result<()> {
    conn.query_drop(statement).map_err(failed)
}

/// A value of a row as text; empty if it is NULL or if there is no such column.
pub(crate) fn text(row: &Row, column: impl ColumnIndex) -> String {
    let bytes: Option<Vec<u8>> = row.get_opt(column).and_then(std::result::Result::ok);
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}
