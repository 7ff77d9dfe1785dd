//! The simulated world: proxies, pods, requests, and what happens next.
//!
//! [`run`] takes one event after the other until the last request has its answer.
//! What a proxy does with a request is in [`attempt`], what pods do and suffer in
//! [`fleet`], and how requests wait for a slot in [`queueing`].

mod attempt;
mod fleet;
mod load;
mod queueing;

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use aegis_policy::{ConfigError, ModelConfig, ModelPolicy, Transition, Waiter};
use rand::{RngExt, rngs::StdRng};
use rand_distr::{Distribution, Exp1};
use slotmap::{DefaultKey, SlotMap};

use crate::{
    Report, Scenario, Setup,
    events::{Event, Events},
    pod::Job,
    rng::{Stream, stream},
    tally::Tally,
    time::Time,
};
use attempt::Request;
use fleet::Fleet;
use load::Rate;

/// From one look at the age of what is out to the next, as in the proxy's `serve.rs`.
const TICK: Duration = Duration::from_millis(25);
/// From one sweep for overdue attempts to the next, as there.
const SWEEP: Duration = Duration::from_millis(5);
/// How far an interval between checks strays to either side, as in `health.rs`.
const CHECK_JITTER: f64 = 0.1;
/// Checks that a proxy makes at once.
const CHECKS_AT_ONCE: u32 = 256;
/// What a batch of those takes, at the beginning.
const CHECK_BATCH: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Why a scenario cannot be run on a configuration. Its author's to mend.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A fault names a version that is not there.
    #[error("faults[{fault}].version: no version {name:?}")]
    NoVersion {
        /// Which of the faults.
        fault: usize,
        /// The version.
        name: String,
    },
    /// A fault names a zone in which nothing runs.
    #[error("faults[{fault}].zone: no endpoint is in zone {name:?} (known: {known})")]
    NoZone {
        /// Which of the faults.
        fault: usize,
        /// The zone.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A fault befalls a zone by its number, and there are fewer.
    #[error("faults[{fault}].nth_zone: there is no zone {nth} (known: {known})")]
    NoNthZone {
        /// Which of the faults.
        fault: usize,
        /// The number.
        nth: u32,
        /// Those that there are.
        known: String,
    },
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// One proxy: its own policy and its own chance.
#[derive(Debug)]
struct Proxy {
    policy: ModelPolicy,
    rng: StdRng,
    /// Requests that stand in line.
    waiting: HashMap<Waiter, DefaultKey>,
}

/// Everything.
#[derive(Debug)]
struct World<'a> {
    setup: &'a Setup,
    scenario: &'a Scenario,
    epoch: Instant,
    now: Time,
    events: Events,
    proxies: Vec<Proxy>,
    fleet: Fleet,
    requests: SlotMap<DefaultKey, Request>,
    /// Attempts by the sweep that ends them.
    overdue: BTreeMap<Time, Vec<Job>>,
    arrivals: StdRng,
    checks: StdRng,
    rate: Rate,
    tally: Tally,
}

/// Runs a scenario on a configuration. `epoch` is where virtual time begins: any
/// instant will do. The same seed gives the same report.
///
/// # Errors
/// When the scenario speaks of what the configuration does not have.
pub fn run(
    setup: &Setup,
    scenario: &Scenario,
    seed: u64,
    epoch: Instant,
) -> Result<Report, RunError> {
    let made_up = scenario
        .endpoints
        .map(|count| setup.clone().with_endpoints(count, scenario.zones));
    let setup = made_up.as_ref().unwrap_or(setup);
    let config = setup.policy()?;
    let mut world = World::new(setup, scenario, &config, seed, epoch)?;
    world.begin();
    while let Some((at, event)) = world.events.next() {
        world.now = at;
        if world.is_over() {
            break;
        }
        world.happens(event);
    }
    Ok(world.tally.report(setup, scenario, seed))
}

// === impl World ===

impl<'a> World<'a> {
    fn new(
        setup: &'a Setup,
        scenario: &'a Scenario,
        config: &ModelConfig,
        seed: u64,
        epoch: Instant,
    ) -> Result<Self, RunError> {
        let proxy = |number| Proxy {
            policy: ModelPolicy::new(config.clone(), epoch),
            rng: stream(seed, Stream::Proxy(number)),
            waiting: HashMap::new(),
        };
        Ok(Self {
            setup,
            scenario,
            epoch,
            now: Time::default(),
            events: Events::default(),
            proxies: (0..scenario.proxies).map(proxy).collect(),
            fleet: Fleet::new(setup, scenario, stream(seed, Stream::Pods))?,
            requests: SlotMap::new(),
            overdue: BTreeMap::new(),
            arrivals: stream(seed, Stream::Arrivals),
            checks: stream(seed, Stream::Checks),
            rate: Rate::new(scenario),
            tally: Tally::new(setup, scenario),
        })
    }

