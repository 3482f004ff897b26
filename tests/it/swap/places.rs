//! Data directories that are not where one thinks: a symbolic link, a mount point, logs elsewhere, a server that is down.

use super::rig::{Family, Rig, source};
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::server::Server;
use std::path::{Path, PathBuf};
use std::process::Command;

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().expect(program);
    assert!(
        out.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// The data directory is a symbolic link, the binary logs lie outside it by a path that leads upward, and MySQL is down with
/// nothing but its option file to tell of it.
fn linked_and_down<K: Family>() {
    let source = source::<K>("");
    let mut rig = Rig::<K>::new("log_bin=../tmp/bin\n", "", "");
    let (data, real) = (rig.db.datadir(), rig.db.dir.join("real"));
    rig.db.sql("CREATE TABLE precious.logged (v INT)");
    rig.down();
    std::fs::rename(&data, &real).expect("rename");
    std::os::unix::fs::symlink(&real, &data).expect("link");
    rig.db.up();

    let up = rig.inspect().expect("fit");
    assert_eq!(up.datadir, std::fs::canonicalize(&real).expect("real"));
    let logs = std::fs::canonicalize(rig.db.dir.join("tmp")).expect("tmp");
    assert!(
        up.outside.iter().any(|o| o.dir == logs && o.base == "bin"),
        "{:?}",
        up.outside
    );

    // Down: known by what was seen last, and without that by mysql.defaults-file.
    rig.down();
    let last = rig.inspect().expect("by the note");
    assert_eq!((&last.datadir, &last.outside), (&up.datadir, &up.outside));
    let note = rig.dir.join("state/datadir.json");
    let text = std::fs::read_to_string(&note).expect("note");
    let wrong = text
        .replace("\"base\": \"bin\"", "\"base\": \"other\"")
        .replace("/real\"", "/other\"");
    assert_ne!(wrong, text);
    std::fs::write(&note, wrong).expect("note");
    rig.inspect().expect_err("it is not there any more");
    let cnf = rig.db.dir.join("my.cnf");
    rig.configure(&format!("defaults-file = {cnf:?}"), "");
    let info = rig.inspect().expect("by the option file");
    assert_eq!((&info.datadir, &info.outside), (&up.datadir, &up.outside));
    assert_eq!(
        (&info.system_file, &info.page_size, &info.data_file_path),
        (&up.system_file, &up.page_size, &up.data_file_path)
    );
    assert_eq!(info.server_id, up.server_id);

    let before: Vec<PathBuf> = logs_in(&logs);
    assert!(before.len() >= 2, "{before:?}");
    let staged = rig.stage(&info, &source.datadir());
    let copy = rig.trial_start(&info, &staged);
    rig.killed_at(&info, &copy, "journal Committed");
    assert!(rig.recover().contains("MySQL was down before"));
    assert_eq!(logs_in(&logs), before, "the logs are back");
    rig.swap(&info, &copy, &rig.host()).expect("swapped");
    rig.assert_new();
    assert!(data.is_symlink() && real.join(&info.system_file).is_file());
    let now = rig.db.sql("SHOW BINARY LOGS");
    assert_eq!(
        now,
        ["bin.000001"],
        "the old logs would merge their GTIDs into the new server"
    );
    let aside = staged.aside(&up.outside[0]).join("old");
    assert!(aside.join("bin.index").exists());
}

fn logs_in(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("logs")
        .flatten()
        .map(|e| e.path())
        .filter(|p| {
            p.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("bin."))
        })
        .collect();
    found.sort();
    found
}

#[test]
fn linked_and_down_mariadb() {
    linked_and_down::<MariadbKind>();
}

#[test]
fn linked_and_down_mysql() {
    linked_and_down::<MysqldKind>();
}

/// Unmounts, also after a failure.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_mount_point() {
    let source = source::<MariadbKind>("");
    let db = Server::<MariadbKind>::start("127.0.0.2", "");
    db.down();
    let (data, aside) = (db.datadir(), db.dir.join("aside"));
    std::fs::rename(&data, &aside).expect("rename");
    std::fs::create_dir(&data).expect("datadir");
    let name = |p: &Path| p.display().to_string();
    run(
        "mount",
        &["-t", "tmpfs", "-o", "size=600m", "none", &name(&data)],
    );
    let mounted = Mounted(data.clone());
    run("cp", &["-a", &name(&aside.join(".")), &name(&data)]);
    std::fs::create_dir(data.join("lost+found")).expect("lost+found"); // root's, as a file system makes it
    db.up();
    let rig = Rig::of(db, "", "");
    let info = rig.inspect().expect("fit");
    let staged = rig.stage(&info, &source.datadir());
    let copy = rig.trial_start(&info, &staged);
    rig.killed_at(&info, &copy, "start MySQL");
    rig.recover();
    rig.assert_old();
    rig.swap(&info, &copy, &rig.host()).expect("swapped");
    rig.assert_new();
    assert!(data.join("lost+found").is_dir(), "the file system's own");
    // A file system below it cannot be renamed.
    let below = data.join("below");
    std::fs::create_dir(&below).expect("below");
    run(
        "mount",
        &["-t", "tmpfs", "-o", "size=1m", "none", &name(&below)],
    );
    let inner = Mounted(below.clone());
    let e = rig.inspect().expect_err("a mount inside").to_string();
    assert!(
        e.contains(&name(&below)) && e.contains("file system of its own"),
        "{e}"
    );
    drop(inner);
    // Staging on another file system would be a copy, not a rename.
    let mut rig = rig;
    let other = rig.dir.join(".staging");
    rig.configure(&format!("staging-dir = {other:?}"), "");
    let e = rig.inspect().expect_err("another file system").to_string();
    assert!(
        e.contains("mysql.staging-dir") && e.contains("not on the file system"),
        "{e}"
    );
    rig.down();
    drop(mounted);
}
