//! Seeds that end before their time: aborted, forgotten by the server, cut by the end of an agent; and what is shown of a copy that
//! does not move.

use crate::support::classic::hosts::{Family, Hosts, SOURCE, Setup, TARGET};
use crate::support::classic::seed::{Seed, State};
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::writer::Writer;
use crate::support::{processes_with, wait_for};
use std::process::Command;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);
const POST_COPY: &str = "Executing post-copy command";

/// A copy that takes some seconds, and agents that give up soon.
fn slow() -> Setup {
    Setup::by("Xtrabackup")
        .on_both("common", "seed-orphan-timeout = \"12s\"")
        .on_both("common", "seed-idle-timeout = \"5s\"")
        .on_source("common", "seed-rate-limit = 4000000")
}

fn slow_start_command(target_db: &crate::support::mariadb::Mariadb) -> String {
    format!("sleep 6; {}", target_db.service("start"))
}

/// A target whose MySQL takes some seconds to start.
fn slow_start(setup: Setup, target_db: &crate::support::mariadb::Mariadb) -> Setup {
    let start = slow_start_command(target_db);
    setup.on_target("mysql", format!("service-start-command = {start:?}"))
}

fn assert_never_a_success(seed: &Seed) {
    let states = seed.states();
    assert!(states.iter().all(|s| s.action != "Done"), "{states:#?}");
    assert!(
        refused(seed, "post-copy/?sourceHost=127.0.0.1"),
        "post-copy"
    );
}

/// The target answers with a reason.
fn refused(seed: &Seed, command: &str) -> bool {
    let answer = seed.orchestrator.call(TARGET, command);
    answer.is_err_and(|e| e.contains("agent-error:"))
}

#[test]
fn an_abort_in_the_copy() {
    let hosts = Hosts::<MariadbKind>::start(&slow());
    hosts.old_data("abort");
    let seed = hosts.seed(1);
    hosts.wait_flow(&seed);
    seed.abort();
    let failed = seed.must_fail();
    println!("{}: {}", failed.action, failed.reason());
    assert!(seed.completed() && !seed.succeeded(), "for ever");
    assert_never_a_success(&seed);
    hosts.assert_released("abort in the copy");
    assert!(seed.completed() && !seed.succeeded(), "for ever");
    hosts.wait_old_data("abort");
    // Another id is another seed.
    hosts.old_data("again");
    hosts.seed(2).must_succeed();
    hosts.assert_copied();
    assert!(
        seed.completed() && !seed.succeeded(),
        "also after another seed"
    );
}

/// The server waits for the answer of post-copy when the abort comes.
#[test]
fn an_abort_in_post_copy() {
    let servers = crate::support::pair::servers::<MariadbKind>("", "");
    let setup = slow_start(slow(), &servers.1);
    let hosts = Hosts::<MariadbKind>::between(&setup, servers);
    hosts.old_data("abort");
    let seed = hosts.seed(1);
    seed.wait_action(POST_COPY, SOON);
    std::thread::sleep(Duration::from_secs(2)); // in the swap, or in the start after it
    assert!(!seed.is_over(), "{:#?}", seed.states());
    seed.abort();
    let failed = seed.must_fail();
    assert!(failed.action.starts_with(POST_COPY), "{failed:?}");
    assert!(failed.reason().contains("abort"), "{failed:?}");
    assert!(seed.completed() && !seed.succeeded(), "for ever");
    assert_never_a_success(&seed);
    hosts.assert_released("abort in post-copy");
    hosts.assert_old_data_after_abort("abort");
}

/// The head of the answer is on its way after 40 s, and only the end of its body can tell.
#[test]
fn an_abort_after_the_head_of_the_answer_to_post_copy() {
    let servers = crate::support::pair::servers::<MariadbKind>("", "");
    let slow_start = servers.1.dir.with_extension("slow-start");
    std::fs::write(&slow_start, "").expect("flag");
    let start = format!(
        "if test -e '{}'; then sleep 120; fi; {}",
        slow_start.display(),
        servers.1.service("start")
    );
    let setup = slow().on_target("mysql", format!("service-start-command = {start:?}"));
    let hosts = Hosts::<MariadbKind>::between(&setup, servers);
    hosts.old_data("abort");
    let seed = hosts.seed(1);
    seed.wait_action(POST_COPY, SOON);
    std::thread::sleep(Duration::from_secs(43));
    assert!(!seed.is_over(), "{:#?}", seed.states());
    std::fs::remove_file(&slow_start).expect("flag");
    seed.abort();
    let failed = seed.must_fail();
    assert!(failed.action.starts_with(POST_COPY), "{failed:?}");
    assert_eq!(failed.error, "unexpected EOF");
    assert_never_a_success(&seed);
    hosts.assert_released("abort after the head");
    hosts.assert_old_data_after_abort("abort");
}

