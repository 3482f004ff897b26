//! The workers: take requests from the doors, call the handler, send its response.

use super::doors::{Door, FAILURES};
use super::{Handler, Request, Response};
use crossbeam_channel::Receiver;
use log::error;
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use tiny_http::{Header, StatusCode};

/// What a worker needs.
pub(super) struct Work {
    pub(super) handler: Handler,
    pub(super) is_slow: fn(&Request) -> bool,
    /// Bytes of body up to which the connection takes a response at once, so that a worker may send it.
    pub(super) response_buffer: usize,
}

/// A request, and the door that it came through.
pub(super) type Job = (tiny_http::Request, Door);

impl Work {
    /// A worker's life: ends when the last door has closed.
    pub(super) fn run(self: Arc<Self>, queue: &Receiver<Job>) {
        for (request, door) in queue {
            self.clone().take(request, door);
        }
    }

    /// Answers a request here, or on a thread of its own if it is slow.
    fn take(self: Arc<Self>, mut job: tiny_http::Request, door: Door) {
        let request = match Request::from_door(&mut job, door) {
            Ok(request) => request,
            Err(e) => {
                FAILURES.warn(|| format!("gate: a request was cut off inside the agent: {e}"));
                return send(job, Response::internal_error());
            }
        };
        let slow = catch_unwind(AssertUnwindSafe(|| (self.is_slow)(&request))).unwrap_or(false);
        if slow {
            in_own_thread("gate-slow", move || {
                let response = self.answer(&request);
                send(job, response);
            });
            return;
        }
        let response = self.answer(&request);
        if response.body.len() <= self.response_buffer {
            send(job, response);
        } else {
            // Goes at the client's pace.
            in_own_thread("gate-send", move || send(job, response));
        }
    }

    /// The handler's answer. A panic costs this request only (agent-api-v2 0, "Handler crash").
    fn answer(&self, request: &Request) -> Response {
        catch_unwind(AssertUnwindSafe(|| (self.handler)(request))).unwrap_or_else(|panic| {
            error!(
                "gate: {} {:.200} panicked: {}",
                request.method,
                request.path,
                panic_text(&*panic)
            );
            Response::internal_error()
        })
    }
}

/// Runs one request's work elsewhere. There is at most one such thread for each connection. Where none can be started
/// the request is dropped, which makes tiny_http answer 500.
fn in_own_thread(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(e) = thread::Builder::new().name(name.into()).spawn(work) {
        FAILURES.warn(|| format!("gate: cannot start a thread for a request: {e}"));
    }
}

fn send(job: tiny_http::Request, response: Response) {
    let mut headers = Vec::with_capacity(response.headers.len() + 1);
    let content_type = (
        "Content-Type".to_string(),
        response.content_type.to_string(),
    );
    for (name, value) in std::iter::once(content_type).chain(response.headers) {
        // A line break would end the header; a Content-Length other than the body's would desynchronise the client.
        let safe = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        let header = Header::from_bytes(name.as_bytes(), value.as_bytes());
        match header {
            Ok(header) if safe(&name) && safe(&value) && !header.field.equiv("Content-Length") => {
                headers.push(header);
            }
            _ => error!("gate: response header {name:?} cannot be sent and is left out"),
        }
    }
    let length = response.body.len();
    let body = io::Cursor::new(response.body);
    let response = tiny_http::Response::new(
        StatusCode(response.status),
        headers,
        body,
        Some(length),
        None,
    )
    .with_chunked_threshold(usize::MAX);
    if let Err(e) = job.respond(response) {
        FAILURES.warn(|| format!("gate: a response could not be sent: {e}"));
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)")
}
