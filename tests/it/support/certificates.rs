//! Certificates for tests, made anew each time.

/// A directory with PEM bundles as socat wants them: `ca.pem`; `a.pem` and `b.pem`, which it has signed; `own.pem`, which has
/// signed itself and is an authority, as `openssl req -x509` makes it, and vouches for no host; `own-here.pem`, which does so for
/// this one, and `own-old.pem`, but expired; `by-b.pem`, which b, no authority, has signed; `old.pem`, which has expired; `soon.pem`, which does so in a few days. `dba.pem`, `both.pem` and `web.pem` are
/// clients' with the OUs dba, web and dba, web.
pub struct Certificates(pub std::path::PathBuf);

impl Certificates {
    pub fn make(name: &str) -> Self {
        use rcgen::{
            BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
        };
        use std::time::Duration;
        let dir = std::env::temp_dir().join(format!("oa-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("certificates");
        // Both hosts of a seed.
        let hosts = |host: &str| match host {
            "127.0.0.1" => vec![host.to_string(), "127.0.0.2".to_string()],
            host => vec![host.to_string()],
        };
        // OpenSSL takes a certificate whose issuer has its own name for a self-signed one.
        let params = |host: &str| {
            let mut params = CertificateParams::new(hosts(host)).expect("certificates");
            params.distinguished_name = DistinguishedName::new();
            params
                .distinguished_name
                .push(DnType::CommonName, format!("{name} {host}"));
            params
        };
        let bundle = |file: &str, certificate: &rcgen::Certificate, key: &KeyPair| {
            std::fs::write(dir.join(file), certificate.pem() + &key.serialize_pem())
                .expect("certificates");
        };
        let ca_key = KeyPair::generate().expect("certificates");
        let mut ca = params("ca");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        bundle(
            "ca.pem",
            &ca.self_signed(&ca_key).expect("certificates"),
            &ca_key,
        );
        let issuer = Issuer::new(ca, ca_key);
        for (file, host) in [
            ("a.pem", "127.0.0.1"),
            ("b.pem", "elsewhere.test"),
            ("old.pem", "127.0.0.1"),
            ("soon.pem", "127.0.0.1"),
            ("dba.pem", "client.test"),
            ("both.pem", "client.test"),
            ("web.pem", "client.test"),
        ] {
            let (mut leaf, key) = (params(host), KeyPair::generate().expect("certificates"));
            let unit = |params: &mut CertificateParams, kind, unit: &str| {
                params.distinguished_name.push(kind, unit);
            };
            match file {
                "dba.pem" => unit(&mut leaf, DnType::OrganizationalUnitName, "dba"),
                "both.pem" => {
                    unit(&mut leaf, DnType::OrganizationalUnitName, "web");
                    // One value a type: the other by the type's number.
                    unit(&mut leaf, DnType::CustomDnType(vec![2, 5, 4, 11]), "dba");
                }
                "web.pem" => unit(&mut leaf, DnType::OrganizationalUnitName, "web"),
                "soon.pem" => {
                    leaf.not_after =
                        (std::time::SystemTime::now() + Duration::from_secs(9 * 86_400)).into();
                }
                _ => {}
            }
            if file == "old.pem" {
                leaf.not_after = rcgen::date_time_ymd(2020, 1, 1);
            }
            bundle(
                file,
                &leaf.signed_by(&key, &issuer).expect("certificates"),
                &key,
            );
            if file == "b.pem" {
                let (params, by) = (params("127.0.0.1"), Issuer::new(leaf, key));
                let key = KeyPair::generate().expect("certificates");
                let made = params.signed_by(&key, &by).expect("certificates");
                bundle("by-b.pem", &made, &key);
            }
        }
        for (file, host) in [
            ("own.pem", "fleet"),
            ("own-here.pem", "127.0.0.1"),
            ("own-old.pem", "127.0.0.1"),
        ] {
            let (mut own, key) = (params(host), KeyPair::generate().expect("certificates"));
            own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            if file == "own-old.pem" {
                own.not_after = rcgen::date_time_ymd(2020, 1, 1);
            }
            bundle(file, &own.self_signed(&key).expect("certificates"), &key);
        }
        Self(dir)
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("certificates");
    }
}
