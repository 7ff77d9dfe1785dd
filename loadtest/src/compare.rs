//! Is B worse than A? Pairs of runs, one after the other, and intervals of their differences.
//!
//! Two long runs compare two moments of one machine as much as two servers. So A and B are run in short turns:
//! a pair shares its seed, and with it every send time and every input, and what changes slowly meets both.
//! Who begins is drawn, in halves: A first as often as B first, or whatever a run leaves behind would always
//! meet the same one. What is judged is the differences within the pairs, by their median and a bootstrap
//! interval (`bootstrap`), which knows nothing of what latencies are distributed like.
//!
//! B is *worse* where the whole interval lies beyond a margin, *no worse* where none of it does, and in between
//! the pairs were too few to tell. A margin has to be: that two things are equal, no number of runs can show.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Serialize;

pub use self::judge::{Difference, Margins, Standing, Verdict};
use crate::load::{Load, LoadError};
use crate::plan::{Part, Plan, Target};
use crate::slo::{Invalid, Limits, invalid};
use crate::transport::Transport;

pub(crate) mod bootstrap;
mod judge;
mod show;

/// With fewer pairs, not even differences that all point the same way make an interval of 95 %.
pub const MIN_PAIRS: usize = 6;

/// The most pairs.
pub const MAX_PAIRS: usize = 1000;

/// What is compared, and how.
#[derive(Clone, Debug)]
pub struct Contest {
    /// Every run but for its parts and its seed.
    pub plan: Plan,
    /// What a server is asked: a model of some version, or a mix; at least one part.
    pub a: Vec<Part>,
    /// The same, of what A is compared with.
    pub b: Vec<Part>,
    /// Pairs of runs.
    pub pairs: usize,
    /// How sure: the confidence of every interval.
    pub confidence: f64,
    /// How much worse is no worse.
    pub margins: Margins,
    /// What the load generator has to keep.
    pub limits: Limits,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Who was compared.
    pub a: Side,
    /// With whom.
    pub b: Side,
    /// What each run sent.
    pub load: String,
    /// How it was written.
    pub transport: Transport,
    /// Decides send times, inputs and turns.
    pub seed: u64,
    /// The confidence of the intervals.
    pub confidence: f64,
    /// Pairs that were left out and run again, since this side could not keep up in them.
    pub left_out: usize,
    /// Why there are fewer pairs than were asked for.
    pub partial: Option<String>,
    /// Each figure, and by how much B differs.
    pub figures: Vec<Difference>,
    /// What it comes to.
    pub verdict: Verdict,
    /// All pairs that count.
    pub pairs: Vec<Pair>,
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Side {
    /// The server's address.
    pub url: String,
    /// The model asked for; several with commas between them.
    pub model: String,
    /// The version asked for, where one was of one model.
    pub version: Option<String>,
}

/// Two runs with the same seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// Whether A was run first.
    pub a_first: bool,
    /// What A came to.
    pub a: Figures,
    /// What B came to.
    pub b: Figures,
}

/// What one run came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// The median latency in milliseconds, from when a request was due.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// Requests that failed, of those that were due. What was not sent since too many were under way failed.
    pub error_rate: f64,
    /// How many that were.
    pub failed: u64,
    /// How many were due.
    pub due: u64,
    /// Answers a second.
    pub rate: f64,
}

/// How far it is, for whoever watches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    /// So many runs are over, of so many.
    Runs(usize, usize),
    /// A pair is left out.
    LeftOut(Invalid),
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A plan cannot run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Too few or too many pairs.
    #[error("pairs: expected {least} to {MAX_PAIRS} for a confidence of {confidence}, got {got}")]
    Pairs {
        /// The fewest that could show anything.
        least: usize,
        /// With this confidence.
        confidence: f64,
        /// How many are asked for.
        got: usize,
    },
    /// One side is not there.
    #[error("{url} answered no request: {why}")]
    Silent {
        /// Its address.
        url: String,
        /// The most frequent failure.
        why: String,
    },
}

/// What one run shows.
enum Run {
    Figures(Figures),
    /// It was none of the server's doing.
    Invalid(Invalid),
    /// The server answered nothing.
    Silent(String),
}

/// Runs the pairs. Where `stop` comes first, those that are complete are judged.
///
/// # Errors
///
/// When a plan cannot run, or a side answers nothing in the first pair.
pub async fn compare(
    contest: &Contest,
    stop: impl Future<Output = ()>,
    mut watch: impl FnMut(Progress),
) -> Result<Comparison, CompareError> {
    let count = contest.pairs;
    let least = least_pairs(contest.confidence);
    if !(least..=MAX_PAIRS).contains(&count) {
        return Err(CompareError::Pairs {
            least,
            confidence: contest.confidence,
            got: count,
        });
    }
    let mut stop = std::pin::pin!(stop);
    let mut pairs = Vec::new();
    let (mut left_out, mut partial) = (0, None);
    let turns = turns(count, contest.plan.seed);
    while let Some(&a_first) = turns.get(pairs.len()) {
        let seed = contest
            .plan
            .seed
            .wrapping_add((pairs.len() + left_out) as u64);
        let mut runs = [None, None];
        let order = if a_first { [0, 1] } else { [1, 0] };
        for (turn, side) in order.into_iter().enumerate() {
            watch(Progress::Runs(2 * pairs.len() + turn, 2 * count));
            tokio::select! {
                run = contest.run(side, seed) => runs[side] = Some(run?),
                () = &mut stop => partial = Some("stopped by Ctrl-C".to_owned()),
            }
            if partial.is_some() {
                break;
            }
        }
        match runs {
            [Some(Run::Figures(a)), Some(Run::Figures(b))] => pairs.push(Pair { a_first, a, b }),
            [Some(Run::Silent(why)), _] => {
                contest.silent(&contest.a, why, &pairs, &mut partial)?;
            }
            [_, Some(Run::Silent(why))] => {
                contest.silent(&contest.b, why, &pairs, &mut partial)?;
            }
            [Some(Run::Invalid(why)), _] | [_, Some(Run::Invalid(why))] => {
                left_out += 1;
                watch(Progress::LeftOut(why));
                if left_out > count / 2 {
                    partial = Some(format!(
                        "this client could not keep up in {left_out} pairs: {why}"
                    ));
                }
            }
            _ => {}
        }
        if partial.is_some() {
            break;
        }
    }
    Ok(contest.conclude(pairs, left_out, partial))
}

