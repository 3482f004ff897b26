//! What mysqldump and mariadb-dump write to their standard error, as far as it is searched.

/// What the tool says of a part that is not in the dump, because the account was refused it: `mysqldump: Error: 'Access denied; you need
/// (at least one of) the PROCESS privilege(s) for this operation' when trying to dump tablespaces` (MySQL 5.7.31 and later). It ends with 0
/// all the same.
pub(super) fn left_out(stderr: &str) -> Option<&str> {
    stderr.lines().find(|l| l.contains("Error:"))
}
