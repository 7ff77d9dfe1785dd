//! The queue of one model version and the threads that run it.
//!
//! **Shape.** The pure [`Scheduler`] sits behind one short lock. A request pushes itself and awaits
//! a oneshot; an instance is an OS thread with its own module that takes the next batch under the
//! same lock, runs it outside, and answers its requests. The alternative that lost is a queue task
//! between the two: it adds two wake-ups to every answer (request to task, task to thread), and an
//! admission decision would need a round trip where it now is one call.
//!
//! **Nobody waits for ever.** Every request has a deadline. When it passes, the request takes
//! itself out of the queue, whatever the instances do; dropping its future does the same, so that
//! a client that left costs nothing. When an instance panics, its requests are answered with
//! [`InferError::InstanceDied`], the engine stops being [healthy](Engine::fault), and the last
//! instance takes the queue with it. A run that takes longer than [`Plan::run_timeout`] is taken for
//! one that never ends, since nothing can stop it: its requests are answered by the
//! [watchdog](Engine::give_up_hung), and its instance counts as dead. The end does not wait for it.
//!
//! **One bad row.** A batch that fails is run again request by request, by whichever instance is free, and
//! before anything that waits. Each of these runs is one of its own to the watchdog, and none is made for a
//! request that nobody waits for any more. So what it costs is bounded by what is still wanted, and no
//! instance is taken for hung because there were many.
//!
//! **Whose fault a failure is.** Runs that fail one after the other are the model's fault or that of
//! its inputs. So the instance then runs zeros: where those fail too, the engine is not healthy until
//! they do no more, and else it goes on. A client's inputs alone take nobody out of service.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aegis_protocol::{LoadReport, Tensor};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::batcher::{self, Place as InQueue, Priority, Rejected, Ticket};
use crate::clock;
use crate::metrics::VersionMetrics;
use crate::model::{Factory, LoadError, ModelError};
use crate::scheduler::{BatchId, Refusal, Scheduler};
use crate::signature::{Inputs, Signature};

mod batch;
mod instance;
mod job;
mod settling;
#[cfg(test)]
mod tests;
mod worker;

use job::{Answer, Job};

/// What an engine needs to know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Model and version, for threads and logs.
    pub name: String,
    /// What the model takes and returns.
    pub signature: Arc<Signature>,
    /// Bounds of the queue and of a batch.
    pub limits: batcher::Limits,
    /// How many threads run it.
    pub instances: usize,
    /// The longest that a run may take; without, it may take for ever.
    pub run_timeout: Option<Duration>,
    /// Whether a run changes what later runs answer: then nothing runs that nobody asked for.
    pub stateful: bool,
    /// Set by whoever does not need the engine any more while it still starts.
    pub abandoned: Arc<AtomicBool>,
}

/// Runs requests for one loaded model version.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Why a request has no outputs.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// Too much waits already, or before it would be answered; a retry may help later or elsewhere.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The deadline passed in the queue or while it ran.
    #[error("the deadline passed before the answer was there")]
    Deadline,
    /// The model failed on these rows; a retry does not help.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The thread that ran it panicked; the rows may be the cause.
    #[error("the instance that ran the request died")]
    InstanceDied,
    /// The run that it was part of does not end; the rows may be the cause.
    #[error("the run takes longer than {} ms, and was given up", .limit.as_millis())]
    Hung {
        /// [`Plan::run_timeout`].
        limit: Duration,
    },
    /// No instance is left; a retry elsewhere may help.
    #[error("the model has stopped")]
    Stopped,
}

/// What requests and instances share.
#[derive(Debug)]
struct Shared {
    plan: Plan,
    metrics: VersionMetrics,
    state: Mutex<State>,
    /// Signalled when there is work for an idle instance, or when it should end.
    work: Condvar,
    /// Signalled when an instance has ended.
    ended: Condvar,
}

#[derive(Debug)]
struct State {
    scheduler: Scheduler<Job>,
    /// Who waits for the batches that run.
    waiting: Vec<(BatchId, Vec<Answer>)>,
    /// Requests of batches that failed, each to run alone before anything else does.
    again: VecDeque<Job>,
    /// Instances that run nothing.
    idle: usize,
    /// Instances whose module is in memory.
    alive: usize,
    /// Instances that panicked, or hang.
    dead: usize,
    /// Of those that are alive, the ones that hang.
    hung: usize,
    /// Instances whose last runs, zeros among them, have failed.
    failing: usize,
    /// No more requests are taken; instances end when the queue is empty.
    closed: bool,
    /// Another engine has taken its place, and shows itself in the gauges that the two share.
    retired: bool,
    /// Why an instance died.
    fault: Option<String>,
}

/// Takes a request out of the queue when its future ends early.
struct Place<'e> {
    shared: &'e Shared,
    ticket: Option<Ticket>,
}

