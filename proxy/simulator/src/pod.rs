//! A simulated pod: a few requests at once, a queue, and what is wrong with it.
//!
//! It is told what happens to it and says what follows; when, is the world's
//! business. A job whose proxy has given up leaves at once, as a closed
//! connection makes it leave a real server.

use std::{collections::VecDeque, time::Duration};

use aegis_policy::{CheckResult, LoadReport};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, LogNormal};
use slotmap::DefaultKey;

use crate::{scenario::PodKind, time::Time};

/// One attempt, as a pod knows it: its request, and which attempt of that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) request: DefaultKey,
    pub(crate) attempt: u32,
}

/// What is wrong with a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Ill {
    /// Nothing.
    #[default]
    Not,
    /// Every answer takes this long.
    Slow(Duration),
    /// Nothing is answered, checks neither.
    Hung,
    /// This part of the answers has this status, at once.
    Failing { status: u16, share: f64 },
    /// The port is closed.
    Down,
    /// Packets vanish: no connection ever stands.
    Gone,
    /// It says that it is going, and serves.
    Draining,
}

/// What follows when a pod is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reaction {
    /// It works on it for so long.
    Works(Duration),
    /// This is its answer, now.
    Answers(u16),
    /// It waits for a slot.
    Waits,
    /// The connection is refused.
    Refused,
    /// No connection comes about.
    Vanishes,
    /// Nothing, ever.
    Nothing,
}

/// One pod.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) ill: Ill,
    /// Slow to begin with, since this moment: what it does takes so many times
    /// longer at first, and less and less for so long.
    cold: Option<(Time, f64, Duration)>,
    working: Vec<Job>,
    waiting: VecDeque<Job>,
    slots: usize,
    queue: usize,
}

/// How long pods of one kind work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    median: Duration,
    spread: Option<LogNormal<f64>>,
}

// === impl Service ===

impl Service {
    pub(crate) fn new(kind: &PodKind) -> Self {
        let median = kind.service;
        // Refused only for what no scenario may say.
        let spread = LogNormal::new(median.as_secs_f64().ln(), kind.spread).ok();
        Self {
            median,
            spread: spread.filter(|_| kind.spread > 0.0),
        }
    }

    fn draw(&self, rng: &mut impl Rng) -> Duration {
        let spread = self.spread.map(|spread| spread.sample(rng));
        spread.map_or(self.median, |seconds| {
            Duration::try_from_secs_f64(seconds).unwrap_or(self.median)
        })
    }
}

// === impl Pod ===

impl Pod {
    pub(crate) fn new(kind: &PodKind) -> Self {
        Self {
            ill: Ill::Not,
            cold: None,
            working: Vec::new(),
            waiting: VecDeque::new(),
            slots: kind.parallel as usize,
            queue: kind.queue as usize,
        }
    }

    /// An attempt comes in.
    pub(crate) fn ask(
        &mut self,
        job: Job,
        service: &Service,
        now: Time,
        rng: &mut impl Rng,
    ) -> Reaction {
        match self.ill {
            Ill::Hung => return Reaction::Nothing,
            Ill::Down => return Reaction::Refused,
            Ill::Gone => return Reaction::Vanishes,
            Ill::Failing { status, share } if share >= 1.0 || rng.random::<f64>() < share => {
                return Reaction::Answers(status);
            }
            Ill::Not | Ill::Slow(_) | Ill::Failing { .. } | Ill::Draining => {}
        }
        if self.working.len() < self.slots {
            self.working.push(job);
            Reaction::Works(self.time(service, now, rng))
        } else if self.waiting.len() < self.queue {
            self.waiting.push_back(job);
            Reaction::Waits
        } else {
            Reaction::Answers(429)
        }
    }

    /// A job is no longer worked on or waited with: it is done, or its proxy has
    /// given up. False when it had left before. The slot is free then.
    pub(crate) fn leave(&mut self, job: Job) -> bool {
        if let Some(at) = self.working.iter().position(|working| *working == job) {
            self.working.swap_remove(at);
            return true;
        }
        self.waiting.retain(|waiting| *waiting != job);
        false
    }