/// The private server into which the clone goes is killed.
#[test]
fn a_clone_that_is_cut() {
    let setup = Setup::by("ClonePlugin")
        .on_both("common", "seed-orphan-timeout = \"20s\"")
        .on_target("clone_plugin", "clone-max-network-bandwidth = 5");
    let hosts = Hosts::<MysqldKind>::start(&setup);
    hosts.old_data("cut");
    let seed = hosts.seed(1);
    wait_for("the source serves the CLONE", SOON, || {
        let sessions = hosts.source_db.connections_of("agent");
        sessions.iter().any(|s| s.contains(" clone ")).then_some(())
    });
    std::thread::sleep(Duration::from_secs(4)); // some of its pieces are here
    let datadir = hosts.target_db.datadir().display().to_string();
    signal(hosts.wait_tool(["/.orchestrator-agent", &datadir]), "-KILL");
    let failed = seed.must_fail();
    println!("{}: {}", failed.action, failed.reason());
    assert!(failed.action.starts_with(POST_COPY), "{failed:?}");
    assert_never_a_success(&seed);
    hosts.assert_released("a clone that is cut");
    hosts.assert_old_data("cut");
}

/// The server does not prevent it: the target does, and the first seed goes on.
#[test]
fn a_second_seed_on_the_same_target() {
    let hosts = Hosts::<MariadbKind>::start(&slow());
    hosts.old_data("first");
    let writer = Writer::start(&hosts.source_db);
    let first = hosts.seed(1);
    hosts.wait_flow(&first);
    let second = hosts.new_seed(2);
    second.run(|_| {});
    let text = second.must_fail().error;
    assert_eq!(
        text,
        "Volume already mounted on source host; please unmount"
    );
    for command in ["delete-mysql-datadir", "receive-mysql-seed-data/2"] {
        assert!(refused(&second, command), "{command}");
    }
    assert!(second.completed() && !second.succeeded(), "at once");
    first.must_succeed();
    writer.write_more();
    writer.stop_and_prove(&hosts.target_db);
    hosts.assert_released("a second seed");
}

/// Which agent is killed, and when.
enum Killed {
    SourceCopies,
    TargetCopies,
    TargetSwaps,
}

/// The agent is started again at once; the seed fails with a reason, and the old data serve.
fn restart(killed: &Killed) -> State {
    let servers = crate::support::pair::servers::<MariadbKind>("", "");
    let setup = match killed {
        Killed::TargetSwaps => slow_start(Setup::by("Xtrabackup"), &servers.1),
        _ => slow(),
    };
    let mut hosts = Hosts::<MariadbKind>::between(&setup, servers);
    hosts.old_data("restart");
    let start = slow_start_command(&hosts.target_db);
    let seed = hosts.seed(1);
    if matches!(killed, Killed::TargetSwaps) {
        seed.wait_action(POST_COPY, SOON);
        let starts = || (!processes_with(&start).is_empty()).then_some(());
        wait_for("MySQL is being started", Duration::from_secs(30), starts);
    } else {
        hosts.wait_flow(&seed);
    }
    let (agent, host) = match killed {
        Killed::SourceCopies => (&mut hosts.source, SOURCE),
        _ => (&mut hosts.target, TARGET),
    };
    agent.kill();
    agent.launch();
    agent.wait_ready_for(Duration::from_secs(120));
    hosts.wait_registered(host, 2);
    let left = processes_with(&start);
    assert!(left.is_empty(), "MySQL would be started later: {left:?}");
    let failed = seed.must_fail();
    println!("{}: {}", failed.action, failed.reason());
    assert_never_a_success(&seed);
    hosts.assert_released("restart");
    hosts.assert_old_data("restart");
    failed
}

#[test]
fn a_restart_of_the_sources_agent_in_the_copy() {
    let failed = restart(&Killed::SourceCopies);
    assert!(failed.action.starts_with(POST_COPY), "{failed:?}");
    assert!(failed.reason().contains("source"), "{failed:?}");
}

#[test]
fn a_restart_of_the_targets_agent_in_the_copy() {
    let failed = restart(&Killed::TargetCopies);
    assert!(failed.action.starts_with(POST_COPY), "{failed:?}");
    assert!(failed.reason().contains("restart"), "{failed:?}");
}

