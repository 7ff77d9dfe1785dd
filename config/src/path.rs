//! Key paths: `models.digits.versions.2.endpoints[0]`.
//!
//! Built segment by segment and never by formatting strings, so that a name
//! with a dot in it (`models."a.b"`) stays one segment.

use std::fmt;

/// One step into a TOML tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A key of a table.
    Key(String),
    /// An element of an array, from 0.
    Index(usize),
}

/// Where a value stands in a TOML tree; displayed as TOML writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPath(Vec<Segment>);

// === impl KeyPath ===

impl KeyPath {
    /// The whole file.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// The key `name` below this path.
    #[must_use]
    pub fn key(&self, name: impl Into<String>) -> Self {
        self.child(Segment::Key(name.into()))
    }

    /// The element `index` below this path.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.child(Segment::Index(index))
    }

    /// The steps from the root.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether this path is `other` or lies below it.
    #[must_use]
    pub fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    fn child(&self, segment: Segment) -> Self {
        let mut segments = Vec::with_capacity(self.0.len() + 1);
        segments.extend_from_slice(&self.0);
        segments.push(segment);
        Self(segments)
    }
}

/// One key below the root; dots in it are part of the name.
impl From<&str> for KeyPath {
    fn from(key: &str) -> Self {
        Self::root().key(key)
    }
}

impl From<&Self> for KeyPath {
    fn from(path: &Self) -> Self {
        path.clone()
    }
}

impl<const N: usize> From<[&str; N]> for KeyPath {
    fn from(keys: [&str; N]) -> Self {
        Self(keys.map(|key| Segment::Key(key.to_owned())).to_vec())
    }
}

impl FromIterator<Segment> for KeyPath {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self(segments.into_iter().collect())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    if depth > 0 {
                        f.write_str(".")?;
                    }
                    if is_bare(key) {
                        f.write_str(key)?;
                    } else {
                        write!(f, "{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether TOML lets this key stand without quotes.
fn is_bare(key: &str) -> bool {
    !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::KeyPath;

    #[test]
    fn a_path_reads_as_toml_writes_it() {
        let path = KeyPath::from(["models", "digits", "versions", "2"]).key("endpoints");
        assert_eq!(
            path.index(0).to_string(),
            "models.digits.versions.2.endpoints[0]"
        );
    }

    #[test]
    fn keys_that_are_not_bare_are_quoted() {
        let path = KeyPath::from(["models", "a.b", "", "é", "x\"y\n"]);
        assert_eq!(path.to_string(), r#"models."a.b".""."é"."x\"y\n""#);
    }

    #[test]
    fn below_means_the_same_segments_not_the_same_letters() {
        let versions = KeyPath::from(["a", "b"]);
        assert!(versions.key("c").starts_with(&versions));
        assert!(!KeyPath::from(["a", "bc"]).starts_with(&versions));
    }
}
