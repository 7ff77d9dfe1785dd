//! One instance: a thread and its module, from loading to the end.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use aegis_protocol::Tensor;

use super::job::class;
use super::settling::Settling;
use super::worker::{Ended, Worker};
use super::{Shared, stopped};
use crate::clock;
use crate::model::{Factory, LoadError, Model, ModelError};
use crate::scheduler::BatchId;
use crate::signature::Signature;

/// Bytes of an instance's stack; what is not used takes no memory. libtorch walks a program by
/// recursion when it specializes it: of 2 MiB, which Rust gives a thread, six thousand operations one
/// after the other left nothing, and took the process down.
const STACK: usize = 64 << 20;

/// Starts the threads and waits until each is warm.
///
/// # Errors
///
/// The first that failed, once the others have ended: whoever hears of it may end the process, in
/// which nobody may run the runtime any more.
pub(super) fn start_all(
    shared: &Arc<Shared>,
    factory: &Factory,
) -> Result<Vec<JoinHandle<()>>, LoadError> {
    let mut threads = Vec::with_capacity(shared.plan.instances);
    let started = start_each(shared, factory, &mut threads);
    if started.is_err() {
        shared.close();
        for thread in threads.drain(..) {
            let _ = thread.join();
        }
    }
    started.map(|()| threads)
}

fn start_each(
    shared: &Arc<Shared>,
    factory: &Factory,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<(), LoadError> {
    let mut starting = Vec::with_capacity(shared.plan.instances);
    for instance in 0..shared.plan.instances {
        let (report, started) = mpsc::sync_channel(1);
        let (shared, factory) = (Arc::clone(shared), Arc::clone(factory));
        let thread = thread::Builder::new()
            .name(format!("{}#{instance}", shared.plan.name))
            .stack_size(STACK)
            .spawn(move || live(&shared, &factory, instance, &report))
            .map_err(|source| LoadError::Thread { instance, source })?;
        threads.push(thread);
        starting.push(started);
    }
    for (instance, started) in starting.into_iter().enumerate() {
        // A thread that ends without a report has panicked.
        started
            .recv()
            .unwrap_or(Err(LoadError::Panicked { instance }))?;
    }
    Ok(())
}

/// The whole life of an instance.
fn live(
    shared: &Shared,
    factory: &Factory,
    instance: usize,
    report: &mpsc::SyncSender<Result<(), LoadError>>,
) {
    let mut model = match born(shared, factory) {
        Ok(model) => model,
        Err(error) => {
            let _ = report.send(Err(error));
            return;
        }
    };
    shared.state.lock().started();
    let _ = report.send(Ok(()));
    // After a panic nothing is used again but the shared state, which is only ever changed under
    // its lock and by code that does not panic.
    let running = Cell::new(None);
    let work = || Worker::new(shared, &mut *model, &running).work();
    let ended = panic::catch_unwind(AssertUnwindSafe(work));
    let was_given_up = match ended {
        Ok(ended) => ended == Ended::GivenUp,
        Err(_) => !died(shared, instance, running.get()),
    };
    // Whoever waits for the end may unload the runtime after it, so the module goes first.
    drop(model);
    let mut state = shared.state.lock();
    state.alive -= 1;
    if was_given_up {
        state.hung -= 1;
    }
    drop(state);
    shared.ended.notify_all();
}

fn born(shared: &Shared, factory: &Factory) -> Result<Box<dyn Model>, LoadError> {
    let model = warmed(shared, factory()?)?;
    if shared.plan.stateful {
        // What it did with zeros is in its memory; another has none yet.
        drop(model);
        return factory();
    }
    Ok(model)
}

fn warmed(shared: &Shared, mut model: Box<dyn Model>) -> Result<Box<dyn Model>, LoadError> {
    let signature = &shared.plan.signature;
    // From large to small, so that memory is allocated once, at its largest.
    let sizes = if signature.batched {
        shared.plan.limits.max_rows
    } else {
        1
    };
    for zeros in (1..=sizes).rev().flat_map(|rows| signature.warm_ups(rows)) {
        let rows = zeros.rows;
        let mut settling = Settling::default();
        loop {
            if shared.is_abandoned() {
                return Err(LoadError::Abandoned);
            }
            let began = clock::now();
            warm_up(&mut *model, signature, &zeros.tensors, zeros.rows)
                .map_err(|source| LoadError::WarmUp { rows, source })?;
            let took = clock::now().saturating_duration_since(began);
            if !settling.ends_with(took) {
                continue;
            }
            if model.warm_up_tells_cost() {
                let mut state = shared.state.lock();
                state.scheduler.learn(class(&zeros), zeros.rows, took);
            }
            break;
        }
    }
    Ok(model)
}

fn warm_up(
    model: &mut dyn Model,
    signature: &Signature,
    tensors: &[Tensor],
    rows: usize,
) -> Result<(), ModelError> {
    let outputs = model.warm_up(tensors)?;
    signature
        .check_outputs(&outputs, rows)
        .map_err(ModelError::Signature)
}

/// Tells the owners of the requests that it ran, and where it was the last, of those that wait. Says
/// whether that was not done already, because it had been given up.
fn died(shared: &Shared, instance: usize, running: Option<BatchId>) -> bool {
    let mut state = shared.state.lock();
    let answers = match running {
        Some(id) => match state.answers(id) {
            Some(answers) => {
                state.scheduler.end(id, false, clock::now());
                answers
            }
            None => return false,
        },
        None => Vec::new(),
    };
    let fault = format!("instance {instance} of {} panicked", shared.plan.name);
    let orphans = shared.lose_instance(&mut state, fault);
    drop(state);
    // Their owners see that nobody will answer.
    drop(answers);
    stopped(orphans);
    true
}
