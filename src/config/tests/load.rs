//! The file itself: missing, unreadable, open to all.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;

/// A file of this test's own, removed at the end.
struct Temp(PathBuf);

impl Temp {
    fn new(name: &str, content: &[u8], mode: u32) -> Self {
        let path = std::env::temp_dir().join(format!("agent-conf-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Self(path)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn load_warns_of_a_world_readable_file() {
    let open = Temp::new("open", file(&[]).as_bytes(), 0o644);
    let warnings = load(Some(&open.0)).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert_in("every user can read it", &warnings[0]);
    let closed = Temp::new("closed", file(&[]).as_bytes(), 0o640);
    assert!(load(Some(&closed.0)).unwrap().warnings.is_empty());
}

#[test]
fn load_names_the_file() {
    let bad = Temp::new("bad", b"[common]\nport = \n", 0o600);
    let text = load(Some(&bad.0)).unwrap_err().to_string();
    assert!(
        text.starts_with(&format!("{}: line 2, column ", bad.0.display())),
        "{text}"
    );
    let json = Temp::new(
        "json",
        file(&[("logging", "format = \"json\"")]).as_bytes(),
        0o600,
    );
    let text = load(Some(&json.0)).unwrap_err().to_string();
    assert!(
        text.starts_with(&format!("{}: line 9: logging.format", json.0.display())),
        "{text}"
    );
}

#[test]
fn load_of_something_else() {
    let text = |path: &Path| load(Some(path)).unwrap_err().to_string();
    assert_in("/no/such/file: ", &text(Path::new("/no/such/file")));
    assert_in("--config", &text(Path::new("/no/such/file")));
    let directory = text(&std::env::temp_dir());
    assert_in("directory", &directory);
    assert_in("name the file itself", &directory);
    let latin = Temp::new("latin", b"[common]\nhostname = \"\xe9\"\n", 0o600);
    assert_in("line 2 is not UTF-8", &text(&latin.0));
}

#[test]
fn windows_editors() {
    let text = format!("\u{feff}{}", file(&[]).replace('\n', "\r\n"));
    let temp = Temp::new("windows", text.as_bytes(), 0o600);
    assert!(load(Some(&temp.0)).unwrap().warnings.is_empty());
}
