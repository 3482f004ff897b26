//! Disk use of a directory tree, counted in this process: no `du`, and no failure when a file vanishes (D9).

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Sum of the apparent sizes of everything below and including `path`, in bytes, as `du -sb` counts: each inode once,
/// links not followed. What vanishes or cannot be read during the walk counts as nothing.
///
/// # Errors
/// Only if `path` itself cannot be read.
pub fn usage(path: &Path) -> io::Result<u64> {
    usage_without(path, &[])
}

/// The same; entries of `path` itself with these names are left out, with all below them.
///
/// # Errors
/// Only if `path` itself cannot be read.
pub fn usage_without(path: &Path, names: &[&str]) -> io::Result<u64> {
    let top = std::fs::metadata(path)?;
    let mut total = top.size();
    let mut linked = HashSet::new();
    let mut todo = vec![path.to_path_buf()];
    let mut first = true;
    while let Some(dir) = todo.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Ok(e) => e,
            Err(e) if first => return Err(e),
            Err(_) => continue, // vanished or closed to us: counts as nothing
        };
        let top = std::mem::take(&mut first);
        for entry in entries.flatten() {
            if top && names.iter().any(|n| entry.file_name() == *n) {
                continue;
            }
            let Ok(meta) = entry.metadata() else { continue };
            if meta.nlink() > 1 && !meta.is_dir() && !linked.insert((meta.dev(), meta.ino())) {
                continue;
            }
            total += meta.size();
            if meta.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_as_du_does() {
        let dir = std::env::temp_dir().join(format!("oa-du-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        std::fs::write(dir.join("a/one"), vec![0u8; 5000]).unwrap();
        std::fs::write(dir.join("a/b/two"), vec![0u8; 70_000]).unwrap();
        std::fs::hard_link(dir.join("a/one"), dir.join("again")).unwrap();
        std::os::unix::fs::symlink("/", dir.join("link")).unwrap();
        let du = std::process::Command::new("du")
            .arg("-sb")
            .arg(&dir)
            .output()
            .unwrap();
        let text = String::from_utf8(du.stdout).unwrap();
        let expected: u64 = text.split_whitespace().next().unwrap().parse().unwrap();
        assert_eq!(usage(&dir).unwrap(), expected);
        let less = usage_without(&dir, &["a", "two"]).unwrap();
        assert!(less < expected - 70_000 && less >= 5000, "{less}");
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(usage(&dir).is_err());
    }
}
