//! How often a request makes the process allocate, between its decoded inputs and its outputs.
//!
//! Everything that is not the model counts, on the thread that asks and on the one that runs: queue,
//! batch, answer. What is counted is what a request needs and no more, so a copy or a list that
//! creeps into the path fails here, long before a bench could tell it from noise. Where a number
//! falls, lower the bound.
//!
//! One test alone in its program, because the allocator is everybody's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use aegis_backend::batcher::{Limits, Priority};
use aegis_backend::clock;
use aegis_backend::engine::{Engine, InferError, Plan};
use aegis_backend::metrics::Metrics;
use aegis_backend::model::{Factory, Model, ModelError};
use aegis_backend::signature::{Axis, Inputs, Signature, TensorSpec};
use aegis_protocol::{Datatype, Tensor};
use tokio::runtime::Runtime;

/// Of a request that runs alone: the channel of its answer; a list each of tickets, of requests, of
/// inputs, of answers and of what came of the batch.
const ALONE: usize = 6;
/// Requests of a batch.
const TOGETHER: usize = 8;
/// Of each of those its channel, its list of outputs, and the shape of its one output.
const OF_EACH: usize = 3;
/// Of a batch of several the same five lists; one of rows, of tensors to join, of inputs that were
/// joined, and of the output's parts; data and shape of the one joined input, and what the parts share
/// the output's data by.
const OF_BATCH: usize = 12;

const ROUNDS: usize = 100;
/// Far more than any round takes.
const PATIENCE: Duration = Duration::from_mins(1);

#[global_allocator]
static COUNTED: Counted = Counted;
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread is in the model.
    static IN_MODEL: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, which counts.
struct Counted;

/// Holds runs back.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

/// Answers its inputs, once the gate is open.
struct Echo(Arc<Gate>);

type Answered = Result<Vec<Tensor>, InferError>;
type Asked<'e> = Pin<Box<dyn Future<Output = Answered> + 'e>>;

#[test]
fn a_request_allocates_what_it_needs_and_no_more() {
    let gate = Arc::new(Gate::default());
    let engine = engine(&gate);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let alone = fewest(|| round(&runtime, &engine, &gate, 0));
    let both = fewest(|| round(&runtime, &engine, &gate, TOGETHER));
    assert!(alone <= ALONE, "alone: {alone}, expected at most {ALONE}");
    let together = both - alone;
    let expected = OF_BATCH + OF_EACH * TOGETHER;
    assert!(
        together <= expected,
        "{TOGETHER} together: {together}, expected at most {expected}"
    );
}

/// Of many rounds: what grows once and stays, as queues do, is not a request's.
fn fewest(round: impl FnMut() -> usize) -> usize {
    let rounds = std::iter::repeat_with(round).take(ROUNDS);
    rounds.min().expect("there are rounds")
}

/// What a request that runs alone allocates, and so many that wait meanwhile and then run together.
fn round(runtime: &Runtime, engine: &Engine, gate: &Gate, behind: usize) -> usize {
    let _guard = runtime.enter();
    gate.set(false);
    let mut asked: Vec<Asked<'_>> = (0..=behind).map(|_| ask(engine)).collect();
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    let (first, others) = asked.split_first_mut().expect("one at least");
    push(first);
    while engine.queue_depth() > 0 {
        std::thread::yield_now();
    }
    others.iter_mut().for_each(push);
    gate.set(true);
    for one in &mut asked {
        let outputs = runtime.block_on(one).expect("an answer");
        assert_eq!(outputs[0].rows(), Some(1));
    }
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

fn ask(engine: &Engine) -> Asked<'_> {
    let tensor = Tensor::from_f32([1, 2], &[1.0, 2.0]).expect("two elements");
    let inputs = Inputs {
        tensors: vec![tensor],
        rows: 1,
        plain: Vec::new(),
    };
    Box::pin(engine.infer(inputs, clock::now() + PATIENCE, Priority::default()))
}

/// Begins to ask.
fn push(asked: &mut Asked<'_>) {
    let mut context = Context::from_waker(Waker::noop());
    assert!(asked.as_mut().poll(&mut context).is_pending());
}

/// One instance of the model `x [-1, 2]` to `y [-1, 2]`, whose runs the gate holds back.
fn engine(gate: &Arc<Gate>) -> Engine {
    let axes = vec![Axis::Free, Axis::Fixed(2)];
    let spec = |name: &str| TensorSpec::new(name, Datatype::Fp32, axes.clone());
    let signature = Signature {
        batched: true,
        inputs: vec![spec("x")],
        outputs: vec![spec("y")],
    };
    let plan = Plan {
        name: "echo/1".to_owned(),
        signature: Arc::new(signature),
        limits: Limits {
            max_rows: TOGETHER,
            max_requests: 2 * TOGETHER,
            max_bytes: 1 << 20,
            max_wait: PATIENCE,
        },
        instances: 1,
        run_timeout: None,
        stateful: false,
        abandoned: Arc::default(),
    };
    let gate = Arc::clone(gate);
    let factory: Factory = Arc::new(move || Ok(Box::new(Echo(Arc::clone(&gate)))));
    Engine::start(plan, &factory, Metrics::new().version("echo", "1")).expect("an engine")
}

// === impl Gate ===

impl Gate {
    fn set(&self, is_open: bool) {
        *self.is_open.lock().expect("nobody panics with it") = is_open;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let is_open = self.is_open.lock().expect("nobody panics with it");
        let wait = self.opened.wait_while(is_open, |is_open| !*is_open);
        drop(wait.expect("nobody panics with it"));
    }
}

// === impl Echo ===

impl Model for Echo {
    fn run(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        self.0.pass();
        IN_MODEL.set(true);
        let outputs = batch.iter().map(copied).collect();
        IN_MODEL.set(false);
        Ok(outputs)
    }

    fn warm_up(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        Ok(batch.to_vec())
    }
}

/// In memory of its own, as a runtime's outputs are.
fn copied(tensor: &Tensor) -> Tensor {
    let data = tensor.data().to_vec();
    Tensor::new(tensor.datatype(), tensor.shape().clone(), data).expect("the same tensor")
}

// === impl Counted ===

// SAFETY: all is done by the system's allocator, with the arguments that came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; what is freed came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn count() {
    if !IN_MODEL.get() {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
    }
}
