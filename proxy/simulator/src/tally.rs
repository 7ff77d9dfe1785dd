//! Counts what clients see and what proxies do, by second and by phase.
//!
//! A request belongs to the phase in which it came, whenever it ends; the series
//! for the plot goes by the second in which an answer was there. What comes before
//! the end of the warm-up is not counted.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aegis_policy::{BadAnswer, BreakerState, Refusal, Transition};
use hdrhistogram::Histogram;

use crate::{
    Report, Scenario, Setup,
    report::{Ejections, Mark, Phase, Retries, Second, Share},
    time::Time,
};

/// The longest time that is told from longer ones: ten minutes, in microseconds.
const LONGEST: u64 = 600_000_000;
/// Attempts of one pod whose time is kept.
const KEPT: usize = 200_000;
/// Over how long a pod's share is measured, and from one look to the next.
const SHARE_OVER: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With an answer.
    Answered { version: Arc<str>, fell_back: bool },
    /// With a status that every endpoint would give.
    Status(u16),
    /// With the static answer.
    Static,
    /// Every endpoint has as many requests as it may.
    Full,
    /// There is no endpoint.
    Nowhere,
    /// A pod refused it, and nobody else took it.
    Refused,
    /// A pod failed, and nobody else took it.
    Error(&'static str),
    /// No connection came about.
    NoConnection,
    /// The connection broke.
    Reset,
    /// No answer in time.
    Late,
}

/// The counts.
#[derive(Debug)]
pub(crate) struct Tally {
    start: Time,
    end: Time,
    /// When the trouble begins and ends.
    trouble: Option<(Time, Time)>,
    phases: [Counts; 3],
    second: Counts,
    series: Vec<Second>,
    versions: Vec<(Arc<str>, u64)>,
    /// Answers of each version in this second.
    now_by: Vec<u64>,
    failures: BTreeMap<&'static str, u64>,
    fallbacks: u64,
    retries: Retries,
    ejections: Ejections,
    open: i64,
    /// The pods that something is wrong with, and when they were asked since.
    patients: Vec<Option<Vec<Time>>>,
    fair_share: f64,
}

/// Requests of one phase.
#[derive(Debug)]
struct Counts {
    requests: u64,
    answered: u64,
    retries: u64,
    /// Microseconds.
    took: Histogram<u32>,
}

// === impl Ending ===

impl Ending {
    pub(crate) fn bad(bad: BadAnswer) -> Self {
        match bad {
            BadAnswer::Refused => Self::Refused,
            BadAnswer::Late => Self::Late,
            BadAnswer::Error500 => Self::Error("500"),
            BadAnswer::Error5xx => Self::Error("5xx"),
        }
    }

    fn label(&self) -> Option<&'static str> {
        Some(match self {
            Self::Answered { .. } => return None,
            Self::Status(_) => "client error",
            Self::Static => "static answer",
            Self::Full => "429, all full",
            Self::Nowhere => "503, no endpoint",
            Self::Refused => "429 of a pod",
            Self::Error("500") => "500 of a pod",
            Self::Error(_) => "5xx of a pod",
            Self::NoConnection => "502, no connection",
            Self::Reset => "502, reset",
            Self::Late => "504, no answer in time",
        })
    }
}

// === impl Tally ===

impl Tally {
    pub(crate) fn new(setup: &Setup, scenario: &Scenario) -> Self {
        let start = Time::from(scenario.warmup);
        let endpoints: usize = setup.versions.iter().map(|v| v.endpoints.len()).sum();
        let trouble = scenario.trouble();
        Self {
            start,
            end: start + scenario.lasts,
            trouble: trouble.map(|(from, until)| (start + from, start + until)),
            phases: [Counts::new(), Counts::new(), Counts::new()],
            second: Counts::new(),
            series: Vec::new(),
            versions: setup
                .versions
                .iter()
                .map(|version| (Arc::clone(&version.name), 0))
                .collect(),
            now_by: vec![0; setup.versions.len()],
            failures: BTreeMap::new(),
            fallbacks: 0,
            retries: Retries::default(),
            ejections: Ejections::default(),
            open: 0,
            patients: vec![None; endpoints],
            fair_share: scenario.rate / endpoints.max(1) as f64,
        }
    }

