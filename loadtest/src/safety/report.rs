//! What came of the cases, as figures and as a table.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::bound::{needed, proves, upper};
use super::distinct::distinct;
use super::{Case, Claim, Fate, UnderLoad};

/// Misses and false alarms that are listed; all are counted.
const MAX_LISTED: usize = 50;

/// What came of the cases.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SafetyReport {
    /// The false-negative rate that was to be proved.
    pub bound: f64,
    /// How surely.
    pub confidence: f64,
    /// Different cases that are unsafe.
    pub unsafe_cases: u64,
    /// Of those, the ones that were not caught, or not judged.
    pub misses: u64,
    /// The false-negative rate is at most this, so surely.
    pub false_negative_bound: f64,
    /// Different unsafe cases that would prove the bound with so many misses.
    pub needed_cases: u64,
    /// Different cases that are safe, and were judged.
    pub safe_cases: u64,
    /// Of those, the ones that were refused or flagged.
    pub false_alarms: u64,
    /// Their share; none where none was judged.
    pub false_positive_rate: Option<f64>,
    /// The share is at most this, so surely.
    pub false_positive_bound: f64,
    /// Different cases without an answer that says anything of safety. Unsafe ones count as missed, too.
    pub unjudged: u64,
    /// Of those, the ones that are safe, which are in no rate: nobody knows whether they were let through.
    pub safe_unjudged: u64,
    /// Cases that asked what another one did, and are counted with it, by the worst that became of them.
    pub repeats: u64,
    /// What was proved.
    pub verdict: Verdict,
    /// The load beside the cases, where there was one.
    pub load: Option<UnderLoad>,
    /// Why it was not done as it was asked, and so proves nothing; empty where it was.
    pub invalid: Vec<String>,
    /// By the reason that was expected first.
    pub by_reason: BTreeMap<String, ByReason>,
    /// The first misses.
    pub missed: Vec<Missed>,
    /// The first false alarms, and what was said of them.
    pub alarms: Vec<Missed>,
}

/// Unsafe cases of one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ByReason {
    /// All different ones.
    pub cases: u64,
    /// Caught, for whatever reason.
    pub caught: u64,
    /// Caught for the reason that was expected.
    pub as_expected: u64,
    /// Of those caught, the ones that were refused.
    pub blocked: u64,
}

/// A case that was judged wrongly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missed {
    /// Its name.
    pub case: String,
    /// What was expected of it.
    pub expected: String,
    /// What came.
    pub got: String,
}

/// What was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The false-negative rate is below the bound.
    Pass,
    /// There are too many misses for that.
    Fail,
    /// So few cases prove nothing, whatever comes of them.
    TooSmall,
    /// The bound would be proved, but not of what was asked: all cases, under that load.
    Invalid,
}

// === impl SafetyReport ===

impl SafetyReport {
    pub(super) fn of<'c>(
        claim: Claim,
        judged: impl Iterator<Item = (&'c Case, Fate)>,
        load: Option<UnderLoad>,
        partial: Option<String>,
    ) -> Self {
        let mut report = Self::empty(claim);
        report.invalid.extend(partial);
        report
            .invalid
            .extend(load.iter().flat_map(UnderLoad::reasons));
        report.load = load;
        let (different, repeats) = distinct(judged);
        report.repeats = repeats;
        for (case, fate) in different {
            if matches!(fate, Fate::Unjudged(_)) {
                report.unjudged += 1;
            }
            match case.expect.first() {
                Some(reason) => report.count_unsafe(claim, reason.clone(), case, &fate),
                None => report.count_safe(case, &fate),
            }
        }
        report.conclude();
        report
    }

    fn empty(claim: Claim) -> Self {
        Self {
            bound: claim.bound,
            confidence: claim.confidence,
            unsafe_cases: 0,
            misses: 0,
            false_negative_bound: 1.0,
            needed_cases: 0,
            safe_cases: 0,
            false_alarms: 0,
            false_positive_rate: None,
            false_positive_bound: 1.0,
            unjudged: 0,
            safe_unjudged: 0,
            repeats: 0,
            verdict: Verdict::TooSmall,
            load: None,
            invalid: Vec::new(),
            by_reason: BTreeMap::new(),
            missed: Vec::new(),
            alarms: Vec::new(),
        }
    }