// === impl Engine ===

impl Engine {
    /// Makes every instance on its own thread, and warms it at every batch size that can occur.
    ///
    /// Blocks until all are ready, or the first has failed.
    ///
    /// # Errors
    ///
    /// Why an instance could not be made, or that it was [abandoned](Plan::abandoned). The others
    /// have ended.
    pub fn start(
        plan: Plan,
        factory: &Factory,
        metrics: VersionMetrics,
    ) -> Result<Self, LoadError> {
        let state = State {
            scheduler: Scheduler::new(plan.limits, plan.instances, clock::now()),
            waiting: Vec::new(),
            again: VecDeque::new(),
            idle: 0,
            alive: 0,
            dead: 0,
            hung: 0,
            failing: 0,
            closed: false,
            retired: false,
            fault: None,
        };
        let (work, ended) = (Condvar::new(), Condvar::new());
        let shared = Shared {
            plan,
            metrics,
            state: Mutex::new(state),
            work,
            ended,
        };
        let engine = Self {
            shared: Arc::new(shared),
            threads: Mutex::default(),
        };
        *engine.threads.lock() = instance::start_all(&engine.shared, factory)?;
        Ok(engine)
    }

    /// Runs one request in a batch with others; answers its rows of every output.
    ///
    /// # Errors
    ///
    /// See [`InferError`].
    ///
    /// # Cancel safety
    ///
    /// A dropped future takes its request out of the queue; one that already runs is run to its
    /// end, and its answer thrown away.
    pub async fn infer(
        &self,
        mut inputs: Inputs,
        deadline: Instant,
        priority: Priority,
    ) -> Result<Vec<Tensor>, InferError> {
        // Here, and not on the instance's thread, which is what requests wait for.
        let plan = &self.shared.plan;
        let filled = plan.signature.fill(&mut inputs, plan.limits.max_rows);
        let outputs = self.run(inputs, deadline, priority).await?;
        match filled {
            Some(filled) => {
                let cut = plan.signature.cut(outputs, &filled);
                Ok(cut.map_err(ModelError::Signature)?)
            }
            None => Ok(outputs),
        }
    }

    async fn run(
        &self,
        inputs: Inputs,
        deadline: Instant,
        priority: Priority,
    ) -> Result<Vec<Tensor>, InferError> {
        if deadline <= clock::now() {
            return Err(InferError::Deadline);
        }
        let (answer, outputs) = oneshot::channel();
        let place = InQueue {
            priority,
            deadline: Some(deadline),
        };
        let mut place = self
            .shared
            .push(Job::new(inputs, answer, deadline), place)?;
        match tokio::time::timeout_at(deadline.into(), outputs).await {
            Ok(outcome) => {
                place.ticket = None;
                outcome.unwrap_or(Err(InferError::InstanceDied))
            }
            Err(_elapsed) => Err(InferError::Deadline),
        }
    }

    /// Takes no more requests; the instances end when those that are queued were run.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Shows nothing of itself from now on, but counts on: requests that hold it are still answered.
    pub fn retire(&self) {
        self.shared.state.lock().retired = true;
    }

    /// Shows how it is, in the gauges of its version.
    pub fn show(&self) {
        let state = self.shared.state.lock();
        self.shared.show_depth(&state);
        self.shared.show_cost(&state);
        self.shared.show_loaded(&state);
    }

    /// [Closes](Self::close), and waits until every instance has ended, at most until `deadline`.
    /// Says whether they have.
    ///
    /// A process that exits while a runtime's thread runs may crash in the runtime's destructors.
    pub fn stop(&self, deadline: Instant) -> bool {
        self.close();
        let mut state = self.shared.state.lock();
        let is_alive = |state: &mut State| state.alive > state.hung;
        let timed_out = self
            .shared
            .ended
            .wait_while_until(&mut state, is_alive, deadline);
        let all_ended = state.alive == 0;
        drop(state);
        if timed_out.timed_out() || !all_ended {
            return false;
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        threads.into_iter().all(|thread| thread.join().is_ok())
    }

    /// Whether an instance is lost. It does not come back in this process: a thread that hangs cannot be
    /// stopped, and one that panicked or whose device broke leaves a runtime that nobody knows the state of.
    #[must_use]
    pub fn has_lost_instances(&self) -> bool {
        self.shared.state.lock().dead > 0
    }

    /// Why the engine should not be given requests: an instance died, or all runs fail.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let state = self.shared.state.lock();
        let failing = || {
            let name = &self.shared.plan.name;
            (state.failing > 0).then(|| format!("{name} fails every run, of zeros too"))
        };
        state.fault.clone().or_else(failing)
    }

