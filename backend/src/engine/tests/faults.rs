//! What one request or one instance does to the others: nothing.

use super::*;

#[tokio::test]
async fn only_the_culprit_of_a_failed_batch_fails() {
    let (mut gate, factory) = gate();
    let metrics = metrics();
    let engine = Arc::new(Engine::start(plan(), &factory, metrics.clone()).unwrap());
    let first = ask_within(&engine, rows(&[1.0]), LONG);
    gate.next().await;
    let good = queue(&engine, rows(&[2.0, 3.0]), 0).await;
    let bad = queue(&engine, rows(&[POISON]), 1).await;
    let also_good = queue(&engine, rows(&[4.0]), 2).await;
    // The first batch, the joint one, and each of its three requests.
    (0..5).for_each(|_| gate.open());
    assert!(first.await.unwrap().is_ok());
    assert_eq!(answered(good.await.unwrap()), [2.0, 3.0]);
    assert_eq!(answered(also_good.await.unwrap()), [4.0]);
    let error = bad.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "poisoned");
    assert_eq!(metrics.batches_split.get(), 1);
}

#[tokio::test]
async fn a_request_that_ran_alone_is_not_run_again() {
    let (mut gate, factory) = gate();
    let engine = engine(&factory);
    let bad = ask_within(&engine, rows(&[POISON]), LONG);
    gate.next().await;
    gate.open();
    assert!(matches!(bad.await.unwrap(), Err(InferError::Model(_))));
    assert!(gate.began.try_recv().is_err());
}

#[tokio::test]
async fn an_answer_that_breaks_the_signature_is_the_models_failure() {
    let drops_a_row = |batch: &[Tensor]| {
        let rows = batch[0].rows().unwrap();
        Ok(vec![
            Tensor::from_f32([rows - 1, 1], &vec![0.0; rows - 1]).unwrap(),
        ])
    };
    let engine = engine(&function(drops_a_row));
    let error = engine
        .infer(rows(&[1.0, 2.0]), clock::now() + LONG)
        .await
        .unwrap_err();
    let text = crate::chain::Chain(&error).to_string();
    assert_eq!(
        text,
        "the model broke its signature: `y`.shape: expected 2 rows, got 1"
    );
}

#[tokio::test]
async fn a_panic_fails_its_batch_and_stops_the_engine_with_its_last_instance() {
    let (mut gate, factory) = gate_that_panics();
    let metrics = metrics();
    let engine = Arc::new(Engine::start(plan(), &factory, metrics.clone()).unwrap());
    metrics.loaded.set(1);
    let culprit = ask_within(&engine, rows(&[1.0]), LONG);
    gate.next().await;
    let waits = queue(&engine, rows(&[2.0]), 0).await;
    assert_eq!(engine.fault(), None);
    gate.open();
    assert!(matches!(
        culprit.await.unwrap(),
        Err(InferError::InstanceDied)
    ));
    assert!(matches!(waits.await.unwrap(), Err(InferError::Stopped)));
    let outcome = engine.infer(rows(&[3.0]), clock::now() + LONG).await;
    assert!(matches!(outcome, Err(InferError::Stopped)), "{outcome:?}");
    assert_eq!(
        engine.fault().as_deref(),
        Some("instance 0 of test/1 panicked")
    );
    assert!(engine.is_dead());
    assert_eq!(metrics.loaded.get(), 0);
    assert_eq!(metrics.queue_depth.get(), 0);
    assert!(engine.stop(clock::now() + LONG));
}

#[tokio::test]
async fn an_instance_that_is_left_goes_on() {
    let (mut gate, factory) = gate_that_panics();
    let plan = Plan {
        instances: 2,
        ..plan()
    };
    let engine = Arc::new(Engine::start(plan, &factory, metrics()).unwrap());
    let dies = ask_within(&engine, rows(&[1.0]), LONG);
    gate.next().await;
    gate.open();
    assert!(matches!(dies.await.unwrap(), Err(InferError::InstanceDied)));
    until(|| engine.fault().is_some()).await;
    assert!(!engine.is_dead());
    let outcome = ask_within(&engine, rows(&[2.0]), LONG);
    gate.next().await;
    gate.open();
    assert!(matches!(
        outcome.await.unwrap(),
        Err(InferError::InstanceDied)
    ));
    until(|| engine.is_dead()).await;
}

/// As [`gate`], and panics when it is let through.
fn gate_that_panics() -> (Gate, Factory) {
    let (announce, began) = unbounded::unbounded_channel();
    let (pass, passes) = mpsc::channel();
    let passes = Arc::new(Mutex::new(passes));
    let run = move |_: &[Tensor]| -> Result<Vec<Tensor>, ModelError> {
        announce.send(Vec::new()).unwrap();
        passes.lock().recv().unwrap();
        panic!("a panic that the test asked for");
    };
    (Gate { began, pass }, function(run))
}
