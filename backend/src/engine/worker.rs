//! The loop of an instance: takes batches until the engine is closed and its queue empty.

use std::cell::Cell;
use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::batch::{self, Outcome};
use super::job::{Answer, Job, class};
use super::{InferError, Shared, State, stopped};
use crate::batcher::{Batch, Batchable, Class, Decision};
use crate::chain::Chain;
use crate::clock;
use crate::model::{Model, ModelError};
use crate::scheduler::BatchId;
use crate::signature::Inputs;

/// Runs that fail one after the other until the instance tests itself.
const FAILURES: usize = 3;
/// How often it does, once it has failed its own test.
const TEST_EVERY: Duration = Duration::from_secs(1);

/// What an instance works with.
pub(super) struct Worker<'s> {
    shared: &'s Shared,
    model: &'s mut dyn Model,
    /// What it runs, for whoever finds that it panicked.
    running: &'s Cell<Option<BatchId>>,
    /// Runs that failed since one did not.
    failures: usize,
    /// When to test itself again, after it has failed.
    test_at: Option<Instant>,
}

/// What came of a run.
struct Ran<T> {
    outcome: T,
    whole: bool,
    answers: Vec<Answer>,
    took: Duration,
}

/// How the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// There is nothing left to do.
    Done,
    /// It was given up meanwhile.
    GivenUp,
    /// What it runs on works no more.
    Broken,
}

// === impl Worker ===

impl<'s> Worker<'s> {
    pub(super) fn new(
        shared: &'s Shared,
        model: &'s mut dyn Model,
        running: &'s Cell<Option<BatchId>>,
    ) -> Self {
        Self {
            shared,
            model,
            running,
            failures: 0,
            test_at: None,
        }
    }

    pub(super) fn work(mut self) -> Ended {
        let shared = self.shared;
        let mut state = shared.state.lock();
        loop {
            let ended = self.test_if_due(&mut state);
            if ended != Ended::Done {
                return ended;
            }
            if let Some(job) = state.again.pop_front() {
                let ended = self.run_again(job, &mut state);
                if ended != Ended::Done {
                    return ended;
                }
                continue;
            }
            let idle = state.idle;
            match state.scheduler.poll(clock::now(), idle) {
                Decision::Run(batch) => {
                    let ended = self.run_batch(batch, &mut state);
                    if ended != Ended::Done {
                        return ended;
                    }
                }
                Decision::Expire(jobs) => {
                    shared.show_depth(&state);
                    MutexGuard::unlocked(&mut state, || expire(jobs));
                }
                Decision::WakeAt(time) => {
                    let time = self.test_at.map_or(time, |test| test.min(time));
                    shared.work.wait_until(&mut state, time);
                }
                Decision::Idle if state.closed => break,
                Decision::Idle => match self.test_at {
                    Some(time) => {
                        shared.work.wait_until(&mut state, time);
                    }
                    None => shared.work.wait(&mut state),
                },
            }
        }
        state.idle -= 1;
        Ended::Done
    }

    fn run_batch(&mut self, batch: Batch<Job>, state: &mut MutexGuard<'_, State>) -> Ended {
        self.note_waits(&batch);
        self.shared.show_depth(state);
        let rows = batch.rows;
        let class = batch.requests.first().map(|one| one.request.class());
        let jobs = batch.requests.into_iter().map(|one| one.request);
        self.run(jobs, rows, class.unwrap_or_default(), state)
    }

    /// Runs a request of a batch that failed, unless nobody waits for it any more.
    fn run_again(&mut self, job: Job, state: &mut MutexGuard<'_, State>) -> Ended {
        if job.answer.is_over(clock::now()) {
            MutexGuard::unlocked(state, || job.answer(Err(InferError::Deadline)));
            return Ended::Done;
        }
        let (rows, class) = (job.rows(), job.class());
        self.run(iter::once(job), rows, class, state)
    }

