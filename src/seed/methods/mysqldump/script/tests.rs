use super::*;
use std::io::{BufReader, Cursor};

const HEAD: &str = "-- MySQL dump 10.13\n--\n-- Host: h\n\n/*!50503 SET NAMES utf8mb4 */;\n/*!40103 SET TIME_ZONE='+00:00' */;\n\
    /*!50606 SET GLOBAL INNODB_STATS_AUTO_RECALC=OFF */;\n/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, \
    FOREIGN_KEY_CHECKS=0 */;\n/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;\n\
    SET @@GLOBAL.GTID_PURGED='';\n\n";

fn database(name: &str) -> String {
    format!(
        "--\n-- Current Database: `{name}`\n--\n\nCREATE DATABASE `{name}`;\n\nUSE `{name}`;\n\n"
    )
}
fn structure(name: &str) -> String {
    format!(
        "--\n-- Table structure for table `{name}`\n--\n\nDROP TABLE IF EXISTS `{name}`;\nCREATE TABLE `{name}` (\n  `a` int\n);\n\n"
    )
}
fn rows(name: &str, bytes: usize) -> String {
    format!(
        "--\n-- Dumping data for table `{name}`\n--\n\nLOCK TABLES `{name}` WRITE;\nINSERT INTO `{name}` VALUES ('{}');\nUNLOCK TABLES;\n",
        "x".repeat(bytes)
    )
}
const TRIGGER: &str = "/*!50003 SET @saved = 1 */ ;\nDELIMITER ;;\nCREATE TRIGGER g BEGIN\n-- Table structure for table `z`\n\
    LOCK TABLES `z` WRITE;\nUNLOCK TABLES;\nEND ;;\nDELIMITER ;\n";

/// The steps, with the text itself; and that the steps are the whole dump, once and but for triggers in order, without the locks
/// of what goes aside.
fn plan(dump: &str, large: u64) -> Vec<String> {
    let script = scan(
        &mut BufReader::with_capacity(7, Cursor::new(dump)),
        0,
        large,
    )
    .unwrap();
    let text = |r: &Range<u64>| {
        dump[usize::try_from(r.start).unwrap()..usize::try_from(r.end).unwrap()].to_string()
    };
    let mut all: Vec<Range<u64>> = Vec::new();
    let mut out = Vec::new();
    for step in &script.steps {
        if let Step::Text(r) | Step::Rows { range: r, .. } = step {
            all.push(r.clone());
        }
        out.push(match step {
            Step::Text(r) => text(r),
            Step::Rows { range, schema, .. } => format!(
                "ROWS {schema} {}",
                text(range).split("ALUES").next().unwrap()
            ),
            Step::Say(statement) => format!("SAY {statement}"),
            Step::Wait => "WAIT".into(),
        });
    }
    all.sort_by_key(|r| r.start);
    let mut at = 0;
    all.push(dump.len() as u64..dump.len() as u64);
    for r in &all {
        let left_out = text(&(at..r.start));
        let lock = left_out.starts_with("LOCK TABLES `") && left_out.ends_with("` WRITE;\n");
        assert!(
            ["", "UNLOCK TABLES;\n"].contains(&left_out.as_str()) || lock,
            "{left_out}"
        );
        at = r.end;
    }
    out
}
/// Only what is not text.
fn moves(dump: &str, large: u64) -> Vec<String> {
    let mut moves = plan(dump, large);
    moves.retain(|m| m == "WAIT" || m.starts_with("ROWS ") || m.starts_with("SAY "));
    moves
}

#[test]
fn large_tables_go_aside_and_only_what_needs_them_waits() {
    let dump = [
        HEAD, &database("mysql"), &structure("user"), &rows("user", 3000),
        &database("s"), &structure("big"), &rows("big", 3000), &structure("small"), &rows("small", 10),
        &structure("two"), &rows("two", 3000), TRIGGER, &structure("three"), &rows("three", 3000),
        "--\n-- Temporary view structure for view `v`\n--\n\nCREATE VIEW v AS SELECT 1;\n",
        &structure("empty"),
        "--\n-- Dumping events for database 's'\n--\nCREATE EVENT e;\n--\n-- Dumping routines for database 's'\n--\nCREATE FUNCTION f;\n",
        &database("t"), &structure("last"), &rows("last", 5000), "--\n-- Final view structure for view `v`\n--\nDROP VIEW v;\n",
        "--\n-- GTID state at the end\n--\nSET @@GLOBAL.GTID_PURGED='';\n-- Dump completed\n",
    ]
    .concat();
    assert_eq!(
        moves(&dump, 2000),
        [
            "ROWS USE `s`; INSERT INTO `big` V",
            "ROWS USE `s`; INSERT INTO `two` V",
            "ROWS USE `s`; INSERT INTO `three` V",
            "ROWS USE `t`; INSERT INTO `last` V",
            "WAIT",
            "SAY USE `s`;",
            "SAY USE `t`;"
        ]
    );
    let text = plan(&dump, 2000);
    let trigger = &text[text.iter().position(|t| t == "SAY USE `s`;").unwrap() + 1];
    assert!(
        trigger.starts_with("/*!50003 SET @saved") && trigger.contains("LOCK TABLES `z` WRITE;"),
        "{trigger}"
    );
    assert!(
        trigger
            .trim_end()
            .ends_with("-- Table structure for table `three`\n--"),
        "{trigger}"
    );
    let last = text.last().unwrap();
    assert!(last.starts_with("SET @@GLOBAL.GTID_PURGED"), "{last}");
    assert!(moves(&dump, u64::MAX).is_empty());
}

