//! What checks found in a request or in its answer.

use std::fmt;

use aegis_protocol::excerpt;

use super::{Action, Check};

/// Rows that are named; further ones are only counted, so that no answer grows with its request.
const MAX_NAMED: usize = 16;

/// Something that a check found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The check.
    pub check: Check,
    /// What is done about it.
    pub action: Action,
    /// Where it is.
    pub place: Place,
    /// In which rows.
    pub rows: Rows,
    /// What it is.
    pub what: What,
}

/// Where something was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the request as a whole.
    Request,
    /// In the input of this name.
    Input(String),
    /// In the output of this name.
    Output(String),
    /// In what this guard model says of the inputs.
    Guard(String),
}

/// What was found. Carries no text of the request: it reaches logs.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each is told by its message below")]
pub enum What {
    NonFinite {
        index: usize,
        value: f64,
    },
    OutOfRange {
        min: f64,
        max: f64,
        index: usize,
        value: f64,
    },
    TooMany {
        what: &'static str,
        most: usize,
        got: usize,
    },
    TooFar {
        limit: f64,
        distance: f64,
    },
    TooMuchEnergy {
        limit: f64,
        energy: f64,
    },
    Unsure {
        least: f64,
        got: f64,
    },
    OnBlocklist {
        term: usize,
        element: usize,
    },
    Matches {
        pattern: usize,
        element: usize,
    },
    Score {
        most: f64,
        got: f64,
    },
    /// The check itself failed.
    Unable(String),
}

/// Some rows of a request, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    named: Vec<usize>,
    last: Option<usize>,
    count: usize,
}

/// Everything that was found, in the order of the checks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings(Vec<Finding>);

/// The last of these findings blocks the request.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", .0.0.last().map_or_else(String::new, ToString::to_string))]
pub struct Blocked(pub(crate) Findings);

// === impl Rows ===

impl Rows {
    /// Adds a row that is not below those that are there.
    pub(super) fn add(&mut self, row: usize) {
        if self.last == Some(row) {
            return;
        }
        self.last = Some(row);
        self.count += 1;
        if self.named.len() < MAX_NAMED {
            self.named.push(row);
        }
    }

    /// Every one of so many rows.
    pub(super) fn all(rows: usize) -> Self {
        let mut all = Self::default();
        (0..rows.min(MAX_NAMED)).for_each(|row| all.add(row));
        all.count = rows;
        all
    }

    /// The first ones.
    #[must_use]
    pub fn named(&self) -> &[usize] {
        &self.named
    }

    /// How many they are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, row) in self.named.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{row}")?;
        }
        match self.count - self.named.len() {
            0 => Ok(()),
            more => write!(f, ",+{more}"),
        }
    }
}

// === impl Findings ===

impl Findings {
    /// Adds one.
    ///
    /// # Errors
    ///
    /// All of them, when this one blocks the request: nothing more needs to be looked for.
    pub(crate) fn add(&mut self, finding: Finding) -> Result<(), Blocked> {
        let blocks = finding.action == Action::Block;
        self.0.push(finding);
        if blocks {
            return Err(Blocked(std::mem::take(self)));
        }
        Ok(())
    }

    /// Puts those of an earlier step before these.
    pub(crate) fn after(mut self, mut earlier: Self) -> Self {
        if earlier.0.is_empty() {
            return self;
        }
        earlier.0.append(&mut self.0);
        earlier
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }

    /// What the client is told in a header: the reasons, each once, of all that is not only logged.
    #[must_use]
    pub fn reasons(&self) -> Option<String> {
        let mut names: Vec<&str> = Vec::new();
        for finding in self.told() {
            if !names.contains(&finding.check.name()) {
                names.push(finding.check.name());
            }
        }
        (!names.is_empty()).then(|| names.join(","))
    }

    /// What the client is told in the answer: reasons and their rows, `low_confidence=0,3`.
    #[must_use]
    pub fn reasons_by_row(&self) -> Option<String> {
        let each: Vec<_> = self
            .told()
            .map(|finding| format!("{}={}", finding.check.name(), finding.rows))
            .collect();
        (!each.is_empty()).then(|| each.join(" "))
    }

    fn told(&self) -> impl Iterator<Item = &Finding> {
        self.0
            .iter()
            .filter(|finding| finding.action != Action::Log)
    }
}

impl Blocked {
    /// The check that blocks.
    #[must_use]
    pub fn check(&self) -> Option<Check> {
        self.0.0.last().map(|finding| finding.check)
    }

    /// All that was found, the one that blocks last.
    #[must_use]
    pub fn findings(&self) -> &Findings {
        &self.0
    }

    /// Without the findings before it, which were told of already.
    pub(crate) fn last_alone(mut self) -> Self {
        let before = self.0.0.len().saturating_sub(1);
        self.0.0.drain(..before);
        self
    }
}

// === messages ===

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        // An element's index says its row already.
        if let (true, Some(row)) = (self.what.is_of_rows(), self.rows.named.first()) {
            write!(f, " in row {row}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request => f.write_str("request"),
            Self::Input(name) => write!(f, "input `{}`", excerpt(name)),
            Self::Output(name) => write!(f, "output `{}`", excerpt(name)),
            Self::Guard(name) => write!(f, "guard model `{}`", excerpt(name)),
        }
    }
}

impl What {
    fn is_of_rows(&self) -> bool {
        matches!(
            self,
            Self::TooFar { .. }
                | Self::TooMuchEnergy { .. }
                | Self::Unsure { .. }
                | Self::Score { .. }
        )
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NonFinite { index, value } => {
                write!(f, "expected finite numbers, got {value} at element {index}")
            }
            Self::OutOfRange {
                min,
                max,
                index,
                value,
            } => write!(
                f,
                "expected numbers from {min} to {max}, got {value} at element {index}"
            ),
            Self::TooMany { what, most, got } => {
                write!(f, "expected at most {most} {what}, got {got}")
            }
            Self::TooFar { limit, distance } => write!(
                f,
                "expected a distance of at most {limit:.4} from what the model knows, got {distance:.4}"
            ),
            Self::TooMuchEnergy { limit, energy } => {
                write!(
                    f,
                    "expected an energy of at most {limit:.4}, got {energy:.4}"
                )
            }
            Self::Unsure { least, got } => {
                write!(f, "expected a confidence of at least {least}, got {got:.4}")
            }
            Self::OnBlocklist { term, element } => {
                write!(f, "term {term} of the blocklist is in element {element}")
            }
            Self::Matches { pattern, element } => {
                write!(f, "pattern {pattern} matches element {element}")
            }
            Self::Score { most, got } => {
                write!(f, "expected a score of at most {most}, got {got:.4}")
            }
            Self::Unable(why) => write!(f, "the check failed: {why}"),
        }
    }
}