/// The fewest pairs whose differences, all of the same sign, are that sure: n signs are alike by chance in
/// 2 of 2ⁿ cases.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and some fifty, or beyond every number of pairs"
)]
pub(crate) fn least_pairs(confidence: f64) -> usize {
    let pairs = (2.0 / (1.0 - confidence)).log2().ceil();
    MIN_PAIRS.max(pairs as usize)
}

/// Whether A is first, for each pair: as often as not, in an order that is drawn.
fn turns(pairs: usize, seed: u64) -> Vec<bool> {
    let mut turns: Vec<_> = (0..pairs).map(|pair| pair % 2 == 0).collect();
    turns.shuffle(&mut StdRng::seed_from_u64(seed));
    turns
}

// === impl Contest ===

impl Contest {
    async fn run(&self, side: usize, seed: u64) -> Result<Run, CompareError> {
        let mut plan = self.plan.clone();
        plan.seed = seed;
        let parts = if side == 1 { &self.b } else { &self.a };
        plan.parts.clone_from(parts);
        let mut handle = Load::new(plan)?.start();
        handle.finished().await;
        let (measured, elapsed) = handle.measured();
        let report = handle.stop().await;
        // What too slow a server kept from being sent is its failure, and stands in its figures.
        let reasons = invalid(&measured, self.limits);
        let mut reasons = reasons.into_iter();
        if let Some(why) = reasons.find(|why| !matches!(why, Invalid::Dropped { .. })) {
            return Ok(Run::Invalid(why));
        }
        let (Some(p50_ms), Some(p99_ms), 1..) = (
            measured.latency.quantile_ms(0.5),
            measured.latency.quantile_ms(0.99),
            measured.ok(),
        ) else {
            let failures = report.summary.failures.into_iter();
            let most = failures.max_by_key(|failure| failure.count);
            let why = most.map_or("no request was due".to_owned(), |failure| failure.text);
            return Ok(Run::Silent(why));
        };
        let dropped = measured.dropped.len();
        let due = (measured.finished() + dropped).max(1);
        Ok(Run::Figures(Figures {
            p50_ms,
            p99_ms,
            error_rate: (measured.failed() + dropped) as f64 / due as f64,
            failed: measured.failed() + dropped,
            due,
            rate: measured.rate(elapsed),
        }))
    }

    /// A server that was never there is an error; one that is gone ends the pairs.
    fn silent(
        &self,
        parts: &[Part],
        why: String,
        pairs: &[Pair],
        partial: &mut Option<String>,
    ) -> Result<(), CompareError> {
        let first = parts.first();
        let url = first.map(|part| part.target.url()).unwrap_or_default();
        if pairs.is_empty() {
            return Err(CompareError::Silent { url, why });
        }
        let pair = pairs.len() + 1;
        *partial = Some(format!(
            "{url} answered no request of pair {pair} of {}: {why}",
            self.pairs
        ));
        Ok(())
    }

    fn conclude(&self, pairs: Vec<Pair>, left_out: usize, partial: Option<String>) -> Comparison {
        let figures = judge::differences(&pairs, self.confidence, self.margins, self.plan.seed);
        let verdict = Verdict::of(&figures, pairs.len(), self.confidence, partial.is_some());
        Comparison {
            a: Side::of(&self.a),
            b: Side::of(&self.b),
            load: self.plan.pattern.to_string(),
            transport: self.plan.transport,
            seed: self.plan.seed,
            confidence: self.confidence,
            left_out,
            partial,
            figures,
            verdict,
            pairs,
        }
    }
}

// === impl Side ===

impl Side {
    fn of(parts: &[Part]) -> Self {
        let targets = || parts.iter().map(|part| &part.target);
        let mut models: Vec<_> = targets().map(Target::model).collect();
        models.dedup();
        let only = targets().next().filter(|_| parts.len() == 1);
        let version = only.and_then(|target| target.version());
        Self {
            url: targets().next().map(Target::url).unwrap_or_default(),
            model: models.join(", "),
            version: version.map(ToOwned::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_begins_as_often_and_the_seed_says_when() {
        let turns_of = |seed| turns(20, seed);
        assert_eq!(turns_of(1).iter().filter(|turn| **turn).count(), 10);
        assert_eq!(turns_of(1), turns_of(1));
        assert_ne!(turns_of(1), turns_of(2));
        assert_ne!(
            turns_of(1),
            (0..20).map(|pair| pair % 2 == 0).collect::<Vec<_>>()
        );
    }
}
