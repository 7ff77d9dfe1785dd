//! What a proxy does with a request: `exchange/attempt.rs` of the shell, call by call.
//!
//! The order of the calls to the policy is the shell's. When an answer is bad, the
//! next attempt is chosen before the bad one is judged and given back; when there
//! is none (no connection, no answer in time), the attempt is judged and given back
//! first. A request's body has arrived whole, as those of inference mostly do.

use std::sync::Arc;

use aegis_policy::{
    Admitted, Again, Ask, Attempt, BadAnswer, ChosenBy, EndpointKey, Excuse, Observed, Outcome,
    Permit, Purpose, Refusal, RouteKind, Suspect,
};
use slotmap::DefaultKey;

use super::{Proxy, World};
use crate::{
    events::Event,
    pod::{Job, Reaction},
    tally::Ending,
    time::Time,
};

/// One request on its way.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) proxy: u32,
    came: Time,
    pub(super) deadline: Time,
    attempts: u32,
    tried: Vec<EndpointKey>,
    suspects: Vec<Suspect>,
    chosen: Option<Arc<str>>,
    by: ChosenBy,
    running: Option<Running>,
}

/// The attempt that is out.
#[derive(Debug)]
struct Running {
    permit: Permit,
    pod: u32,
    sent: Time,
    version: Arc<str>,
    fell_back: bool,
}

/// Why there is no other attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoRetry {
    Exhausted,
    Other,
}

