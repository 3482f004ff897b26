//! A MySQL server with keys: the program with a manifest of its own, so that no other server of the rig loads the component.

use super::{Scratch, rig_mysql};
use std::os::unix::fs::{PermissionsExt, symlink};

/// The program, its libraries and its keys.
pub struct Keyring(Scratch);

impl Keyring {
    /// `component_keyring_file` without any key yet.
    pub fn new() -> Self {
        let scratch = Scratch::new("keyring");
        let (dir, rig) = (&scratch.0, rig_mysql().join("my97/root/usr"));
        for name in ["sbin", "plugin", "keys"] {
            std::fs::create_dir(dir.join(name)).expect(name);
        }
        let (real, program) = (rig.join("sbin/mysqld"), dir.join("sbin/mysqld"));
        // The server looks for the manifest and its libraries next to the real file.
        if std::fs::hard_link(&real, &program).is_err() {
            std::fs::copy(&real, &program).expect("mysqld");
        }
        for name in ["lib", "share"] {
            symlink(rig.join(name), dir.join(name)).expect(name);
        }
        for entry in std::fs::read_dir(rig.join("lib/mysql/plugin")).expect("plugins") {
            let entry = entry.expect("plugin");
            let link = dir.join("plugin").join(entry.file_name());
            symlink(entry.path(), link).expect("plugin");
        }
        let manifest = "{\"components\": \"file://component_keyring_file\"}";
        std::fs::write(dir.join("sbin/mysqld.my"), manifest).expect("manifest");
        let keys = dir.join("keys");
        std::fs::write(
            dir.join("plugin/component_keyring_file.cnf"),
            format!(
                "{{\"path\": \"{}/keyring\", \"read_only\": false}}",
                keys.display()
            ),
        )
        .expect("configuration");
        // The server is not root.
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o777)).expect("mode");
        Self(scratch)
    }

    /// Lines for the my.cnf of the server that has it; the first one is for tests/rig/server.sh.
    pub fn cnf(&self) -> String {
        let dir = self.0.0.display();
        format!("# program: {dir}/sbin/mysqld\nplugin_dir={dir}/plugin\n")
    }
}
