//! The loop of an instance: takes batches until the engine is closed and its queue empty.

use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::job::Job;
use super::{InferError, Shared, batch};
use crate::batcher::{Batch, Decision};
use crate::chain::Chain;
use crate::clock;
use crate::model::{Model, ModelError};
use crate::seldom::Seldom;
use crate::signature::Inputs;

/// A model that fails every batch must not fill the log; clients are told each failure anyway.
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);

/// What an instance works with.
pub(super) struct Worker<'s> {
    shared: &'s Shared,
    model: &'s mut dyn Model,
    complaints: Seldom,
}

// === impl Worker ===

impl<'s> Worker<'s> {
    pub(super) fn new(shared: &'s Shared, model: &'s mut dyn Model) -> Self {
        Self {
            shared,
            model,
            complaints: Seldom::new(COMPLAIN_EVERY),
        }
    }

    pub(super) fn work(mut self) {
        let shared = self.shared;
        let mut state = shared.state.lock();
        loop {
            let idle = state.idle;
            match state.batcher.poll(clock::now(), idle) {
                Decision::Run(batch) => {
                    state.idle -= 1;
                    let id = state.work.begin(batch.rows, clock::now());
                    shared.show_depth(&state);
                    let another_could_run = state.idle > 0 && !state.batcher.is_empty();
                    let whole = MutexGuard::unlocked(&mut state, || {
                        if another_could_run {
                            shared.work.notify_one();
                        }
                        self.run(batch)
                    });
                    state.idle += 1;
                    state.work.end(id, whole, clock::now());
                    shared.show_cost(&state);
                }
                Decision::Expire(jobs) => {
                    shared.show_depth(&state);
                    MutexGuard::unlocked(&mut state, || expire(jobs));
                }
                Decision::WakeAt(time) => {
                    shared.work.wait_until(&mut state, time);
                }
                Decision::Idle if state.closed => break,
                Decision::Idle => shared.work.wait(&mut state),
            }
        }
        state.idle -= 1;
    }

    /// Runs a batch and answers its requests; says whether all went well.
    fn run(&mut self, batch: Batch<Job>) -> bool {
        let metrics = &self.shared.metrics;
        for request in &batch.requests {
            metrics.queue_seconds.observe(request.waited.as_secs_f64());
        }
        metrics
            .over_max_wait
            .inc_by(u64::try_from(batch.over_max_wait).unwrap_or(u64::MAX));
        let inputs: Vec<&Inputs> = batch
            .requests
            .iter()
            .map(|one| &one.request.inputs)
            .collect();
        let started = clock::now();
        let outcome = batch::run(self.model, &self.shared.plan.signature, &inputs);
        let ended = clock::now();
        metrics.ran(batch.rows, ended.saturating_duration_since(started));
        if outcome.split {
            metrics.batches_split.inc();
        }
        let mut whole = !outcome.split;
        for (one, outputs) in batch.requests.into_iter().zip(outcome.outputs) {
            if let Err(error) = &outputs {
                whole = false;
                self.complain(error, ended);
            }
            one.request.answer(outputs.map_err(InferError::Model));
        }
        whole
    }

    fn complain(&mut self, error: &ModelError, now: Instant) {
        if self.complaints.lets_through(now) {
            let model = &self.shared.plan.name;
            tracing::warn!(model, "a request failed: {}", Chain(error));
        }
    }
}

fn expire(jobs: Vec<Job>) {
    for job in jobs {
        job.answer(Err(InferError::Deadline));
    }
}
