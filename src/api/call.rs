//! A call as its handler gets it.

use super::path;
use crate::http::Request;
use crate::protocol::wire::Wire;

/// A request with the token that its endpoint requires.
pub(super) struct Call {
    /// Of the path, in order.
    pub(super) parameters: Vec<String>,
    pub(super) request: Request,
    /// The protocol of the answer.
    pub(super) wire: Wire,
    /// `classic.signal-errors`
    pub(super) signal_errors: bool,
}

impl Call {
    /// Parameter `n` of the path.
    pub(super) fn at(&self, n: usize) -> &str {
        self.parameters.get(n).map_or("", String::as_str)
    }

    /// The first value of `name` in the query, empty if there is none.
    pub(super) fn parameter(&self, name: &str) -> String {
        path::parameter(&self.request.query, name).unwrap_or_default()
    }

    pub(super) fn is_classic(&self) -> bool {
        self.wire == Wire::Classic
    }

    /// True if an error is to be answered by a redirect: orchestrator ignores the status of a classic answer, but fails with the text of
    /// a Location that it cannot follow.
    pub(super) fn signals(&self) -> bool {
        self.wire == Wire::Classic && signals(self.signal_errors, &self.request)
    }
}

/// True for orchestrator's own HTTP client, that of Go's library.
pub(super) fn signals(enabled: bool, request: &Request) -> bool {
    let agent = request.header("User-Agent").unwrap_or_default();
    enabled && agent.starts_with("Go-http-client/")
}
