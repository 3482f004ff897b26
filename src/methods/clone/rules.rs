//! Which servers can clone from which (tool-compatibility 7).

use crate::error::{Error, Result};
use crate::mysql::{Flavour, Server, Version};

/// The first version with the plugin.
const FIRST: Version = Version(8, 0, 17);

/// That a server can clone or be cloned.
///
/// # Errors
/// Permanent, with its version.
pub fn can_clone(server: Server, who: &str) -> Result<()> {
    if server.flavour == Flavour::MySql && server.version >= FIRST {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "{who} is {} {}, and CLONE needs MySQL {FIRST} or later on both: use the method Mysqldump or Xtrabackup",
        server.flavour, server.version
    )))
}

/// That the target can clone the source: the same version exactly; from 8.0.37, and from 8.4 on, the same series.
///
/// # Errors
/// Permanent, with both versions.
pub fn fits(source: Server, target: Server) -> Result<()> {
    can_clone(source, "the source")?;
    can_clone(target, "this server")?;
    let (s, t) = (source.version, target.version);
    let in_series =
        |v: Version| v >= Version(8, 4, 0) || ((v.0, v.1) == (8, 0) && v >= Version(8, 0, 37));
    if s == t || ((s.0, s.1) == (t.0, t.1) && in_series(s) && in_series(t)) {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "the source runs MySQL {s} and this server {t}: CLONE needs the same series from 8.0.37 on, and the very same version before \
         that; install the source's version here, or use the method Mysqldump"
    )))
}

/// That CLONE can log in to the source with the agent's account: its own client sends the password in utf8mb3, so that the
/// source refuses one with other characters (1045; seen on 9.7.4).
///
/// # Errors
/// Permanent, with the setting.
pub fn login(user: &str, password: &str) -> Result<()> {
    let longer = |text: &str| text.chars().any(|c| c.len_utf8() > 3);
    if longer(user) || longer(password) {
        return Err(Error::permanent(
            "CLONE logs in to the source with the character set utf8mb3, and mysql.user or mysql.password has a character of 4 bytes in \
             UTF-8, such as an emoji, which utf8mb3 does not have: give the account another password, or use the method Mysqldump \
             or Xtrabackup",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_that_clone_cannot_send() {
        assert!(login("u", "p\u{e4}\u{20ac}").is_ok());
        assert!(login("u\u{1f511}", "p").is_err());
        let e = login("u", "p\u{1f511}").unwrap_err().to_string();
        assert!(e.contains("utf8mb3") && !e.contains('\u{1f511}'), "{e}");
    }

    #[test]
    fn the_rule_of_versions() {
        for (source, target, fits_wanted) in [
            ("9.7.4", "9.7.0", true),
            ("9.7.0", "9.7.4", true),
            ("9.7.4", "9.6.0", false),
            ("9.7.4", "26.7.0", false),
            ("26.7.0", "26.7.1", true),
            ("8.4.0", "8.4.9", true),
            ("8.0.46", "8.4.9", false),
            ("8.0.37", "8.0.42", true),
            ("8.0.42-33", "8.0.37", true),
            ("8.0.36", "8.0.37", false),
            ("8.0.36", "8.0.36", true),
            ("8.0.36", "8.0.36-28", true), // Percona's
            ("8.0.25", "8.0.26", false),
            ("8.3.0", "8.3.1", false),
            ("8.3.0", "8.3.0", true),
            ("8.0.16", "8.0.16", false),
            ("5.7.44", "5.7.44", false),
            ("10.11.6-MariaDB", "10.11.6-MariaDB", false),
        ] {
            let of = |v: &str| Server::parse(v, "").unwrap();
            let got = fits(of(source), of(target));
            assert_eq!(got.is_ok(), fits_wanted, "{source} {target}: {got:?}");
            if let Err(e) = got {
                assert!(e.to_string().contains("use the method Mysqldump"), "{e}");
            }
        }
    }
}
