//! What is read from the source while a tool works, once its dump's position is fixed: the dump itself goes on for hours.

use crate::error::Result;
use crate::sys::thread::{lock, spawn};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

type Read<T> = dyn Fn() -> Result<T> + Send + Sync;

/// One reading, in a thread of its own.
pub(crate) struct Early<T> {
    read: Arc<Read<T>>,
    thread: Arc<Mutex<Option<JoinHandle<Result<T>>>>>,
}

impl<T> Clone for Early<T> {
    fn clone(&self) -> Self {
        Self {
            read: Arc::clone(&self.read),
            thread: Arc::clone(&self.thread),
        }
    }
}

impl<T: Send + 'static> Early<T> {
    pub(crate) fn new(read: impl Fn() -> Result<T> + Send + Sync + 'static) -> Self {
        Self {
            read: Arc::new(read),
            thread: Arc::default(),
        }
    }

    /// Reads, at the first call.
    pub(crate) fn start(&self) {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let read = Arc::clone(&self.read);
            *thread = spawn("early", move || read()).ok(); // else it is read by `get`
        }
    }

    /// What was read; if that is missing or has failed, what is there now.
    pub(crate) fn get(&self) -> Result<T> {
        let mut thread = lock(&self.thread);
        match thread.take().and_then(|t| t.join().ok()) {
            Some(Ok(early)) => Ok(early),
            _ => (self.read)(),
        }
    }
}
