//! HTTP by hand, so that status, headers and body are seen exactly as they are sent.
#![allow(dead_code)]

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub const JSON: &str = "application/json; charset=UTF-8";
pub const TEXT: &str = "text/plain; charset=UTF-8";

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map_or("", |(_, v)| v)
    }

    /// Status, Content-Type and body at once.
    pub fn is(&self, status: u16, content_type: &str, body: &str) {
        let got = (self.status, self.header("Content-Type"), self.body.as_str());
        assert_eq!(got, (status, content_type, body));
    }

    /// The error envelope, byte for byte but for Message, which is given back.
    pub fn message(&self) -> String {
        assert_eq!(
            (self.status, self.header("Content-Type")),
            (500, JSON),
            "{self:?}"
        );
        let v: serde_json::Value = serde_json::from_str(&self.body).expect("JSON");
        assert_eq!(keys(&self.body), ["Code", "Message", "Details"]);
        assert!(
            self.body.starts_with("{\"Code\":\"ERROR\",\"Message\":\"")
                && self.body.ends_with("\",\"Details\":null}"),
            "{}",
            self.body
        );
        v["Message"].as_str().expect("Message").to_string()
    }
}

/// Sends bytes as they are and reads until the other end closes. `None`: it closed without a status line.
pub fn raw(address: &str, port: u16, bytes: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect((address, port)).expect("the agent accepts");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("timeout");
    let _ = stream.write_all(bytes); // the agent may refuse before it has read all
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got); // a reset after the answer is an end as well
    parse(&got)
}

fn parse(got: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(got);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()?
        .strip_prefix("HTTP/1.")?
        .get(2..5)?
        .parse()
        .ok()?;
    let headers = lines
        .filter_map(|l| l.split_once(": "))
        .map(|(n, v)| (n.to_string(), v.to_string()));
    Some(Answer {
        status,
        headers: headers.collect(),
        body: body.to_string(),
    })
}

/// One request on a connection of its own.
pub fn ask(
    address: &str,
    port: u16,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let mut head =
        format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    raw(address, port, format!("{head}\r\n").as_bytes())
        .unwrap_or_else(|| panic!("no answer to {method} {target}"))
}

/// Keys of a JSON object in the order in which they were sent.
pub fn keys(json: &str) -> Vec<String> {
    struct Keys(Vec<String>);
    impl<'de> Deserialize<'de> for Keys {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            struct Look;
            impl<'de> Visitor<'de> for Look {
                type Value = Keys;
                fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                    let mut all = Vec::new();
                    while let Some((key, IgnoredAny)) = map.next_entry()? {
                        all.push(key);
                    }
                    Ok(Keys(all))
                }
            }
            d.deserialize_map(Look)
        }
    }
    serde_json::from_str::<Keys>(json)
        .unwrap_or_else(|e| panic!("{e}: {json}"))
        .0
}

/// RFC 3339 as orchestrator's Go decoder takes it: `2026-11-20T21:30:52.846295548Z` or with an offset.
pub fn is_rfc3339(text: &str) -> bool {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    let Some(rest) = shape.strip_prefix("0000-00-00T00:00:00") else {
        return false;
    };
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches('0');
            if !(1..=9).contains(&(fraction.len() - zone.len())) {
                return false;
            }
            zone
        }
        None => rest,
    };
    matches!(zone, "Z" | "+00:00" | "-00:00")
}
