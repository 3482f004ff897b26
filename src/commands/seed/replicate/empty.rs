//! An empty GTID set is a position: a source that has GTIDs and has not used one yet.

use crate::commands::seed::options::Options;
use crate::commands::seed::plan::Plan;
use crate::commands::seed::sql::Db;
use crate::error::Result;
use crate::mysql::quote_text;
use crate::protocol::wire::Metadata;

/// With these a binary log begins (MySQL 9.7, MariaDB 10.11).
const HEADER: [&str; 5] = [
    "Format_desc",
    "Previous_gtids",
    "Gtid_list",
    "Binlog_checkpoint",
    "Start_encryption",
];

/// One row of SHOW BINLOG EVENTS.
struct Row {
    position: u64,
    kind: String,
    info: String,
}

/// True if the source's binary log shows that nothing was logged before the copy's position: not in the log itself, whose
/// header lists no GTIDs of earlier ones. A copy without a GTID position then stands for the empty set; otherwise it is one
/// whose tool has not written it down.
/// Needs REPLICATION SLAVE (MariaDB: BINLOG MONITOR).
pub(super) fn before_first_gtid(o: &Options, plan: &Plan, copy: &Metadata) -> Result<bool> {
    if copy.log_file.is_empty() {
        return Ok(false);
    }
    let mut source = Db::open("source", &o.source.host, plan.source_port, &o.mysql)?;
    let query = format!(
        "SHOW BINLOG EVENTS IN {} LIMIT 10",
        quote_text(&copy.log_file)
    );
    let rows = source.rows(&query)?.into_iter().filter_map(|row| {
        let mut columns = row.into_iter();
        Some(Row {
            position: columns.nth(1)?.parse().ok()?,
            kind: columns.next()?,
            info: columns.nth(2)?,
        })
    });
    Ok(is_first(&rows.collect::<Vec<_>>(), copy.log_pos))
}

fn is_first(events: &[Row], copied_to: u64) -> bool {
    let list = events
        .iter()
        .find(|e| e.kind == "Previous_gtids" || e.kind == "Gtid_list");
    let none_earlier = list.is_some_and(|e| e.info.trim_matches(['[', ']']).is_empty());
    let first = events.iter().find(|e| !HEADER.contains(&e.kind.as_str()));
    none_earlier && first.is_none_or(|e| e.position >= copied_to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(rows: &[(u64, &str, &str)]) -> Vec<Row> {
        let row = |(position, kind, info): &(u64, &str, &str)| Row {
            position: *position,
            kind: kind.to_string(),
            info: info.to_string(),
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn only_a_copy_from_before_the_first_event_has_the_empty_set() {
        let mysql = [
            (4, "Format_desc", "Server ver: 9.7.4, Binlog ver: 4"),
            (127, "Previous_gtids", ""),
            (158, "Gtid", "SET @@SESSION.GTID_NEXT= 'a:1'"),
        ];
        assert!(is_first(&events(&mysql), 158));
        assert!(!is_first(&events(&mysql), 300), "the copy has a:1");
        assert!(is_first(&events(&mysql[..2]), 158));
        let mut anonymous = mysql;
        anonymous[2].1 = "Anonymous_Gtid";
        assert!(!is_first(&events(&anonymous), 300));
        let mut later = mysql;
        later[1].2 = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5";
        assert!(!is_first(&events(&later), 158));
        let maria = [
            (4, "Format_desc", "Server ver: 10.11"),
            (256, "Gtid_list", "[]"),
            (285, "Binlog_checkpoint", "log.000001"),
            (328, "Gtid", "GTID 0-1-1"),
        ];
        assert!(is_first(&events(&maria), 328) && !is_first(&events(&maria), 329));
        let mut later = maria;
        later[1].2 = "[0-1-7]";
        assert!(!is_first(&events(&later), 328));
        assert!(!is_first(&[], 4), "an empty answer proves nothing");
    }
}