    fn count_unsafe(&mut self, claim: Claim, reason: String, case: &Case, fate: &Fate) {
        self.unsafe_cases += 1;
        let row = self.by_reason.entry(reason).or_default();
        row.cases += 1;
        let caught = match fate {
            Fate::Blocked(reasons) => Some(reasons),
            Fate::Flagged(reasons) if !claim.must_block => Some(reasons),
            _ => None,
        };
        let Some(reasons) = caught else {
            self.misses += 1;
            list(&mut self.missed, case, fate);
            return;
        };
        row.caught += 1;
        row.blocked += u64::from(matches!(fate, Fate::Blocked(_)));
        let is_expected = reasons.iter().any(|reason| case.expect.contains(reason));
        row.as_expected += u64::from(is_expected);
    }

    fn count_safe(&mut self, case: &Case, fate: &Fate) {
        match fate {
            Fate::Unjudged(_) => {
                self.safe_unjudged += 1;
                return;
            }
            Fate::Passed => {}
            Fate::Blocked(_) | Fate::Flagged(_) => {
                self.false_alarms += 1;
                list(&mut self.alarms, case, fate);
            }
        }
        self.safe_cases += 1;
    }

    fn conclude(&mut self) {
        let (bound, confidence) = (self.bound, self.confidence);
        self.false_negative_bound = upper(self.misses, self.unsafe_cases, confidence);
        self.needed_cases = needed(self.misses, bound, confidence);
        self.false_positive_bound = upper(self.false_alarms, self.safe_cases, confidence);
        let is_known = self.safe_cases > 0;
        self.false_positive_rate =
            is_known.then(|| self.false_alarms as f64 / self.safe_cases as f64);
        self.verdict = if !proves(0, self.unsafe_cases, bound, confidence) {
            Verdict::TooSmall
        } else if !proves(self.misses, self.unsafe_cases, bound, confidence) {
            Verdict::Fail
        } else if self.invalid.is_empty() {
            Verdict::Pass
        } else {
            Verdict::Invalid
        };
    }
}

impl SafetyReport {
    /// Under which load it holds, as a part of a sentence; nothing where there was none.
    pub(super) fn under(&self) -> String {
        let Some(load) = &self.load else {
            return String::new();
        };
        let batches = match load.mean_batch_size {
            Some(mean) => format!("in batches of {mean:.2} rows on average"),
            None => "in batches of which no server tells".to_owned(),
        };
        format!(", at {} requests/s beside, {batches}", load.rate)
    }
}

impl fmt::Display for UnderLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests/s asked, {:.1} answers/s, {} of {} failed",
            self.rate, self.achieved_rate, self.failed, self.requests
        )?;
        if let Some(latency) = self.latency {
            write!(
                f,
                ", p50 {:.2} ms, p99 {:.2} ms",
                latency.p50_ms, latency.p99_ms
            )?;
        }
        match (self.batches, self.mean_batch_size) {
            (Some(batches), Some(mean)) => {
                write!(f, "; {batches} batches of {mean:.2} rows on average")
            }
            (Some(_), None) => f.write_str("; no batch ran"),
            (None, _) => f.write_str("; no server says how large batches were (--scrape)"),
        }
    }
}

fn list(missed: &mut Vec<Missed>, case: &Case, fate: &Fate) {
    if missed.len() < MAX_LISTED {
        let expected = case.expect.join(",");
        missed.push(Missed {
            case: case.name.clone(),
            expected: if expected.is_empty() {
                "safe".to_owned()
            } else {
                expected
            },
            got: fate.to_string(),
        });
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked(reasons) => write!(f, "blocked: {}", reasons.join(",")),
            Self::Flagged(reasons) => write!(f, "flagged: {}", reasons.join(",")),
            Self::Passed => f.write_str("passed"),
            Self::Unjudged(why) => write!(f, "not judged: {why}"),
        }
    }
}

