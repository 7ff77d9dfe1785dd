//! Which run is next: a pure machine that is told what runs came to.
//!
//! A setting is measured by its capacity (a closed loop), and then by bisection over parts of it (open loops) for
//! the highest rate at which the objectives are kept. The first setting has the largest batches; after it, the
//! one with the highest prediction is next, and of it only rates above the best so far are tried. The search ends
//! where no prediction beats the best by 2 %, or where the budget is spent.

use super::predict::{HIGHEST, Model};
use super::{Costs, Setting, Trial};
use crate::slo::Bound;

/// Parts of the capacity that are tried. Seven, so that three runs tell.
const RUNGS: [f64; 7] = [0.25, 0.45, 0.6, 0.72, 0.81, 0.89, HIGHEST];

/// Runs of a setting that is measured whole.
pub(crate) const RUNS_EACH: usize = 4;

/// By how much a setting must be better to be worth its runs.
const WORTH: f64 = 1.02;

/// What a best that kept little of its prediction takes from those of others, at the most: they may be luckier.
const LEAST_BIAS: f64 = 0.93;

/// Predictions as near as this are the same: the smaller setting goes first.
const SAME: f64 = 0.99;

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// A closed loop, for the capacity.
    Saturate(Setting),
    /// An open loop at a rate, for the objectives.
    Hold(Setting, f64),
}

/// What an open loop came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Held {
    /// Whether every objective was kept.
    pub is_met: bool,
    /// Whether it was too small to tell, or invalid.
    pub is_doubtful: bool,
    /// The 99th percentile.
    pub p99_ms: Option<f64>,
    /// The mean time in the queue.
    pub queue_seconds: Option<f64>,
}

/// The search.
#[derive(Debug)]
pub struct Search {
    bounds: Vec<Bound>,
    lanes: u32,
    costs: Option<Costs>,
    model: Option<Model>,
    untried: Vec<Setting>,
    trials: Vec<Trial>,
    bisection: Option<Bisection>,
    /// The most runs.
    budget: usize,
    runs: usize,
    /// Whether everything is tried, whatever was predicted.
    is_sweep: bool,
}

/// Where the last trial is.
#[derive(Debug, Default)]
struct Bisection {
    /// Rates to try, rising.
    rates: Vec<f64>,
    /// So many of them are kept; none of those from `high` on is.
    low: usize,
    high: usize,
}

// === impl Search ===

impl Search {
    /// Searches settings, of which `lanes` instances can run at once, in so many runs at the most.
    #[must_use]
    pub fn new(settings: &[Setting], slo: &crate::slo::Slo, lanes: u32, budget: usize) -> Self {
        Self::of(settings, slo.latency.clone(), lanes, budget)
    }

    pub(super) fn of(settings: &[Setting], bounds: Vec<Bound>, lanes: u32, budget: usize) -> Self {
        let mut untried = settings.to_vec();
        untried.sort_unstable();
        untried.dedup();
        Self {
            bounds,
            lanes,
            costs: None,
            model: None,
            untried,
            trials: Vec::new(),
            bisection: None,
            budget,
            runs: 0,
            is_sweep: false,
        }
    }

    /// The same, but everything is measured whole.
    #[must_use]
    pub fn sweep(mut self) -> Self {
        self.is_sweep = true;
        self.budget = usize::MAX;
        self
    }

    /// The next run; none at the end. It has to be answered before the next question.
    pub fn step(&mut self) -> Option<Step> {
        loop {
            if self.runs >= self.budget {
                return None;
            }
            let Some(bisection) = &self.bisection else {
                let (setting, predicted) = self.choose()?;
                self.untried.retain(|untried| *untried != setting);
                self.trials.push(Trial::new(setting, predicted));
                self.bisection = Some(Bisection::default());
                continue;
            };
            let trial = self.trials.last()?;
            if trial.capacity.is_none() && trial.runs == 0 {
                return Some(Step::Saturate(trial.setting));
            }
            if let Some(rate) = bisection.rate() {
                return Some(Step::Hold(trial.setting, rate));
            }
            self.conclude();
        }
    }

    /// What a batch costs, as the backend says. Once runs were of different sizes it knows better.
    pub fn learn(&mut self, costs: Costs) {
        let is_first = self.trials.len() == 1;
        let tells = costs.beta > 0.0 || self.costs.is_none_or(|known| known.beta <= 0.0);
        if is_first && costs.alpha + costs.beta > 0.0 && tells {
            self.costs = Some(costs);
        }
    }

