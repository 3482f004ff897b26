//! The token, which all but the status and information endpoints require, and Basic credentials.

use super::path;
use crate::config::Secret;
use crate::error::Result;
use crate::http::Request;
use crate::protocol::http_client::Basic;
use crate::sys::file::replace_atomic;
use std::path::Path;

/// Writes the token to `token-hint-file`, mode 0600, replacing what is there.
pub(crate) fn write_hint(token: &Secret, file: &str) -> Result<()> {
    let written = replace_atomic(Path::new(file), 0o600, token.reveal().as_bytes());
    written.map_err(|e| e.context("common.token-hint-file"))
}

/// The token of a request, empty if it has none. As the Go agent does it: the configured header if it has a value, else the query
/// parameter; a wrong header is not rescued by a right parameter.
pub(super) fn token(header: &str, request: &Request) -> String {
    let given = request.header(header).filter(|v| !v.is_empty());
    let given = given.map(str::to_string);
    let given = given.or_else(|| path::parameter(&request.query, "token"));
    given.unwrap_or_default()
}

/// True if the request has exactly these credentials.
pub(super) fn has_credentials(basic: &Basic, request: &Request) -> bool {
    let given = request.header("Authorization").unwrap_or_default();
    basic.matches(given)
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
        let has_token =
            |t: &Secret, header: &str, request: &Request| t.matches(&token(header, request));
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
