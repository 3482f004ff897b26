//! Random bytes from the kernel.

use std::io;

/// Fills `buffer` by getrandom(2), which needs no file: a directory root without /dev will do.
///
/// # Errors
/// ENOSYS before Linux 3.17.
pub fn fill(buffer: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        let rest = &mut buffer[done..];
        // SAFETY: pointer and length describe `rest`, which is writable and lives through the call.
        let n = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(n) {
            Ok(n) => done += n,
            Err(_) if super::failed_with(libc::EINTR) => {}
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_bytes_are_filled_and_differ_between_calls() {
        let (mut a, mut b) = ([0; 4096], [0; 4096]);
        super::fill(&mut a).unwrap();
        super::fill(&mut b).unwrap();
        assert_ne!(a, b);
        assert!(a[4000..].iter().any(|x| *x != 0));
    }
}
