//! The queue of one model version and the threads that run it.
//!
//! **Shape.** The pure [`Batcher`] sits behind one short lock. A request pushes itself and awaits
//! a oneshot; an instance is an OS thread with its own module that takes the next batch under the
//! same lock, runs it outside, and answers its requests. The alternative that lost is a queue task
//! between the two: it adds two wake-ups to every answer (request to task, task to thread), and an
//! admission decision would need a round trip where it now is one call.
//!
//! **Nobody waits for ever.** Every request has a deadline. When it passes, the request takes
//! itself out of the queue, whatever the instances do; dropping its future does the same, so that
//! a client that left costs nothing. When an instance panics, its requests are answered with
//! [`InferError::InstanceDied`], the engine stops being [healthy](Engine::fault), and the last
//! instance takes the queue with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use aegis_protocol::{LoadReport, Tensor};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::batcher::{self, Batcher, QueueFull, Ticket};
use crate::clock;
use crate::metrics::VersionMetrics;
use crate::model::{Factory, LoadError, ModelError};
use crate::signature::{Inputs, Signature};

mod batch;
mod instance;
mod job;
mod load;
#[cfg(test)]
mod tests;
mod worker;

use job::Job;
use load::{Queued, Work};

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
    /// Too much waits already; a retry may help in a moment.
    #[error(transparent)]
    QueueFull(#[from] QueueFull),
    /// The deadline passed in the queue or while it ran.
    #[error("the deadline passed before the answer was there")]
    Deadline,
    /// The model failed on these rows; a retry does not help.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The thread that ran it panicked; the rows may be the cause.
    #[error("the instance that ran the request died")]
    InstanceDied,
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
    batcher: Batcher<Job>,
    work: Work,
    /// Instances that run nothing.
    idle: usize,
    /// Instances whose module is in memory.
    alive: usize,
    /// Instances that panicked.
    dead: usize,
    /// No more requests are taken; instances end when the queue is empty.
    closed: bool,
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
            batcher: Batcher::new(plan.limits),
            work: Work::new(clock::now()),
            idle: 0,
            alive: 0,
            dead: 0,
            closed: false,
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
        inputs: Inputs,
        deadline: Instant,
    ) -> Result<Vec<Tensor>, InferError> {
        if deadline <= clock::now() {
            return Err(InferError::Deadline);
        }
        let (answer, outputs) = oneshot::channel();
        let mut place = self.shared.push(Job { inputs, answer }, deadline)?;
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

    /// [Closes](Self::close), and waits until every instance has ended, at most until `deadline`.
    /// Says whether they have.
    ///
    /// A process that exits while a runtime's thread runs may crash in the runtime's destructors.
    pub fn stop(&self, deadline: Instant) -> bool {
        self.close();
        let mut state = self.shared.state.lock();
        let is_alive = |state: &mut State| state.alive > 0;
        let timed_out = self
            .shared
            .ended
            .wait_while_until(&mut state, is_alive, deadline);
        drop(state);
        if timed_out.timed_out() {
            return false;
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        threads.into_iter().all(|thread| thread.join().is_ok())
    }

    /// Whether every instance has died.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        let state = self.shared.state.lock();
        state.dead == self.shared.plan.instances
    }

    /// Why the engine should not be given requests any more, if an instance died.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.shared.state.lock().fault.clone()
    }

    /// What a proxy wants to know before it sends another request here.
    #[must_use]
    pub fn load_report(&self) -> LoadReport {
        let now = clock::now();
        let plan = &self.shared.plan;
        let state = self.shared.state.lock();
        let instances = plan.instances - state.dead;
        let queued = Queued {
            rows: state.batcher.rows(),
            max_rows: plan.limits.max_rows,
            instances,
        };
        LoadReport {
            queue_depth: Some(state.batcher.len() as f64),
            in_flight: Some(self.shared.metrics.in_flight.get() as f64),
            expected_wait: state.work.expected_wait(queued, now),
            utilization: Some(state.work.utilization(instances, now)),
        }
    }

    /// Requests that wait.
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        self.shared.state.lock().batcher.len()
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

    fn push(&self, job: Job, deadline: Instant) -> Result<Place<'_>, InferError> {
        let mut state = self.state.lock();
        if state.closed || state.dead == self.plan.instances {
            return Err(InferError::Stopped);
        }
        let ticket = state.batcher.push(job, Some(deadline), clock::now())?;
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
        if let Some(terms) = state.work.cost.terms() {
            self.metrics.batch_cost_per_row.set(terms.per_row);
            self.metrics.batch_cost_per_batch.set(terms.per_batch);
        }
    }

    fn show_depth(&self, state: &State) {
        self.metrics
            .queue_depth
            .set(i64::try_from(state.batcher.len()).unwrap_or(i64::MAX));
    }
}

// === impl State ===

impl State {
    /// An instance has its module and begins to work.
    fn started(&mut self) {
        self.alive += 1;
        self.idle += 1;
    }
}

// === impl Place ===

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let mut state = self.shared.state.lock();
            let job = state.batcher.cancel(ticket);
            self.shared.show_depth(&state);
            drop(state);
            // Freeing tensors is not the lock's business.
            drop(job);
        }
    }
}
