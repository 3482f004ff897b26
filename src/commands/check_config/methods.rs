//! The seed methods that the configuration enables.

use super::findings::{Findings, streams};
use crate::config::Config;
use crate::methods::mydumper::options::operators;
use crate::methods::mydumper::version::Tool::{Mydumper, Myloader};
use crate::methods::mysqldump::options;
use crate::methods::{enabled, left_out, xtrabackup};
use crate::seed::Method;
use std::sync::Arc;

/// `all`: they are enabled because there is an account, not one by one, so that one that cannot be used is no error.
pub(super) fn check(f: &mut Findings, config: &Arc<Config>, all: bool) {
    let methods = enabled(config);
    if methods.is_empty() && !config.mysql.user.is_empty() {
        note!(f, Warning, "mysqldump.enabled" => "no seed method can be used on this host";
            "set mysqldump.enabled = true");
    }
    for method in &methods {
        let key = key(method.method());
        match method.available().and_then(|()| method.permitted()) {
            Ok(()) => note!(f, Ok, key => "the method can be used"),
            Err(e) if all => {
                note!(f, Warning, key => "the method is not offered: {e}"; "correct this, or do without it")
            }
            Err(e) => note!(f, Error, key => "{e}"; "correct this, or set {key} = false"),
        }
    }
    if let Some((method, reason)) = left_out(config) {
        note!(f, Error, key(method) => "{reason}"; "set it to false");
    }
    left_out_options(f, config);
    let plain = config.xtrabackup.enabled && !config.xtrabackup.socat.use_ssl
        || config.lvm.enabled && !config.lvm.socat.use_ssl;
    if streams(config) && plain && config.common.seed_secret.is_empty() {
        note!(f, Warning, "common.seed-secret" =>
            "is empty and the seed stream has no TLS: any host that knows a seed's number can send data to this one";
            "set the same common.seed-secret on all hosts");
    }
}

/// Options that the agent sets itself.
fn left_out_options(f: &mut Findings, config: &Config) {
    let (dump, xtrabackup, mydumper) = (&config.mysqldump, &config.xtrabackup, &config.mydumper);
    let of_dump = options::operators(&dump.additional_opts).1;
    let of_xtrabackup = xtrabackup::tools::kept(&xtrabackup.additional_opts).1;
    let of_mydumper = operators(Mydumper, &mydumper.mydumper_additional_opts).1;
    let of_myloader = operators(Myloader, &mydumper.myloader_additional_opts).1;
    for (on, key, dropped) in [
        (dump.enabled, "mysqldump.mysqldump-addtional-opts", of_dump),
        (
            xtrabackup.enabled,
            "xtrabackup.xtrabackup-addtional-opts",
            of_xtrabackup,
        ),
        (mydumper.enabled, Mydumper.setting(), of_mydumper),
        (mydumper.enabled, Myloader.setting(), of_myloader),
    ] {
        if on && !dropped.is_empty() {
            note!(f, Warning, key => "{}: the agent sets this itself, so it is left out", dropped.join(", ");
                "remove it from the list");
        }
    }
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
            false,
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
