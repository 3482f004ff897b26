//! What the network may send, as a module of the server: its parser is private to it.

use super::request;
use super::{Access, Limits};

/// A head that is taken must be one again when it is passed on.
pub(crate) fn head(bytes: &[u8]) {
    let limits = Limits::default();
    let Ok(Some(head)) = request::parse(bytes, Access::All, &limits) else {
        return;
    };
    let most = limits.body as u64;
    assert_eq!(head.body_within(most).is_ok(), head.content_length <= most);
    assert!(head.length <= bytes.len());
    let passed_on = head.forward(7);
    // Three headers of the front's own are added.
    let wider = Limits {
        head: limits.head + 200,
        headers: limits.headers + 3,
        ..limits
    };
    let again = request::parse(&passed_on, Access::All, &wider);
    let Ok(Some(again)) = again else {
        panic!("{again:?}");
    };
    assert_eq!(again.request.path, head.request.path);
    assert_eq!(
        (&again.request.query, again.content_length),
        (&head.request.query, 0)
    );
    assert_eq!(again.length, passed_on.len());
    let _ = head.path_for_log();
}
