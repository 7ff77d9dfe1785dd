//! Fetches a model version as an archive, by its digest: over HTTP(S), or from a path that is mounted.
//!
//! The digest stands in the configuration, so where the bytes come from need not be trusted, and a
//! cache may be anybody's: whatever is found is read once, into sealed memory, hashed on the way, and
//! used only when it is what was asked for. What comes over the network goes to the cache first, under
//! its digest, so that a restart fetches nothing.
//!
//! A fetch is bounded in bytes and in time, over all its attempts. What may pass (a connection that
//! fails, 429, 5xx) is tried again after a growing pause; what will not (another status, another digest)
//! is not. It blocks, on the loader's own thread.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aegis_signing::sealed::{self, Budget, ReadError};
use aegis_signing::{Digest, Sealed};

use crate::clock;
use crate::config::{FetchLimits, Location, Source};

mod http;

/// How often it is tried.
const ATTEMPTS: u32 = 5;

/// The pause after the first attempt; twice as long after each.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Fetches archives.
#[derive(Clone, Debug)]
pub struct Fetcher {
    limits: FetchLimits,
    max_bytes: u64,
}

/// Waits so long; says whether to go on.
pub type Pause<'p> = &'p dyn Fn(Duration) -> bool;

/// An archive is not there.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It is not on the disk.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is another one.
    #[error("{from} is not what was asked for: expected sha256 {expected}, got {got}")]
    Digest {
        /// Where it came from.
        from: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        got: Digest,
    },
    /// The server says no.
    #[error("{from} answers {status}")]
    Status {
        /// The address, without what may be secret.
        from: String,
        /// The status.
        status: u16,
    },
    /// There is no whole answer.
    #[error("cannot fetch {from}")]
    Http {
        /// The address, without what may be secret.
        from: String,
        /// What went wrong.
        #[source]
        source: Box<ureq::Error>,
    },
    /// It is larger than allowed.
    #[error("{from} has more than max_model_bytes, which is {limit}")]
    TooLarge {
        /// The address, without what may be secret.
        from: String,
        /// The limit.
        limit: u64,
    },
    /// It took too long.
    #[error("{from} was not there within {} ms", .limit.as_millis())]
    TooSlow {
        /// The address, without what may be secret.
        from: String,
        /// `fetch_timeout_ms`.
        limit: Duration,
    },
    /// The cache cannot be written.
    #[error("cannot write to the cache {path}", path = path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server ends; nobody needs it any more.
    #[error("abandoned, because the server stops")]
    Stopped,
}

/// An address as it may be shown: without user, password and query.
struct Shown<'u>(&'u str);

// === impl Fetcher ===

impl Fetcher {
    /// Fetches within these limits.
    #[must_use]
    pub fn new(limits: FetchLimits, max_bytes: u64) -> Self {
        Self { limits, max_bytes }
    }

    /// The archive, in sealed memory.
    ///
    /// # Errors
    ///
    /// See [`FetchError`].
    pub fn obtain(&self, source: &Source, pause: Pause<'_>) -> Result<Sealed, FetchError> {
        match &source.from {
            Location::File(path) => self.read(path, source.sha256),
            Location::Http(url) => {
                let cached = self.limits.cache.join(format!("{}.tar", source.sha256));
                if let Ok(sealed) = self.read(&cached, source.sha256) {
                    tracing::debug!(file = %cached.display(), "in the cache");
                    return Ok(sealed);
                }
                self.download(url, source.sha256, &cached, pause)?;
                self.read(&cached, source.sha256)
            }
        }
    }

    /// Reads a file, if it is what was asked for.
    fn read(&self, path: &Path, expected: Digest) -> Result<Sealed, FetchError> {
        let (got, sealed) = sealed::keep(path, &mut Budget::new(self.max_bytes))?;
        if got == expected {
            return Ok(sealed);
        }
        let from = path.display().to_string();
        Err(FetchError::Digest {
            from,
            expected,
            got,
        })
    }

