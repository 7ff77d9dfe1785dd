//! Which run a log is of: its seed, and when it began, to the nanosecond.
//!
//! All copies of a log have both, also those that were made before its run was over, and so has a log that it was
//! merged into. Two runs have not, on however many machines: they would have to begin within the same nanosecond.

use std::fmt::{self, Display, Formatter};
use std::time::{SystemTime, UNIX_EPOCH};

/// The most runs that a log may be of.
pub(crate) const MAX_RUNS: usize = 4096;

/// A run, as its log calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId {
    /// What decided its requests.
    pub seed: u64,
    /// When its measurement began: nanoseconds since 1970.
    pub began: u64,
}

// === impl RunId ===

impl RunId {
    /// The run of a seed that begins then.
    pub(crate) fn new(seed: u64, began: SystemTime) -> Self {
        let since = began.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            seed,
            began: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// As a log says it.
    pub(crate) fn to_text(self) -> String {
        format!("{} {}", self.seed, self.began)
    }

    /// Reads what [`RunId::to_text`] wrote.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (seed, began) = std::str::from_utf8(text).ok()?.split_once(' ')?;
        Some(Self {
            seed: seed.parse().ok()?,
            began: began.parse().ok()?,
        })
    }
}

/// For people.
impl Display for RunId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // 64 bits end in the year 2554, which is within its range.
        let began = jiff::Timestamp::from_nanosecond(self.began.into()).unwrap_or_default();
        write!(f, "seed {}, began at {began}", self.seed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_run_is_told_by_its_seed_and_the_nanosecond_of_its_beginning() {
        let began = UNIX_EPOCH + Duration::new(1_764_357_600, 123_456_789);
        let run = RunId::new(7, began);
        assert_eq!(run.to_text(), "7 1764357600123456789");
        assert_eq!(RunId::parse(run.to_text().as_bytes()), Some(run));
        assert_eq!(
            run.to_string(),
            "seed 7, began at 2025-11-28T19:20:00.123456789Z"
        );
        assert_ne!(run, RunId::new(7, began + Duration::from_nanos(1)));
        assert_ne!(run, RunId::new(8, began));
        for text in ["", "7", "7 ", "7 -1", "x 1", "7 1 1"] {
            assert_eq!(RunId::parse(text.as_bytes()), None, "`{text}`");
        }
    }
}
