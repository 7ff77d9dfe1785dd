//! Reads what `/metrics` says, and refuses what a Prometheus server would.
//!
//! Written here because the crates that read the text format either skip lines that they do not
//! understand and cut labels at commas (`prometheus-parse`), which would let a broken exposition
//! pass, or carry a licence that this project does not take (`openmetrics-parser`, LGPL).
//!
//! Beyond the grammar it checks what scrapers rely on: a type before the first sample, each family
//! in one block, no series twice, no negative counter, cumulative buckets that end in `+Inf` and
//! agree with `_count`.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4.

use std::collections::BTreeMap;
use std::str::FromStr;

mod check;
mod parse;

/// The largest number up to which every whole number is an `f64`.
const MAX_COUNT: f64 = 9_007_199_254_740_992.0;

/// One scrape: every family that was exposed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape {
    families: BTreeMap<String, Family>,
}

/// The samples under one name and its help and type.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// What kind of metric it is.
    pub kind: Kind,
    /// What its `HELP` line says.
    pub help: String,
    /// Its samples, in the order of the text.
    pub samples: Vec<Sample>,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Grows and falls.
    Gauge,
    /// Cumulative buckets, a sum and a count.
    Histogram,
    /// Quantiles, a sum and a count.
    Summary,
    /// Nothing was said.
    Untyped,
}

/// One line with a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name; of a histogram with `_bucket`, `_sum` or `_count`.
    pub name: String,
    /// The labels.
    pub labels: Labels,
    /// The value.
    pub value: f64,
}

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// Says what is wrong with an exposition.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScrapeError {
    /// A line is outside the grammar.
    #[error("line {line}: expected {expected} at {rest:?}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What should stand there.
        expected: &'static str,
        /// What stands there.
        rest: String,
    },
    /// The grammar is kept, its meaning is not.
    #[error("line {line}: {fault}")]
    Meaning {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        fault: String,
    },
    /// The samples of a family do not fit together.
    #[error("{family}: {fault}")]
    Family {
        /// The family's name.
        family: String,
        /// What is wrong.
        fault: String,
    },
}

// === impl Scrape ===

impl Scrape {
    /// The families by name.
    #[must_use]
    pub fn families(&self) -> &BTreeMap<String, Family> {
        &self.families
    }

    /// The samples of that name whose labels include `labels`.
    pub fn samples<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        let samples = self.families.values().flat_map(|family| &family.samples);
        samples.filter(move |sample| sample.name == name && sample.has(labels))
    }

    /// The sum of those samples; 0 when there are none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples(name, labels).map(|sample| sample.value).sum()
    }

    /// That sum as a whole number, as counters and generations are.
    ///
    /// # Errors
    ///
    /// When there are no such samples, or their sum is no count.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked before"
    )]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> anyhow::Result<u64> {
        anyhow::ensure!(
            self.samples(name, labels).next().is_some(),
            "no {name} with {labels:?}"
        );
        let sum = self.sum(name, labels);
        let counts = (0.0..MAX_COUNT).contains(&sum) && sum.fract() == 0.0;
        anyhow::ensure!(counts, "{name} with {labels:?} is {sum}, no count");
        Ok(sum as u64)
    }

    /// The value of the only such sample; none when there is none or there are several.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut samples = self.samples(name, labels);
        let only = samples.next()?;
        samples.next().is_none().then_some(only.value)
    }
}

impl FromStr for Scrape {
    type Err = ScrapeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let families = parse::families(text)?;
        for (name, family) in &families {
            check::family(name, family).map_err(|fault| ScrapeError::Family {
                family: name.clone(),
                fault,
            })?;
        }
        Ok(Self { families })
    }
}

// === impl Sample ===

impl Sample {
    /// Whether its labels include these.
    #[must_use]
    pub fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|(name, value)| self.labels.get(*name).is_some_and(|v| v == value))
    }
}

// === impl Kind ===

impl Kind {
    /// What may follow the family's name in a sample of this kind.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Counter | Self::Gauge | Self::Untyped => &[""],
            Self::Histogram => &["_bucket", "_sum", "_count"],
            Self::Summary => &["", "_sum", "_count"],
        }
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "counter" => Ok(Self::Counter),
            "gauge" => Ok(Self::Gauge),
            "histogram" => Ok(Self::Histogram),
            "summary" => Ok(Self::Summary),
            "untyped" => Ok(Self::Untyped),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests;