    fn download(
        &self,
        url: &str,
        expected: Digest,
        cached: &Path,
        pause: Pause<'_>,
    ) -> Result<(), FetchError> {
        let from = Shown(url).to_string();
        let limit = self.limits.timeout;
        let deadline = clock::now() + limit;
        let (mut rest, mut attempt) = (FIRST_PAUSE, 1);
        loop {
            tracing::info!(%from, attempt, "fetching");
            let left = deadline.saturating_duration_since(clock::now());
            let fetched = self.attempt(url, expected, cached, left);
            match fetched {
                Err(error) if error.is_timeout() && clock::now() >= deadline => {
                    return Err(FetchError::TooSlow { from, limit });
                }
                Err(error) if error.may_pass() && attempt < ATTEMPTS && clock::now() < deadline => {
                    tracing::warn!("{}, trying again in {rest:?}", crate::chain::Chain(&error));
                }
                decided => return decided,
            }
            if !pause(rest.min(deadline.saturating_duration_since(clock::now()))) {
                return Err(FetchError::Stopped);
            }
            attempt += 1;
            rest *= 2;
        }
    }

    /// One attempt: what is not whole, or not what was asked for, leaves nothing in the cache.
    fn attempt(
        &self,
        url: &str,
        expected: Digest,
        cached: &Path,
        patience: Duration,
    ) -> Result<(), FetchError> {
        let from = || Shown(url).to_string();
        let cache = |source| FetchError::Cache {
            path: self.limits.cache.clone(),
            source,
        };
        std::fs::create_dir_all(&self.limits.cache).map_err(cache)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.limits.cache).map_err(cache)?;
        let got =
            http::get(url, patience, self.max_bytes, file.as_file_mut()).map_err(|error| {
                match error {
                    http::GetError::Http(source) => FetchError::Http {
                        from: from(),
                        source,
                    },
                    http::GetError::Status(status) => FetchError::Status {
                        from: from(),
                        status,
                    },
                    http::GetError::TooLarge => FetchError::TooLarge {
                        from: from(),
                        limit: self.max_bytes,
                    },
                    http::GetError::Write(source) => cache(source),
                }
            })?;
        if got != expected {
            return Err(FetchError::Digest {
                from: from(),
                expected,
                got,
            });
        }
        let kept = file.persist(cached);
        kept.map(drop).map_err(|error| cache(error.error))
    }
}

// === impl FetchError ===

impl FetchError {
    /// Whether it took all the time that there was: an attempt has as much as is left.
    fn is_timeout(&self) -> bool {
        match self {
            Self::Http { source, .. } => match &**source {
                ureq::Error::Timeout(_) => true,
                ureq::Error::Io(error) => error.kind() == io::ErrorKind::TimedOut,
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether another attempt may succeed.
    fn may_pass(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::Http { source, .. } => match &**source {
                ureq::Error::BadUri(_)
                | ureq::Error::Tls(_)
                | ureq::Error::Rustls(_)
                | ureq::Error::TooManyRedirects => false,
                ureq::Error::Io(error) => !is_untrusted(error),
                _ => true,
            },
            _ => false,
        }
    }
}

/// Whether the certificate of the other side is not taken; it will be the same the next time.
fn is_untrusted(error: &io::Error) -> bool {
    let inner = error.get_ref();
    let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}

// === impl Shown ===

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.0.split(['?', '#']).next().unwrap_or_default();
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = host.rsplit('@').next().unwrap_or(host);
        write!(f, "{scheme}://{host}{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::Shown;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        for (url, shown) in [
            (
                "https://user:secret@h:1/a/b.tar?sig=secret#x",
                "https://h:1/a/b.tar",
            ),
            ("http://h", "http://h"),
            ("http://h?token=secret", "http://h"),
            ("https://h/p@q", "https://h/p@q"),
        ] {
            assert_eq!(Shown(url).to_string(), shown);
        }
    }
}
