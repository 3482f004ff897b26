//! The token rule.

use crate::support::lone::Lone;
use crate::support::wire::JSON;

const REFUSED: &str = "{\"Code\":\"ERROR\",\"Message\":\"Invalid token\",\"Details\":null}";

/// Every endpoint but those of 2.1.
const GUARDED: [&str; 20] = [
    "/api/get-agent-data",
    "/api/active-seed",
    "/api/seed-stage-state/1/Prepare",
    "/api/get-metadata/1/Mysqldump",
    "/api/mysql-error-log-tail",
    "/api/mountlv?lv=x",
    "/api/removelv?lv=x",
    "/api/umount",
    "/api/create-snapshot",
    "/api/mysql-stop",
    "/api/mysql-start",
    "/api/custom-commands/hello",
    "/api/post-seed-cmd/1",
    "/api/prepare/1/Mysqldump/Target",
    "/api/backup/1/Mysqldump/db8/3306",
    "/api/restore/1/Mysqldump",
    "/api/cleanup/1/Mysqldump/Target",
    "/api/abort-seed-stage/1/Prepare",
    "/api/mysql-binlog-contents?binlog=x",
    "/api/mysql-relay-log-files",
];

#[test]
fn nothing_happens_without_the_token() {
    let mut agent = Lone::new();
    let mark = agent.dir.join("mark");
    let touch = format!("{:?}", format!("touch '{}'", mark.display()));
    agent
        .with("custom-commands.hello", format!("cmd = {touch}"))
        .with("mysql", format!("service-stop-command = {touch}"))
        .with("mysql", format!("service-start-command = {touch}"))
        .with("common", "failed-token-delay = \"0s\""); // many follow
    let agent = agent.start();
    let token = agent.token();
    assert_eq!(token.len(), 64);
    assert!(token.bytes().all(|b| b.is_ascii_hexdigit()), "1.1");
    let wrong = format!(
        "{}{}",
        &token[..63],
        if token.ends_with('0') { '1' } else { '0' }
    );
    for path in GUARDED {
        let joint = if path.contains('?') { '&' } else { '?' };
        agent.get(path).is(500, JSON, REFUSED);
        for query in [
            "token=".to_string(),
            format!("token={wrong}"),
            format!("token={}", &token[..63]),
            format!("token={token}0"),
            format!("Token={token}"),
            format!("lv={token}"),
            format!("token={wrong}&token={token}"),
            format!("token={}", token.to_uppercase()),
        ] {
            agent
                .get(&format!("{path}{joint}{query}"))
                .is(500, JSON, REFUSED);
        }
        // No header is configured, so none counts.
        for header in ["Token", "X-Agent-Token", "Authorization"] {
            agent
                .ask("GET", path, &[(header, &token)])
                .is(500, JSON, REFUSED);
        }
    }
    assert!(!mark.exists(), "no command ran");
    agent.get(&format!("/api/active-seed?token={token}")).is(
        200,
        JSON,
        &agent.call("/api/active-seed").body,
    );
    agent.call("/api/custom-commands/hello").is(
        200,
        JSON,
        "{\"Code\":\"OK\",\"Message\":\"\",\"Details\":null}",
    );
    assert!(mark.exists());
}

#[test]
fn a_wrong_header_is_not_rescued_by_a_right_query() {
    let mut agent = Lone::new();
    agent.with("common", "token-http-header = \"X-Agent-Token\"");
    let agent = agent.start();
    let token = agent.token();
    let with = format!("/api/active-seed?token={token}");
    let without = "/api/active-seed";
    let status = |path: &str, headers: &[(&str, &str)]| agent.ask("GET", path, headers).status;
    assert_eq!(status(without, &[("X-Agent-Token", &token)]), 200);
    assert_eq!(status(without, &[("x-agent-TOKEN", &token)]), 200);
    assert_eq!(
        status("/api/active-seed?token=wrong", &[("X-Agent-Token", &token)]),
        200,
        "the header counts"
    );
    assert_eq!(status(&with, &[]), 200);
    assert_eq!(
        status(&with, &[("X-Agent-Token", "")]),
        200,
        "an empty header is none"
    );
    assert_eq!(status(&with, &[("X-Other", "wrong")]), 200);
    assert_eq!(status(&with, &[("X-Agent-Token", "wrong")]), 500);
    agent
        .ask("GET", &with, &[("X-Agent-Token", "wrong")])
        .is(500, JSON, REFUSED);
    agent.get(without).is(500, JSON, REFUSED);
}

/// `get-agent-info` has no token, unless a setting for old tools adds it. Each start has its own token.
#[test]
fn the_token_is_given_away_only_on_demand() {
    let mut agent = Lone::new();
    agent.with("common", "expose-token-in-agent-info = true");
    let mut agent = agent.start();
    let first = agent.token();
    let port = agent.port;
    let info = |token: &str| {
        format!(
            "{{\"Hostname\":\"db7.test\",\"Port\":{port},\"Token\":\"{token}\",\"MySQLPort\":1}}"
        )
    };
    agent
        .get("/api/get-agent-info")
        .is(200, JSON, &info(&first));
    let hidden = info("");
    std::process::Command::new("kill")
        .arg(agent.pid().to_string())
        .status()
        .expect("kill");
    crate::support::wait_for("the agent ends", std::time::Duration::from_secs(15), || {
        agent.alive()
    });
    agent.without("common", "expose-token-in-agent-info");
    let agent = agent.start();
    assert_ne!(agent.token(), first);
    agent.get("/api/get-agent-info").is(200, JSON, &hidden);
}
