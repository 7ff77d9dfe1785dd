//! The engine with models that stop, fail and panic on command.

use std::sync::mpsc;
use std::time::Duration;

use aegis_protocol::Datatype;
use tokio::sync::mpsc as unbounded;

use super::*;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::signature::{Axis, TensorSpec};

mod again;
mod faults;
mod plain;
mod queue;
mod start;

/// Far more than any test takes.
const LONG: Duration = Duration::from_secs(30);

/// The value that makes the test models fail.
const POISON: f32 = 666.0;

/// A model made of a function; its warm-up echoes.
struct Function<F>(F);

impl<F: FnMut(&[Tensor]) -> Result<Vec<Tensor>, ModelError>> Model for Function<F> {
    fn run(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        (self.0)(batch)
    }

    fn warm_up(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        Ok(batch.to_vec())
    }
}

/// Makes instances of a function.
fn function<F>(run: F) -> Factory
where
    F: FnMut(&[Tensor]) -> Result<Vec<Tensor>, ModelError> + Clone + Send + Sync + 'static,
{
    Arc::new(move || Ok(Box::new(Function(run.clone()))))
}

/// Echoes, but fails a batch that holds [`POISON`].
fn fragile(batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
    if batch[0].as_f32().unwrap().contains(&POISON) {
        return Err(ModelError::Executor("poisoned".into()));
    }
    Ok(batch.to_vec())
}

/// A model whose every run is announced, and waits to be let through.
struct Gate {
    /// The first element of each row of the batches that began.
    began: unbounded::UnboundedReceiver<Vec<f32>>,
    pass: mpsc::Sender<()>,
}

fn gate() -> (Gate, Factory) {
    let (announce, began) = unbounded::unbounded_channel();
    let (pass, passes) = mpsc::channel();
    let passes = Arc::new(Mutex::new(passes));
    let run = move |batch: &[Tensor]| {
        let rows = batch[0].rows().unwrap();
        let values = batch[0].as_f32().unwrap();
        let firsts = values
            .chunks(values.len() / rows)
            .map(|row| row[0])
            .collect();
        announce.send(firsts).unwrap();
        let _ = passes.lock().recv();
        fragile(batch)
    };
    (Gate { began, pass }, function(run))
}

impl Gate {
    /// Waits for the next batch to begin.
    async fn next(&mut self) -> Vec<f32> {
        let began = tokio::time::timeout(LONG, self.began.recv());
        began
            .await
            .expect("a batch begins")
            .expect("the model lives")
    }

    fn open(&self) {
        self.pass.send(()).unwrap();
    }
}

/// One `FP32` input and output `[-1, -1]`.
fn signature() -> Arc<Signature> {
    let axes = vec![Axis::Free, Axis::Free];
    let spec = |name: &str| TensorSpec::new(name, Datatype::Fp32, axes.clone());
    Arc::new(Signature {
        batched: true,
        inputs: vec![spec("x")],
        outputs: vec![spec("y")],
    })
}

fn plan() -> Plan {
    Plan {
        name: "test/1".to_owned(),
        signature: signature(),
        limits: batcher::Limits {
            max_rows: 8,
            max_requests: 16,
            max_bytes: 1 << 20,
            max_wait: LONG,
        },
        instances: 1,
        run_timeout: None,
        stateful: false,
        abandoned: Arc::default(),
    }
}

fn metrics() -> VersionMetrics {
    Metrics::new().version("test", "1")
}

fn engine(factory: &Factory) -> Arc<Engine> {
    Arc::new(Engine::start(plan(), factory, metrics()).unwrap())
}

/// One row for each value.
fn rows(values: &[f32]) -> Inputs {
    let tensor = Tensor::from_f32([values.len(), 1], values).unwrap();
    Inputs {
        tensors: vec![tensor],
        rows: values.len(),
        plain: Vec::new(),
    }
}

type Asked = tokio::task::JoinHandle<Result<Vec<Tensor>, InferError>>;

fn ask_within(engine: &Arc<Engine>, inputs: Inputs, patience: Duration) -> Asked {
    let engine = Arc::clone(engine);
    tokio::spawn(async move {
        engine
            .infer(inputs, clock::now() + patience, Priority::default())
            .await
    })
}

/// Asks, and waits until the request is queued behind `depth` others.
async fn queue(engine: &Arc<Engine>, inputs: Inputs, depth: usize) -> Asked {
    let asked = ask_within(engine, inputs, LONG);
    until(|| engine.queue_depth() > depth).await;
    asked
}

fn answered(outcome: Result<Vec<Tensor>, InferError>) -> Vec<f32> {
    outcome.expect("an answer")[0].as_f32().unwrap()
}

/// Waits for a condition.
async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG, wait)
        .await
        .expect("the condition comes true");
}
