//! Coming up, and ending.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Records the batch sizes of its warm-up.
struct Warmed(Arc<Mutex<Vec<usize>>>);

impl Model for Warmed {
    fn run(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        self.0.lock().push(batch[0].rows().unwrap());
        Ok(batch.to_vec())
    }
}

#[test]
fn every_batch_size_is_run_before_the_engine_is_there() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sizes);
    let factory: Factory = Arc::new(move || Ok(Box::new(Warmed(Arc::clone(&seen)))));
    let _engine = Engine::start(plan(), &factory, metrics()).unwrap();
    let mut sizes = sizes.lock().clone();
    sizes.sort_unstable();
    sizes.dedup();
    assert_eq!(sizes, (1..=8).collect::<Vec<_>>());
}

/// Records the batch sizes of its warm-up, and whether the second input was there.
struct Masked(Arc<Mutex<Vec<(usize, bool)>>>);

impl Model for Masked {
    fn run(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        let is_there = batch[1].element_count() > 0;
        self.0.lock().push((batch[0].rows().unwrap(), is_there));
        Ok(vec![batch[0].clone()])
    }
}

#[test]
fn every_batch_size_is_run_with_and_without_what_may_be_left_out() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let runs = Arc::clone(&seen);
    let factory: Factory = Arc::new(move || Ok(Box::new(Masked(Arc::clone(&runs)))));
    let mut signature = Arc::unwrap_or_clone(signature());
    let mut mask = signature.inputs[0].clone();
    (mask.name, mask.optional) = ("mask".to_owned(), true);
    signature.inputs.push(mask);
    let plan = Plan {
        signature: Arc::new(signature),
        ..plan()
    };
    let _engine = Engine::start(plan, &factory, metrics()).unwrap();
    let mut seen = seen.lock().clone();
    seen.sort_unstable();
    seen.dedup();
    let all: Vec<_> = (1..=8)
        .flat_map(|rows| [(rows, false), (rows, true)])
        .collect();
    assert_eq!(seen, all);
}

/// Returns each tensor twice.
struct Doubled;

impl Model for Doubled {
    fn run(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        Ok([batch, batch].concat())
    }
}

#[test]
fn a_model_that_breaks_its_signature_is_not_started() {
    let factory: Factory = Arc::new(|| Ok(Box::new(Doubled)));
    let error = Engine::start(plan(), &factory, metrics()).unwrap_err();
    let text = crate::chain::Chain(&error).to_string();
    let expected = "cannot run a batch of 8 zeroed rows: the model broke its signature: \
                    expected 1 tensors, got 2";
    assert_eq!(text, expected);
}

#[test]
fn one_instance_that_cannot_be_made_fails_the_start_and_ends_the_others() {
    let made = Arc::new(AtomicUsize::new(0));
    let dropped = Arc::new(AtomicUsize::new(0));
    let counts = (Arc::clone(&made), Arc::clone(&dropped));
    let factory: Factory = Arc::new(move || {
        if counts.0.fetch_add(1, Ordering::SeqCst) == 1 {
            return Err(LoadError::Executor("no memory left".into()));
        }
        Ok(Box::new(Counted(Arc::clone(&counts.1))))
    });
    let error = Engine::start(
        Plan {
            instances: 3,
            ..plan()
        },
        &factory,
        metrics(),
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "no memory left");
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
}

/// Counts its end.
struct Counted(Arc<AtomicUsize>);

impl Model for Counted {
    fn run(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        Ok(batch.to_vec())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Abandons the start in its first warm-up run.
struct Abandons(Arc<AtomicBool>, Arc<AtomicUsize>);

impl Model for Abandons {
    fn run(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        self.0.store(true, Ordering::SeqCst);
        self.1.fetch_add(1, Ordering::SeqCst);
        Ok(batch.to_vec())
    }
}

#[test]
fn a_start_that_is_abandoned_ends_after_the_run_that_it_is_in() {
    let (plan, runs) = (plan(), Arc::new(AtomicUsize::new(0)));
    let shared = (Arc::clone(&plan.abandoned), Arc::clone(&runs));
    let factory: Factory = Arc::new(move || {
        let (abandoned, runs) = shared.clone();
        Ok(Box::new(Abandons(abandoned, runs)))
    });
    let error = Engine::start(plan, &factory, metrics()).unwrap_err();
    assert!(matches!(error, LoadError::Abandoned), "{error}");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[test]
fn a_panic_while_loading_is_an_error() {
    let factory: Factory = Arc::new(|| panic!("a panic that the test asked for"));
    let error = Engine::start(plan(), &factory, metrics()).unwrap_err();
    assert!(
        matches!(error, LoadError::Panicked { instance: 0 }),
        "{error}"
    );
}

#[tokio::test]
async fn stopping_runs_what_is_queued_and_then_refuses() {
    let (mut gate, factory) = gate();
    let engine = engine(&factory);
    let first = ask_within(&engine, rows(&[1.0]), LONG);
    gate.next().await;
    let second = queue(&engine, rows(&[2.0]), 0).await;
    gate.open();
    gate.open();
    let stopping = Arc::clone(&engine);
    assert!(
        tokio::task::spawn_blocking(move || stopping.stop(clock::now() + LONG))
            .await
            .unwrap()
    );
    assert_eq!(answered(first.await.unwrap()), [1.0]);
    assert_eq!(answered(second.await.unwrap()), [2.0]);
    let outcome = engine
        .infer(rows(&[3.0]), clock::now() + LONG, Priority::default())
        .await;
    assert!(matches!(outcome, Err(InferError::Stopped)));
}

#[tokio::test]
async fn stopping_gives_up_on_an_instance_that_hangs() {
    let (mut gate, factory) = gate();
    let engine = engine(&factory);
    let _hung = ask_within(&engine, rows(&[1.0]), LONG);
    gate.next().await;
    assert!(!engine.stop(clock::now() + Duration::from_millis(10)));
}
