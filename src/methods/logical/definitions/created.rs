//! Objects that a dump has although they were created after its position: replication creates them once more, which fails where they are
//! (1007, 1050, 1304, 1359, 1396, 1537).

use crate::error::Result;
use crate::mysql::catalogue::{Kind, Object};
use crate::mysql::{Flavour, Server, control, quote_account, quote_name};
use mysql::Conn;
use std::collections::BTreeSet;

/// Drops them, in the order of [`Kind`] backwards: what is in a table or a schema goes first. Not in the binary log.
pub(super) fn drop(conn: &mut Conn, server: Server, objects: &BTreeSet<Object>) -> Result<()> {
    if objects.is_empty() {
        return Ok(());
    }
    control::binlog_off(conn)?;
    control::execute(conn, "SET SESSION foreign_key_checks = 0")?;
    let mut in_order: Vec<&Object> = objects.iter().collect();
    in_order.sort_by_key(|o| std::cmp::Reverse(o.kind));
    for object in in_order {
        control::execute(conn, &statement(server, object))?;
    }
    Ok(())
}

fn statement(server: Server, object: &Object) -> String {
    let name = object.quoted();
    let (word, name) = match object.kind {
        Kind::Schema => ("DATABASE", quote_name(&object.schema)),
        Kind::Account => match object.name.strip_suffix('@') {
            Some(role) if server.flavour == Flavour::MariaDb => ("ROLE", quote_name(role)),
            _ => ("USER", quote_account(&object.name)),
        },
        kind => (kind.word(), name),
    };
    // MySQL 5.6 has no DROP USER IF EXISTS; what is dropped was seen a moment before.
    if object.kind == Kind::Account {
        return format!("DROP {word} {name}");
    }
    format!("DROP {word} IF EXISTS {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements() {
        let maria = Server::parse("10.11.19-MariaDB", "").unwrap();
        let mysql = Server::parse("9.7.4", "").unwrap();
        let object = |kind, name: &str| Object {
            kind,
            schema: if kind == Kind::Account { "" } else { "s" }.into(),
            name: name.into(),
        };
        for (server, object, wanted) in [
            (
                maria,
                object(Kind::Schema, ""),
                "DROP DATABASE IF EXISTS `s`",
            ),
            (
                maria,
                object(Kind::View, "a`b"),
                "DROP VIEW IF EXISTS `s`.`a``b`",
            ),
            (maria, object(Kind::Account, "role@"), "DROP ROLE `role`"),
            (mysql, object(Kind::Account, "@%"), "DROP USER ``@`%`"),
            (mysql, object(Kind::Account, "a@b@%"), "DROP USER `a@b`@`%`"),
        ] {
            assert_eq!(statement(server, &object), wanted);
        }
    }
}
