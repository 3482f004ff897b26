//! Basic credentials (agent-api-v2 0.1), and who guesses tokens.

use crate::support::assert_prompt;
use crate::support::lone::Lone;
use crate::support::wire::TEXT;
use std::time::{Duration, Instant};

#[test]
fn basic_credentials_are_asked_for_everywhere() {
    let mut agent = Lone::new();
    agent
        .with("common", "http-auth-user = \"watch:er\"")
        .with("common", "http-auth-password = \"pass w\u{f6}rd\"");
    let agent = agent.start();
    let right = "Basic d2F0Y2g6ZXI6cGFzcyB3w7ZyZA==";
    for path in [
        "/api/get-agent-info",
        "/api/status",
        "/nowhere",
        "/api/get-agent-data",
    ] {
        for wrong in [
            "",
            "Basic",
            "Basic d2F0Y2g6ZXI6cGFzcw==",
            "basic d2F0Y2g6ZXI6cGFzcyB3w7ZyZA==",
            "Bearer x",
            "Basic d2F0Y2g6ZXI6cGFzcyB3w7ZyZA== ",
        ] {
            let headers = [("Authorization", wrong)];
            let headers = if wrong.is_empty() {
                &headers[..0]
            } else {
                &headers
            };
            let answer = agent.ask("GET", path, headers);
            // Blanks at the end are no part of a header's value.
            if wrong.ends_with(' ') {
                assert_ne!(answer.status, 401, "{path}");
                continue;
            }
            answer.is(401, TEXT, "Not Authorized\n");
            assert_eq!(
                answer.header("WWW-Authenticate"),
                "Basic realm=\"Authorization Required\""
            );
        }
        assert_ne!(
            agent.ask("GET", path, &[("Authorization", right)]).status,
            401,
            "{path}"
        );
    }
    let answer = agent.ask("GET", "/api/get-agent-data", &[("Authorization", right)]);
    assert_eq!(
        answer.message(),
        "Invalid token",
        "it does not stand for the token"
    );
    assert!(!agent.log().contains("pass w"), "{}", agent.log());
}

#[test]
fn answers_to_wrong_tokens_come_later_and_later_and_others_at_once() {
    let start = || {
        let mut agent = Lone::new();
        agent.with("common", "max-failed-tokens = 3");
        agent.start()
    };
    let wrong = |agent: &Lone| {
        let begin = Instant::now();
        let answer = agent.get("/api/get-agent-data?token=guess");
        assert_eq!(answer.message(), "Invalid token");
        assert_eq!(answer.header("Gate-Strike"), "", "it stays inside");
        begin.elapsed()
    };
    // A busy machine only adds to the time.
    let at_once = |agent: &Lone| (0..3).all(|_| wrong(agent) < Duration::from_millis(50));
    let agent = (0..10).map(|_| start()).find(at_once);
    let agent = agent.expect("three are free");
    for least in [50, 100, 200] {
        let took = wrong(&agent);
        assert!(took >= Duration::from_millis(least), "{least}: {took:?}");
    }
    std::thread::scope(|scope| {
        let guessers: Vec<_> = (0..8).map(|_| scope.spawn(|| wrong(&agent))).collect();
        let others = (0..20).map(|_| {
            let begin = Instant::now();
            assert_eq!(agent.call("/api/get-agent-data").status, 200);
            begin.elapsed()
        });
        assert_prompt(others.collect());
        let took = guessers
            .into_iter()
            .map(|g| g.join().expect("answered"))
            .max();
        assert!(took >= Some(Duration::from_millis(400)), "{took:?}");
    });
    assert!(agent.log().contains("max-failed-tokens"), "{}", agent.log());
}
