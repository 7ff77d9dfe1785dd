//! All pods, and what befalls them.
//!
//! A fault's course is worked out beforehand, as steps: it begins and ends, flaps,
//! or goes through its pods one after the other. Steps are planned as events, so
//! that nothing asks at every moment whether something is wrong.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use aegis_policy::CheckResult;
use rand::rngs::StdRng;

use super::{RunError, World};
use crate::{
    Scenario, Setup,
    events::Event,
    pod::{Ill, Job, Pod, Reaction, Service},
    scenario::{Among, Fault, What, Which},
    time::Time,
};

/// For how long a pod that is well again may still be ejected without that being
/// called a mistake: what it did wrong is still in windows and averages.
const AFTERMATH: Duration = Duration::from_secs(2);

/// All pods.
#[derive(Debug)]
pub(super) struct Fleet {
    pods: Vec<Pod>,
    places: Vec<(usize, SocketAddr)>,
    by_place: Vec<HashMap<SocketAddr, u32>>,
    names: Vec<Arc<str>>,
    /// When each was last ill.
    ill_until: Vec<Option<Time>>,
    service: Service,
    rng: StdRng,
    courses: Vec<Course>,
}

/// One fault, worked out.
#[derive(Debug)]
struct Course {
    steps: Vec<Step>,
}

/// What happens to some pods at a moment, from the end of the warm-up.
#[derive(Debug)]
struct Step {
    at: Duration,
    pods: Vec<u32>,
    change: Change,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Falls(Ill),
    Recovers,
    /// It is back, and so many times slower at first, for so long.
    Cold(f64, Duration),
}

// === impl Fleet ===

impl Fleet {
    pub(super) fn new(setup: &Setup, scenario: &Scenario, rng: StdRng) -> Result<Self, RunError> {
        let mut fleet = Self {
            pods: Vec::new(),
            places: Vec::new(),
            by_place: Vec::new(),
            names: setup.versions.iter().map(|v| Arc::clone(&v.name)).collect(),
            ill_until: Vec::new(),
            service: Service::new(&scenario.pods),
            rng,
            courses: Vec::new(),
        };
        for (version, config) in setup.versions.iter().enumerate() {
            let mut by_place = HashMap::new();
            for place in &config.endpoints {
                by_place.insert(place.address, fleet.len());
                fleet.places.push((version, place.address));
                fleet.pods.push(Pod::new(&scenario.pods));
                fleet.ill_until.push(None);
            }
            fleet.by_place.push(by_place);
        }
        for (number, fault) in scenario.faults.iter().enumerate() {
            let pods = fleet.whom(setup, number, fault)?;
            fleet
                .courses
                .push(Course::new(fault, &pods, scenario.lasts));
        }
        Ok(fleet)
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.pods.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn pod(&self, pod: u32) -> &Pod {
        &self.pods[pod as usize]
    }

    pub(super) fn place(&self, pod: u32) -> (usize, SocketAddr) {
        self.places[pod as usize]
    }

    pub(super) fn find(&self, version: &str, address: SocketAddr) -> Option<u32> {
        let version = self.names.iter().position(|name| **name == *version)?;
        self.by_place[version].get(&address).copied()
    }

    /// What a check has heard by now: nothing is no answer in time.
    pub(super) fn check(&self, pod: u32) -> CheckResult {
        self.pod(pod).check().unwrap_or(CheckResult::Down)
    }

    /// Whether something was wrong with it a moment ago.
    pub(super) fn was_ill(&self, pod: u32, now: Time) -> bool {
        let lately = self.ill_until[pod as usize].is_some_and(|until| now - until < AFTERMATH);
        lately || self.pod(pod).is_ill(now)
    }

    pub(super) fn ask(&mut self, pod: u32, job: Job, now: Time) -> Reaction {
        self.pods[pod as usize].ask(job, &self.service, now, &mut self.rng)
    }

    pub(super) fn leaves(&mut self, pod: u32, job: Job) -> bool {
        self.pods[pod as usize].leave(job)
    }

    pub(super) fn begin_next(&mut self, pod: u32, now: Time) -> Option<(Job, Duration)> {
        self.pods[pod as usize].begin_next(&self.service, now, &mut self.rng)
    }

    /// When which step of which fault comes.
    pub(super) fn schedule(&self, warmup: Duration) -> Vec<(Time, u32, u32)> {
        let mut all = Vec::new();
        for (fault, course) in (0..).zip(&self.courses) {
            for (number, step) in (0..).zip(&course.steps) {
                all.push((Time::from(warmup) + step.at, fault, number));
            }
        }
        all
    }

    /// The pods that a fault befalls.
    fn whom(&self, setup: &Setup, fault: usize, of: &Fault) -> Result<Vec<u32>, RunError> {
        let versions = match &of.version {
            Which::Any => (0..setup.versions.len()).collect(),
            Which::Main => setup.version_by_weight(true).into_iter().collect(),
            Which::Canary => setup.version_by_weight(false).into_iter().collect(),
            Which::Named(name) => {
                let found = self.names.iter().position(|known| known == name);
                vec![found.ok_or_else(|| RunError::NoVersion {
                    fault,
                    name: name.to_string(),
                })?]
            }
        };
        let zone = setup.zone(&of.among);
        let mut whom = Vec::new();
        for version in versions {
            let endpoints = &setup.versions[version].endpoints;
            let all = endpoints
                .iter()
                .filter_map(|place| Some((self.by_place[version].get(&place.address)?, place)));
            match &of.among {
                Among::Count(count) => whom.extend(all.take(*count as usize).map(|(pod, _)| *pod)),
                Among::Share(share) => {
                    let here = share_of(endpoints.len(), *share);
                    whom.extend(all.take(here).map(|(pod, _)| *pod));
                }
                Among::Zone(_) | Among::NthZone(_) => {
                    let there =
                        all.filter(|(_, place)| zone.is_some() && place.zone.as_ref() == zone);
                    whom.extend(there.map(|(pod, _)| *pod));
                }
            }
        }
        let known = || {
            let names: Vec<&str> = setup.zones().into_iter().map(|name| &**name).collect();
            names.join(", ")
        };
        match &of.among {
            Among::Zone(name) if whom.is_empty() => Err(RunError::NoZone {
                fault,
                name: name.to_string(),
                known: known(),
            }),
            Among::NthZone(nth) if whom.is_empty() => Err(RunError::NoNthZone {
                fault,
                nth: *nth,
                known: known(),
            }),
            _ => Ok(whom),
        }
    }
}

fn share_of(all: usize, share: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count"
    )]
    let part = (all as f64 * share).ceil() as usize;
    part
}