#[test]
fn a_restart_of_the_targets_agent_in_post_copy() {
    let failed = restart(&Killed::TargetSwaps);
    assert!(failed.action.starts_with(POST_COPY), "{failed:?}");
}

/// The server ends in the copy, which goes on to its end, or before post-copy.
#[test]
fn a_seed_that_the_server_has_forgotten() {
    let hosts = Hosts::<MariadbKind>::start(&slow());
    hosts.old_data("in the copy");
    let seed = hosts.seed(1);
    hosts.wait_flow(&seed);
    seed.forget();
    hosts.assert_released("forgotten in the copy");
    hosts.assert_old_data("in the copy");
    assert_never_a_success(&seed);

    hosts.old_data("at the end");
    let seed = hosts.new_seed(2);
    seed.run(|action| {
        if action.starts_with(POST_COPY) {
            seed.forget();
        }
    });
    seed.wait_action(POST_COPY, SOON);
    hosts.assert_released("forgotten before post-copy");
    hosts.assert_old_data("at the end");
    assert_never_a_success(&seed);
}

/// A mount from the agent's page that no seed uses is released too.
#[test]
fn a_mount_that_no_seed_uses() {
    let hosts = Hosts::<MariadbKind>::start(&slow());
    let page = hosts.page(SOURCE);
    let command = format!("mountlv?lv={}", page.paths()[0]);
    hosts.orchestrator.call(SOURCE, &command).expect("mounted");
    let page = hosts.page(SOURCE);
    assert!(page.is_mounted() && page.size() > 0, "{:?}", page.mount);
    assert_eq!(page.mount["LVPath"], page.volumes[0]["Path"]);
    hosts.assert_released("a mount without a seed");
}

fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(sent.expect("kill").success(), "kill {signal} {pid}");
}

/// mysql-du is what the server takes for progress.
fn du_moves<K: Family>(hosts: &Hosts<K>, tool: impl Fn() -> u32) {
    hosts.old_data("mine");
    let seed = hosts.seed(1);
    hosts.wait_flow(&seed);
    let used = || hosts.page(TARGET).mysql_disk_usage;
    let first = used();
    wait_for("mysql-du changes", Duration::from_secs(30), || {
        assert!(!seed.is_over(), "{:#?}", seed.states());
        (used() != first).then_some(())
    });
    let pid = tool();
    signal(pid, "-STOP");
    // An answer may have a size of half a minute ago.
    let begin = Instant::now();
    let (mut value, mut since) = (used(), Instant::now());
    while since.elapsed() < Duration::from_secs(15) {
        std::thread::sleep(Duration::from_millis(500));
        let now = used();
        if now != value {
            (value, since) = (now, Instant::now());
        }
        let limit = Duration::from_secs(55);
        assert!(begin.elapsed() < limit, "mysql-du still changes: {now}");
    }
    signal(pid, "-CONT");
    assert!(!seed.is_over(), "{:#?}", seed.states());
    seed.must_succeed();
    hosts.assert_copied();
}

#[test]
fn du_follows_a_physical_copy() {
    let setup = Setup::by("Xtrabackup").on_source("common", "seed-rate-limit = 3000000");
    let hosts = Hosts::<MariadbKind>::start(&setup);
    let state = hosts.source.dir.join("state").display().to_string();
    du_moves(&hosts, || hosts.wait_tool(["--stream=xbstream", &state]));
}

/// The private server stops in the middle of a load that takes some seconds: before and after it the agent's queries have deadlines.
#[test]
fn du_follows_a_load() {
    let hosts = Hosts::<MysqldKind>::start(&Setup::by("Mysqldump"));
    for _ in 0..6 {
        hosts
            .source_db
            .sql("INSERT INTO shop.items SELECT * FROM shop.items");
    }
    du_moves(&hosts, || hosts.wait_load());
}

/// MariaDB keeps the dump thread of a replica that has left until it has written to it twice, and that is not a replica.
#[test]
fn a_replica_that_has_left_keeps_no_target() {
    let hosts = Hosts::<MariadbKind>::start(&Setup::by("Mysqldump"));
    let threads = || hosts.target_db.connections_of("repl").len();
    let mut replica = hosts.replica_of_target();
    replica.kill().expect("kill");
    replica.wait().expect("end");
    hosts.target_db.sql("CREATE DATABASE written");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(threads(), 1, "the thread of the replica that has left");
    hosts.old_data("left");
    hosts.seed(1).must_succeed();
    hosts.assert_copied();
}
