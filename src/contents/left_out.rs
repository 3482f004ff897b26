//! Tables that the operator's options leave out of a dump.

use crate::config::Config;
use crate::seed::types::Method;
use std::collections::BTreeSet;

/// Those of a dump by `method`, as `schema.table`.
pub(crate) fn tables(config: &Config, method: Method) -> BTreeSet<String> {
    if method == Method::Mysqldump {
        ignored(&config.mysqldump.additional_opts)
    } else {
        BTreeSet::new()
    }
}

/// The tables of `--ignore-table`.
pub(crate) fn ignored(options: &[String]) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let mut previous = false;
    for item in options.iter().map(|o| o.trim()) {
        let mut parts = item.splitn(2, |c: char| c == '=' || c.is_whitespace());
        let name = parts.next().unwrap_or_default().replace('_', "-");
        let value = parts.next().map(str::trim);
        if previous {
            out.insert(item.to_string());
        } else if name == "--ignore-table" {
            out.extend(value.map(str::to_string));
        }
        previous = name == "--ignore-table" && value.is_none();
    }
    out
}
