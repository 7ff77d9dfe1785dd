//! One GET, whose body goes to a file while it is hashed.
//!
//! TLS trusts whom the system trusts (`SSL_CERT_FILE` names another bundle), and a proxy is taken from
//! the environment, as other programs do.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use aegis_signing::Digest;
use aegis_signing::digest::Hasher;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// Bytes at a time.
const STEP: usize = 256 << 10;

/// A registry sends its downloads elsewhere, once or twice.
const MAX_REDIRECTS: u32 = 5;

/// Why there is no body.
#[derive(Debug)]
pub(super) enum GetError {
    /// There is no whole answer.
    Http(Box<ureq::Error>),
    /// An answer that is none.
    Status(u16),
    /// More bytes than allowed.
    TooLarge,
    /// The file cannot be written.
    Write(io::Error),
}

/// Fetches a body of at most `max_bytes` within that time; gives its digest.
pub(super) fn get(
    url: &str,
    patience: Duration,
    max_bytes: u64,
    file: &mut File,
) -> Result<Digest, GetError> {
    let agent = agent(url, patience);
    let mut answer = agent.get(url).call()?;
    if answer.status() != 200 {
        return Err(GetError::Status(answer.status().as_u16()));
    }
    if answer
        .body()
        .content_length()
        .is_some_and(|length| length > max_bytes)
    {
        return Err(GetError::TooLarge);
    }
    let mut body = answer.body_mut().as_reader();
    let (mut hasher, mut left, mut step) = (Hasher::default(), max_bytes, vec![0; STEP]);
    loop {
        let read = match body.read(&mut step) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ureq::Error::from(error).into()),
        };
        left = left.checked_sub(read as u64).ok_or(GetError::TooLarge)?;
        hasher.update(&step[..read]);
        file.write_all(&step[..read]).map_err(GetError::Write)?;
    }
    file.flush().map_err(GetError::Write)?;
    Ok(hasher.finish())
}

fn agent(url: &str, patience: Duration) -> Agent {
    let mut config = Agent::config_builder()
        .timeout_global(Some(patience))
        .max_redirects(MAX_REDIRECTS)
        .http_status_as_error(false)
        .user_agent(concat!("aegis-backend/", env!("CARGO_PKG_VERSION")));
    // A plain address may lead to one with TLS, so it is always ready; to read the system's
    // certificates takes milliseconds, and is done for the few fetches that there are.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(roots(url))
        .build();
    config = config.tls_config(tls);
    config.build().new_agent()
}

fn roots(url: &str) -> RootCerts {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        tracing::warn!(url = %super::Shown(url), errors = ?found.errors, "the system trusts nobody: no TLS");
    }
    let certificates = found
        .certs
        .iter()
        .map(|one| Certificate::from_der(one).to_owned());
    let certificates: Vec<Certificate<'static>> = certificates.collect();
    RootCerts::new_with_certs(&certificates)
}

impl From<ureq::Error> for GetError {
    fn from(error: ureq::Error) -> Self {
        Self::Http(Box::new(error))
    }
}