    fn counts(&self, at: Time) -> bool {
        (self.start..self.end).contains(&at)
    }

    fn phase(&mut self, came: Time) -> &mut Counts {
        let at = match self.trouble {
            Some((_, until)) if came >= until => 2,
            Some((from, _)) if came >= from => 1,
            _ => 0,
        };
        &mut self.phases[at]
    }

    /// A request has come.
    pub(crate) fn came(&mut self, at: Time) {
        if self.counts(at) {
            self.phase(at).requests += 1;
        }
    }

    /// A request has ended.
    pub(crate) fn ended(&mut self, came: Time, now: Time, how: Ending) {
        if !self.counts(came) {
            return;
        }
        let micros = u64::try_from((now - came).as_micros()).unwrap_or(LONGEST);
        self.second.ends(micros, how.label().is_none());
        self.phase(came).ends(micros, how.label().is_none());
        if let Some(label) = how.label() {
            *self.failures.entry(label).or_default() += 1;
        }
        let Ending::Answered { version, fell_back } = how else {
            return;
        };
        self.fallbacks += u64::from(fell_back);
        if let Some(at) = self.versions.iter().position(|(name, _)| *name == version) {
            self.versions[at].1 += 1;
            self.now_by[at] += 1;
        }
    }

    /// Another attempt was asked for.
    pub(crate) fn retried(&mut self, refused: Option<Refusal>, now: Time) {
        if !self.counts(now) {
            return;
        }
        match refused {
            None => {
                self.retries.made += 1;
                self.second.retries += 1;
                self.phase(now).retries += 1;
            }
            Some(Refusal::NoBudget) => self.retries.no_budget += 1,
            Some(Refusal::NoTime) => self.retries.no_time += 1,
            Some(_) => self.retries.nobody_left += 1,
        }
    }

    /// An attempt went to a pod.
    pub(crate) fn asked(&mut self, pod: u32, now: Time) {
        if let Some(seen) = &mut self.patients[pod as usize]
            && seen.len() < KEPT
        {
            seen.push(now);
        }
    }

    /// Something is wrong with a pod from now on.
    pub(crate) fn ill(&mut self, pod: u32, now: Time) {
        // The first entry says since when.
        self.patients[pod as usize].get_or_insert_with(|| vec![now]);
    }

    /// A breaker has moved at an endpoint that was `ill`, or not.
    pub(crate) fn moved(&mut self, transition: &Transition, ill: bool, now: Time) {
        let counted = self.counts(now);
        match transition.step.to {
            BreakerState::Open => {
                let reason = transition.step.reason.label();
                let again = reason == "probe_failed";
                self.open += i64::from(!again);
                if counted {
                    *self.ejections.by_reason.entry(reason).or_default() += 1;
                    self.ejections.of_healthy += u64::from(!ill && !again);
                }
                if counted && !again {
                    self.ejections.opened += 1;
                    let since = self.trouble.map_or(self.start, |(from, _)| from);
                    if now >= since {
                        let after = (now - since).as_secs_f64() * 1e3;
                        self.ejections.first_after_ms.get_or_insert(after);
                    }
                }
            }
            BreakerState::Closed => {
                self.open -= 1;
                self.ejections.closed += u64::from(counted);
            }
            BreakerState::HalfOpen => {}
        }
    }

    /// A second of the series is over.
    pub(crate) fn second_ends(&mut self, now: Time) {
        let second = std::mem::replace(&mut self.second, Counts::new());
        let by_version = std::mem::replace(&mut self.now_by, vec![0; self.versions.len()]);
        if now <= self.start || now > self.end {
            return;
        }
        self.series.push(Second {
            ended: second.took.len(),
            answered: second.answered,
            p50_ms: second.quantile(0.5),
            p99_ms: second.quantile(0.99),
            retries: second.retries,
            open: self.open,
            by_version,
        });
    }

