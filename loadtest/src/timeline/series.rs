//! A recording as numbers over time, ready to be drawn.

use super::bucket::{Bucket, Latency};
use super::{Recording, Seen};

/// Points of a quantile curve for each nine.
const PER_NINE: u32 = 20;

/// The smallest part of a bucket that still makes a rate.
const LEAST_PART: f64 = 0.25;

/// What happened when. Times are seconds since sending began.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    /// When the measurement began.
    pub(crate) measured: f64,
    /// When nothing more was sent.
    pub(crate) end: f64,
    /// How long each point's span is.
    pub(crate) width: f64,
    pub(crate) points: Vec<Point>,
    /// Versions that answered, in the order of [`Point::versions`].
    pub(crate) versions: Vec<Seen>,
    /// Reasons of failures, in the order of [`Point::failed`].
    pub(crate) reasons: Vec<Seen>,
    /// Of the measurement: of all, and of each version where there are several.
    pub(crate) curves: Vec<Curve>,
}

/// One span of time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    /// The span's middle.
    pub(crate) at: f64,
    /// P50, P90, P99 and the longest in milliseconds; none where nothing was due.
    pub(crate) latency: Option<[f64; 4]>,
    /// Requests a second; none where the span was cut too short to say.
    pub(crate) rates: Option<Rates>,
    /// Answers by version.
    pub(crate) versions: Vec<u64>,
}

/// Requests a second.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rates {
    pub(crate) due: f64,
    pub(crate) answered: f64,
    /// By reason.
    pub(crate) failed: Vec<f64>,
}

/// Latency by quantile: (−log10(1 − q), milliseconds).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Curve {
    /// The version; none for all together.
    pub(crate) version: Option<String>,
    pub(crate) points: Vec<(f64, f64)>,
}

// === impl Series ===

impl Series {
    pub(super) fn of(recording: &Recording, measured: f64, end: f64) -> Self {
        let width = recording.width.as_secs_f64();
        let names = |names: &super::Names| names.iter().map(|(seen, _)| seen.clone()).collect();
        let mut series = Self {
            measured,
            end,
            width,
            points: Vec::new(),
            versions: names(&recording.versions),
            reasons: names(&recording.reasons),
            curves: curves(recording),
        };
        for (index, bucket) in recording.buckets.iter().enumerate() {
            let from = index as f64 * width;
            if from >= end {
                // Answers that came after the last request: nobody asked meanwhile.
                break;
            }
            series.points.push(series.point(bucket, from));
        }
        series
    }

    fn point(&self, bucket: &Bucket, from: f64) -> Point {
        let span = self.width.min(self.end - from);
        let latency = &bucket.latency;
        let quantiles = || {
            Some([
                latency.at(0.5)?,
                latency.at(0.9)?,
                latency.at(0.99)?,
                latency.at(1.0)?,
            ])
        };
        let rates = || Rates {
            due: bucket.due as f64 / span,
            answered: bucket.answered as f64 / span,
            failed: (0..self.reasons.len())
                .map(|reason| bucket.failed.get(reason) as f64 / span)
                .collect(),
        };
        Point {
            at: from + span / 2.0,
            latency: quantiles(),
            rates: (span >= LEAST_PART * self.width).then(rates),
            versions: (0..self.versions.len())
                .map(|version| bucket.versions.get(version))
                .collect(),
        }
    }
}

fn curves(recording: &Recording) -> Vec<Curve> {
    let mut curves = vec![Curve {
        version: None,
        points: curve(&recording.latency),
    }];
    let versions: Vec<_> = recording.versions.iter().collect();
    if versions.len() > 1 {
        curves.extend(versions.into_iter().map(|(seen, latency)| Curve {
            version: Some(seen.name.clone()),
            points: curve(latency),
        }));
    }
    curves.retain(|curve| !curve.points.is_empty());
    curves
}

/// From the median's side to the one request in so many that was the slowest.
fn curve(latency: &Latency) -> Vec<(f64, f64)> {
    let count = latency.count();
    if count == 0 {
        return Vec::new();
    }
    let last = (count as f64).log10();
    let steps = (0..)
        .map(|step| f64::from(step) / f64::from(PER_NINE))
        .take_while(|&x| x < last);
    let at = |x: f64| Some((x, latency.at(1.0 - 10_f64.powf(-x))?));
    let mut points: Vec<_> = steps.filter_map(at).collect();
    points.extend(latency.at(1.0).map(|max| (last, max)));
    points
}
