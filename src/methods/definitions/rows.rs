//! How many rows a dump has of each table, where it says so: in the metadata file of mydumper 0.14 and later, in a section for each
//! table.

/// Schema, table and rows. Names with backticks, and sections without a count, are left out.
pub fn told(metadata: &str) -> Vec<(String, String, u64)> {
    let mut out = Vec::new();
    let mut section: Option<(String, String)> = None;
    for line in metadata.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            let name = name.strip_prefix('`').and_then(|n| n.strip_suffix('`'));
            let parts = name.and_then(|n| n.split_once("`.`"));
            section = parts.map(|(s, t)| (s.to_string(), t.to_string()));
        } else if let (Some((schema, table)), Some((key, value))) =
            (&mut section, line.split_once('='))
        {
            match (key.trim(), value.trim()) {
                // The section has the table's name as files have it.
                ("real_table_name", name) => *table = name.to_string(),
                ("rows", n) => {
                    if let Ok(n) = n.parse() {
                        out.push((schema.clone(), table.clone(), n));
                    }
                }
                _ => {}
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_of_tables_tell_their_rows() {
        let text = "# Started dump\n[config]\nquote-character = BACKTICK\n[source]\n# SOURCE_LOG_POS = 12\n\n[`a b`.`mydumper_0`]\n\
                    real_table_name=odd name\nrows = 12\ndata_checksum = ABC\n\n[`s`.`t`]\nreal_table_name=t\nrows = -1\n\
                    [`s`.`u`]\nreal_table_name=u\nrows = 0\n[`s`.`v`]\nreal_table_name=v\nis_view = 1\n";
        let of = |s: &str, t: &str, n| (s.to_string(), t.to_string(), n);
        assert_eq!(told(text), [of("a b", "odd name", 12), of("s", "u", 0)]);
        assert!(told("SHOW MASTER STATUS:\n\tLog: b.1\n\tPos: 4\n").is_empty());
    }

    #[test]
    fn recorded_files_tell_them() {
        for text in [
            include_str!(
                "../../../tests/fixtures/coordinates/mydumper-1.0.1-mariadb-11.4.metadata"
            ),
            include_str!(
                "../../../tests/fixtures/coordinates/mydumper-0.14.1-mysql-8.0-broken-lines.metadata"
            ),
        ] {
            let found = told(text);
            assert!(found.iter().any(|(_, _, rows)| *rows == 2), "{found:?}");
        }
    }
}
