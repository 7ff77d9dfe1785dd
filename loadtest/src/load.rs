//! Runs a plan: keeps the schedule, sends, and counts.
//!
//! An open loop has one task that waits for each instant of the schedule and
//! then starts the request as a task of its own, without ever waiting for an
//! answer. A closed loop has a task for each of its connections. What comes
//! back is recorded twice: for the whole run, and for the window since
//! [`Handle::window`] was last called.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use self::recorder::Recorder;
use crate::clock;
use crate::measured::Measured;
use crate::measured::examples::Set;
use crate::outcome::Outcome;
use crate::pace::Pace;
use crate::plan::{Pattern, Plan};
use crate::report::{PlanSummary, Report, Summary};
use crate::schedule::Schedule;
use crate::shot::{Gun, Round};
use crate::stop::Stop;
use crate::timeline::Timeline;

mod recorder;

/// The most requests that may be under way: a file descriptor each.
const MAX_IN_FLIGHT: usize = 1 << 19;

/// The longest that a request may be waited for.
const MAX_TIMEOUT: Duration = Duration::from_hours(1);

/// The longest run: far longer than any, and far from where instants overflow.
const MAX_DURATION: Duration = Duration::from_hours(30 * 24);

/// How long the task that keeps the schedule sleeps at least: waking for every request of tens of
/// thousands a second would take more time than sending them.
const BREATH: Duration = Duration::from_micros(100);

/// How long a worker of a closed loop waits when this machine has run out of what it takes to send: it is told so
/// at once, and asking again at once would take the time of those who can.
const REST: Duration = Duration::from_millis(10);

/// A plan that is ready to run.
#[derive(Debug)]
pub struct Load(Arc<Run>);

/// A load that runs. Dropping it stops the load.
#[derive(Debug)]
pub struct Handle {
    run: Arc<Run>,
    /// Ends when every request has; says whether the plan was carried out whole.
    task: JoinHandle<bool>,
    complete: Option<bool>,
}