    /// Answers the requests of every run that takes too long, and counts its instance as dead.
    pub fn give_up_hung(&self, now: Instant) {
        if let Some(limit) = self.shared.plan.run_timeout
            && let Some(began_before) = now.checked_sub(limit)
        {
            while self.shared.give_up(limit, began_before, now) {}
        }
    }

    /// What a proxy wants to know before it sends another request here.
    #[must_use]
    pub fn load_report(&self) -> LoadReport {
        let now = clock::now();
        let in_flight = self.shared.metrics.in_flight.get() as f64;
        self.shared
            .state
            .lock()
            .scheduler
            .load_report(in_flight, now)
    }

    /// Requests that wait.
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        self.shared.state.lock().scheduler.len()
    }
}

/// Lets the instances finish what is queued, and end.
impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

// === impl Shared ===

impl Shared {
    fn close(&self) {
        self.state.lock().closed = true;
        self.work.notify_all();
    }

    /// Whether an instance that is not warm yet need not become so.
    fn is_abandoned(&self) -> bool {
        self.plan.abandoned.load(Ordering::Relaxed) || self.state.lock().closed
    }

    fn push(&self, job: Job, place: InQueue) -> Result<Place<'_>, InferError> {
        let mut state = self.state.lock();
        if state.closed || state.dead == self.plan.instances {
            return Err(InferError::Stopped);
        }
        let ticket = match state.scheduler.push(job, place, clock::now()) {
            Ok(ticket) => ticket,
            Err(Rejected { request, why }) => {
                drop(state);
                // Freeing tensors is not the lock's business.
                drop(request);
                return Err(why.into());
            }
        };
        self.show_depth(&state);
        let somebody_waits = state.idle > 0;
        drop(state);
        if somebody_waits {
            self.work.notify_one();
        }
        Ok(Place {
            shared: self,
            ticket: Some(ticket),
        })
    }

    /// Shows what batches cost, once that is known.
    fn show_cost(&self, state: &State) {
        if let (Some(terms), false) = (state.scheduler.terms(), state.retired) {
            self.metrics.show_cost(terms.per_row, terms.per_batch);
        }
    }

    /// Gives up the oldest run that began before that time; says whether there was one.
    fn give_up(&self, limit: Duration, began_before: Instant, now: Instant) -> bool {
        let mut state = self.state.lock();
        let Some((id, rows)) = state.scheduler.give_up(began_before, now) else {
            return false;
        };
        let answers = state.answers(id).unwrap_or_default();
        state.hung += 1;
        let text = format!(
            "an instance of {} hangs: a run of {rows} rows takes more than {} ms",
            self.plan.name,
            limit.as_millis()
        );
        self.metrics.hung.inc();
        let orphans = self.lose_instance(&mut state, text);
        drop(state);
        self.ended.notify_all();
        for answer in answers {
            answer.send(Err(InferError::Hung { limit }));
        }
        stopped(orphans);
        true
    }

    /// An instance works no more, for that reason. Returns the requests that nobody is left to run.
    fn lose_instance(&self, state: &mut State, reason: String) -> Vec<Job> {
        tracing::error!("{reason}");
        state.fault.get_or_insert(reason);
        state.dead += 1;
        state.scheduler.lose_instance();
        let orphans = if state.dead == self.plan.instances {
            let again = std::mem::take(&mut state.again);
            again.into_iter().chain(state.scheduler.clear()).collect()
        } else {
            Vec::new()
        };
        self.show_depth(state);
        self.show_loaded(state);
        orphans
    }

    fn show_depth(&self, state: &State) {
        if !state.retired {
            self.metrics.show_depth(state.scheduler.len());
        }
    }

    /// Shows whether it is whole.
    fn show_loaded(&self, state: &State) {
        if !state.retired {
            self.metrics.loaded.set(i64::from(state.dead == 0));
        }
    }
}

// === impl State ===

impl State {
    /// An instance has its module and begins to work.
    fn started(&mut self) {
        self.alive += 1;
        self.idle += 1;
    }

    /// Whether there is something for another instance to run.
    fn has_work(&self) -> bool {
        !self.again.is_empty() || !self.scheduler.is_empty()
    }

    /// Who waits for a batch; none where it was given up.
    fn answers(&mut self, id: BatchId) -> Option<Vec<Answer>> {
        let at = self.waiting.iter().position(|(batch, _)| *batch == id)?;
        Some(self.waiting.swap_remove(at).1)
    }
}

// === impl Place ===

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let mut state = self.shared.state.lock();
            let job = state.scheduler.cancel(ticket);
            self.shared.show_depth(&state);
            drop(state);
            // Freeing tensors is not the lock's business.
            drop(job);
        }
    }
}

/// Tells these that nobody is left to run them.
fn stopped(orphans: Vec<Job>) {
    for job in orphans {
        job.answer(Err(InferError::Stopped));
    }
}
