//! Notices that a server is gone: requests fail, and none is answered.

use std::time::Duration;

use crate::report::Summary;

/// Since when there was no answer, and how much had failed by then.
#[derive(Debug)]
pub(super) struct Silence {
    patience: Duration,
    since: f64,
    answers: u64,
    failed: u64,
}

// === impl Silence ===

impl Silence {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            since: 0.0,
            answers: 0,
            failed: 0,
        }
    }

    /// Looks at how the run goes, and says why it should be given up, once it should. An answer of any
    /// status shows that somebody is there; no failure shows that requests are only slow.
    pub(super) fn notice(&mut self, summary: &Summary) -> Option<String> {
        let answers = summary.statuses.values().sum();
        let failed = summary.errors.values().sum();
        if answers != self.answers || failed == self.failed {
            self.since = summary.elapsed_seconds;
            self.answers = answers;
            self.failed = failed;
            return None;
        }
        let silent = summary.elapsed_seconds - self.since;
        (silent >= self.patience.as_secs_f64())
            .then(|| format!("nobody has answered for {silent:.1} s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::outcome::{Outcome, Sample};
    use crate::tally::Tally;
    use crate::{clock, outcome::Origin};

    fn record(tally: &mut Tally, outcome: Outcome) {
        let now = clock::now();
        tally.due();
        tally.record(&Sample {
            part: None,
            intended: now,
            began: now,
            started: Some(now),
            ended: now,
            outcome,
        });
    }

    fn failure() -> Outcome {
        Outcome::Failed {
            kind: ErrorKind::Connect,
            text: String::new(),
        }
    }

    #[test]
    fn only_failures_without_any_answer_are_silence() {
        let mut tally = Tally::default();
        let mut silence = Silence::new(Duration::from_secs(10));
        let mut at =
            |tally: &Tally, second| silence.notice(&tally.summary(Duration::from_secs(second), 0));
        // Nothing comes back at all: the server may be slow.
        assert_eq!(at(&tally, 60), None);
        record(&mut tally, failure());
        assert_eq!(at(&tally, 65), None);
        let refused = Outcome::Refused {
            from: Origin::default(),
            status: 503,
            reason: None,
            text: String::new(),
        };
        record(&mut tally, refused);
        assert_eq!(at(&tally, 71), None);
        record(&mut tally, failure());
        assert_eq!(at(&tally, 80), None);
        let reason = at(&tally, 81).unwrap();
        assert_eq!(reason, "nobody has answered for 10.0 s");
    }
}
