//! Named threads, and locks that a panic does not poison.

use crate::error::{Error, Result};
use std::sync::{LockResult, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Starts a thread. The kernel shows the first 15 bytes of its name.
///
/// # Errors
/// Transient: the limits of threads are reached.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    start(Builder::new(), name, body)
}

/// The same with a stack of so many bytes instead of the 2 MiB of std.
pub(crate) fn spawn_with_stack<T: Send + 'static>(
    name: &str,
    bytes: usize,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    start(Builder::new().stack_size(bytes), name, body)
}

fn start<T: Send + 'static>(
    builder: Builder,
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    builder.name(name.into()).spawn(body).map_err(|e| {
        Error::io(
            format!("cannot start thread {name} (limits: TasksMax of the service, ulimit -u)"),
            &e,
        )
    })
}

/// Locks. Where a thread panicked while it had the lock, the value is used as that thread left it.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    unpoisoned(mutex.lock())
}

/// The guard of an RwLock or a Condvar, with the same rule.
pub(crate) fn unpoisoned<G>(guard: LockResult<G>) -> G {
    guard.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_thread_has_its_name_and_its_panic_leaves_the_lock_usable() {
        let value = Arc::new(Mutex::new(1));
        let shared = Arc::clone(&value);
        let thread = spawn_with_stack("named", 256 << 10, move || {
            let mut value = lock(&shared);
            *value = 2;
            assert_ne!(std::thread::current().name(), Some("named"));
        });
        assert!(thread.unwrap().join().is_err());
        assert_eq!(*lock(&value), 2);
    }
}