    /// Runs requests together outside the lock, and answers them unless that was done for it.
    fn run(
        &mut self,
        jobs: impl Iterator<Item = Job>,
        rows: usize,
        class: Class,
        state: &mut MutexGuard<'_, State>,
    ) -> Ended {
        let shared = self.shared;
        let another_could_run = state.idle > 1 && state.has_work();
        let (inputs, answers): (Vec<Inputs>, Vec<Answer>) =
            jobs.map(|job| (job.inputs, job.answer)).unzip();
        let ran = self.run_unlocked(state, class, rows, answers, |model| {
            if another_could_run {
                shared.work.notify_one();
            }
            let outcome = batch::run(model, &shared.plan.signature, &inputs);
            let whole = outcome.is_whole();
            (outcome, whole)
        });
        let Some(Ran {
            outcome,
            whole,
            answers,
            took,
        }) = ran
        else {
            MutexGuard::unlocked(state, || drop(inputs));
            return Ended::GivenUp;
        };
        shared.show_cost(state);
        self.failures = if whole { 0 } else { self.failures + 1 };
        let outputs = match outcome {
            Outcome::Each(outputs) => outputs,
            Outcome::Split => {
                shared.metrics.ran(rows, took);
                shared.metrics.batches_split.inc();
                let jobs = inputs.into_iter().zip(answers);
                let jobs = jobs.map(|(inputs, answer)| Job::again(inputs, answer, class));
                state.again.extend(jobs);
                shared.work.notify_all();
                return Ended::Done;
            }
        };
        let broken = outputs.iter().find_map(|output| match output {
            Err(ModelError::Broken(reason)) => Some(Arc::clone(reason)),
            _ => None,
        });
        MutexGuard::unlocked(state, || {
            shared.metrics.ran(rows, took);
            for (answer, outputs) in answers.into_iter().zip(outputs) {
                answer.send(outputs.map_err(InferError::Model));
            }
            // Nor is freeing tensors the lock's business.
            drop(inputs);
        });
        match broken {
            Some(reason) => self.broke(&reason, state),
            None => Ended::Done,
        }
    }

    /// Nothing runs here again. Others on the same device will find that out for themselves.
    fn broke(&self, reason: &str, state: &mut MutexGuard<'_, State>) -> Ended {
        state.idle -= 1;
        let fault = format!("an instance of {} ended: {reason}", self.shared.plan.name);
        let orphans = self.shared.lose_instance(state, fault);
        MutexGuard::unlocked(state, || stopped(orphans));
        Ended::Broken
    }

    /// Runs something on the model outside the lock, where the watchdog sees it; none where it was
    /// given up meanwhile. What is run says whether it went well.
    fn run_unlocked<T>(
        &mut self,
        state: &mut MutexGuard<'_, State>,
        class: Class,
        rows: usize,
        answers: Vec<Answer>,
        run: impl FnOnce(&mut dyn Model) -> (T, bool),
    ) -> Option<Ran<T>> {
        let began = clock::now();
        let id = state.scheduler.begin(class, rows, began);
        state.waiting.push((id, answers));
        state.idle -= 1;
        self.running.set(Some(id));
        let ((outcome, whole), ended) =
            MutexGuard::unlocked(state, || (run(self.model), clock::now()));
        self.running.set(None);
        let Some(answers) = state.answers(id) else {
            MutexGuard::unlocked(state, || drop(outcome));
            return None;
        };
        state.idle += 1;
        state.scheduler.end(id, whole, ended);
        Some(Ran {
            outcome,
            whole,
            answers,
            took: ended.saturating_duration_since(began),
        })
    }

    fn note_waits(&self, batch: &Batch<Job>) {
        let metrics = &self.shared.metrics;
        for request in &batch.requests {
            metrics.waited(request.waited);
        }
        metrics.waited_too_long(batch.over_max_wait);
    }

    /// Runs zeros, after so many failures that inputs or model may be at fault.
    fn test_if_due(&mut self, state: &mut MutexGuard<'_, State>) -> Ended {
        if self.shared.plan.stateful {
            return Ended::Done;
        }
        let due = match self.test_at {
            Some(time) => time <= clock::now(),
            None => self.failures >= FAILURES,
        };
        if !due || state.closed {
            return Ended::Done;
        }
        let signature = &self.shared.plan.signature;
        let zeros = signature.zeros(1);
        let ran = self.run_unlocked(state, class(&zeros), zeros.rows, Vec::new(), |model| {
            let outcome = model.run(&zeros.tensors).and_then(|outputs| {
                let checked = signature.check_outputs(&outputs, zeros.rows);
                checked.map_err(ModelError::Signature)
            });
            let passed = outcome.is_ok();
            (outcome, passed)
        });
        let Some(Ran { outcome, .. }) = ran else {
            return Ended::GivenUp;
        };
        let was_failing = self.test_at.is_some();
        self.failures = 0;
        self.test_at = outcome.is_err().then(|| clock::now() + TEST_EVERY);
        self.shared.metrics.tested(outcome.is_ok());
        let model = &self.shared.plan.name;
        match outcome {
            Err(ModelError::Broken(reason)) => return self.broke(&reason, state),
            Ok(()) if was_failing => {
                state.failing -= 1;
                tracing::info!(model, "runs zeros again, and is ready");
            }
            Err(error) if !was_failing => {
                state.failing += 1;
                tracing::error!(model, "not ready, zeros fail: {}", Chain(&error));
            }
            _ => {}
        }
        Ended::Done
    }
}

fn expire(jobs: Vec<Job>) {
    for job in jobs {
        job.answer(Err(InferError::Deadline));
    }
}
