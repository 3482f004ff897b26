//! Named threads, and locks that a panic does not poison.

use crate::error::{Error, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::{LockResult, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// How long a thread of a [`Pool`] waits for another job.
const IDLE: Duration = Duration::from_secs(2);

/// Starts a thread. The kernel shows the first 15 bytes of its name.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    spawn_with_stack(name, 2 << 20, body)
}

/// The same with a stack of so many bytes instead of 2 MiB.
pub(crate) fn spawn_with_stack<T: Send + 'static>(
    name: &str,
    bytes: usize,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    let thread = Builder::new().name(name.into()).stack_size(bytes);
    let what =
        || format!("cannot start thread {name} (limits: TasksMax of the service, ulimit -u)");
    thread.spawn(body).map_err(|e| Error::io(what(), &e))
}

type Job = Box<dyn FnOnce() + Send>;

/// Threads that take another job for a while: a flood of short jobs would be slowed down by starting and ending one for each.
pub(crate) struct Pool {
    name: &'static str,
    /// In bytes.
    stack: usize,
    /// Without room: a job goes to a thread that waits, or nowhere.
    free: Sender<Job>,
    jobs: Receiver<Job>,
}

impl Pool {
    pub(crate) fn new(name: &'static str, stack: usize) -> Self {
        let (free, jobs) = bounded(0);
        Self {
            name,
            stack,
            free,
            jobs,
        }
    }

    /// Runs `job` in a thread that is free, or in a new one.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) -> Result<()> {
        let Err(refused) = self.free.try_send(Box::new(job)) else {
            return Ok(());
        };
        let (mut next, jobs) = (Some(refused.into_inner()), self.jobs.clone());
        let body = move || {
            while let Some(job) = next.take() {
                job();
                next = jobs.recv_timeout(IDLE).ok();
            }
        };
        spawn_with_stack(self.name, self.stack, body).map(drop)
    }
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
    fn a_thread_of_a_pool_takes_job_after_job_and_all_end_with_the_pool() {
        let pool = Pool::new("pooled", 256 << 10);
        let (tx, rx) = crossbeam_channel::unbounded();
        for _ in 0..3 {
            let tx = tx.clone();
            let job = move || tx.send(std::thread::current().id()).unwrap();
            pool.run(job).unwrap();
            std::thread::sleep(Duration::from_millis(100)); // until it waits again
        }
        let ids: Vec<_> = rx.try_iter().collect();
        assert_eq!(ids, [ids[0]; 3]);
        let jobs = pool.jobs.clone();
        let held = Arc::new(());
        for _ in 0..2 {
            let held = Arc::clone(&held);
            pool.run(move || drop(held)).unwrap();
        }
        drop(pool);
        assert!(jobs.recv().is_err(), "no sender is left");
    }

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
