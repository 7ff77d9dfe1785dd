//! What a run takes on libtorch alone, by rows.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use tch::{CModule, Device, Kind, Tensor};

use crate::nets::Net;

/// The sizes that are measured.
const SIZES: [i64; 7] = [1, 2, 4, 8, 12, 16, 32];
/// The largest size that the line is drawn through: beyond, caches bend it.
const LINE_TO: i64 = 8;
/// Each size is run until it has taken so long, and at least so often.
const LASTS: Duration = Duration::from_millis(400);
const AT_LEAST: usize = 20;

/// One model's times.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    model: &'static str,
    /// Rows, and the median of a run in seconds.
    runs: Vec<(i64, f64)>,
    /// Seconds for each row, and for the run.
    alpha: f64,
    beta: f64,
}

// === impl Measured ===

impl Measured {
    pub(crate) fn take(net: &Net, module: &CModule) -> Result<Self> {
        let mut runs = Vec::new();
        for rows in SIZES {
            let input = Tensor::randn([rows, net.features], (Kind::Float, Device::Cpu));
            runs.push((rows, median(module, &input)?));
        }
        let (alpha, beta) = line(runs.iter().filter(|(rows, _)| *rows <= LINE_TO));
        Ok(Self {
            model: net.name,
            runs,
            alpha,
            beta,
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: r = {:.2};", self.model, self.beta / self.alpha)?;
        for (rows, seconds) in &self.runs {
            write!(f, " {rows} rows {:.0} µs", seconds * 1e6)?;
        }
        Ok(())
    }
}

fn median(module: &CModule, input: &Tensor) -> Result<f64> {
    // libtorch specializes the program in the first runs of each shape.
    for _ in 0..AT_LEAST {
        let _ = module.forward_ts(&[input])?;
    }
    let (began, mut took) = (now(), Vec::new());
    while began.elapsed() < LASTS || took.len() < AT_LEAST {
        let started = now();
        let _ = module.forward_ts(&[input])?;
        took.push(started.elapsed().as_secs_f64());
    }
    took.sort_by(f64::total_cmp);
    Ok(took[took.len() / 2])
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn now() -> Instant {
    Instant::now()
}

/// Least squares: slope and intercept.
fn line<'r>(runs: impl Iterator<Item = &'r (i64, f64)> + Clone) -> (f64, f64) {
    let points = runs.map(|(rows, seconds)| (*rows as f64, *seconds));
    let count = points.clone().count() as f64;
    let mean = |of: fn((f64, f64)) -> f64| points.clone().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let spread = mean(|p| p.0 * p.0) - x * x;
    let slope = (mean(|p| p.0 * p.1) - x * y) / spread;
    (slope, y - slope * x)
}
