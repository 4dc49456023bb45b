//! Where birun may listen.

use std::net::{IpAddr, SocketAddr};

use birun_core::{Error, Result};

/// Decides whether listening on an address is safe enough: on loopback, with TLS, or because the
/// administrator says so outright.
///
/// # Errors
/// `invalid`, with what can be done.
pub fn may_listen(address: SocketAddr, tls: bool, insecure: bool) -> Result<()> {
    if tls || insecure || is_loopback(address.ip()) {
        return Ok(());
    }
    Err(Error::invalid(format!("listening on {address} without TLS would send the token in clear over the network"))
        .with_hint(
            "listen on 127.0.0.1, or give --tls-cert and --tls-key, or say --insecure-listen behind a proxy that \
             adds TLS",
        ))
}

/// IPv4 loopback written as IPv6 (`::ffff:127.0.0.1`) counts.
fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_reached_with_tls_only() {
        for (address, tls, insecure, allowed) in [
            ("127.0.0.1:7878", false, false, true),
            ("127.8.9.10:7878", false, false, true),
            ("[::1]:7878", false, false, true),
            ("[::ffff:127.0.0.1]:7878", false, false, true),
            ("0.0.0.0:7878", false, false, false),
            ("[::]:7878", false, false, false),
            ("10.0.0.9:7878", false, false, false),
            ("[::ffff:10.0.0.9]:7878", false, false, false),
            ("0.0.0.0:7878", true, false, true),
            ("0.0.0.0:7878", false, true, true),
        ] {
            let decision = may_listen(address.parse().unwrap(), tls, insecure);
            assert_eq!(decision.is_ok(), allowed, "{address} tls={tls} insecure={insecure}");
            assert!(decision.is_ok() || decision.unwrap_err().hint().is_some());
        }
    }
}
