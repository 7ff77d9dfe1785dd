//! One instance: a thread and its module, from loading to the end.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use aegis_protocol::Tensor;

use super::worker::Worker;
use super::{InferError, Shared};
use crate::model::{Factory, LoadError, Model, ModelError};
use crate::signature::{Inputs, Signature};

/// How often each batch size runs at warm-up. TorchScript profiles the first run of a shape and
/// compiles in the second, either of which may be a thousand times slower than the third.
const WARM_UP_RUNS: usize = 3;

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
    let ended = panic::catch_unwind(AssertUnwindSafe(|| Worker::new(shared, &mut *model).work()));
    if ended.is_err() {
        died(shared, instance);
    }
    // Whoever waits for the end may unload the runtime after it, so the module goes first.
    drop(model);
    shared.state.lock().alive -= 1;
    shared.ended.notify_all();
}

fn born(shared: &Shared, factory: &Factory) -> Result<Box<dyn Model>, LoadError> {
    let mut model = factory()?;
    let signature = &shared.plan.signature;
    // From large to small, so that memory is allocated once, at its largest.
    let sizes = if signature.batched {
        shared.plan.limits.max_rows
    } else {
        1
    };
    for rows in (1..=sizes).rev() {
        let Inputs { tensors, rows } = signature.zeros(rows);
        for _ in 0..WARM_UP_RUNS {
            if shared.is_abandoned() {
                return Err(LoadError::Abandoned);
            }
            warm_up(&mut *model, signature, &tensors, rows)
                .map_err(|source| LoadError::WarmUp { rows, source })?;
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

/// The requests that it ran were dropped by the unwinding, which their owners see. Those that wait
/// have nobody to run them when it was the last.
fn died(shared: &Shared, instance: usize) {
    let mut state = shared.state.lock();
    let fault = format!("instance {instance} of {} panicked", shared.plan.name);
    tracing::error!("{fault}");
    state.fault.get_or_insert(fault);
    state.dead += 1;
    let is_last = state.dead == shared.plan.instances;
    let orphans = if is_last {
        state.batcher.clear()
    } else {
        Vec::new()
    };
    shared.show_depth(&state);
    shared.metrics.loaded.set(0);
    drop(state);
    for job in orphans {
        job.answer(Err(InferError::Stopped));
    }
}
