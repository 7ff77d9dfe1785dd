//! Where a version runs, as the file says it: an address, or a host name with a
//! port, or a Kubernetes service, which stand for every address that they have at
//! the time.

use std::{borrow::Borrow, fmt, net::SocketAddr, sync::Arc};

use super::service::{ServiceName, ServicePort};

/// The longest host name, in bytes (RFC 1035, less what only the wire needs).
const MAX_HOST_BYTES: usize = 253;
/// The longest part between two dots (RFC 1035).
const MAX_LABEL_BYTES: usize = 63;

/// Where a version runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// One address.
    Address(SocketAddr),
    /// Every address of a name.
    Named {
        /// The name.
        host: HostName,
        /// The port, the same at each address.
        port: u16,
    },
    /// Every pod of a Kubernetes service.
    Service {
        /// The service.
        service: ServiceName,
        /// Which of its ports.
        port: ServicePort,
    },
}

/// A host name that can be asked for; in lower case, as names are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

/// Why a text is no host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    /// Empty, or too long for DNS.
    #[error("a host name has 1 to {MAX_HOST_BYTES} characters")]
    Length,
    /// A part between two dots is empty or too long.
    #[error("each part of a host name has 1 to {MAX_LABEL_BYTES} characters")]
    LabelLength,
    /// A character that no host name has.
    #[error("a host name has only letters, digits, `-`, `_` and dots")]
    Character,
    /// It ends as an IPv4 address does, so it is more likely a bad one of those.
    #[error("the last part of a host name is not a number")]
    Number,
}

// === impl Place ===

impl Place {
    /// The name, where it is one.
    #[must_use]
    pub fn host(&self) -> Option<&HostName> {
        match self {
            Self::Address(_) | Self::Service { .. } => None,
            Self::Named { host, .. } => Some(host),
        }
    }

    /// The service and the port, where it is one.
    #[must_use]
    pub fn service(&self) -> Option<(&ServiceName, &ServicePort)> {
        match self {
            Self::Address(_) | Self::Named { .. } => None,
            Self::Service { service, port } => Some((service, port)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Named { host, port } => write!(f, "{host}:{port}"),
            Self::Service { service, port } => write!(f, "{service}:{port}"),
        }
    }
}

// === impl HostName ===

impl HostName {
    /// Checks a name. A dot at its end says that it is complete: no search
    /// domain is added to it.
    ///
    /// # Errors
    /// See [`HostNameError`].
    pub fn new(text: &str) -> Result<Self, HostNameError> {
        let labels = text.strip_suffix('.').unwrap_or(text);
        if labels.is_empty() || labels.len() > MAX_HOST_BYTES {
            return Err(HostNameError::Length);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !labels.bytes().all(allowed) {
            return Err(HostNameError::Character);
        }
        if labels
            .split('.')
            .any(|label| label.is_empty() || label.len() > MAX_LABEL_BYTES)
        {
            return Err(HostNameError::LabelLength);
        }
        let last = labels.rsplit('.').next().unwrap_or(labels);
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(HostNameError::Number);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_in_lower_case_with_or_without_its_last_dot() {
        for (text, name) in [
            ("localhost", "localhost"),
            ("Pods.Models.SVC", "pods.models.svc"),
            (
                "pods.models.svc.cluster.local.",
                "pods.models.svc.cluster.local.",
            ),
            ("_http._tcp.pods-1", "_http._tcp.pods-1"),
        ] {
            assert_eq!(HostName::new(text).unwrap().as_ref(), name);
        }
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        let long = "a".repeat(64);
        let longer = "a.".repeat(127) + "a";
        for (text, error) in [
            ("", HostNameError::Length),
            (".", HostNameError::Length),
            (&*longer, HostNameError::Length),
            (&*long, HostNameError::LabelLength),
            ("a..b", HostNameError::LabelLength),
            (".a", HostNameError::LabelLength),
            ("http://a", HostNameError::Character),
            ("gr\u{fc}n", HostNameError::Character),
            ("10.0.0.256", HostNameError::Number),
            ("10.0.0.1.", HostNameError::Number),
        ] {
            assert_eq!(HostName::new(text), Err(error), "{text}");
        }
    }
}