#[test]
fn the_session_gets_the_settings_of_the_head_but_no_global_ones() {
    let dump = [
        HEAD,
        &database("s"),
        "/*!50503 SET character_set_client = latin1 */;\n",
    ]
    .concat();
    let script = scan(&mut Cursor::new(&dump), 0, 1).unwrap();
    assert_eq!(script.session.lines().count(), 4);
    assert!(
        script.session.contains("TIME_ZONE") && !script.session.contains("latin1"),
        "{}",
        script.session
    );
    assert!(!script.session.contains("GLOBAL"));
}

#[test]
fn what_looks_otherwise_is_text_for_one_session() {
    let body = [database("s"), structure("a"), rows("a", 3000)].concat();
    let one = |dump: &str| assert!(moves(dump, 100).is_empty(), "{dump}");
    assert_eq!(moves(&[HEAD, &body].concat(), 100).len(), 2);
    one(&[&HEAD.replace("NAMES", "NUMS"), body.as_str()].concat());
    one(&[HEAD, &body.replace("USE `s`", "use s")].concat());
    one(&[
        HEAD,
        &body.replace("-- Dumping data for table", "-- Something of table"),
    ]
    .concat());
    one(&[HEAD, &body.replace("LOCK TABLES", "LOCK TABLE")].concat());
    one(&[HEAD, &body.replace("UNLOCK TABLES;\n", "")].concat()); // cut short
    one("");
    one("\n");
}

#[test]
fn a_very_large_table_goes_aside_in_parts() {
    let many = |n: usize| {
        format!(
            "INSERT INTO `a` VALUES ('{}'),\n('INSERT ');\n",
            "y".repeat(250)
        )
        .repeat(n)
    };
    let of = |n: usize| {
        let all = rows("a", 10).replace("UNLOCK", &format!("{}UNLOCK", many(n)));
        moves(&[HEAD, &database("s"), &structure("a"), &all].concat(), 200).len()
    };
    assert_eq!(of(1), 2, "its rows, and the wait at the end");
    assert_eq!(of(10), 6);
    assert!((40..=66).contains(&of(1000)), "{}", of(1000));
}

#[test]
fn triggers_are_made_before_the_dump_takes_its_settings_back() {
    let end = "--\n-- Dumping routines for database 's'\n--\n/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;\n\n-- Dump completed\n";
    let dump = [
        HEAD,
        &database("s"),
        &structure("a"),
        &rows("a", 3000),
        TRIGGER,
        end,
    ]
    .concat();
    let plan = plan(&dump, 100);
    let (last, before) = plan.split_last().unwrap();
    assert!(last.starts_with("/*!40103 SET TIME_ZONE=@OLD"), "{last}");
    assert_eq!(before[before.len() - 1], "SAY USE `s`;");
    assert!(before[before.len() - 2].contains("CREATE TRIGGER"));
}

#[test]
fn with_transactions_around_the_rows_nothing_waits_for_their_commit() {
    let no_autocommit = rows("a", 3000).replace("UNLOCK TABLES;\n", "UNLOCK TABLES;\ncommit;\n");
    let dump = [
        HEAD,
        &database("s"),
        &structure("a"),
        &no_autocommit,
        &structure("b"),
        &rows("b", 3000),
    ]
    .concat();
    assert_eq!(moves(&dump, 100).len(), 3);
    let trigger = [
        HEAD,
        &database("s"),
        &structure("a"),
        &no_autocommit,
        TRIGGER,
    ]
    .concat();
    assert_eq!(
        moves(&trigger, 100)[1..],
        ["WAIT", "SAY USE `s`;", "SAY USE `s`;"]
    );
}
