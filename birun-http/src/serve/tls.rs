//! TLS: a certificate and its key.

use std::fmt::{self, Debug};
use std::sync::Arc;

use birun_core::{Error, Result};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{DEFAULT_VERSIONS, ServerConfig};

/// A certificate and its key, ready to be served with. TLS 1.2 and 1.3; HTTP/2 and HTTP/1.1.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Reads a certificate chain, the server's own first, and a private key, both as PEM.
    ///
    /// # Errors
    /// `invalid` if one cannot be read or they do not belong together. No message holds any part of the key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<std::result::Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| {
            Error::invalid("the TLS certificate is not PEM").with_hint("give a file that begins with BEGIN CERTIFICATE")
        })?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            Error::invalid("the TLS key is not PEM, or is encrypted")
                .with_hint("give a file that begins with BEGIN PRIVATE KEY")
        })?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(DEFAULT_VERSIONS)
            .map_err(|error| Error::internal("no TLS version is known").with_source(error))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| Error::invalid(format!("the TLS certificate and key do not fit: {error}")))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

impl Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