// === impl Course ===

impl Course {
    fn new(fault: &Fault, pods: &[u32], until: Duration) -> Self {
        let mut course = Self { steps: Vec::new() };
        let end = fault.at.saturating_add(fault.lasts);
        let ill = match fault.what {
            What::Slow(time) => Ill::Slow(time),
            What::Hung => Ill::Hung,
            What::Failing { status, share } => Ill::Failing { status, share },
            What::Down => Ill::Down,
            What::Gone => Ill::Gone,
            What::Flapping { status, period } => {
                let ill = Ill::Failing { status, share: 1.0 };
                let mut at = fault.at;
                while at < end.min(until) {
                    course.step(at, pods, Change::Falls(ill));
                    course.step((at + period).min(end), pods, Change::Recovers);
                    at += period * 2;
                }
                return course;
            }
            What::Cold { factor } => {
                course.step(fault.at, pods, Change::Cold(factor, fault.lasts));
                return course;
            }
            What::Restart {
                drain,
                down,
                factor,
            } => {
                course.restart(fault, pods, (drain, down, factor));
                return course;
            }
        };
        course.step(fault.at, pods, Change::Falls(ill));
        course.step(end, pods, Change::Recovers);
        course
    }

    /// One after the other, over the time that the fault lasts.
    fn restart(
        &mut self,
        fault: &Fault,
        pods: &[u32],
        (drain, down, factor): (Duration, Duration, f64),
    ) {
        let count = u32::try_from(pods.len()).unwrap_or(u32::MAX).max(1);
        let each = fault.lasts / count;
        for (turn, pod) in (0..).zip(pods) {
            let at = fault.at + each * turn;
            self.step(at, &[*pod], Change::Falls(Ill::Draining));
            self.step(at + drain, &[*pod], Change::Falls(Ill::Down));
            let back = Change::Cold(factor, each.max(Duration::from_secs(1)));
            self.step(at + drain + down, &[*pod], back);
        }
    }

    fn step(&mut self, at: Duration, pods: &[u32], change: Change) {
        self.steps.push(Step {
            at,
            pods: pods.to_vec(),
            change,
        });
    }
}

impl World<'_> {
    /// A step of a fault.
    pub(super) fn fault(&mut self, fault: u32, step: u32) {
        let Step { pods, change, .. } = &self.fleet.courses[fault as usize].steps[step as usize];
        let (pods, change) = (pods.clone(), *change);
        for pod in pods {
            self.tally.ill(pod, self.now);
            let patient = &mut self.fleet.pods[pod as usize];
            let broken = match change {
                Change::Falls(ill) => {
                    patient.ill = ill;
                    match ill {
                        Ill::Down => patient.drop_all(),
                        // They hang for ever, which their proxies end.
                        Ill::Gone => {
                            patient.drop_all();
                            Vec::new()
                        }
                        _ => Vec::new(),
                    }
                }
                Change::Recovers => {
                    patient.ill = Ill::Not;
                    self.fleet.ill_until[pod as usize] = Some(self.now);
                    Vec::new()
                }
                Change::Cold(factor, lasts) => {
                    patient.ill = Ill::Not;
                    patient.chill(self.now, factor, lasts);
                    self.fleet.ill_until[pod as usize] = Some(self.now);
                    Vec::new()
                }
            };
            for job in broken {
                let event = Event::Broken {
                    job,
                    never_connected: false,
                };
                self.events.plan(self.now, event);
            }
        }
    }
}
