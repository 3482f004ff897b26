//! The seed stream over TLS.

use super::*;
#[path = "../../../tests/it/support/certificates.rs"]
mod certificates;
use certificates::Certificates;

fn with(c: &Certificates, cert: &str, ca: &str) -> Settings {
    let path = |name: &str| c.0.join(name).display().to_string();
    let tls = SocatTls {
        use_ssl: true,
        ssl_cert_file: path(cert),
        ssl_ca_file: path(ca),
        ssl_skip_verify: ca.is_empty(),
    };
    Settings { tls, ..settings() }
}

#[test]
fn tls_carries_it_for_those_who_are_known() {
    let c = Certificates::make("good");
    let bytes = data(3_000_000);
    for (target, sender) in [
        (with(&c, "a.pem", "ca.pem"), with(&c, "b.pem", "ca.pem")),
        (
            with(&c, "own.pem", "own.pem"),
            with(&c, "own.pem", "own.pem"),
        ),
        (with(&c, "b.pem", ""), with(&c, "own.pem", "")),
    ] {
        let (got, result) = transfer("tls", &target, &sender, &bytes);
        result.unwrap();
        assert!(got == bytes);
    }
}

#[test]
fn tls_turns_the_unknown_away() {
    let c = Certificates::make("bad");
    let target = with(&c, "a.pem", "ca.pem");
    let (path, file) = scratch("tls-bad");
    let (port, _cancel, thread) = receiving(target.clone(), move |incoming| {
        let mut incoming = incoming.unwrap();
        incoming.receive(file, &Cancel::default(), |_| {}).unwrap();
        incoming.acknowledge().unwrap();
    });
    let plain = settings();
    for (what, sender) in [
        ("self-signed", with(&c, "own.pem", "ca.pem")),
        ("expired", with(&c, "old.pem", "ca.pem")),
        ("trusts another", with(&c, "b.pem", "own.pem")),
        ("in clear", plain.clone()),
    ] {
        let e = connect(port, &sender, "")
            .err()
            .unwrap_or_else(|| panic!("{what} was let in"));
        println!("{what}: {e}");
    }
    let mut out = connect(port, &with(&c, "b.pem", "ca.pem"), "").unwrap();
    let cancel = Cancel::default();
    out.send(source(data(1000)), &cancel, |_| {}).unwrap();
    out.finish(Ok(()), &cancel).unwrap();
    thread.join().unwrap();
    std::fs::remove_file(path).unwrap();
    // Who is listed for himself does not sign for others.
    let (target, bytes) = (with(&c, "a.pem", "b.pem"), data(1000));
    let (port, cancel, thread) = receiving(target.clone(), |i| i.map(drop));
    assert!(connect(port, &with(&c, "by-b.pem", "ca.pem"), "").is_err());
    cancel.cancel("test");
    let _ = thread.join().unwrap();
    let (got, result) = transfer("listed", &target, &with(&c, "b.pem", "ca.pem"), &bytes);
    result.unwrap();
    assert!(got == bytes);
    // A target that is not the one that was asked for.
    let (port, cancel, thread) = receiving(with(&c, "b.pem", "ca.pem"), |i| i.map(drop));
    let e = connect(port, &with(&c, "a.pem", "ca.pem"), "")
        .err()
        .unwrap();
    assert!(e.to_string().contains("TLS: "), "{e}");
    assert!(e.is_permanent());
    cancel.cancel("test");
    let _ = thread.join().unwrap();
    for (cert, ca, setting) in [
        ("none.pem", "ca.pem", "socat-ssl-cert-file"),
        ("a.pem", "none.pem", "socat-ssl-ca-file"),
    ] {
        let e = Listener::bind(with(&c, cert, ca))
            .err()
            .unwrap()
            .to_string();
        assert!(e.contains(setting) && e.contains("none.pem"), "{e}");
    }
}
