//! The line on stderr that shows how a run goes, on a terminal only.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::Summary;

/// How many kinds of failure, and how many versions, there is room for.
const SHOWN: usize = 3;

/// A bar over the time of the measurement.
pub(super) struct Progress(ProgressBar);

/// What the line says.
struct Line<'a> {
    total: &'a Summary,
    /// What came since the last look.
    window: &'a Summary,
}

// === impl Progress ===

impl Progress {
    /// Draws nothing where it is quiet or stderr is no terminal.
    pub(super) fn new(is_quiet: bool, length: Duration) -> Self {
        let target = if is_quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(millis(length)), target);
        let style = ProgressStyle::with_template("{bar:20} {percent:>3} %  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    /// Shows the run so far, and what came since the last call.
    pub(super) fn show(&self, total: &Summary, window: &Summary) {
        let elapsed = Duration::try_from_secs_f64(total.elapsed_seconds).unwrap_or_default();
        self.0.set_position(millis(elapsed));
        self.0.set_message(Line { total, window }.to_string());
    }

    pub(super) fn clear(self) {
        self.0.finish_and_clear();
    }
}

// === impl Line ===

impl Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { total, window } = self;
        let due = if window.elapsed_seconds > 0.0 {
            window.requests as f64 / window.elapsed_seconds
        } else {
            0.0
        };
        write!(f, "{due:.0}/s due, {:.0}/s answered", window.achieved_rate)?;
        if let Some(latency) = total.latency {
            write!(
                f,
                "  p50 {:.1} p99 {:.1} ms",
                latency.p50_ms, latency.p99_ms
            )?;
        }
        let errors = total.errors.iter().map(|(kind, &n)| (kind.name(), n));
        let reasons = total.reasons.iter().map(|(name, &n)| (name.as_str(), n));
        let mut failures: Vec<_> = errors.chain(reasons).filter(|&(_, n)| n > 0).collect();
        failures.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        write!(f, "  {} failed", total.failed)?;
        for (name, n) in failures.iter().take(SHOWN) {
            write!(f, " {name}:{n}")?;
        }
        if total.client.dropped > 0 {
            write!(f, " dropped:{}", total.client.dropped)?;
        }
        for (name, version) in window.versions.iter().take(SHOWN) {
            write!(f, "  v{name} {:.0} %", version.share * 100.0)?;
            for (route, n) in version.routes.iter().filter(|&(route, _)| route != "split") {
                write!(f, " {route}:{n}")?;
            }
        }
        Ok(())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Origin, Outcome, Sample};
    use crate::tally::Tally;
    use crate::{ErrorKind, clock};

    #[test]
    fn the_line_says_what_is_asked_reached_and_failing_and_who_answers() {
        let mut tally = Tally::default();
        let now = clock::now();
        let mut record = |outcome| {
            tally.due();
            tally.record(&Sample {
                part: None,
                intended: now,
                began: now,
                started: Some(now),
                ended: now + Duration::from_millis(8),
                outcome,
            });
        };
        for route in ["split", "split", "fallback"] {
            let from = Origin {
                version: Some("2".into()),
                route: Some(route.into()),
            };
            record(Outcome::Scored { from, right: None });
        }
        record(Outcome::Failed {
            kind: ErrorKind::Timeout,
            text: String::new(),
        });
        let window = tally.summary(Duration::from_secs(2), 0);
        let line = Line {
            total: &window,
            window: &window,
        };
        assert_eq!(
            line.to_string(),
            "2/s due, 2/s answered  p50 8.0 p99 8.0 ms  1 failed timeout:1  v2 100 % fallback:1"
        );
    }
}
