//! An agent that is killed in a swap: at its next start the old data are back and serve. Every step is tested on plain
//! directories in the unit tests; here are those that matter to a real server.

use super::rig::{Family, Rig, SEED, source};
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use orchestrator_agent::datadir::journal::NAME;
use std::path::{Path, PathBuf};

/// Steps before which the agent is killed, and whether the guard is up then.
const STEPS: [(&str, bool); 7] = [
    ("stop MySQL", false),
    ("guard", false),
    ("rename mysql to", true),
    ("journal MovingNewIn", true),
    ("exchange the guard", true),
    ("start MySQL", false),
    ("journal Done", false),
];

fn killed<K: Family>() {
    let source = source::<K>("");
    let rig = Rig::<K>::new("", "", "");
    let info = rig.inspect().expect("fit");
    let staged = rig.stage(&info, &source.datadir());
    let copy = rig.trial_start(&info, &staged);
    for (step, guarded) in STEPS {
        rig.killed_at(&info, &copy, step);
        let refused = rig
            .refused()
            .unwrap_or_else(|| panic!("{step}: MySQL may be started"));
        assert!(refused.contains("seed 7"), "{refused}");
        if guarded {
            let started = rig.start_command().status().expect("sh");
            assert!(
                !started.success(),
                "{step}: a server starts on half of the data"
            );
        }
        // Once the state directory is lost with the agent: the copy of the journal is as good.
        if step == "journal MovingNewIn" {
            std::fs::remove_dir_all(rig.dir.join("state")).expect("state");
            std::fs::create_dir(rig.dir.join("state")).expect("state");
            assert!(
                rig.journals
                    .rescue(std::slice::from_ref(&info.staging))
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
    rig.killed_at(&info, &copy, "journal Committed");
    let text = rig.recover();
    assert!(text.contains("MySQL was down before"), "{text}");
    assert!(std::net::TcpStream::connect((rig.db.host.as_str(), rig.db.port)).is_err());
    rig.db.up();
    rig.assert_old();
    rig.swap(&info, &copy, &rig.host()).expect("swapped");
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

/// What contrib/doc/recovery.md says to do where there is no agent any more.
#[test]
fn by_hand() {
    let source = source::<MariadbKind>("");
    let rig = Rig::<MariadbKind>::new("", "", "");
    let info = rig.inspect().expect("fit");
    for step in ["rename mysql to", "journal Committed", "start MySQL"] {
        let staged = rig.stage(&info, &source.datadir());
        let copy = rig.trial_start(&info, &staged);
        rig.killed_at(&info, &copy, step);
        let marker = rig.dir.join("state").join(NAME);
        let text = std::fs::read(&marker).expect("marker");
        let journal: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(journal["seed"], SEED);
        let text = |v: &serde_json::Value| v.as_str().expect("a text").to_string();
        let d = PathBuf::from(text(&journal["info"]["datadir"]));
        let s = PathBuf::from(text(&journal["info"]["staging"])).join("7");
        let rename = |from: &Path, name: &str, to: &Path| {
            std::fs::rename(from.join(name), to.join(name)).expect(name);
        };
        if ["MovingNewIn", "Committed", "MovingNewOut"].contains(&&text(&journal["phase"])[..]) {
            for name in journal["incoming"]
                .as_array()
                .expect("names")
                .iter()
                .map(text)
            {
                if d.join(&name).exists() {
                    rename(&d, &name, &s.join("new"));
                }
            }
            if d.join("ibdata1").is_file() {
                std::fs::remove_dir(s.join("new/ibdata1")).expect("rmdir");
                rename(&d, "ibdata1", &s.join("new"));
                std::fs::create_dir(d.join("ibdata1")).expect("mkdir");
            }
        }
        for entry in std::fs::read_dir(s.join("old")).expect("old").flatten() {
            let name = entry.file_name().into_string().expect("UTF-8");
            if name != "ibdata1" {
                rename(&s.join("old"), &name, &d);
            }
        }
        std::fs::remove_dir(d.join("ibdata1")).expect("rmdir");
        rename(&s.join("old"), "ibdata1", &d);
        for file in [marker, s.join(NAME)] {
            std::fs::remove_file(file).expect("marker");
        }
        rig.db.up();
        rig.assert_old();
    }
}