    /// Answers a second of the closed loop.
    pub fn saturated(&mut self, capacity: f64) {
        self.runs += 1;
        let best = self.best().and_then(|trial| trial.sustained);
        let Some(trial) = self.trials.last_mut() else {
            return;
        };
        trial.runs += 1;
        if capacity <= 0.0 {
            return;
        }
        trial.capacity = Some(capacity);
        let worth = |rate: &f64| self.is_sweep || best.is_none_or(|best| *rate > best * WORTH);
        let rates = RUNGS.map(|part| part * capacity);
        let rates: Vec<_> = rates.into_iter().filter(worth).collect();
        if let Some(model) = &mut self.model {
            model.saw(trial.setting, capacity);
        }
        self.bisection = Some(Bisection {
            low: 0,
            high: rates.len(),
            rates,
        });
    }

    /// What the open loop came to.
    pub fn held(&mut self, held: Held) {
        self.runs += 1;
        let (Some(trial), Some(bisection)) = (self.trials.last_mut(), &mut self.bisection) else {
            return;
        };
        trial.runs += 1;
        trial.is_doubtful |= held.is_doubtful;
        let Some(rate) = bisection.rate() else { return };
        if held.is_met {
            trial.sustained = Some(rate);
            trial.queue_seconds = held.queue_seconds;
        }
        if held.is_met || trial.sustained.is_none() {
            trial.p99_ms = held.p99_ms;
        }
        bisection.tried(held.is_met);
    }

    /// The trial with the highest rate; the first of equals.
    #[must_use]
    pub fn best(&self) -> Option<&Trial> {
        let kept = self.trials.iter().filter(|trial| trial.sustained.is_some());
        kept.reduce(|best, trial| {
            if trial.sustained > best.sustained {
                trial
            } else {
                best
            }
        })
    }

    /// What a batch costs.
    #[must_use]
    pub fn costs(&self) -> Option<Costs> {
        self.costs
    }

    /// What was tried, and how many settings were not.
    #[must_use]
    pub fn into_trials(self) -> (Vec<Trial>, usize) {
        (self.trials, self.untried.len())
    }

    /// Runs so far.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// What a setting is predicted to sustain; none before the first is measured.
    pub(crate) fn predicted(&self, setting: Setting) -> Option<f64> {
        let model = self.model.as_ref()?;
        Some(model.sustained(setting, &self.bounds) * self.bias(model))
    }

    /// What the best kept of what was predicted of it: rates are tried in steps, and a run has to show that the
    /// objectives are kept, which a simulation has not.
    fn bias(&self, model: &Model) -> f64 {
        let of = |trial: &Trial| {
            let said = model.sustained(trial.setting, &self.bounds);
            Some((trial.sustained? / said).clamp(LEAST_BIAS, 1.0)).filter(|bias| bias.is_finite())
        };
        self.best().and_then(of).unwrap_or(1.0)
    }

    /// The setting that is next, and what is predicted of it.
    fn choose(&self) -> Option<(Setting, Option<f64>)> {
        let by_size = |setting: &&Setting| (setting.max_batch_size, u32::MAX - setting.instances);
        let Some(model) = self.model.as_ref().filter(|_| !self.is_sweep) else {
            let first = self.untried.iter().max_by_key(by_size)?;
            return Some((*first, None));
        };
        let bias = self.bias(model);
        let all = self.untried.iter();
        let all = all.map(|setting| (*setting, bias * model.sustained(*setting, &self.bounds)));
        let all: Vec<_> = all.collect();
        let highest = all.iter().map(|(_, rate)| *rate).reduce(f64::max)?;
        let best = self.best().and_then(|trial| trial.sustained).unwrap_or(0.0);
        if highest <= best * WORTH {
            return None;
        }
        // In their order: fewer instances first, then smaller batches.
        let mut all = all.into_iter();
        let chosen = all.find(|(_, rate)| *rate >= highest * SAME);
        chosen.map(|(setting, rate)| (setting, Some(rate)))
    }

    /// A trial is over.
    fn conclude(&mut self) {
        self.bisection = None;
        let Some(trial) = self.trials.last() else {
            return;
        };
        if let (None, Some(costs), Some(capacity)) = (&self.model, self.costs, trial.capacity) {
            self.model = Some(Model::new(costs, self.lanes, trial.setting, capacity));
        }
    }
}

// === impl Bisection ===

impl Bisection {
    /// The next rate; none where all is known.
    fn rate(&self) -> Option<f64> {
        let is_open = self.low < self.high;
        is_open
            .then(|| {
                self.rates
                    .get(usize::midpoint(self.low, self.high))
                    .copied()
            })
            .flatten()
    }

    fn tried(&mut self, is_met: bool) {
        let middle = usize::midpoint(self.low, self.high);
        if is_met {
            self.low = middle + 1;
        } else {
            self.high = middle;
        }
    }
}

// === impl Trial ===

impl Trial {
    fn new(setting: Setting, predicted: Option<f64>) -> Self {
        Self {
            setting,
            predicted,
            capacity: None,
            sustained: None,
            p99_ms: None,
            queue_seconds: None,
            runs: 0,
            is_doubtful: false,
        }
    }
}

#[cfg(test)]
mod tests;
