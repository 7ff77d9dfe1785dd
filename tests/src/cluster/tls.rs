//! TLS, by a certificate that is made for one test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::{DEFAULT_VERSIONS, ServerConfig};

/// A certificate with its key.
#[derive(Debug)]
pub(super) struct Tls {
    /// Whom to trust, as PEM.
    authority: String,
    config: Arc<ServerConfig>,
}

// === impl Tls ===

impl Tls {
    pub(super) fn new() -> Result<Self> {
        let names = ["127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names)?;
        let chain = vec![cert.der().clone()];
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(DEFAULT_VERSIONS)?
            .with_no_client_auth()
            .with_single_cert(chain, key.into())?;
        Ok(Self {
            authority: cert.pem(),
            config: Arc::new(config),
        })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.config).into()
    }

    /// Writes down whom to trust, as PEM.
    pub(super) fn authority(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join("ca.crt");
        std::fs::write(&path, &self.authority)?;
        Ok(path)
    }
}
