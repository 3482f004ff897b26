use super::*;
use crate::protocol::wire::Progress;
use crate::seed::Status;
use std::time::Duration;

fn client(port: u16, access: Access) -> AgentClient {
    let limits = Limits {
        connect: Duration::from_secs(5),
        total: Duration::from_secs(60),
    };
    let transport = AgentTransport::default();
    AgentClient::new(
        "source agent",
        ("127.0.0.1", Some(port)),
        access,
        &transport,
        limits,
    )
}

fn with_token(port: u16, token: &str) -> AgentClient {
    let r = AgentInfo {
        hostname: "db1".into(),
        port,
        token: Secret::new(token),
        mysql_port: 3307,
    };
    client(port, Access::Registered(Arc::new(Mutex::new(Some(r)))))
}

/// Answers each request by `answer(url)`, and returns the port.
fn server(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> u16 {
    let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
    let port = server.server_addr().to_ip().unwrap().port();
    std::thread::spawn(move || {
        for request in server.incoming_requests() {
            let (status, body) = answer(request.url());
            request
                .respond(tiny_http::Response::from_string(body).with_status_code(status))
                .unwrap();
        }
    });
    port
}

#[test]
fn envelopes_are_decoded() {
    let text = |status, body: &str| decode(status, body.into()).unwrap_err();
    let e = text(
        500,
        r#"{"Code":"ERROR","Message":"SeedID 6 not found","Details":null}"#,
    );
    assert_eq!(
        (e.is_permanent(), e.to_string().as_str()),
        (true, "SeedID 6 not found")
    );
    assert_eq!(
        text(500, r#"{"Code":"ERROR","Message":"a","Details":"b"}"#).to_string(),
        "a (b)"
    );
    assert!(
        text(
            500,
            r#"{"Code":"ERROR","Message":"Invalid token","Details":null}"#
        )
        .is_transient()
    );
    assert_eq!(
        text(500, "500 Internal Server Error").to_string(),
        "status 500: 500 Internal Server Error"
    );
    assert_eq!(
        text(401, "Not Authorized\n").to_string(),
        "status 401: Not Authorized"
    );
    assert_eq!(text(302, "").to_string(), "status 302: ");
    assert_eq!(decode(202, "Started".into()).unwrap(), "Started");
}

#[test]
fn the_token_goes_as_a_parameter_and_never_into_an_error() {
    let port = server(|url| match url {
        "/api/get-agent-info?token=se%2Fcret" => (
            200,
            r#"{"Hostname":"db1","Port":1,"Token":"","MySQLPort":3399}"#.into(),
        ),
        url => (
            500,
            format!(r#"{{"Code":"ERROR","Message":"not {url} se/cret","Details":null}}"#),
        ),
    });
    let agent = with_token(port, "se/cret");
    assert_eq!(
        agent
            .json::<AgentInfo>("get-agent-info")
            .unwrap()
            .mysql_port,
        3399
    );
    assert_eq!(agent.mysql_port().unwrap(), 3307, "by the registration");
    let e = agent.call("restore/1/Mysqldump").unwrap_err().to_string();
    assert_eq!(
        e,
        format!(
            "source agent 127.0.0.1:{port} restore: not /api/restore/1/Mysqldump?token=(token) (token)"
        )
    );
    assert!(!format!("{agent:?}").contains("cret"));
}

#[test]
fn no_answer_is_transient_and_does_not_show_the_token() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let e = with_token(free, "secret").data().unwrap_err();
    assert!(e.is_transient());
    assert!(
        e.to_string().contains(&format!("127.0.0.1:{free}")) && !e.to_string().contains("secret"),
        "{e}"
    );
}

#[test]
fn a_redirection_is_not_followed() {
    let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
    let port = server.server_addr().to_ip().unwrap().port();
    let asked = std::thread::spawn(move || {
        let elsewhere =
            tiny_http::Header::from_bytes("Location", format!("http://127.0.0.1:{port}/elsewhere"))
                .unwrap();
        server
            .recv()
            .unwrap()
            .respond(tiny_http::Response::empty(302).with_header(elsewhere))
            .unwrap();
        server
            .recv_timeout(Duration::from_millis(200))
            .unwrap()
            .map(|r| r.url().to_string())
    });
    let e = with_token(port, "secret").data().unwrap_err().to_string();
    assert!(e.contains("status 302"), "{e}");
    assert_eq!(asked.join().unwrap(), None);
}

#[test]
fn a_token_file_is_read_for_each_call() {
    let port = server(|url| (200, format!("{:?}", url.split('=').nth(1).unwrap())));
    let path = std::env::temp_dir().join(format!("oa-agent-token-{}", std::process::id()));
    let access = Access::File {
        setting: "--target-token-file".into(),
        path: path.clone(),
    };
    let agent = client(port, access);
    assert!(
        agent
            .call("x")
            .unwrap_err()
            .to_string()
            .contains("--target-token-file")
    );
    for token in ["one", "two"] {
        std::fs::write(&path, format!("{token}\n")).unwrap();
        assert_eq!(agent.call("x").unwrap(), format!("\"{token}\""));
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn answers_of_go_agents_and_ours_are_understood() {
    let data: AgentData = serde_json::from_str(
        r#"{"LogicalVolumes":[],"BackupDir":"/b","BackupDirDiskFree":5,"MySQLRunning":true,"MySQLDatadirDiskUsed":7,
            "MySQLDatadirDiskFree":9,"MySQLDatabases":{"shop":{"Engines":["InnoDB"],"Size":1},"empty":{"Engines":null,"Size":0}},
            "AvailiableSeedMethods":{"Mysqldump":{"BackupSide":"Target","SupportedEngines":["InnoDB"],"BackupToDatadir":false}},
            "AgentCommands":null}"#,
    )
    .unwrap();
    assert_eq!(
        (
            data.backup_dir_disk_free,
            data.datadir_used,
            data.datadir_free
        ),
        (5, 7, 9)
    );
    assert_eq!(data.methods["Mysqldump"].supported_engines, ["InnoDB"]);
    assert!(data.databases["empty"].engines.is_none() && data.unavailable.is_empty());
    let state = |text| serde_json::from_str::<StageState>(text).unwrap();
    let s = state(
        r#"{"SeedID":5,"Stage":"Backup","Hostname":"h","Timestamp":"x","Status":"Running","Details":"d"}"#,
    );
    assert_eq!(
        (s.status, s.details.as_str(), s.progress),
        (Status::Running, "d", None)
    );
    let s = state(
        r#"{"SeedID":5,"Stage":"Backup","Status":"Completed","Details":"","Progress":{"Bytes":4,"Total":0}}"#,
    );
    assert_eq!(s.progress, Some(Progress { bytes: 4, total: 0 }));
    assert!(
        serde_json::from_str::<StageState>(
            r#"{"SeedID":5,"Stage":"Backup","Status":"Scheduled","Details":""}"#
        )
        .is_err()
    );
}

#[test]
fn coordinates_without_file_or_position_are_an_error() {
    let port = server(|url| {
        let file = if url.contains("/1/") {
            ""
        } else {
            "binlog.000002"
        };
        (
            200,
            format!(
                r#"{{"LogFile":"{file}","LogPos":314,"GtidExecuted":"","GtidSlavePos":"0-1-22"}}"#
            ),
        )
    });
    let agent = with_token(port, "t");
    assert!(
        agent
            .metadata(1, Method::Mysqldump)
            .unwrap_err()
            .to_string()
            .contains("coordinates")
    );
    let m = agent.metadata(2, Method::Mysqldump).unwrap();
    assert_eq!(
        (m.log_file.as_str(), m.log_pos, m.gtid_slave_pos.as_deref()),
        ("binlog.000002", 314, Some("0-1-22"))
    );
}
