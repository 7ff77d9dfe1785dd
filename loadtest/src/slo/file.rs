//! The file of objectives, taken whole or refused with every fault.

use std::path::Path;

use aegis_config::{Faults, KeyPath, ReadError, Rejected, read_file};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Bound, Slo};

/// How sure a verdict is, unless told otherwise.
const CONFIDENCE: f64 = 0.95;

/// The longest latency that can be told from longer ones.
const MAX_MS: f64 = 3_600_000.0;

/// The most bounds of latency.
const MAX_BOUNDS: usize = 20;

/// Says why there are no objectives. It is the user's to mend.
#[derive(Debug, thiserror::Error)]
pub enum SloError {
    /// The file cannot be read.
    #[error("{0}{why}", why = because(.0))]
    Read(ReadError),
    /// It is wrong.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

fn because(error: &ReadError) -> String {
    std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"))
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RawSlo {
    /// The confidence of the intervals that decide, over 0.5 and under 1. 0.95 when left out.
    confidence: Option<f64>,
    /// The least share of requests that are answered with status 200 in time.
    availability: Option<f64>,
    /// The least share of answers that are the expected ones; needs data with labels.
    accuracy: Option<f64>,
    /// Bounds of latency, from the intended send time.
    latency: Vec<RawBound>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RawBound {
    /// Which quantile: 0.99 is the 99th percentile.
    quantile: Option<f64>,
    /// What it has to stay below, in milliseconds.
    below_ms: Option<f64>,
}

/// The JSON Schema of the file.
#[must_use]
pub fn schema() -> String {
    aegis_config::schema::<RawSlo>("aegis-loadtest slo.toml")
}

// === impl Slo ===

impl Slo {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or anything in it is wrong: all of it is said.
    pub fn read(path: &Path) -> Result<Self, SloError> {
        let text = read_file(path).map_err(SloError::Read)?;
        Ok(Self::parse(&path.display().to_string(), &text)?)
    }

    /// Reads text; `origin` names it in errors.
    ///
    /// # Errors
    ///
    /// When anything in it is wrong: all of it is said.
    pub fn parse(origin: &str, text: &str) -> Result<Self, Rejected> {
        aegis_config::load(origin, text, validate)
    }
}

fn validate(raw: RawSlo, faults: &mut Faults<'_>) -> Option<Slo> {
    let confidence = raw.confidence.unwrap_or(CONFIDENCE);
    if !(confidence > 0.5 && confidence < 1.0) {
        let expected = "expected a number over 0.5 and under 1";
        faults.at("confidence", format!("{expected}, got {confidence}"));
    }
    for (key, share) in [
        ("availability", raw.availability),
        ("accuracy", raw.accuracy),
    ] {
        if let Some(got) = share.filter(|&share| !is_share(share)) {
            // No run, however long, shows that nothing ever fails.
            let expected = "expected a share over 0 and under 1, as 0.995 for 99.5 %";
            faults.at(key, format!("{expected}, got {got}"));
        }
    }
    let is_empty = raw.availability.is_none() && raw.accuracy.is_none() && raw.latency.is_empty();
    if is_empty && faults_are_elsewhere(faults) {
        let expected = "expected at least one of availability, accuracy and [[latency]]";
        faults.at(KeyPath::root(), expected);
    }
    if raw.latency.len() > MAX_BOUNDS {
        let got = raw.latency.len();
        faults.at(
            "latency",
            format!("expected at most {MAX_BOUNDS} bounds, got {got}"),
        );
    }
    let wanted = raw.latency.len();
    let bounds = raw.latency.into_iter().enumerate();
    let bounds = bounds.filter_map(|(index, raw)| Some((index, bound(index, &raw, faults)?)));
    let mut latency: Vec<(usize, Bound)> = bounds.collect();
    latency.sort_by(|(_, one), (_, other)| one.quantile.total_cmp(&other.quantile));
    for pair in latency.windows(2) {
        if let [(_, lower), (index, upper)] = pair {
            contradiction(*lower, *index, *upper, faults);
        }
    }
    (latency.len() == wanted).then(|| Slo {
        confidence,
        availability: raw.availability,
        accuracy: raw.accuracy,
        latency: latency.into_iter().map(|(_, bound)| bound).collect(),
    })
}

/// Whether nothing that would be an objective failed already.
fn faults_are_elsewhere(faults: &Faults<'_>) -> bool {
    let keys = ["availability", "accuracy", "latency"];
    !keys
        .iter()
        .any(|&key| faults.failed_near(&KeyPath::from(key)))
}

fn is_share(share: f64) -> bool {
    share > 0.0 && share < 1.0
}

fn bound(index: usize, raw: &RawBound, faults: &mut Faults<'_>) -> Option<Bound> {
    let at = |key: &str| KeyPath::from("latency").index(index).key(key);
    let quantile = match raw.quantile {
        Some(quantile) if is_share(quantile) => Some(quantile),
        Some(got) => faults.refuse(
            at("quantile"),
            format!("expected a number over 0 and under 1, as 0.99, got {got}"),
        ),
        None => faults.refuse(at("quantile"), "missing"),
    };
    let below_ms = match raw.below_ms {
        Some(below_ms) if below_ms > 0.0 && below_ms <= MAX_MS => Some(below_ms),
        Some(got) => faults.refuse(
            at("below_ms"),
            format!("expected milliseconds over 0 and up to an hour, got {got}"),
        ),
        None => faults.refuse(at("below_ms"), "missing"),
    };
    Some(Bound {
        quantile: quantile?,
        below_ms: below_ms?,
    })
}

/// A quantile is never below a lower one, so that a bound that falls makes the other idle.
fn contradiction(lower: Bound, index: usize, upper: Bound, faults: &mut Faults<'_>) {
    let at = |key: &str| KeyPath::from("latency").index(index).key(key);
    if (upper.quantile - lower.quantile).abs() < f64::EPSILON {
        faults.at(at("quantile"), format!("{} is there twice", upper.quantile));
    } else if upper.below_ms < lower.below_ms {
        let message = format!(
            "expected at least {} ms, which the lower quantile {} is allowed, got {}",
            lower.below_ms, lower.quantile, upper.below_ms
        );
        faults.at(at("below_ms"), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> String {
        Slo::parse("slo.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn bounds_are_sorted_by_quantile_and_the_confidence_has_a_default() {
        let text = "availability = 0.995\n[[latency]]\nquantile = 0.99\nbelow_ms = 1500\n\
                    [[latency]]\nquantile = 0.5\nbelow_ms = 200";
        let slo = Slo::parse("slo.toml", text).unwrap();
        let bound = |quantile, below_ms| Bound { quantile, below_ms };
        assert_eq!(slo.latency, [bound(0.5, 200.0), bound(0.99, 1500.0)]);
        assert_eq!((slo.confidence, slo.availability), (0.95, Some(0.995)));
        assert_eq!(slo.least(), 736);
        assert_eq!(slo.longest(), Some(std::time::Duration::from_millis(1500)));
    }

    #[test]
    fn every_fault_is_named_by_key_and_line() {
        let text = "availability = 99.5\nconfidence = 1\n[[latency]]\nquantile = 99\n\
                    [[latency]]\nquantile = 0.9\nbelow_ms = 0\nabove_ms = 3";
        let faults = faults(text);
        for fault in [
            "slo.toml:1: availability: expected a share over 0 and under 1, as 0.995 for 99.5 %, got 99.5",
            "slo.toml:2: confidence: expected a number over 0.5 and under 1, got 1",
            "slo.toml:4: latency[0].quantile: expected a number over 0 and under 1, as 0.99, got 99",
            "latency[0].below_ms: missing",
            "slo.toml:7: latency[1].below_ms: expected milliseconds over 0 and up to an hour, got 0",
            "slo.toml:8: latency[1].above_ms: ",
        ] {
            assert!(faults.contains(fault), "{fault}\n{faults}");
        }
    }

    #[test]
    fn what_contradicts_itself_or_says_nothing_is_refused() {
        let bounds = |first: &str, second: &str| {
            faults(&format!("latency = [{{ {first} }}, {{ {second} }}]"))
        };
        let falls = bounds(
            "quantile = 0.99, below_ms = 100",
            "quantile = 0.5, below_ms = 200",
        );
        let says = "latency[0].below_ms: expected at least 200 ms, which the lower quantile 0.5 is allowed";
        assert!(falls.contains(says), "{falls}");
        let twice = bounds(
            "quantile = 0.5, below_ms = 100",
            "quantile = 0.5, below_ms = 200",
        );
        assert!(
            twice.contains("latency[1].quantile: 0.5 is there twice"),
            "{twice}"
        );
        let empty = faults("confidence = 0.9");
        assert!(
            empty.contains("expected at least one of availability"),
            "{empty}"
        );
    }
}