/// Says why a plan cannot run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The model's or the version's name makes no address.
    #[error("the model's address is none: {0}")]
    Address(#[from] http::uri::InvalidUri),
    /// The host makes no `host` header.
    #[error("the address's host is none: {0}")]
    Host(#[from] http::header::InvalidHeaderValue),
    /// An example makes no tensor.
    #[error("a question makes no request: {0}")]
    Tensor(#[from] aegis_protocol::TensorError),
    /// An example cannot be written.
    #[error("a question makes no request: {0}")]
    Encode(#[from] aegis_protocol::EncodeError),
    /// Nobody is asked anything.
    #[error("expected at least one kind of request, got none")]
    NoParts,
    /// A kind of request has nothing to ask.
    #[error("{part}: expected at least one request, got none")]
    NoQuestions {
        /// Its name.
        part: String,
    },
    /// A limit is out of its range.
    #[error("{name}: expected 1 to {max}, got {got}")]
    Limit {
        /// Which one.
        name: &'static str,
        /// The most that it can be.
        max: usize,
        /// What it is.
        got: usize,
    },
    /// A length of time is out of its range.
    #[error("{name}: expected more than 0ns and at most {}s, got {got:?}", max.as_secs())]
    Span {
        /// Which one.
        name: &'static str,
        /// The longest that it can be.
        max: Duration,
        /// What it is.
        got: Duration,
    },
}

/// What the schedule, the requests and the handle share.
#[derive(Debug)]
struct Run {
    plan: Plan,
    gun: Gun,
    stop: Stop,
    /// One permit for each request that may be under way.
    slots: Arc<Semaphore>,
    recorder: Mutex<Recorder>,
    /// The examples of each kind of request; with their names where there are several.
    sets: Vec<(Option<String>, Set)>,
    /// Is told everything with its time, warm-up included, where somebody asked for it.
    timeline: Option<Arc<Timeline>>,
}

/// When a closed loop ends.
#[derive(Clone, Copy, Debug)]
struct Until {
    /// After so many requests.
    requests: u64,
    /// Or at that instant.
    instant: Option<Instant>,
}

// === impl Load ===

impl Load {
    /// Prepares every request.
    ///
    /// # Errors
    ///
    /// When a limit or a length of time is out of range, or a name makes no
    /// address.
    pub fn new(plan: Plan) -> Result<Self, LoadError> {
        Self::check(&plan)?;
        let is_mixed = plan.parts.len() > 1;
        let sets = plan.parts.iter().map(|part| {
            let name = is_mixed.then(|| part.name.clone());
            Ok((name, Set::of(part)?))
        });
        Ok(Self(Arc::new(Run {
            sets: sets.collect::<Result<_, LoadError>>()?,
            gun: Gun::new(&plan)?,
            stop: Stop::default(),
            slots: Arc::new(Semaphore::new(plan.max_in_flight)),
            recorder: Mutex::new(Recorder::new(clock::now())),
            timeline: None,
            plan,
        })))
    }

    /// Whether limits and lengths of time are within their ranges, before anything is prepared.
    ///
    /// # Errors
    ///
    /// When one is not.
    pub fn check(plan: &Plan) -> Result<(), LoadError> {
        within("max_in_flight", plan.max_in_flight, MAX_IN_FLIGHT)?;
        within("connections", plan.connections.unwrap_or(1), MAX_IN_FLIGHT)?;
        span("timeout", plan.timeout, MAX_TIMEOUT)?;
        // No warm-up is fine, no measurement is not.
        let warmup = plan.pattern.warmup().max(Duration::from_nanos(1));
        span("warmup", warmup, MAX_DURATION)?;
        if let Some(duration) = plan.pattern.duration() {
            span("duration", duration, MAX_DURATION)?;
        }
        match plan.pattern {
            Pattern::Open { .. } => {}
            Pattern::Closed { connections, .. } => {
                within("connections", connections, plan.max_in_flight)?;
            }
            Pattern::Count { concurrency, .. } => {
                within("concurrency", concurrency, plan.max_in_flight)?;
            }
        }
        Ok(())
    }

    /// When requests will be sent.
    #[must_use]
    pub fn pattern(&self) -> &Pattern {
        &self.0.plan.pattern
    }

    /// Tells a timeline of everything, too.
    #[must_use]
    pub(crate) fn with_timeline(mut self, timeline: Arc<Timeline>) -> Self {
        // Nobody else has it before it runs.
        if let Some(run) = Arc::get_mut(&mut self.0) {
            run.timeline = Some(timeline);
        }
        self
    }

    /// Begins to send.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(self) -> Handle {
        let task = tokio::spawn(Arc::clone(&self.0).run());
        Handle {
            run: self.0,
            task,
            complete: None,
        }
    }
}

// === impl Handle ===

impl Handle {
    /// The figures since the measurement began.
    #[must_use]
    pub fn snapshot(&self) -> Summary {
        self.run.recorder.lock().total(clock::now())
    }

    /// The figures since the last call, or since the measurement began.
    #[must_use]
    pub fn window(&self) -> Summary {
        self.run.recorder.lock().window(clock::now())
    }

    /// The histograms since the measurement began, and how long ago that is.
    #[must_use]
    pub fn measured(&self) -> (Measured, Duration) {
        let run = &self.run;
        run.recorder.lock().measured(clock::now(), &run.sets)
    }

    /// How long it has been measured.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.run.recorder.lock().elapsed(clock::now())
    }

    /// Waits until everything was sent, and answered or given up.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing; it can be called again.
    pub async fn finished(&mut self) {
        if self.complete.is_none() {
            // A task that panicked has not carried out its plan.
            self.complete = Some((&mut self.task).await.unwrap_or(false));
        }
    }

    /// Sends nothing more, and waits for what is under way.
    pub async fn end(&mut self) {
        self.run.stop.set();
        self.finished().await;
    }

    /// Sends nothing more, waits for what is under way, and reports. After
    /// [`Handle::finished`] it only reports.
    pub async fn stop(mut self) -> Report {
        self.end().await;
        Report {
            plan: PlanSummary::from(&self.run.plan),
            interrupted: self.complete != Some(true),
            partial: None,
            summary: self.snapshot(),
            invalid: Vec::new(),
            slo: None,
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.run.stop.set();
    }
}

// === impl Run ===

impl Run {
    async fn run(self: Arc<Self>) -> bool {
        let complete = match &self.plan.pattern {
            Pattern::Open { schedule, warmup } => self.open(schedule, *warmup).await,
            Pattern::Closed {
                connections,
                warmup,
                duration,
            } => {
                let began = clock::now() + *warmup;
                let until = Until {
                    requests: u64::MAX,
                    instant: Some(began + *duration),
                };
                self.closed(*connections, began, until).await
            }
            Pattern::Count {
                requests,
                concurrency,
            } => {
                let until = Until {
                    requests: *requests,
                    instant: None,
                };
                self.closed(*concurrency, clock::now(), until).await
            }
        };
        if let Some(timeline) = &self.timeline {
            timeline.close(clock::now());
        }
        // Every slot is free again when nothing is under way.
        let all = u32::try_from(self.plan.max_in_flight).unwrap_or(u32::MAX);
        let _ = self.slots.acquire_many(all).await;
        // What knew its end before has said so.
        self.recorder.lock().end(clock::now());
        complete
    }

    async fn open(self: &Arc<Self>, schedule: &Schedule, warmup: Duration) -> bool {
        let start = clock::now();
        self.recorder.lock().begin(start + warmup);
        if let Some(timeline) = &self.timeline {
            timeline.begin(start, start + warmup);
        }
        let complete = self.keep(schedule, start, warmup).await;
        // And no longer: one request that nobody answers would halve the rate of a short run.
        self.recorder.lock().end(clock::now());
        complete
    }

    /// Sends every request when it is due; says whether it came to the end of the schedule.
    async fn keep(self: &Arc<Self>, schedule: &Schedule, start: Instant, warmup: Duration) -> bool {
        let pace = Pace::new();
        let mut stopped = std::pin::pin!(self.stop.wait());
        let mut woken = start;
        for at in schedule.instants(warmup, self.plan.seed) {
            let due = start + at;
            if due > woken {
                tokio::select! {
                    biased;
                    () = &mut stopped => return false,
                    () = pace.until(due.max(woken + BREATH)) => {}
                }
                woken = clock::now();
            } else if self.stop.is_set() {
                return false;
            }
            self.due(self.gun.deal(), due, at >= warmup);
        }
        // The measurement lasts to its end, also when nothing more is due.
        tokio::select! {
            () = &mut stopped => false,
            () = pace.until(start + warmup + schedule.length()) => true,
        }
    }

    /// Sends a request whose instant has come, if there is a slot.
    fn due(self: &Arc<Self>, round: Round, intended: Instant, is_measured: bool) {
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok();
        if is_measured {
            self.recorder.lock().due(slot.is_some());
        }
        if let Some(timeline) = &self.timeline {
            timeline.due(intended, slot.is_some());
        }
        let Some(slot) = slot else { return };
        let run = Arc::clone(self);
        tokio::spawn(async move {
            let sample = run.gun.fire(round, intended).await;
            if is_measured {
                run.recorder.lock().record(&sample);
            }
            if let Some(timeline) = &run.timeline {
                timeline.record(&sample);
            }
            drop(slot);
        });
    }

    /// Workers that each wait for an answer before they send the next; what is sent before `began` is
    /// not measured.
    async fn closed(self: &Arc<Self>, workers: usize, began: Instant, until: Until) -> bool {
        self.recorder.lock().begin(began);
        if let Some(timeline) = &self.timeline {
            timeline.begin(clock::now(), began);
        }
        if let Some(end) = until.instant {
            self.close(end);
        }
        let mut all = JoinSet::new();
        for _ in 0..workers {
            all.spawn(Arc::clone(self).work(began, until));
        }
        let mut stopped = std::pin::pin!(self.stop.wait());
        let (mut complete, mut is_stopped) = (true, false);
        loop {
            tokio::select! {
                worker = all.join_next() => match worker {
                    Some(worker) => complete &= worker.unwrap_or(false),
                    None => return complete,
                },
                () = &mut stopped, if !is_stopped => {
                    is_stopped = true;
                    self.close(clock::now());
                }
            }
        }
    }

    /// Ends the time of a closed loop, and not when its last answer comes: one connection that hangs would
    /// make a second last until the timeout, and the rate of all others a part of what it was.
    fn close(&self, at: Instant) {
        self.recorder.lock().close(at);
        if let Some(timeline) = &self.timeline {
            timeline.close(at);
        }
    }

    /// Sends one request after the other until it is the end.
    async fn work(self: Arc<Self>, began: Instant, until: Until) -> bool {
        loop {
            if self.stop.is_set() {
                return false;
            }
            let round = self.gun.deal();
            let now = clock::now();
            if round.request >= until.requests || until.instant.is_some_and(|end| now >= end) {
                return true;
            }
            let is_measured = now >= began;
            if is_measured {
                self.recorder.lock().due(true);
            }
            if let Some(timeline) = &self.timeline {
                timeline.due(now, true);
            }
            let sample = self.gun.fire(round, now).await;
            if is_measured {
                self.recorder.lock().record(&sample);
            } else {
                self.recorder.lock().warm(&sample);
            }
            if let Some(timeline) = &self.timeline {
                timeline.record(&sample);
            }
            if matches!(sample.outcome, Outcome::Unsent { .. }) {
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn within(name: &'static str, got: usize, max: usize) -> Result<(), LoadError> {
    if (1..=max).contains(&got) {
        Ok(())
    } else {
        Err(LoadError::Limit { name, max, got })
    }
}

fn span(name: &'static str, got: Duration, max: Duration) -> Result<(), LoadError> {
    let is_within = !got.is_zero() && got <= max;
    if is_within {
        Ok(())
    } else {
        Err(LoadError::Span { name, max, got })
    }
}
