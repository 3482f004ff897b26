//! Basic credentials, and who guesses tokens.

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

/// The default is 0.4 s, for the first wrong token as for the last.
#[test]
fn answers_to_wrong_tokens_are_delayed_and_others_are_not() {
    let delay = Duration::from_millis(400);
    let agent = Lone::new().start();
    let wrong = || {
        let begin = Instant::now();
        let answer = agent.get("/api/get-agent-data?token=guess");
        assert_eq!(answer.message(), "Invalid token");
        let names = answer.headers.iter().map(|(n, _)| n.as_str());
        let names: Vec<&str> = names.collect();
        assert_eq!(
            names,
            [
                "Server",
                "Date",
                "Content-Type",
                "Content-Length",
                "Connection"
            ]
        );
        begin.elapsed()
    };
    for _ in 0..3 {
        let took = wrong();
        assert!(took >= delay, "{took:?}");
    }
    assert_prompt(vec![wrong() - delay]);
    std::thread::scope(|scope| {
        let guessers: Vec<_> = (0..8).map(|_| scope.spawn(wrong)).collect();
        let others = (0..20).map(|_| {
            let begin = Instant::now();
            assert_eq!(agent.call("/api/get-agent-data").status, 200);
            begin.elapsed()
        });
        assert_prompt(others.collect());
        for guesser in guessers {
            assert!(guesser.join().expect("answered") >= delay);
        }
    });
    let log = agent.log();
    assert!(log.contains("failed-token-delay"), "{log}");
}

#[test]
fn the_delay_of_wrong_tokens_can_be_switched_off() {
    let mut agent = Lone::new();
    agent.with("common", "failed-token-delay = \"0s\"");
    let agent = agent.start();
    let shortest = (0..10).map(|_| {
        let begin = Instant::now();
        agent.get("/api/get-agent-data?token=guess").message();
        begin.elapsed()
    });
    let shortest = shortest.min();
    assert!(shortest < Some(Duration::from_millis(100)), "{shortest:?}");
}
