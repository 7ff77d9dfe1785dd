//! Figures as people write them.

use std::time::Duration;

/// Seconds, to the millisecond: what was added to an end so that it is included is not seen.
pub(crate) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_as_it_would_be_written() {
        let shown = |nanos| seconds(Duration::from_nanos(nanos)).to_string();
        assert_eq!(shown(15_000_000_001), "15");
        assert_eq!(shown(1_500_000_000), "1.5");
        assert_eq!(shown(0), "0");
    }
}
