//! Scripts that stand in for a tool and misbehave.

use super::mariadb::MariadbKind;
use super::server::Kind;
use super::{Scratch, project};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A directory for `Changes::path_first`, with scripts in it.
pub struct Fakes {
    pub dir: PathBuf,
    /// The real ones.
    tools: PathBuf,
    _scratch: Scratch,
}

impl Fakes {
    /// An empty directory; the real tools are MariaDB's.
    pub fn new() -> Self {
        Self::of::<MariadbKind>()
    }

    /// The same with the tools of another family.
    pub fn of<K: Kind>() -> Self {
        let scratch = Scratch::new("fake");
        Self {
            dir: scratch.0.clone(),
            tools: K::rig().join(K::TOOLS),
            _scratch: scratch,
        }
    }

    /// Puts a tool in; `$REAL` in its text is the real one.
    pub fn put(&self, tool: &str, script: &str) {
        self.put_over(&self.tools, tool, script);
    }

    /// The same with the tool of another family. A client of MySQL 9 is told where the logins of old servers are, which are not
    /// in a directory next to the script.
    pub fn put_of<K: Kind>(&self, tool: &str, script: &str) {
        let plugins = K::rig().join("my97/root/usr/lib/mysql/plugin");
        let script = format!(
            "export LIBMYSQL_PLUGIN_DIR='{}'\n{script}",
            plugins.display()
        );
        self.put_over(&K::rig().join(K::TOOLS), tool, &script);
    }

    fn put_over(&self, tools: &Path, tool: &str, script: &str) {
        let real = tools.join(tool);
        // Whatever else it does wrong, it tells its version and its options.
        let version = "case \"$*\" in --version | *--help) exec \"$REAL\" \"$@\";; esac";
        let text = format!(
            "#!/bin/sh\nREAL='{}'\n{version}\n{script}\n",
            real.display()
        );
        self.write(tool, &text);
    }

    /// Puts a tool in that reports another version, such as `mydumper 0.12.7-3`.
    pub fn put_of_version(&self, tool: &str, version: &str, script: &str) {
        let real = self.tools.join(tool);
        let text = format!(
            "#!/bin/sh\nREAL='{}'\ncase \"$*\" in --version) echo '{tool} {version}, built against MySQL 8.4.2'; exit;; esac\n{script}\n",
            real.display()
        );
        self.write(tool, &text);
    }

    /// Puts Percona's tools in, by the stand-in tests/rig/percona.sh, and a `zstd` that is gzip. The file with the arguments that
    /// they were called with.
    pub fn put_percona(&self) -> PathBuf {
        let arguments = self.dir.join("arguments");
        let script = |tool: &str| {
            format!(
                "MYSQL='{}' MBSTREAM='{}' ARGUMENTS='{}' exec '{}' {tool} \"$@\"",
                self.tools.join("mysql").display(),
                MariadbKind::rig().join("mdb/bin/mbstream").display(),
                arguments.display(),
                project().join("tests/rig/percona.sh").display(),
            )
        };
        for (tool, text) in [
            ("xtrabackup", script("xtrabackup")),
            ("xbstream", script("xbstream")),
            ("zstd", "exec gzip \"$@\"".into()),
        ] {
            self.write(tool, &format!("#!/bin/sh\n{text}\n"));
        }
        arguments
    }

    fn write(&self, tool: &str, text: &str) {
        let (file, temp) = (self.dir.join(tool), self.dir.join("new"));
        std::fs::write(&temp, text).expect("script");
        std::fs::set_permissions(&temp, std::fs::Permissions::from_mode(0o755)).expect("mode");
        std::fs::rename(&temp, &file).expect("rename");
    }

    /// Takes a tool out, so that the real one is found.
    pub fn remove(&self, tool: &str) {
        std::fs::remove_file(self.dir.join(tool)).expect("the script is there");
    }
}
