//! The token, which all but the status and information endpoints require, and Basic credentials.

use super::path;
use crate::error::{OnPath, Result};
use crate::http::Request;
use crate::protocol::http_client::Basic;
use crate::sys::file::replace_atomic;
use std::path::Path;

/// The secret of this process. Never logged; `Debug` shows nothing of it.
#[derive(Clone)]
pub(crate) struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// 64 hex digits, new for each process.
    pub(crate) fn generate() -> Result<Self> {
        crate::sys::host::random_hex(32)
            .map(Self)
            .on("random numbers of the kernel")
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Writes it to `token-hint-file`, mode 0600, replacing what is there.
    pub(crate) fn write_hint(&self, file: &str) -> Result<()> {
        replace_atomic(Path::new(file), 0o600, self.0.as_bytes())
            .map_err(|e| e.context("common.token-hint-file"))
    }

    /// As the Go agent does it: the configured header if it has a value, else the query parameter; a wrong header is not rescued by
    /// a right parameter.
    pub(crate) fn allows(&self, header: &str, request: &Request) -> bool {
        let given = request.header(header).filter(|v| !v.is_empty());
        let given = given.map(str::to_string);
        let given = given.or_else(|| path::parameter(&request.query, "token"));
        same(given.unwrap_or_default().as_bytes(), self.0.as_bytes())
    }
}

/// True if the request has exactly these credentials.
pub(crate) fn has_credentials(basic: &Basic, request: &Request) -> bool {
    let given = request.header("Authorization").unwrap_or_default();
    same(given.as_bytes(), basic.reveal().as_bytes())
}

/// Compares in a time that does not depend on where the difference is; only the length shows.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
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
        let t = Token("abc".into());
        assert!(t.allows("", &request("token=abc", None)));
        assert!(
            t.allows("", &request("token=abc", Some("wrong"))),
            "no header is configured"
        );
        assert!(t.allows("x-token", &request("", Some("abc"))));
        assert!(t.allows("X-Token", &request("token=abc", Some(""))));
        assert!(!t.allows("X-Token", &request("token=abc", Some("wrong"))));
        for q in [
            "",
            "token=",
            "token=ab",
            "token=abcd",
            "Token=abc",
            "lv=abc",
        ] {
            assert!(!t.allows("", &request(q, None)), "{q}");
        }
        assert_eq!(format!("{t:?}"), "Token");
        assert_eq!(Token::generate().unwrap().reveal().len(), 64);
    }

    #[test]
    fn the_hint_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let file = std::env::temp_dir().join(format!("oa-hint-{}", std::process::id()));
        std::fs::write(&file, "old and long, and readable by all").unwrap();
        let t = Token("abc".into());
        t.write_hint(file.to_str().unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "abc");
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        std::fs::remove_file(&file).unwrap();
        assert!(
            t.write_hint("/no/dir/hint")
                .unwrap_err()
                .to_string()
                .contains("token-hint-file")
        );
    }
}
