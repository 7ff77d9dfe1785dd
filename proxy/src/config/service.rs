//! A Kubernetes service, as the file says it: its name, its namespace, and which port
//! of its pods is meant.

use std::{fmt, num::NonZeroU16, sync::Arc};

/// The longest label of Kubernetes' names, in bytes (RFC 1123).
const MAX_LABEL_BYTES: usize = 63;

/// A name that Kubernetes gives to services, namespaces and ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Arc<str>);

/// Why a text is no [`Label`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Empty, or too long.
    #[error("a name in Kubernetes has 1 to {MAX_LABEL_BYTES} characters, got {bytes}")]
    Length {
        /// How long it is.
        bytes: usize,
    },
    /// A character that such a name has not.
    #[error("a name in Kubernetes has only a-z 0-9 and `-`, got {found:?}")]
    Character {
        /// The first such character.
        found: char,
    },
    /// It begins or ends with a dash.
    #[error("a name in Kubernetes begins and ends with a letter or a digit")]
    Dash,
}

/// A service: what is watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// Where it lives; none for the namespace that the proxy itself is in.
    pub namespace: Option<Label>,
    /// Its name there.
    pub name: Label,
}

/// A port of a service's pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServicePort {
    /// The only one that there is.
    Only,
    /// The one that the service calls so.
    Named(Label),
    /// The one that pods listen on (the service's `targetPort`).
    Number(NonZeroU16),
}

// === impl Label ===

impl Label {
    /// Takes a name.
    ///
    /// # Errors
    /// See [`LabelError`].
    pub fn new(text: &str) -> Result<Self, LabelError> {
        if text.is_empty() || text.len() > MAX_LABEL_BYTES {
            return Err(LabelError::Length { bytes: text.len() });
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if let Some(found) = text.chars().find(|c| !allowed(*c)) {
            return Err(LabelError::Character { found });
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(LabelError::Dash);
        }
        Ok(Self(text.into()))
    }
}

impl AsRef<str> for Label {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl ServiceName ===

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => self.name.fmt(f),
        }
    }
}

// === impl ServicePort ===

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only => f.write_str("*"),
            Self::Named(name) => name.fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_that_kubernetes_would_give() {
        let longest = "n".repeat(MAX_LABEL_BYTES);
        for text in ["a", "digits-stable", "0-0", &longest] {
            assert_eq!(Label::new(text).unwrap().as_ref(), text);
        }
    }

    #[test]
    fn other_names_are_refused_with_what_is_wrong() {
        let long = "n".repeat(64);
        for (text, error) in [
            ("", LabelError::Length { bytes: 0 }),
            (&*long, LabelError::Length { bytes: 64 }),
            ("Digits", LabelError::Character { found: 'D' }),
            ("a.b", LabelError::Character { found: '.' }),
            ("a/../b", LabelError::Character { found: '/' }),
            ("-a", LabelError::Dash),
            ("a-", LabelError::Dash),
        ] {
            assert_eq!(Label::new(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_service_is_written_with_its_namespace_where_it_has_one() {
        let label = |text| Label::new(text).unwrap();
        let mut service = ServiceName {
            namespace: None,
            name: label("digits"),
        };
        assert_eq!(service.to_string(), "digits");
        service.namespace = Some(label("models"));
        assert_eq!(service.to_string(), "models/digits");
    }
}
