//! Names of models and versions.
//!
//! A name becomes a path segment, a metric label and a header value, so it
//! keeps to the characters that need no escaping in any of them.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

use serde::{Serialize, Serializer};

/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// What [`Name::new`] takes, for the JSON Schema.
pub(super) const NAME_PATTERN: &str = "^(?!\\.+$)[A-Za-z0-9._-]{1,128}$";

/// The name of a model or of a version.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing at all.
    #[error("a name must not be empty")]
    Empty,
    /// Longer than [`MAX_NAME_BYTES`].
    #[error("a name has at most {MAX_NAME_BYTES} bytes, got {bytes}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// A character that would need escaping somewhere.
    #[error("a name has only characters of A-Z a-z 0-9 . _ -, got {found:?}")]
    Character {
        /// The first such character.
        found: char,
    },
    /// `.` and `..` mean something else in a path.
    #[error("a name must not be made of dots alone")]
    Dots,
}

// === impl Name ===

impl Name {
    /// Takes a name.
    ///
    /// # Errors
    ///
    /// See [`NameError`].
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong { bytes: text.len() });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(found) = text.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character { found });
        }
        if text.chars().all(|c| c == '.') {
            return Err(NameError::Dots);
        }
        Ok(Self(text.into()))
    }

    /// The shared text, for types that keep their own.
    #[must_use]
    pub fn to_arc(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// So that a map by name is searched with a `&str`.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_NAME_BYTES, Name, NameError};

    #[test]
    fn a_name_fits_into_a_path_a_label_and_a_header() {
        for good in ["1", "digits", "v1.2_rc-3", "...a"] {
            assert_eq!(&*Name::new(good).unwrap(), good);
        }
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert_eq!(Name::new("."), Err(NameError::Dots));
        assert_eq!(Name::new(".."), Err(NameError::Dots));
        for bad in ["a/b", "a b", "a\"b", "é", "a\n", "a%2f"] {
            assert!(
                matches!(Name::new(bad), Err(NameError::Character { .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn the_longest_name_is_taken_and_one_byte_more_is_not() {
        let longest = "n".repeat(MAX_NAME_BYTES);
        assert!(Name::new(&longest).is_ok());
        assert_eq!(
            Name::new(&format!("{longest}n")),
            Err(NameError::TooLong { bytes: 129 })
        );
    }
}
