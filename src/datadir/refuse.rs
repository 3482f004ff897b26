//! Settings of a server that a physical seed cannot follow: each is refused by its name, with the remedy.

use super::facts::{Variables, inside, value};
use crate::error::{Error, Result};
use std::path::Path;

/// Refuses settings that put parts of the data outside the data directory, where a swap of its content would tear them apart.
pub(super) fn refuse_places(of: &Variables, datadir: &Path) -> Result<()> {
    for name in [
        "innodb_data_home_dir",
        "innodb_log_group_home_dir",
        "innodb_undo_directory",
        "innodb_doublewrite_dir",
        "innodb_temp_tablespaces_dir",
        "aria_log_dir_path",
        "rocksdb_datadir",
        "tokudb_data_dir",
    ] {
        let dir = value(of, name);
        let at = inside(&datadir.join(dir), datadir);
        // `./#innodb_temp/` and the like are the server's own and are made by it.
        let made = name == "innodb_temp_tablespaces_dir" || name == "rocksdb_datadir";
        if dir.is_empty() || at.as_deref() == Some(Path::new("")) || (at.is_some() && made) {
            continue;
        }
        return Err(Error::permanent(format!(
            "{name} = \"{dir}\" is not the data directory {}: a physical seed swaps the content of that directory only; remove \
             the setting and move its files, or use the method Mysqldump",
            datadir.display()
        )));
    }
    let more = value(of, "innodb_directories");
    if !more.is_empty() {
        return Err(Error::permanent(format!(
            "innodb_directories = \"{more}\": tablespaces outside the data directory cannot be swapped; move them into it and \
             remove the setting, or use the method Mysqldump"
        )));
    }
    Ok(())
}

/// Refuses logs and tables that are encrypted by the server's settings: the keys of one host are not those of another.
pub(super) fn refuse_encryption(of: &Variables) -> Result<()> {
    for name in [
        "innodb_redo_log_encrypt",
        "innodb_undo_log_encrypt",
        "innodb_encrypt_log",
        "innodb_encrypt_tables",
        "aria_encrypt_tables",
    ] {
        let set = value(of, name);
        if !matches!(
            set.to_ascii_uppercase().as_str(),
            "" | "OFF" | "0" | "FALSE"
        ) {
            return Err(Error::permanent(format!(
                "{name} = {set}: what is encrypted on one host cannot be read with the keys of another; set it to OFF and decrypt, \
                 or use the method Mysqldump"
            )));
        }
    }
    Ok(())
}

/// Refuses a target that is, or by its settings would be after its start, part of a cluster: that copies data by itself.
///
/// # Errors
/// Permanent: the setting and its value.
pub(super) fn refuse_cluster(of: &Variables) -> Result<()> {
    let refuse = |name: &str, what: &str| {
        Err(Error::permanent(format!(
            "{name} = {}: this server is {what}, which copies its data itself; take it out of the cluster first (remove the setting \
             from its my.cnf), or choose another target",
            value(of, name)
        )))
    };
    let on = |name: &str| matches!(value(of, name), "ON" | "1" | "TRUE");
    if on("wsrep_on") {
        return refuse("wsrep_on", "a Galera cluster node");
    }
    let group = value(of, "group_replication_group_name");
    if !group.is_empty() && on("group_replication_start_on_boot") {
        return refuse("group_replication_group_name", "a group replication member");
    }
    Ok(())
}
