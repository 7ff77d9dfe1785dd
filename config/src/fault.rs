//! Faults: what is wrong, where, and how many of them are kept.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::{KeyPath, Segment};

/// The most faults that one report holds.
///
/// Each fault of shape costs one more pass over the tree, and nobody reads the
/// hundred-and-first.
pub const MAX_FAULTS: usize = 100;

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Key path as TOML writes it; empty for the file as a whole.
    pub path: String,
    /// Line of the text, from 1; the nearest table's when the key is missing.
    pub line: Option<usize>,
    /// What was expected, and what was found.
    pub message: String,
}

/// Collects the faults of one text.
#[derive(Debug)]
pub struct Faults<'t> {
    document: &'t Document<'t>,
    /// Where deserialising failed; nothing more is said at or below these.
    failed: Vec<KeyPath>,
    kept: Vec<Fault>,
    /// How many came after the report was full.
    dropped: usize,
}

/// A text that is not taken, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Rejected {
    /// What was read, as the user named it.
    pub origin: String,
    /// What is wrong, in the order of the text; never empty.
    pub faults: Vec<Fault>,
}

// === impl Faults ===

impl<'t> Faults<'t> {
    pub(crate) fn new(document: &'t Document<'t>) -> Self {
        Self {
            document,
            failed: Vec::new(),
            kept: Vec::new(),
            dropped: 0,
        }
    }

    /// Records a fault, unless deserialising already failed at or above `path`.
    pub fn at(&mut self, path: impl Into<KeyPath>, message: impl Into<String>) {
        let path = self.in_the_text(&path.into());
        if !self.failed.iter().any(|failed| path.starts_with(failed)) {
            self.push(&path, message.into());
        }
    }

    /// As [`Faults::at`], and `None`: a validator can end in it.
    pub fn refuse<T>(&mut self, path: impl Into<KeyPath>, message: impl Into<String>) -> Option<T> {
        self.at(path, message);
        None
    }

    /// Whether deserialising failed at, above or below `path`.
    ///
    /// A rule over many keys (all weights are 0, no endpoint at all) asks this
    /// first: what it would say may only follow from the fault that is known.
    #[must_use]
    pub fn failed_near(&self, path: &KeyPath) -> bool {
        let path = self.in_the_text(path);
        self.failed
            .iter()
            .any(|failed| failed.starts_with(&path) || path.starts_with(failed))
    }

    /// Whether nothing is wrong so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many faults were found so far, also those that the report drops.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len() + self.dropped
    }

    /// Records that deserialising failed at `path` of the pruned tree.
    pub(crate) fn fail(&mut self, path: &KeyPath, message: String) {
        let path = self.in_the_text(path);
        self.push(&path, message);
        self.failed.push(path);
        // Kept in order, so that `in_the_text` sees lower indices first.
        self.failed.sort();
    }

    pub(crate) fn into_vec(self) -> Vec<Fault> {
        let mut faults = self.kept;
        // A stable sort: faults of one line stay in the order of discovery.
        faults.sort_by_key(|fault| fault.line.unwrap_or(usize::MAX));
        if self.dropped > 0 {
            faults.push(more());
        }
        faults
    }

    fn push(&mut self, path: &KeyPath, message: String) {
        if self.kept.len() >= MAX_FAULTS {
            self.dropped += 1;
            return;
        }
        self.kept.push(Fault {
            path: path.to_string(),
            line: self.document.line_of(path),
            message,
        });
    }

    /// Where a path of the pruned tree stands in the text: array elements that
    /// failed are gone from the tree, and those behind them moved up.
    fn in_the_text(&self, path: &KeyPath) -> KeyPath {
        let mut segments: Vec<Segment> = Vec::with_capacity(path.segments().len());
        for segment in path.segments() {
            let mut segment = segment.clone();
            if let Segment::Index(index) = &mut segment {
                for failed in &self.failed {
                    if let Some((Segment::Index(gone), parent)) = failed.segments().split_last()
                        && parent == segments.as_slice()
                        && gone <= index
                    {
                        *index += 1;
                    }
                }
            }
            segments.push(segment);
        }
        segments.into_iter().collect()
    }
}

/// The last line of a report that is full.
pub(crate) fn more() -> Fault {
    Fault {
        path: String::new(),
        line: None,
        message: format!("more than {MAX_FAULTS} faults; the rest is not shown"),
    }
}

// === impl Rejected ===

impl Rejected {
    pub(crate) fn new(origin: &str, faults: Vec<Fault>) -> Self {
        Self {
            origin: origin.to_owned(),
            faults,
        }
    }
}

/// One line a fault: `proxy.toml:12: models.digits: expected ..., got ...`.
impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.origin)?;
            if let Some(line) = fault.line {
                write!(f, "{line}:")?;
            }
            if !fault.path.is_empty() {
                write!(f, " {}:", fault.path)?;
            }
            write!(f, " {}", fault.message)?;
        }
        Ok(())
    }
}
