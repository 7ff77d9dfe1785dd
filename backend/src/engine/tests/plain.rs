//! Arguments that are no rows, and models that remember.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use super::*;
use crate::batcher::Batchable;

/// One row, and an argument.
fn inputs(value: f32, argument: i64) -> Inputs {
    Inputs {
        tensors: vec![
            Tensor::from_f32([1, 1], &[value]).unwrap(),
            Tensor::from_i64([1], &[argument]).unwrap(),
        ],
        rows: 1,
        plain: vec![1],
    }
}

#[test]
fn requests_run_together_only_where_their_plain_arguments_are_equal() {
    let job = |inputs| Job::new(inputs, oneshot::channel().0);
    let first = job(inputs(1.0, 7));
    assert!(first.joins(&job(inputs(2.0, 7))));
    assert!(!first.joins(&job(inputs(1.0, 8))));
}

#[test]
fn a_batch_has_each_plain_argument_once() {
    let mut model = Function(|batch: &[Tensor]| {
        assert_eq!(batch[1], Tensor::from_i64([1], &[7]).unwrap());
        Ok(vec![batch[0].clone()])
    });
    let requests = [inputs(1.0, 7), inputs(2.0, 7)];
    let outcome = batch::run(&mut model, &signature(), &requests);
    assert!(!outcome.split);
    let values = outcome.outputs.into_iter();
    let values: Vec<_> = values
        .map(|output| output.unwrap()[0].as_f32().unwrap())
        .collect();
    assert_eq!(values, [[1.0], [2.0]]);
}

/// Answers how often it has run.
#[derive(Default)]
struct Counter(f32);

impl Model for Counter {
    fn run(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        self.0 += 1.0;
        if batch[0].as_f32().unwrap().contains(&POISON) {
            return Err(ModelError::Executor("poisoned".into()));
        }
        Ok(vec![Tensor::from_f32([1, 1], &[self.0]).unwrap()])
    }
}

#[tokio::test]
async fn a_model_with_state_remembers_requests_and_nothing_else() {
    let made = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&made);
    let factory: Factory = Arc::new(move || {
        counts.fetch_add(1, Ordering::SeqCst);
        Ok(Box::<Counter>::default())
    });
    let mut plan = plan();
    plan.stateful = true;
    plan.limits.max_rows = 1;
    let engine = Arc::new(Engine::start(plan, &factory, metrics()).unwrap());
    let ask = |value| ask_within(&engine, rows(&[value]), LONG);
    assert_eq!(answered(ask(0.0).await.unwrap()), [1.0]);
    // So many failures would have another model run zeros.
    for _ in 0..4 {
        assert!(ask(POISON).await.unwrap().is_err());
    }
    assert_eq!(answered(ask(0.0).await.unwrap()), [6.0]);
    assert_eq!(made.load(Ordering::SeqCst), 2, "one was for warm-up");
}
