//! Why a server cannot be reached, and what can be done about it.

use std::error::Error as StdError;
use std::io;

use rustls::{CertificateError, Error as TlsError};

use crate::error::CommandError;

/// How a certificate of one's own authority is made known.
const OWN_AUTHORITY: &str = "if the authority is your own, name a PEM file with its certificate:  SSL_CERT_FILE=FILE";

/// The error for a server at this address from which no answer came.
pub(super) fn unreachable(base: &str, error: reqwest::Error) -> CommandError {
    let error = error.without_url();
    let failed = CommandError::failed(format!("cannot reach {base}"));
    if let Some(tls) = tls_error(&error) {
        return failed.because(tls).hint(tls_hint(tls));
    }
    let failed = match error.source() {
        Some(source) => failed.because(source),
        None => failed.because(&error),
    };
    // A connection came about, and what came over it was no answer.
    if base.starts_with("http://") && !error.is_connect() && !error.is_timeout() {
        return failed
            .hint("is it a birun server that answers there? if it speaks TLS, its address begins with  https://");
    }
    failed.hint("is the server running there? one is started with  birun serve")
}

/// The error for a client that cannot be made.
pub(super) fn no_client(error: &reqwest::Error) -> CommandError {
    let failed = CommandError::failed("no HTTP client can be made");
    match tls_error(error) {
        Some(tls) => failed.because(tls).hint(
            "install the certificates of public authorities (the package ca-certificates), or name a PEM file:  \
             SSL_CERT_FILE=FILE",
        ),
        None => failed.because(error),
    }
}

/// What TLS says underneath, if it says something. An I/O error leaves out the error that it holds
/// when it is asked for its source.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

fn tls_hint(error: &TlsError) -> &'static str {
    match error {
        // A signature is bad where an authority of the same name, but with another key, is known.
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => OWN_AUTHORITY,
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "use a host name that is in the server's certificate, or give the server a certificate with this name",
        TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "give the server a new certificate; if it is still valid, this machine's clock is wrong"
        }
        TlsError::InvalidCertificate(_) => "give the server a certificate that is signed by an authority",
        TlsError::InvalidMessage(_) => {
            "something else than TLS answered there; if it speaks plain HTTP, its address begins with  http://"
        }
        _ => "look at the server's TLS settings: birun speaks TLS 1.2 and 1.3",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tls_says_is_found_underneath() {
        let tls = || TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let inner = io::Error::new(io::ErrorKind::InvalidData, tls());
        let outer = birun_core::Error::internal("connect").with_source(io::Error::other(inner));
        assert_eq!(tls_error(&outer), Some(&tls()));
        assert_eq!(tls_error(&io::Error::other("refused")), None);
    }
}