impl World<'_> {
    /// A request comes to a proxy.
    pub(super) fn begins(&mut self, proxy: u32) {
        let came = self.now;
        let deadline = came + self.setup.request_timeout;
        self.tally.came(came);
        let request = self.requests.insert(Request {
            proxy,
            came,
            deadline,
            attempts: 0,
            tried: Vec::new(),
            suspects: Vec::new(),
            chosen: None,
            by: ChosenBy::Split,
            running: None,
        });
        let ask = Ask {
            version: None,
            sticky: None,
            replayable: true,
            uploading: false,
            retries_left: self.setup.max_retries > 0,
            purpose: Purpose::Inference,
            deadline: self.epoch + deadline.since_start(),
        };
        let now = self.instant();
        let Proxy { policy, rng, .. } = &mut self.proxies[proxy as usize];
        match policy.admit(ask, now, rng) {
            Ok(Admitted::Now(attempt)) => self.goes(request, attempt),
            Ok(Admitted::Queued(waiter)) => self.waits(request, waiter),
            Err(refused) => self.refused(request, &refused),
        }
    }

    /// An attempt goes out.
    pub(super) fn goes(&mut self, key: DefaultKey, attempt: Attempt) {
        let now = self.instant();
        if let Some(transition) = &attempt.transition {
            self.moved(transition);
        }
        let Some(pod) = self.fleet.find(&attempt.version, attempt.address) else {
            return;
        };
        let request = &mut self.requests[key];
        request.attempts += 1;
        self.proxies[request.proxy as usize]
            .policy
            .sent(&attempt.permit, now);
        request.chosen = Some(attempt.chosen);
        request.by = attempt.by;
        request.running = Some(Running {
            permit: attempt.permit,
            pod,
            sent: self.now,
            version: attempt.version,
            fell_back: matches!(attempt.kind, RouteKind::Fallback(_)),
        });
        let job = Job {
            request: key,
            attempt: request.attempts,
        };
        let within = attempt.first_byte_within;
        let until = (self.now + within).min(request.deadline);
        self.tally.asked(pod, self.now);
        let network = self.scenario.pods.network;
        match self.fleet.ask(pod, job, self.now) {
            Reaction::Works(time) => self.events.plan(self.now + time, Event::Done { pod, job }),
            Reaction::Answers(status) => {
                let event = Event::Answer { job, status };
                self.events.plan(self.now + network, event);
            }
            Reaction::Waits | Reaction::Nothing => {}
            Reaction::Refused => {
                let event = Event::Broken {
                    job,
                    never_connected: true,
                };
                self.events.plan(self.now + network, event);
                return;
            }
            Reaction::Vanishes => {
                // A connection that had less time than it may take says nothing.
                if within >= self.setup.connect_timeout {
                    let event = Event::Broken {
                        job,
                        never_connected: true,
                    };
                    self.events
                        .plan(self.now + self.setup.connect_timeout, event);
                    return;
                }
            }
        }
        self.watch(job, until);
    }

    /// Whether this attempt is the one that is out.
    fn is_out(&self, job: Job) -> bool {
        let request = self.requests.get(job.request);
        request.is_some_and(|r| r.attempts == job.attempt && r.running.is_some())
    }

    /// A pod is done with a job.
    pub(super) fn done(&mut self, pod: u32, job: Job) {
        if !self.fleet.leaves(pod, job) {
            return;
        }
        self.begin_next(pod);
        let at = self.now + self.scenario.pods.network;
        self.events.plan(at, Event::Answer { job, status: 200 });
    }

    /// A free slot of a pod is taken.
    fn begin_next(&mut self, pod: u32) {
        while let Some((job, time)) = self.fleet.begin_next(pod, self.now) {
            self.events.plan(self.now + time, Event::Done { pod, job });
        }
    }

    /// The head of an answer is there.
    pub(super) fn answered(&mut self, job: Job, status: u16) {
        if !self.is_out(job) {
            return;
        }
        let request = &mut self.requests[job.request];
        let Some(running) = request.running.take() else {
            return;
        };
        let waited = self.now - running.sent;
        let report = self.scenario.pods.reports_load && status == 200;
        let observed = Observed {
            outcome: Outcome::of_status(status, Excuse::None, None, Some(waited)),
            report: report.then(|| self.fleet.pod(running.pod).report()),
        };
        match BadAnswer::of_status(status, Excuse::None) {
            None => self.well(job.request, running, observed, status),
            Some(bad) => self.bad(job.request, running, observed, bad),
        }
    }

    fn well(&mut self, key: DefaultKey, running: Running, observed: Observed, status: u16) {
        let well = matches!(observed.outcome, Outcome::Success { .. } | Outcome::Early);
        self.resolve_suspects(key, well);
        self.judge(key, &running.permit, observed);
        let (version, fell_back) = (running.version, running.fell_back);
        self.release(key, running.permit);
        let ending = if well {
            Ending::Answered { version, fell_back }
        } else {
            Ending::Status(status)
        };
        self.ends(key, ending);
    }

    fn bad(&mut self, key: DefaultKey, running: Running, observed: Observed, bad: BadAnswer) {
        self.requests[key].tried.push(running.permit.endpoint());
        let again = if bad.is_tried_elsewhere(self.setup.on_500) {
            self.another(key)
        } else {
            Err(NoRetry::Exhausted)
        };
        match again {
            Ok(attempt) => {
                if bad.is_suspicious() {
                    let now = self.instant();
                    let request = &mut self.requests[key];
                    let policy = &mut self.proxies[request.proxy as usize].policy;
                    request.suspects.extend(policy.suspect(running.permit, now));
                } else {
                    self.judge(key, &running.permit, observed);
                    self.release(key, running.permit);
                }
                self.goes(key, attempt);
            }
            Err(why) => {
                let others_too = !self.requests[key].suspects.is_empty();
                let exhausted = why == NoRetry::Exhausted;
                let charged = bad.is_charged(others_too, exhausted);
                let outcome = if charged {
                    observed.outcome
                } else {
                    Outcome::Neutral
                };
                self.resolve_suspects(key, false);
                self.judge(
                    key,
                    &running.permit,
                    Observed {
                        outcome,
                        ..observed
                    },
                );
                self.release(key, running.permit);
                let replaced = charged && self.has_last_resort(key);
                let ending = if replaced {
                    Ending::Static
                } else {
                    Ending::bad(bad)
                };
                self.ends(key, ending);
            }
        }
    }

    /// An attempt has no connection, or none any more.
    pub(super) fn broken(&mut self, job: Job, never_connected: bool) {
        let why = if never_connected {
            Ending::NoConnection
        } else {
            Ending::Reset
        };
        self.failed(job, Outcome::Failure, why);
    }

    /// The time of an attempt is up.
    pub(super) fn timed_out(&mut self, job: Job) {
        if self.is_out(job) {
            let running = self.requests[job.request].running.as_ref();
            if let Some(pod) = running.map(|running| running.pod) {
                self.fleet.leaves(pod, job);
                self.begin_next(pod);
            }
            self.failed(job, Outcome::TimedOut, Ending::Late);
        }
    }

    fn failed(&mut self, job: Job, outcome: Outcome, why: Ending) {
        if !self.is_out(job) {
            return;
        }
        let key = job.request;
        let Some(running) = self.requests[key].running.take() else {
            return;
        };
        self.requests[key].tried.push(running.permit.endpoint());
        self.judge(key, &running.permit, outcome.into());
        self.release(key, running.permit);
        if let Ok(attempt) = self.another(key) {
            self.goes(key, attempt);
        } else {
            self.resolve_suspects(key, false);
            let replaced = self.has_last_resort(key);
            self.ends(key, if replaced { Ending::Static } else { why });
        }
    }

    /// Whether the static answer takes the place of a failure.
    fn has_last_resort(&self, key: DefaultKey) -> bool {
        let request = &self.requests[key];
        let policy = &self.proxies[request.proxy as usize].policy;
        request.chosen.as_ref().is_some_and(|chosen| {
            let stand_in = policy.give_up(chosen, request.by, Purpose::Inference);
            stand_in.is_some()
        })
    }

    /// Chooses another attempt, if there may be one.
    fn another(&mut self, key: DefaultKey) -> Result<Attempt, NoRetry> {
        let now = self.instant();
        let request = &self.requests[key];
        let max_retries = self.setup.max_retries;
        let Some(chosen) = request
            .chosen
            .as_deref()
            .filter(|_| request.attempts <= max_retries)
        else {
            return Err(NoRetry::Exhausted);
        };
        let again = Again {
            chosen,
            by: request.by,
            tried: &request.tried,
            uploading: false,
            retries_left: request.attempts < max_retries,
            purpose: Purpose::Inference,
            deadline: self.epoch + request.deadline.since_start(),
        };
        let Proxy { policy, rng, .. } = &mut self.proxies[request.proxy as usize];
        let attempt = policy.again(again, now, rng);
        self.tally
            .retried(attempt.as_ref().err().copied(), self.now);
        attempt.map_err(|refusal| match refusal {
            Refusal::NoBudget | Refusal::NoTime => NoRetry::Other,
            Refusal::UnknownVersion
            | Refusal::NoEndpoint
            | Refusal::NoRoom
            | Refusal::QueueFull
            | Refusal::WaitTooLong
            | Refusal::WaitedInVain => NoRetry::Exhausted,
        })
    }

    fn resolve_suspects(&mut self, key: DefaultKey, guilty: bool) {
        let now = self.instant();
        let request = &mut self.requests[key];
        let proxy = request.proxy as usize;
        for suspect in std::mem::take(&mut request.suspects) {
            let Proxy { policy, rng, .. } = &mut self.proxies[proxy];
            if let Some(transition) = policy.resolve(suspect, guilty, now, rng) {
                self.moved(&transition);
            }
        }
    }

    fn judge(&mut self, key: DefaultKey, permit: &Permit, observed: Observed) {
        let now = self.instant();
        let Proxy { policy, rng, .. } = &mut self.proxies[self.requests[key].proxy as usize];
        if let Some(transition) = policy.judge(permit, observed, now, rng) {
            self.moved(&transition);
        }
    }

    fn release(&mut self, key: DefaultKey, permit: Permit) {
        let now = self.instant();
        let Proxy { policy, rng, .. } = &mut self.proxies[self.requests[key].proxy as usize];
        if let Some(transition) = policy.release(permit, false, now, rng) {
            self.moved(&transition);
        }
        self.serve_queue(self.requests[key].proxy);
    }

    pub(super) fn ends(&mut self, key: DefaultKey, how: Ending) {
        if let Some(request) = self.requests.remove(key) {
            self.tally.ended(request.came, self.now, how);
        }
    }
}
