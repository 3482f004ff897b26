//! `regex::bytes` as far as mysql_common 0.37 needs it. Bytes that are not UTF-8 match nothing.

pub use regex_lite::Error;

pub mod bytes {
    use super::Error;
    use std::str::from_utf8;

    #[derive(Debug, Clone)]
    pub struct Regex(regex_lite::Regex);

    impl Regex {
        pub fn new(pattern: &str) -> Result<Self, Error> {
            regex_lite::Regex::new(pattern).map(Self)
        }

        pub fn is_match(&self, haystack: &[u8]) -> bool {
            from_utf8(haystack).is_ok_and(|text| self.0.is_match(text))
        }

        pub fn captures<'h>(&self, haystack: &'h [u8]) -> Option<Captures<'h>> {
            self.0.captures(from_utf8(haystack).ok()?).map(Captures)
        }
    }

    #[derive(Debug)]
    pub struct Captures<'h>(regex_lite::Captures<'h>);

    impl<'h> Captures<'h> {
        pub fn get(&self, group: usize) -> Option<Match<'h>> {
            self.0.get(group).map(Match)
        }
    }

    #[derive(Debug, Clone, Copy)]
    pub struct Match<'h>(regex_lite::Match<'h>);

    impl<'h> Match<'h> {
        pub fn as_bytes(&self) -> &'h [u8] {
            self.0.as_str().as_bytes()
        }
    }
}
