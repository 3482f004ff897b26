//! A disk that can be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk over a directory.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    pub fn over(dir: &Path, megabytes: u32) -> Self {
        let done = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={megabytes}m,mode=0755"),
                "none",
            ])
            .arg(dir)
            .output()
            .expect("mount");
        assert!(
            done.status.success(),
            "mount (needs root): {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Self(dir.into())
    }

    /// Gives it another size; what is on it stays.
    pub fn resize(&self, megabytes: u32) {
        let done = Command::new("mount")
            .args(["-o", &format!("remount,size={megabytes}m")])
            .arg(&self.0)
            .status();
        assert!(done.expect("mount").success(), "mount -o remount");
    }

    /// Bytes that are left.
    pub fn free(&self) -> u64 {
        let out = Command::new("df")
            .args(["--output=avail", "-B1"])
            .arg(&self.0)
            .output()
            .expect("df");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.lines()
            .nth(1)
            .and_then(|l| l.trim().parse().ok())
            .expect("a number")
    }

    /// Leaves nothing.
    pub fn fill_more(&self) -> PathBuf {
        let filler = self.0.join("more");
        // Most of it at once: others write here meanwhile.
        let most = self.free().saturating_sub(16 << 20);
        let _ = Command::new("fallocate")
            .args(["-l", &most.to_string()])
            .arg(&filler)
            .status();
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&filler)
            .expect("filler");
        let piece = vec![1; 64 << 10];
        while std::io::Write::write_all(&mut file, &piece).is_ok() {}
        filler
    }

    /// Leaves only so many bytes.
    pub fn fill(&self, leave: u64) -> PathBuf {
        let filler = self.0.join("filler");
        let free = self.free();
        std::fs::write(
            &filler,
            vec![1; usize::try_from(free - leave).expect("megabytes")],
        )
        .expect("filler");
        filler
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = std::fs::remove_dir_all(&self.0); // a place that another owner could not remove
    }
}