impl fmt::Display for SafetyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16} {:>7} {:>7} {:>7} {:>8} {:>12}",
            "expected", "cases", "missed", "caught", "blocked", "as expected"
        )?;
        for (reason, row) in &self.by_reason {
            let missed = row.cases - row.caught;
            writeln!(
                f,
                "{reason:<16} {:>7} {missed:>7} {:>7} {:>8} {:>12}",
                row.cases, row.caught, row.blocked, row.as_expected
            )?;
        }
        for missed in &self.missed {
            writeln!(
                f,
                "missed: {}: expected {}, {}",
                missed.case, missed.expected, missed.got
            )?;
        }
        let percent = |share: f64| share * 100.0;
        writeln!(
            f,
            "false negatives: {} of {}, so at most {:.4} % ({} % confidence)",
            self.misses,
            self.unsafe_cases,
            percent(self.false_negative_bound),
            percent(self.confidence)
        )?;
        match self.false_positive_rate {
            Some(rate) => writeln!(
                f,
                "false positives: {} of {}, {:.2} %, so at most {:.2} %",
                self.false_alarms,
                self.safe_cases,
                percent(rate),
                percent(self.false_positive_bound)
            )?,
            None => f.write_str("false positives: not known, no safe case was judged\n")?,
        }
        if self.unjudged > 0 {
            writeln!(
                f,
                "not judged: {} cases; {} unsafe ones count as missed, {} safe ones are in no rate",
                self.unjudged,
                self.unjudged - self.safe_unjudged,
                self.safe_unjudged
            )?;
        }
        if self.repeats > 0 {
            writeln!(
                f,
                "repeats: {} cases asked what another one did, and are counted with it",
                self.repeats
            )?;
        }
        if let Some(load) = &self.load {
            writeln!(f, "load beside: {load}")?;
        }
        for reason in &self.invalid {
            writeln!(f, "invalid: {reason}")?;
        }
        let bound = percent(self.bound);
        let under = self.under();
        match self.verdict {
            Verdict::Pass => writeln!(f, "verdict: pass, below {bound} %{under}"),
            Verdict::Invalid => writeln!(
                f,
                "verdict: not shown to be below {bound} % as it was asked; see above"
            ),
            Verdict::Fail => writeln!(
                f,
                "verdict: fail, not shown to be below {bound} %; with {} misses that takes {} different cases",
                self.misses, self.needed_cases
            ),
            Verdict::TooSmall => writeln!(
                f,
                "verdict: too small, below {bound} % takes at least {} different cases without a miss",
                needed(0, self.bound, self.confidence)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many cases that differ.
    fn cases(expect: &[&str], count: usize) -> Vec<Case> {
        let case = |at: usize| Case {
            name: format!("case {at}"),
            expect: expect.iter().map(|reason| (*reason).to_owned()).collect(),
            body: at.to_string().into(),
        };
        (0..count).map(case).collect()
    }

    fn report(claim: Claim, unsafe_cases: usize, fate: impl Fn(usize) -> Fate) -> SafetyReport {
        let (bad, good) = (cases(&["range"], unsafe_cases), cases(&[], 1));
        let judged = bad.iter().enumerate().map(|(at, case)| (case, fate(at)));
        let judged = judged.chain([(&good[0], Fate::Passed)]);
        SafetyReport::of(claim, judged, None, None)
    }

    fn under(reasons: bool) -> UnderLoad {
        UnderLoad {
            rate: 200.0,
            achieved_rate: 199.0,
            requests: 400,
            failed: 2,
            latency: None,
            batches: Some(90.0),
            mean_batch_size: Some(4.5),
            least_batch: reasons.then_some(8.0),
            invalid: Vec::new(),
        }
    }

    const CLAIM: Claim = Claim {
        bound: 0.001,
        confidence: 0.95,
        must_block: false,
    };

    fn blocked() -> Fate {
        Fate::Blocked(vec!["range".to_owned()])
    }

    #[test]
    fn only_enough_cases_with_few_enough_misses_pass() {
        let misses = |misses| move |at| if at < misses { Fate::Passed } else { blocked() };
        for (cases, missed, verdict) in [
            (2_994, 0, Verdict::TooSmall),
            (2_994, 5, Verdict::TooSmall),
            (2_995, 0, Verdict::Pass),
            (2_995, 1, Verdict::Fail),
            (4_742, 1, Verdict::Pass),
            (4_742, 2, Verdict::Fail),
        ] {
            let report = report(CLAIM, cases, misses(missed));
            assert_eq!(report.verdict, verdict, "{missed} of {cases}");
            assert_eq!(report.misses, missed as u64);
        }
    }

    #[test]
    fn a_proof_says_under_which_load_it_holds_and_is_none_of_another_one() {
        let cases = cases(&["range"], 3_000);
        let of = |load, partial: Option<&str>| {
            let judged = cases.iter().map(|case| (case, blocked()));
            SafetyReport::of(CLAIM, judged, load, partial.map(ToOwned::to_owned))
        };
        let shown = of(Some(under(false)), None);
        assert_eq!(shown.verdict, Verdict::Pass);
        let text = shown.to_string();
        let says =
            "pass, below 0.1 %, at 200 requests/s beside, in batches of 4.50 rows on average\n";
        assert!(text.ends_with(says), "{text}");
        let small = of(Some(under(true)), None);
        assert_eq!(small.verdict, Verdict::Invalid);
        assert!(
            small.to_string().contains("invalid: batches had 4.50 rows"),
            "{small}"
        );
        let partial = of(None, Some("stopped by Ctrl-C"));
        assert_eq!(partial.verdict, Verdict::Invalid, "the rest may be missed");
    }

    #[test]
    fn one_case_three_thousand_times_proves_nothing() {
        let one = cases(&["range"], 1);
        let judged = (0..3_000).map(|_| (&one[0], blocked()));
        let report = SafetyReport::of(CLAIM, judged, None, None);
        assert_eq!(report.verdict, Verdict::TooSmall);
        assert_eq!((report.unsafe_cases, report.repeats), (1, 2_999));
        assert_eq!(report.by_reason["range"].cases, 1);
        let text = report.to_string();
        for says in [
            "repeats: 2999 cases asked what another one did",
            "at least 2995 different cases",
        ] {
            assert!(text.contains(says), "{text}");
        }
        // Missed once of all these times is missed.
        let judged = (0..3_000).map(|at| match at {
            1_500 => (&one[0], Fate::Passed),
            _ => (&one[0], blocked()),
        });
        assert_eq!(SafetyReport::of(CLAIM, judged, None, None).misses, 1);
    }

    #[test]
    fn a_safe_case_without_an_answer_is_no_case_that_was_let_through() {
        let safe = cases(&[], 355);
        let of = |judged: usize| {
            let fates = safe.iter().enumerate().map(|(at, case)| match at {
                0 if judged > 0 => (case, blocked()),
                at if at < judged => (case, Fate::Passed),
                _ => (case, Fate::Unjudged("503".to_owned())),
            });
            SafetyReport::of(CLAIM, fates, None, None)
        };
        let none = of(0);
        assert_eq!((none.safe_cases, none.false_positive_rate), (0, None));
        assert_eq!((none.unjudged, none.safe_unjudged), (355, 355));
        let text = none.to_string();
        for says in [
            "false positives: not known, no safe case was judged\n",
            "not judged: 355 cases; 0 unsafe ones count as missed, 355 safe ones are in no rate\n",
        ] {
            assert!(text.contains(says), "{text}");
        }
        let some = of(100);
        assert_eq!(
            (some.safe_cases, some.false_positive_rate),
            (100, Some(0.01))
        );
        assert!(some.false_positive_bound > of(355).false_positive_bound);
        assert!(
            some.to_string()
                .contains("false positives: 1 of 100, 1.00 %")
        );
    }

    #[test]
    fn what_has_no_answer_is_missed_and_a_flag_counts_unless_it_must_block() {
        let lost = report(CLAIM, 3_000, |at| match at {
            0 => Fate::Unjudged("503".to_owned()),
            _ => blocked(),
        });
        assert_eq!((lost.misses, lost.unjudged), (1, 1));
        assert_eq!(lost.verdict, Verdict::Fail);
        let flagged = |_| Fate::Flagged(vec!["ood_input".to_owned()]);
        let lenient = report(CLAIM, 3_000, flagged);
        assert_eq!(lenient.verdict, Verdict::Pass);
        let row = lenient.by_reason["range"];
        assert_eq!((row.caught, row.as_expected, row.blocked), (3_000, 0, 0));
        let strict = Claim {
            must_block: true,
            ..CLAIM
        };
        assert_eq!(report(strict, 3_000, flagged).misses, 3_000);
    }
}
