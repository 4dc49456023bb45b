//! A server behind TLS, and what clients say when it does not come about.

use std::process::Command;

use birun_core::testing::harness::{Need, Suite};

use crate::birun::{Ended, Home, Served, until};

pub(crate) fn add(suite: &mut Suite) {
    let openssl = [Need::program("openssl")];
    suite.plain("own_authority_is_trusted_when_it_is_named", &openssl, own_authority);
    suite.plain("unknown_authority_is_told", &openssl, unknown_authority);
    suite.plain("host_name_that_is_not_in_the_certificate_is_told", &openssl, other_name);
    suite.plain("plain_http_where_tls_is_spoken_is_told", &openssl, plain_to_tls);
    suite.plain("tls_where_plain_http_is_spoken_is_told", &openssl, tls_to_plain);
    suite.plain("authority_that_cannot_be_read_is_told", &[], unreadable_authority);
}

/// Makes a certificate for `localhost` that its subject signs, and its key.
fn certificate(home: &Home, name: &str, subject: &str) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={subject}"), "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")])
        .current_dir(home.work())
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A server behind TLS, and the port on which it speaks it. This machine's command line has another one.
fn secure(home: &Home) -> (Served, String) {
    certificate(home, "own", "localhost");
    let served = home.serve(&["--tls-cert", "own.pem", "--tls-key", "own.key"]);
    let address = regex::Regex::new(r"https://127\.0\.0\.1:(\d+)").expect("a pattern");
    let port = until("the address", || {
        let log = std::fs::read_to_string(home.serve_log()).ok()?;
        address.captures(&log).map(|found| found[1].to_owned())
    });
    (served, port)
}

/// Asks for the status, from a machine that knows this authority.
fn ask(home: &Home, address: &str, authority: &str, token: &str) -> Ended {
    home.run_with(&["--server", address, "status"], &[("SSL_CERT_FILE", authority), ("BIRUN_TOKEN", token)], "")
}

/// What was told: the cause and the hint, and nothing of anyone else's.
#[track_caller]
fn tells(ended: &Ended, address: &str, cause: &str, hint: &str) {
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    let begin = format!("error: cannot reach {address}\n  caused by: ");
    assert!(ended.err.starts_with(&begin) && ended.err.contains(cause), "{ended:#?}");
    assert!(ended.err.ends_with(&format!("\n\nhint: {hint}\n")), "{ended:#?}");
}

fn own_authority() {
    let home = Home::new();
    let (served, port) = secure(&home);
    let ended = ask(&home, &format!("https://localhost:{port}"), "own.pem", &served.token);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:#?}");
}

fn unknown_authority() {
    let home = Home::new();
    let (served, port) = secure(&home);
    let address = format!("https://localhost:{port}");
    // The second one has the name of the server's own, and another key.
    for (subject, cause) in [("other", "UnknownIssuer"), ("localhost", "BadSignature")] {
        certificate(&home, "other", subject);
        tells(
            &ask(&home, &address, "other.pem", &served.token),
            &address,
            &format!("invalid peer certificate: {cause}\n"),
            "if the authority is your own, name a PEM file with its certificate:  SSL_CERT_FILE=FILE",
        );
    }
}

fn other_name() {
    let home = Home::new();
    let (served, port) = secure(&home);
    let address = format!("https://127.0.0.1:{port}");
    tells(
        &ask(&home, &address, "own.pem", &served.token),
        &address,
        "not valid for name",
        "use a host name that is in the server's certificate, or give the server a certificate with this name",
    );
}

fn plain_to_tls() {
    let home = Home::new();
    let (served, port) = secure(&home);
    let address = format!("http://localhost:{port}");
    tells(
        &ask(&home, &address, "own.pem", &served.token),
        &address,
        "",
        "is it a birun server that answers there? if it speaks TLS, its address begins with  https://",
    );
}

fn tls_to_plain() {
    let home = Home::new();
    certificate(&home, "own", "localhost");
    let served = home.serve(&[]);
    let address = served.address.replace("http://", "https://");
    tells(
        &ask(&home, &address, "own.pem", &served.token),
        &address,
        "received corrupt message",
        "something else than TLS answered there; if it speaks plain HTTP, its address begins with  http://",
    );
}

fn unreadable_authority() {
    let home = Home::new();
    let ended = ask(&home, "https://localhost:1", "nothing.pem", "0123456789abcdef");
    ended.fails(
        &home,
        1,
        "error: no HTTP client can be made\n  \
         caused by: unexpected error: No CA certificates were loaded from the system\n\n\
         hint: install the certificates of public authorities (the package ca-certificates), or name a PEM file:  \
         SSL_CERT_FILE=FILE\n",
    );
}