    /// What came of it.
    pub(crate) fn report(self, setup: &Setup, scenario: &Scenario, seed: u64) -> Report {
        let answered: u64 = self.versions.iter().map(|(_, count)| count).sum();
        let share = |(name, count): &(Arc<str>, u64)| Share {
            version: name.to_string(),
            answered: *count,
            share: *count as f64 / answered.max(1) as f64,
            endpoints: setup
                .versions
                .iter()
                .find(|version| version.name == *name)
                .map_or(0, |version| version.endpoints.len()),
        };
        let mut all = Counts::new();
        for phase in &self.phases {
            all.add(phase);
        }
        let names = ["before", "trouble", "after"];
        let mut phases: Vec<Phase> = names
            .iter()
            .zip(&self.phases)
            .filter(|(_, counts)| counts.requests > 0)
            .map(|(name, counts)| counts.phase(name))
            .collect();
        phases.push(all.phase("all"));
        let end = scenario.lasts;
        let mark = |fault: &crate::scenario::Fault| Mark {
            what: fault.what.name(),
            zone: setup.zone(&fault.among).map(ToString::to_string),
            from_seconds: fault.at.as_secs_f64(),
            until_seconds: fault.at.saturating_add(fault.lasts).min(end).as_secs_f64(),
        };
        let report = Report {
            model: setup.model.clone(),
            about: scenario.about.clone(),
            seed,
            proxies: scenario.proxies,
            endpoints: self.patients.len(),
            rate: scenario.rate,
            seconds: scenario.lasts.as_secs_f64(),
            out_after_ms: self.out_after(),
            phases,
            versions: self.versions.iter().map(share).collect(),
            failures: self.failures,
            fallbacks: self.fallbacks,
            retries: self.retries,
            ejections: self.ejections,
            marks: scenario.faults.iter().map(mark).collect(),
            series: self.series,
            missed: Vec::new(),
        };
        report.judged(&scenario.expect)
    }

    /// Milliseconds until the last of the pods with which something is wrong got
    /// less than a quarter of its share; none while one did not, as the bench of
    /// the real proxy has it.
    fn out_after(&self) -> Option<f64> {
        let few = 0.25 * self.fair_share * SHARE_OVER.as_secs_f64();
        let until = self.trouble.map_or(self.end, |(_, until)| until);
        let one = |seen: &Vec<Time>| {
            let (since, seen) = (*seen.first()?, &seen[1..]);
            let mut from = since;
            while from + SHARE_OVER <= until {
                let first = seen.partition_point(|at| *at < from);
                let last = seen.partition_point(|at| *at < from + SHARE_OVER);
                if ((last - first) as f64) < few {
                    return Some((from - since).as_secs_f64() * 1e3);
                }
                from = from + LOOK_EVERY;
            }
            None
        };
        let patients = self.patients.iter().flatten();
        let each: Option<Vec<f64>> = patients.map(one).collect();
        each?.into_iter().max_by(f64::total_cmp)
    }
}

// === impl Counts ===

impl Counts {
    fn new() -> Self {
        let took = Histogram::new_with_bounds(1, LONGEST, 3)
            .unwrap_or_else(|_| unreachable!("the bounds are right"));
        Self {
            requests: 0,
            answered: 0,
            retries: 0,
            took,
        }
    }

    fn ends(&mut self, micros: u64, answered: bool) {
        self.took.saturating_record(micros.max(1));
        self.answered += u64::from(answered);
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.answered += other.answered;
        self.retries += other.retries;
        // Both have the same bounds.
        let _ = self.took.add(&other.took);
    }

    /// Milliseconds; 0 of nothing.
    fn quantile(&self, q: f64) -> f64 {
        self.took.value_at_quantile(q) as f64 / 1e3
    }

    fn phase(&self, name: &'static str) -> Phase {
        Phase {
            name,
            requests: self.requests,
            failed: self.took.len() - self.answered,
            availability: self.answered as f64 / self.took.len().max(1) as f64,
            p50_ms: self.quantile(0.5),
            p99_ms: self.quantile(0.99),
            p999_ms: self.quantile(0.999),
            max_ms: self.took.max() as f64 / 1e3,
            over_100_ms: self.took.count_between(100_000, LONGEST),
            retries: self.retries,
        }
    }
}
