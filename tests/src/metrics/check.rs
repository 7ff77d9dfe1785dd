//! Whether the samples of one family fit together.

use std::collections::BTreeMap;

use super::parse::number;
use super::{Family, Kind, Labels, Sample};

/// The buckets, sum and count of one series of a histogram.
#[derive(Default)]
struct Series {
    buckets: Vec<(f64, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
}

/// Checks the samples against the family's kind; says what is wrong.
pub(super) fn family(name: &str, family: &Family) -> Result<(), String> {
    match family.kind {
        Kind::Counter => family.samples.iter().try_for_each(counter),
        Kind::Histogram => histogram(name, &family.samples),
        Kind::Gauge | Kind::Summary | Kind::Untyped => Ok(()),
    }
}

fn counter(sample: &Sample) -> Result<(), String> {
    if sample.value >= 0.0 {
        Ok(())
    } else {
        Err(format!("a counter of {}", sample.value))
    }
}

fn histogram(name: &str, samples: &[Sample]) -> Result<(), String> {
    let mut by_labels: BTreeMap<Labels, Series> = BTreeMap::new();
    for sample in samples {
        let mut labels = sample.labels.clone();
        let bound = labels.remove("le");
        let series = by_labels.entry(labels).or_default();
        match (sample.name.strip_prefix(name), bound) {
            (Some("_bucket"), Some(bound)) => {
                let bound = number(&bound).ok_or_else(|| format!("a bucket up to {bound:?}"))?;
                series.buckets.push((bound, sample.value));
            }
            (Some("_sum"), None) => series.sum = Some(sample.value),
            (Some("_count"), None) => series.count = Some(sample.value),
            _ => return Err(format!("{} with or without `le`", sample.name)),
        }
    }
    by_labels.iter().try_for_each(|(labels, series)| {
        series
            .check()
            .map_err(|fault| format!("{fault} in the series {labels:?}"))
    })
}

// === impl Series ===

impl Series {
    fn check(&self) -> Result<(), &'static str> {
        let grows = |pair: &[(f64, f64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
        if !self.buckets.windows(2).all(grows) {
            return Err("buckets that do not grow");
        }
        let last = self
            .buckets
            .last()
            .filter(|(bound, _)| *bound == f64::INFINITY);
        match (last, self.count, self.sum) {
            (None, _, _) => Err("no bucket up to +Inf"),
            (Some((_, last)), Some(count), Some(_)) if last.total_cmp(&count).is_eq() => Ok(()),
            _ => Err("no sum, no count, or a count other than that of the last bucket"),
        }
    }
}
