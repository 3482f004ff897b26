//! The seed port of a target is open to everybody who reaches it: whoever is not the source of the seed is turned away, with a
//! reason where it understands one, and the true seed goes through.

use crate::support::agent::{Agent, Changes};
use crate::support::certificates::Certificates;
use crate::support::free_port;
use crate::support::mariadb::{Mariadb, MariadbKind};
use crate::support::player::Player;
use std::io::Write;
use std::net::TcpStream;

struct Hosts {
    source_db: Mariadb,
    target_db: Mariadb,
    port: u16,
}

impl Hosts {
    fn new() -> Self {
        let hosts = Self {
            source_db: Mariadb::start("127.0.0.1", ""),
            target_db: Mariadb::start("127.0.0.2", ""),
            port: free_port("127.0.0.2"),
        };
        hosts.source_db.sql("CREATE DATABASE shop");
        hosts
            .source_db
            .sql("CREATE TABLE shop.t ENGINE=InnoDB AS SELECT seq AS id FROM mysql.seq_1_to_1000");
        hosts
    }

    fn agent(&self, db: &Mariadb, lines: &[(&'static str, String)]) -> Agent {
        let mut changes = Changes {
            lines: lines.to_vec(),
            ..Changes::default()
        };
        let port = format!("seed-port = {}", self.port);
        changes.lines.push(("common", port));
        changes.lines.push(("xtrabackup", "enabled = true".into()));
        Agent::start_with(db, &changes)
    }

    fn player<'a>(&'a self, source: &'a Agent, target: &'a Agent) -> Player<'a, MariadbKind> {
        Player {
            id: 1,
            method: "Xtrabackup",
            target,
            source,
            target_db: &self.target_db,
            source_db: &self.source_db,
        }
    }

    /// `strangers` are agents that may not send to `target`, with a word of what they are told.
    fn turned_away(&self, target: &Agent, source: &Agent, strangers: &[(Agent, &str)]) {
        let player = self.player(source, target);
        player.prepare();
        let dial = || TcpStream::connect(("127.0.0.2", self.port)).expect("the port is open");
        let held: Vec<TcpStream> = (0..40).map(|_| dial()).collect();
        for words in [
            &b"GET / HTTP/1.0\r\n\r\n"[..],
            b"XBSTCK01xxxxxxxx",
            &[0xff; 100_000],
        ] {
            let _ = dial().write_all(words); // it may be closed by then
        }
        for (stranger, why) in strangers {
            let other = self.player(stranger, target);
            Player::start(stranger, "/api/prepare/1/Xtrabackup/Source");
            other.must_complete(stranger, "Prepare");
            let (host, port) = (&self.target_db.host, self.source_db.port);
            Player::start(stranger, &format!("/api/backup/1/Xtrabackup/{host}/{port}"));
            let state = other.poll(stranger, "Backup");
            let text = state["Details"].as_str().expect("Details");
            assert!(
                state["Status"] == "Error" && text.contains(why),
                "{why}: {text}"
            );
            println!("{text}");
        }
        player.backup();
        player.restore();
        player.cleanup();
        drop(held);
        assert_eq!(self.target_db.value("SELECT COUNT(*) FROM shop.t"), "1000");
    }
}

#[test]
fn who_does_not_know_the_secret() {
    let hosts = Hosts::new();
    let secret = |s: &str| vec![("common", format!("seed-secret = {s:?}"))];
    let target = hosts.agent(&hosts.target_db, &secret("right"));
    let source = hosts.agent(&hosts.source_db, &secret("right"));
    let strangers = [
        (
            hosts.agent(&hosts.source_db, &secret("wrong")),
            "seed-secret is not the same",
        ),
        (hosts.agent(&hosts.source_db, &[]), "seed-secret"),
    ];
    hosts.turned_away(&target, &source, &strangers);
}

#[test]
fn who_has_no_certificate_of_ours() {
    let hosts = Hosts::new();
    let made = Certificates::make("seed-port");
    let file = |name: &str| made.0.join(name).display().to_string();
    let tls = |certificate: &str, ca: &str| {
        vec![
            ("xtrabackup", "socat-use-ssl = true".into()),
            (
                "xtrabackup",
                format!("socat-ssl-cert-file = {:?}", file(certificate)),
            ),
            ("xtrabackup", format!("socat-ssl-ca-file = {:?}", file(ca))),
        ]
    };
    let target = hosts.agent(&hosts.target_db, &tls("a.pem", "ca.pem"));
    let source = hosts.agent(&hosts.source_db, &tls("b.pem", "ca.pem"));
    let strangers = [
        (
            hosts.agent(&hosts.source_db, &tls("own.pem", "ca.pem")),
            "TLS",
        ),
        (
            hosts.agent(&hosts.source_db, &tls("old.pem", "ca.pem")),
            "TLS",
        ),
        (
            hosts.agent(&hosts.source_db, &tls("b.pem", "own.pem")),
            "TLS",
        ),
        (hosts.agent(&hosts.source_db, &[]), "socat-use-ssl"),
    ];
    hosts.turned_away(&target, &source, &strangers);
}
