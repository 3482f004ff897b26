//! The token, which all but the status and information endpoints require, and Basic credentials.

use super::{Api, path};
use crate::config::{Protocol, Secret};
use crate::error::{OnPath, Result};
use crate::http::Request;
use crate::protocol::http_client::Basic;
use crate::protocol::wire::Wire;
use crate::sys::file::replace_atomic;
use std::path::Path;

/// The token of this process: 64 hex digits.
pub(crate) fn new_token() -> Result<Secret> {
    let random = crate::sys::host::random_hex(32);
    random.on("random numbers of the kernel").map(Secret::new)
}

/// Writes the token to `token-hint-file`, mode 0600, replacing what is there.
pub(crate) fn write_hint(token: &Secret, file: &str) -> Result<()> {
    let written = replace_atomic(Path::new(file), 0o600, token.reveal().as_bytes());
    written.map_err(|e| e.context("common.token-hint-file"))
}

impl Api {
    /// The protocol in use for the token of `request`; `None` if it has none of this agent's.
    pub(super) fn wire_of(&self, request: &Request) -> Option<Wire> {
        let is_right = has_token(&self.token, &self.config.common.token_http_header, request);
        let wire = match self.config.orchestrator.protocol {
            Protocol::Classic => Wire::Classic,
            _ => Wire::V2,
        };
        is_right.then_some(wire)
    }
}

/// As the Go agent does it: the configured header if it has a value, else the query parameter; a wrong header is not rescued by a right
/// parameter.
fn has_token(token: &Secret, header: &str, request: &Request) -> bool {
    let given = request.header(header).filter(|v| !v.is_empty());
    let given = given.map(str::to_string);
    let given = given.or_else(|| path::parameter(&request.query, "token"));
    same(&given.unwrap_or_default(), token.reveal())
}

/// True if the request has exactly these credentials.
pub(super) fn has_credentials(basic: &Basic, request: &Request) -> bool {
    let given = request.header("Authorization").unwrap_or_default();
    same(given, basic.reveal())
}

/// Compares in a time that does not depend on where the difference is; only the length shows.
fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut different = u8::from(a.len() != b.len());
    for (i, x) in a.iter().enumerate() {
        different |= x ^ b.get(i).copied().unwrap_or(0);
    }
    std::hint::black_box(different) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Access;

    fn request(query: &str, header: Option<&str>) -> Request {
        let headers = header.map(|v| ("X-Token".to_string(), v.to_string()));
        let target = format!("/api/x?{query}");
        Request::new("GET", &target, headers.into_iter().collect(), Access::All)
    }

    #[test]
    fn header_first_then_query_and_no_rescue() {
        let t = Secret::new("abc");
        assert!(has_token(&t, "", &request("token=abc", None)));
        assert!(
            has_token(&t, "", &request("token=abc", Some("wrong"))),
            "no header is configured"
        );
        assert!(has_token(&t, "x-token", &request("", Some("abc"))));
        assert!(has_token(&t, "X-Token", &request("token=abc", Some(""))));
        assert!(!has_token(
            &t,
            "X-Token",
            &request("token=abc", Some("wrong"))
        ));
        for q in [
            "",
            "token=",
            "token=ab",
            "token=abcd",
            "Token=abc",
            "lv=abc",
        ] {
            assert!(!has_token(&t, "", &request(q, None)), "{q}");
        }
        assert_eq!(format!("{t:?}"), "(set)");
        assert_eq!(new_token().unwrap().reveal().len(), 64);
    }

    #[test]
    fn the_hint_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let file = std::env::temp_dir().join(format!("oa-hint-{}", std::process::id()));
        std::fs::write(&file, "old and long, and readable by all").unwrap();
        let t = Secret::new("abc");
        write_hint(&t, file.to_str().unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "abc");
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        std::fs::remove_file(&file).unwrap();
        assert!(
            write_hint(&t, "/no/dir/hint")
                .unwrap_err()
                .to_string()
                .contains("token-hint-file")
        );
    }
}
