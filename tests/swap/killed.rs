//! An agent that is killed in a swap: at its next start the old data are back and serve. Every step is proven on plain
//! directories in the unit tests; here are those that matter to a real server.

use crate::rig::{Family, Rig, source};
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use orchestrator_agent::seed::datadir::journal::NAME;

/// Steps before which the agent is killed, and whether the guard is up then.
const STEPS: [(&str, bool); 7] = [
    ("stop MySQL", false),
    ("guard", false),
    ("rename mysql to", true),
    ("journal In", true),
    ("exchange the guard", true),
    ("start MySQL", false),
    ("journal Done", false),
];

fn killed<K: Family>() {
    let source = source::<K>("");
    let rig = Rig::<K>::new("", "", "");
    let facts = rig.inspect().expect("fit");
    let staged = rig.stage(&facts, &source.datadir());
    let proven = rig.prove(&facts, &staged);
    for (step, guarded) in STEPS {
        rig.killed_at(&facts, &proven, step);
        let refused = rig
            .refused()
            .unwrap_or_else(|| panic!("{step}: MySQL may be started"));
        assert!(refused.contains("seed 7"), "{refused}");
        if guarded {
            let started = rig.stranger().status().expect("sh");
            assert!(
                !started.success(),
                "{step}: a server starts on half of the data"
            );
        }
        // Once the state directory is lost with the agent: the copy of the journal is as good.
        if step == "journal In" {
            std::fs::remove_dir_all(rig.dir.join("state")).expect("state");
            std::fs::create_dir(rig.dir.join("state")).expect("state");
            assert!(
                rig.journals
                    .rescue(std::slice::from_ref(&facts.staging))
                    .expect("rescued")
            );
        }
        let text = rig.recover();
        assert!(
            text.contains("rolled back") && text.contains("MySQL is started"),
            "{text}"
        );
        rig.assert_old();
        assert!(!rig.dir.join("state").join(NAME).exists() && !staged.dir.join(NAME).exists());
    }
    // A server that was down stays down.
    rig.down();
    rig.killed_at(&facts, &proven, "journal Entered");
    let text = rig.recover();
    assert!(text.contains("MySQL was down before"), "{text}");
    assert!(std::net::TcpStream::connect((rig.db.host.as_str(), rig.db.port)).is_err());
    rig.db.up();
    rig.assert_old();
    rig.swap(&facts, &proven, &rig.host()).expect("swapped");
    rig.assert_new();
}

#[test]
fn mariadb() {
    killed::<MariadbKind>();
}

#[test]
fn mysql() {
    killed::<MysqldKind>();
}
