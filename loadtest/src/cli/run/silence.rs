//! Notices that a server is gone: requests fail, and none is answered.

use std::time::Duration;

use crate::outcome::ErrorKind;
use crate::report::Summary;

/// From when to when requests failed without an answer between them.
#[derive(Debug)]
pub(super) struct Silence {
    patience: Duration,
    /// The first and the last failure since there was an answer, in seconds.
    failing: Option<(f64, f64)>,
    answers: u64,
    failed: u64,
}

// === impl Silence ===

impl Silence {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            failing: None,
            answers: 0,
            failed: 0,
        }
    }

    /// Looks at how the run goes, and says why it should be given up, once it should. An answer of any
    /// status, and one that is no good, shows that somebody is there; no failure shows that requests are
    /// only slow, or that none was sent.
    pub(super) fn notice(&mut self, summary: &Summary) -> Option<String> {
        let bad = summary.errors(ErrorKind::BadAnswer);
        let answers = summary.statuses.values().sum::<u64>() + bad;
        let failed = summary.errors.values().sum::<u64>() - bad;
        let now = summary.elapsed_seconds;
        if answers != self.answers {
            self.failing = None;
        } else if failed != self.failed {
            let (first, _) = self.failing.unwrap_or((now, now));
            self.failing = Some((first, now));
        }
        (self.answers, self.failed) = (answers, failed);
        let (first, last) = self.failing?;
        let silent = last - first;
        (silent >= self.patience.as_secs_f64())
            .then(|| format!("nobody has answered for {silent:.1} s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        // Nothing was sent since.
        assert_eq!(at(&tally, 95), None);
        let unusable = Outcome::Failed {
            kind: ErrorKind::BadAnswer,
            text: String::new(),
        };
        record(&mut tally, unusable);
        assert_eq!(at(&tally, 96), None);
        record(&mut tally, failure());
        assert_eq!(at(&tally, 100), None);
        record(&mut tally, failure());
        let reason = at(&tally, 110).unwrap();
        assert_eq!(reason, "nobody has answered for 10.0 s");
    }
}
