//! The line on stderr that shows how a run goes, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::Summary;

/// A bar over the time of the measurement.
pub(super) struct Progress(ProgressBar);

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
        let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    pub(super) fn show(&self, summary: &Summary) {
        let elapsed = Duration::try_from_secs_f64(summary.elapsed_seconds).unwrap_or_default();
        self.0.set_position(millis(elapsed));
        let Summary {
            ok,
            failed,
            achieved_rate,
            ..
        } = summary;
        let p99 = summary.latency.map_or(0.0, |latency| latency.p99_ms);
        self.0.set_message(format!(
            "{ok} answered  {failed} failed  {achieved_rate:.0}/s  p99 {p99:.1} ms"
        ));
    }

    pub(super) fn clear(self) {
        self.0.finish_and_clear();
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