    fn begin(&mut self) {
        for proxy in 0..self.scenario.proxies {
            for pod in 0..self.fleet.len() {
                // So many at once, as fast as they are answered.
                let turn = CHECK_BATCH * (pod / CHECKS_AT_ONCE + 1);
                self.events
                    .plan(self.now + turn, Event::Check { proxy, pod });
            }
            self.events.plan(self.now + TICK, Event::Tick { proxy });
        }
        let first = self.now + CHECK_BATCH * (self.fleet.len() / CHECKS_AT_ONCE + 2);
        self.events.plan(first, Event::Arrival);
        self.events.plan(self.now + SECOND, Event::Second);
        for (at, fault, step) in self.fleet.schedule(self.scenario.warmup) {
            self.events.plan(at, Event::Fault { fault, step });
        }
    }

    fn end(&self) -> Time {
        Time::from(self.scenario.warmup) + self.scenario.lasts
    }

    fn is_over(&self) -> bool {
        self.now >= self.end() && self.requests.is_empty()
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrival => self.arrival(),
            Event::Done { pod, job } => self.done(pod, job),
            Event::Answer { job, status } => self.answered(job, status),
            Event::Broken {
                job,
                never_connected,
            } => self.broken(job, never_connected),
            Event::WaitEnds { proxy, waiter } => self.wait_ends(proxy, waiter),
            Event::Tick { proxy } => self.tick(proxy),
            Event::Sweep => self.sweep(),
            Event::Check { proxy, pod } => self.check(proxy, pod),
            Event::Checked { proxy, pod } => self.checked(proxy, pod),
            Event::Fault { fault, step } => self.fault(fault, step),
            Event::Second => {
                self.tally.second_ends(self.now);
                self.events.plan(self.now + SECOND, Event::Second);
            }
        }
    }

    /// Now, as the policy takes it.
    fn instant(&self) -> Instant {
        self.epoch + self.now.since_start()
    }

    fn arrival(&mut self) {
        if self.now >= self.end() {
            return;
        }
        let mean = self.rate.gap(self.now);
        let gap = if self.scenario.even {
            mean
        } else {
            let times: f64 = Exp1.sample(&mut self.arrivals);
            mean.mul_f64(times)
        };
        self.events.plan(self.now + gap, Event::Arrival);
        let proxy = self.arrivals.random_range(0..self.scenario.proxies);
        self.begins(proxy);
    }

    fn tick(&mut self, proxy: u32) {
        let now = self.instant();
        let Proxy { policy, rng, .. } = &mut self.proxies[proxy as usize];
        for transition in policy.tick(now, rng) {
            self.moved(&transition);
        }
        self.serve_queue(proxy);
        self.events.plan(self.now + TICK, Event::Tick { proxy });
    }

    fn sweep(&mut self) {
        while let Some(due) = self
            .overdue
            .first_entry()
            .filter(|due| *due.key() <= self.now)
        {
            for job in due.remove() {
                self.timed_out(job);
            }
        }
    }

    /// An attempt is to be ended at the first sweep after `until`.
    fn watch(&mut self, job: Job, until: Time) {
        let sweep = until.round_up(SWEEP);
        let list = self.overdue.entry(sweep).or_insert_with(|| {
            self.events.plan(sweep, Event::Sweep);
            Vec::new()
        });
        list.push(job);
    }

    fn check(&mut self, proxy: u32, pod: u32) {
        let jitter = self
            .checks
            .random_range(1.0 - CHECK_JITTER..=1.0 + CHECK_JITTER);
        let next = self.now + self.setup.check_interval.mul_f64(jitter);
        self.events.plan(next, Event::Check { proxy, pod });
        if self.fleet.pod(pod).check().is_some() {
            self.checked(proxy, pod);
        } else {
            let timeout = self.now + self.setup.check_timeout;
            self.events.plan(timeout, Event::Checked { proxy, pod });
        }
    }

    /// The answer to a check, or its absence, reaches the proxy.
    fn checked(&mut self, proxy: u32, pod: u32) {
        let result = self.fleet.check(pod);
        let (version, address) = self.fleet.place(pod);
        let name = &self.setup.versions[version].name;
        let policy = &mut self.proxies[proxy as usize].policy;
        let (_, moved) = policy.check(name, address, result, self.epoch + self.now.since_start());
        if let Some(transition) = moved {
            self.moved(&transition);
        }
        self.serve_queue(proxy);
    }

    /// A breaker has moved.
    fn moved(&mut self, transition: &Transition) {
        let pod = self.fleet.find(&transition.version, transition.address);
        let ill = pod.is_some_and(|pod| self.fleet.was_ill(pod, self.now));
        self.tally.moved(transition, ill, self.now);
    }
}
