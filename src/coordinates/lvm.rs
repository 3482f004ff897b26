//! The `metadata` file that an operator's snapshot procedure leaves in the datadir.

use super::Coordinates;
use super::text::parse_position;
use crate::error::{Error, Result};

/// Parses lines `File:`, `Position:` and `Executed_Gtid_Set:`; other lines, such as those of `SHOW MASTER STATUS\G`, are
/// passed over. A set may hold the two characters backslash-n, as batch output of the mysql client has them, and may go
/// on over further lines.
///
/// # Errors
/// A missing or repeated file or position, a set that is cut off or not valid, a last line without its line break.
pub fn parse(text: &str) -> Result<Coordinates> {
    // A number that is cut looks like a complete one.
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(Error::permanent(
            "metadata of the snapshot is cut off: its last line has no line break",
        ));
    }
    let (mut file, mut pos, mut gtid): (Option<&str>, Option<&str>, Option<String>) =
        (None, None, None);
    let mut in_set = false;
    for line in text.lines().map(str::trim) {
        if in_set {
            let set = gtid.get_or_insert_default();
            set.push_str(line);
            in_set = line.ends_with(',');
            continue;
        }
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        let repeated = match key.trim() {
            "File" => file.replace(value).is_some(),
            "Position" => pos.replace(value).is_some(),
            "Executed_Gtid_Set" => {
                in_set = value.ends_with(',');
                gtid.replace(value.to_string()).is_some()
            }
            _ => false,
        };
        if repeated {
            return Err(Error::permanent(format!(
                "metadata of the snapshot has {} twice",
                key.trim()
            )));
        }
    }
    let missing = |what| {
        let hint = "the snapshot procedure has to write File:, Position: and Executed_Gtid_Set: of SHOW MASTER STATUS or SHOW BINARY LOG STATUS";
        Error::permanent(format!(
            "metadata of the snapshot has no {what} line: {hint}"
        ))
    };
    let file = file.ok_or_else(|| missing("File:"))?;
    let pos = pos.ok_or_else(|| missing("Position:"))?;
    let context = |e: Error| e.context("metadata of the snapshot");
    Coordinates::new(
        file,
        parse_position(pos).map_err(context)?,
        &gtid.unwrap_or_default(),
    )
    .map_err(context)
}
