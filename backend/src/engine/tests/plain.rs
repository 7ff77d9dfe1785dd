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
    let job = |inputs| Job::new(inputs, oneshot::channel().0, clock::now() + LONG);
    let first = job(inputs(1.0, 7));
    assert!(first.joins(&job(inputs(2.0, 7))));
    assert!(!first.joins(&job(inputs(1.0, 8))));
}

/// What each request got of a batch that ran as one.
fn each(outcome: batch::Outcome) -> Vec<Result<Vec<Tensor>, ModelError>> {
    match outcome {
        batch::Outcome::Each(outputs) => outputs,
        batch::Outcome::Split => panic!("it failed as a whole"),
    }
}

#[test]
fn a_batch_has_each_plain_argument_once() {
    let mut model = Function(|batch: &[Tensor]| {
        assert_eq!(batch[1], Tensor::from_i64([1], &[7]).unwrap());
        Ok(vec![batch[0].clone()])
    });
    let requests = [inputs(1.0, 7), inputs(2.0, 7)];
    let outputs = each(batch::run(&mut model, &signature(), &requests));
    let values: Vec<_> = outputs
        .into_iter()
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

/// One row, and what may be left out.
fn optional(value: f32, mask: Option<f32>) -> Inputs {
    let (mask, plain) = match mask {
        Some(mask) => (Tensor::from_f32([1], &[mask]), vec![]),
        None => (Tensor::from_f32([0], &[]), vec![1]),
    };
    Inputs {
        tensors: vec![Tensor::from_f32([1, 1], &[value]).unwrap(), mask.unwrap()],
        rows: 1,
        plain,
    }
}

#[test]
fn requests_run_together_only_where_they_leave_out_the_same() {
    let job = |inputs| Job::new(inputs, oneshot::channel().0, clock::now() + LONG);
    let (with, without) = (job(optional(1.0, Some(1.0))), job(optional(1.0, None)));
    assert!(with.joins(&job(optional(2.0, Some(0.0)))));
    assert!(without.joins(&job(optional(2.0, None))));
    assert!(!with.joins(&without) && !without.joins(&with));
    assert_ne!(with.class(), without.class());
    let mut model = Function(|batch: &[Tensor]| {
        assert_eq!(batch[0].rows(), Some(2));
        assert_eq!(batch[1].element_count(), 0);
        Ok(vec![batch[0].clone()])
    });
    let requests = [optional(1.0, None), optional(2.0, None)];
    let outputs = each(batch::run(&mut model, &signature(), &requests));
    assert!(outputs.iter().all(Result::is_ok));
}
