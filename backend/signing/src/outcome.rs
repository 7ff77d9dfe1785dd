//! How a verification ended: a closed set, so that it can label a counter.

/// How a verification ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is as it was signed, by a trusted key.
    Verified,
    /// There is no signature.
    Unsigned,
    /// The signature is none that is understood, or contradicts itself.
    BadSignature,
    /// No trusted key made the signature.
    Untrusted,
    /// A file is not as it was signed.
    Changed,
    /// A file that was signed is not there.
    Missing,
    /// A file is there that was not signed.
    Unlisted,
    /// A link, or something else that is neither file nor folder.
    Link,
    /// More bytes, files or folders than are allowed.
    TooLarge,
    /// The system did not let it be read.
    Unreadable,
    /// A trusted key cannot be read.
    NoKey,
    /// All is as it was signed, but what is needed is not among it.
    Uncovered,
}

// === impl Outcome ===

impl Outcome {
    /// Every outcome, so that counters can exist at 0 from the start.
    pub const ALL: [Self; 12] = [
        Self::Verified,
        Self::Unsigned,
        Self::BadSignature,
        Self::Untrusted,
        Self::Changed,
        Self::Missing,
        Self::Unlisted,
        Self::Link,
        Self::TooLarge,
        Self::Unreadable,
        Self::NoKey,
        Self::Uncovered,
    ];

    /// The name in labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Unsigned => "unsigned",
            Self::BadSignature => "bad_signature",
            Self::Untrusted => "untrusted",
            Self::Changed => "changed",
            Self::Missing => "missing",
            Self::Unlisted => "unlisted",
            Self::Link => "link",
            Self::TooLarge => "too_large",
            Self::Unreadable => "unreadable",
            Self::NoKey => "no_key",
            Self::Uncovered => "uncovered",
        }
    }
}
