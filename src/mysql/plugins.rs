//! Plugins of MySQL's command-line clients.

use super::{Flavour, Server, Version};
use std::path::{Path, PathBuf};

/// The directory with the plugin mysql_native_password, next to `program`, for a server on which accounts may have it: the clients of
/// MySQL 9 know mysql_native_password as a plugin only, and look for that where they were built for (2059). `None` where there
/// is no such plugin: most clients have it built in.
pub(crate) fn old_logins(program: &Path, server: Server) -> Option<PathBuf> {
    if server.flavour != Flavour::MySql || server.version >= Version(9, 0, 0) {
        return None;
    }
    let real = std::fs::canonicalize(program).ok()?;
    let prefix = real.parent()?.parent()?;
    ["lib/mysql/plugin", "lib64/mysql/plugin", "lib/plugin"]
        .iter()
        .map(|dir| prefix.join(dir))
        .find(|dir| dir.join("mysql_native_password.so").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_login_is_looked_for_next_to_the_client() {
        let dir = std::env::temp_dir().join(format!("oa-plugins-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("bin")).unwrap();
        std::fs::create_dir_all(dir.join("lib64/mysql/plugin")).unwrap();
        let program = dir.join("bin/mysqldump");
        std::fs::write(&program, "").unwrap();
        let old = Server::parse("5.6.24", "").unwrap();
        assert_eq!(old_logins(&program, old), None);
        std::fs::write(dir.join("lib64/mysql/plugin/mysql_native_password.so"), "").unwrap();
        let found = old_logins(&program, old).unwrap();
        assert!(found.ends_with("lib64/mysql/plugin"), "{found:?}");
        for other in ["9.7.4", "10.11.19-MariaDB"] {
            assert_eq!(
                old_logins(&program, Server::parse(other, "").unwrap()),
                None
            );
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