    /// The next job that takes a free slot, and how long it takes.
    pub(crate) fn begin_next(
        &mut self,
        service: &Service,
        now: Time,
        rng: &mut impl Rng,
    ) -> Option<(Job, Duration)> {
        if self.working.len() >= self.slots {
            return None;
        }
        let job = self.waiting.pop_front()?;
        self.working.push(job);
        Some((job, self.time(service, now, rng)))
    }

    /// Everything that it held, when it goes down.
    pub(crate) fn drop_all(&mut self) -> Vec<Job> {
        self.working
            .drain(..)
            .chain(self.waiting.drain(..))
            .collect()
    }

    /// From now on it is slow for a while.
    pub(crate) fn chill(&mut self, now: Time, factor: f64, lasts: Duration) {
        self.cold = Some((now, factor, lasts));
    }

    /// What an active check hears; none when it hears nothing in time.
    pub(crate) fn check(&self) -> Option<CheckResult> {
        match self.ill {
            Ill::Hung | Ill::Gone => None,
            Ill::Down => Some(CheckResult::Down),
            Ill::Draining => Some(CheckResult::Draining),
            Ill::Not | Ill::Slow(_) | Ill::Failing { .. } => Some(CheckResult::Up),
        }
    }

    /// Whether something is wrong with it.
    pub(crate) fn is_ill(&self, now: Time) -> bool {
        let cold = self
            .cold
            .is_some_and(|(since, _, lasts)| now - since < lasts);
        self.ill != Ill::Not || cold
    }

    /// What it says of its load, beside an answer that it has just given.
    pub(crate) fn report(&self) -> LoadReport {
        let others = self.working.len() + self.waiting.len();
        LoadReport {
            in_flight: (others + 1) as f64,
            expected_wait: None,
        }
    }

    fn time(&self, service: &Service, now: Time, rng: &mut impl Rng) -> Duration {
        if let Ill::Slow(time) = self.ill {
            return time;
        }
        let time = service.draw(rng);
        let Some((since, factor, lasts)) = self.cold else {
            return time;
        };
        let passed = (now - since).as_secs_f64() / lasts.as_secs_f64().max(1e-9);
        time.mul_f64((factor + (1.0 - factor) * passed).max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};
    use slotmap::SlotMap;

    use super::*;

    const KIND: PodKind = PodKind {
        service: Duration::from_millis(10),
        spread: 0.0,
        parallel: 1,
        queue: 1,
        network: Duration::ZERO,
        reports_load: true,
    };

    fn jobs() -> [Job; 3] {
        let mut keys = SlotMap::new();
        [(); 3].map(|()| Job {
            request: keys.insert(()),
            attempt: 1,
        })
    }

    #[test]
    fn one_works_one_waits_and_the_third_is_told_429() {
        let (mut pod, service) = (Pod::new(&KIND), Service::new(&KIND));
        let mut rng = StdRng::seed_from_u64(1);
        let [first, second, third] = jobs();
        let now = Time::default();
        let works = Reaction::Works(KIND.service);
        assert_eq!(pod.ask(first, &service, now, &mut rng), works);
        assert_eq!(pod.ask(second, &service, now, &mut rng), Reaction::Waits);
        let refused = Reaction::Answers(429);
        assert_eq!(pod.ask(third, &service, now, &mut rng), refused);
        assert!(pod.leave(first));
        let next = pod.begin_next(&service, now, &mut rng);
        assert_eq!(next, Some((second, KIND.service)));
        assert!(!pod.leave(first), "it left before");
    }

    #[test]
    fn a_cold_pod_gets_faster() {
        let (mut pod, service) = (Pod::new(&KIND), Service::new(&KIND));
        let mut rng = StdRng::seed_from_u64(1);
        pod.chill(Time::default(), 5.0, Duration::from_secs(10));
        let mut at = |seconds| {
            let now = Time::from(Duration::from_secs(seconds));
            pod.time(&service, now, &mut rng).as_millis()
        };
        assert_eq!([at(0), at(5), at(10), at(99)], [50, 30, 10, 10]);
    }
}
