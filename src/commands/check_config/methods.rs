//! The seed methods that the configuration enables.

use super::findings::{Findings, streams};
use crate::config::Config;
use crate::methods::mydumper::options::operators;
use crate::methods::mydumper::version::Tool;
use crate::methods::mysqldump::options;
use crate::methods::{enabled, left_out, xtrabackup};
use crate::seed::Method;
use std::sync::Arc;

pub(crate) fn check(f: &mut Findings, config: &Arc<Config>) {
    let methods = enabled(config);
    if methods.is_empty() {
        f.warning(
            "mysqldump.enabled",
            "no seed method can be used on this host",
            "set mysqldump.enabled = true",
        );
    }
    for method in &methods {
        let key = key(method.method());
        match method.available().and_then(|()| method.permitted()) {
            Ok(()) => f.ok(key, "the method can be used"),
            Err(e) => f.error(key, e.to_string(), off(key)),
        }
    }
    if let Some((method, reason)) = left_out(config) {
        f.error(key(method), reason, "set it to false");
    }
    left_out_options(f, config);
    let plain = |on: bool, tls: bool| on && !tls;
    if streams(config)
        && config.common.seed_secret.is_empty()
        && (plain(config.xtrabackup.enabled, config.xtrabackup.socat.use_ssl)
            || plain(config.lvm.enabled, config.lvm.socat.use_ssl))
    {
        f.warning(
            "common.seed-secret",
            "is empty and the seed stream has no TLS: any host that knows a seed's number can send data to this one",
            "set the same common.seed-secret on all hosts",
        );
    }
}

/// Options that the agent sets itself.
fn left_out_options(f: &mut Findings, config: &Config) {
    for (on, key, dropped) in [
        (
            config.mysqldump.enabled,
            "mysqldump.mysqldump-addtional-opts",
            options::operators(&config.mysqldump.additional_opts).1,
        ),
        (
            config.xtrabackup.enabled,
            "xtrabackup.xtrabackup-addtional-opts",
            xtrabackup::tools::kept(&config.xtrabackup.additional_opts).1,
        ),
        (
            config.mydumper.enabled,
            Tool::Mydumper.setting(),
            operators(Tool::Mydumper, &config.mydumper.mydumper_additional_opts).1,
        ),
        (
            config.mydumper.enabled,
            Tool::Myloader.setting(),
            operators(Tool::Myloader, &config.mydumper.myloader_additional_opts).1,
        ),
    ] {
        if on && !dropped.is_empty() {
            f.warning(
                key,
                format!(
                    "{}: the agent sets this itself, so it is left out",
                    dropped.join(", ")
                ),
                "remove it from the list",
            );
        }
    }
}

fn off(key: &str) -> String {
    format!("correct this, or set {key} = false")
}

fn key(method: Method) -> &'static str {
    match method {
        Method::ClonePlugin => "clone_plugin.enabled",
        Method::LVM => "lvm.enabled",
        Method::Mydumper => "mydumper.enabled",
        Method::Mysqldump => "mysqldump.enabled",
        Method::Xtrabackup => "xtrabackup.enabled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check_config::findings::Level;

    fn of(more: &str) -> Findings {
        let text = format!(
            "[common]\nbackup-dir = \"/b\"\n[orchestrator]\nurl = \"http://o\"\n[mysql]\nport = 1\nuser = \"u\"\npassword = \"p\"\n{more}"
        );
        let mut f = Findings::default();
        check(
            &mut f,
            &Arc::new(crate::config::parse(&text).unwrap().config),
        );
        f
    }

    #[test]
    fn reserved_options_and_open_streams_are_warnings() {
        let f = of("[mysqldump]\nadditional-opts = [\"--quick\", \"--password=geheim\"]\n");
        let about = |f: &Findings, key: &str| f.list.iter().find(|x| x.subject == key).cloned();
        let reserved = about(&f, "mysqldump.mysqldump-addtional-opts").unwrap();
        assert_eq!(reserved.level, Level::Warning);
        assert!(reserved.text.contains("--password") && !reserved.text.contains("geheim"));
        assert!(about(&f, "common.seed-secret").is_none());
        let f = of(
            "[mydumper]\nenabled = true\nmyloader-additional-opts = [\"-o\", \"--enable-binlog\"]\n",
        );
        let reserved = about(&f, "mydumper.myloader-additional-opts").unwrap();
        assert!(
            reserved.text.starts_with("-o, --enable-binlog: "),
            "{}",
            reserved.text
        );
        assert!(about(&f, "mydumper.mydumper-addtional-opts").is_none());
        let f = of(
            "[mysqldump]\nenabled = false\n[xtrabackup]\nenabled = true\nadditional-opts = [\"--socket /x\", \"--parallel=4\"]\n",
        );
        let reserved = about(&f, "xtrabackup.xtrabackup-addtional-opts").unwrap();
        assert!(reserved.text.starts_with("--socket: "), "{}", reserved.text);
        assert_eq!(
            about(&f, "common.seed-secret").unwrap().level,
            Level::Warning
        );
    }
}
