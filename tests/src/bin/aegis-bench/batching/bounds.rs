//! What has to be reached.

use super::{OVERLOADS, PATIENCE, Row};

/// Of what libtorch alone promises.
const GAIN: f64 = 0.9;
/// P50 at light load, in proportion to that without batching.
const LIGHT_P50: f64 = 1.1;
/// Answered in time, in proportion to the capacity.
const GOODPUT: f64 = 0.95;

/// Everything that does not hold, in a sentence each.
pub(super) fn missed(row: &Row) -> Vec<String> {
    let (name, figures) = (row.model, &row.figures);
    let mut missed = Vec::new();
    let mut unless = |holds: bool, text: String| {
        if !holds {
            missed.push(format!("{name}: {text}"));
        }
    };
    let gain = figures.batched_per_second / figures.unbatched_per_second;
    let wanted = GAIN * row.possible_gain;
    unless(
        gain >= wanted,
        format!("batching gains {gain:.2} ×, and should gain {wanted:.2} ×"),
    );
    let light = figures.light_p50_batched_ms / figures.light_p50_unbatched_ms;
    unless(
        light <= LIGHT_P50,
        format!(
            "at light load p50 is {light:.2} × that without batching, and may be {LIGHT_P50} ×"
        ),
    );
    let (batched, unbatched) = (figures.heavy_p99_batched_ms, figures.heavy_p99_unbatched_ms);
    unless(
        batched < unbatched,
        format!("under heavy load p99 is {batched:.1} ms, and {unbatched:.1} ms without batching"),
    );
    let patience = PATIENCE.as_secs_f64() * 1e3;
    for (at, factor) in OVERLOADS.iter().enumerate() {
        let (goodput, p99) = (figures.goodput[at], figures.answered_p99_ms[at]);
        unless(
            goodput >= GOODPUT,
            format!(
                "at {factor} × capacity the goodput is {goodput:.2} of it, and should be {GOODPUT}"
            ),
        );
        unless(
            p99 <= patience,
            format!("at {factor} × capacity p99 is {p99:.0} ms, and may be {patience:.0} ms"),
        );
    }
    missed
}
