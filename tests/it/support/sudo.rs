//! A real sudo, of Debian's package, with sudoers and accounts of its own: it sees them as /etc in a mount namespace.

use super::{Scratch, rig_sudo};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Sudo {
    /// For `Changes::path_first`.
    pub dir: PathBuf,
    _scratch: Scratch,
}

impl Sudo {
    /// With the package's own sudoers, in which root may run all without a password; `home` is root's.
    pub fn of_root(home: &Path) -> Self {
        let scratch = Scratch::new("sudo");
        let dir = scratch.0.clone();
        let (etc, root) = (dir.join("etc"), rig_sudo().join("sudo/root"));
        let copy = |from: &Path| {
            let status = Command::new("cp").arg("-a").arg(from).arg(&etc).status();
            assert!(status.expect("cp").success(), "{}", from.display());
        };
        std::fs::create_dir(&etc).expect("etc");
        for name in [
            "group",
            "shadow",
            "nsswitch.conf",
            "hosts",
            "pam.d",
            "security",
        ] {
            copy(&Path::new("/etc").join(name));
        }
        for name in ["sudoers", "sudoers.d", "sudo.conf"] {
            copy(&root.join("etc").join(name));
        }
        let pam = std::fs::copy(root.join("etc/pam.d/sudo"), etc.join("pam.d/sudo"));
        pam.expect("pam.d");
        let accounts = std::fs::read_to_string("/etc/passwd").expect("passwd");
        let of_others = accounts.lines().filter(|l| !l.starts_with("root:"));
        let line = format!("root:x:0:0:root:{}:/bin/sh", home.display());
        let accounts: Vec<&str> = std::iter::once(line.as_str()).chain(of_others).collect();
        std::fs::write(etc.join("passwd"), accounts.join("\n") + "\n").expect("passwd");
        let text = format!(
            "#!/bin/sh\nexec unshare -m --propagation private sh -c 'mount --bind {root}/usr/libexec /usr/libexec && mount --bind \
             {etc} /etc && exec \"$0\" \"$@\"' {root}/usr/bin/sudo \"$@\"\n",
            root = root.display(),
            etc = etc.display()
        );
        let program = dir.join("sudo");
        std::fs::write(&program, text).expect("script");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("mode");
        Self {
            dir,
            _scratch: scratch,
        }
    }
}
