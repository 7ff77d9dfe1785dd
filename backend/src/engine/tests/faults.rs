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
        .infer(rows(&[1.0, 2.0]), clock::now() + LONG, Priority::default())
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
    let outcome = engine
        .infer(rows(&[3.0]), clock::now() + LONG, Priority::default())
        .await;
    assert!(matches!(outcome, Err(InferError::Stopped)), "{outcome:?}");
    assert_eq!(
        engine.fault().as_deref(),
        Some("instance 0 of test/1 panicked")
    );
    assert!(engine.has_lost_instances());
    assert_eq!(metrics.loaded.get(), 0);
    assert_eq!(metrics.queue_depth.get(), 0);
    assert!(engine.stop(clock::now() + LONG));
}

#[tokio::test]
async fn a_device_that_is_broken_ends_the_instance_and_says_why() {
    let breaks = |batch: &[Tensor]| {
        if batch[0].as_f32().unwrap().contains(&POISON) {
            return Err(ModelError::Broken("the device is lost".into()));
        }
        Ok(batch.to_vec())
    };
    let metrics = metrics();
    let engine = Engine::start(plan(), &function(breaks), metrics.clone()).unwrap();
    let engine = Arc::new(engine);
    metrics.loaded.set(1);
    let ask = |value| ask_within(&engine, rows(&[value]), LONG);
    assert!(ask(1.0).await.unwrap().is_ok());
    let error = ask(POISON).await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the model cannot run again: the device is lost"
    );
    assert!(matches!(ask(1.0).await.unwrap(), Err(InferError::Stopped)));
    assert_eq!(
        engine.fault().as_deref(),
        Some("an instance of test/1 ended: the device is lost")
    );
    assert!(engine.has_lost_instances());
    assert_eq!(metrics.loaded.get(), 0);
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
    until(|| engine.has_lost_instances()).await;
    assert!(engine.fault().is_some());
    let outcome = ask_within(&engine, rows(&[2.0]), LONG);
    gate.next().await;
    gate.open();
    assert!(matches!(
        outcome.await.unwrap(),
        Err(InferError::InstanceDied)
    ));
    let outcome = ask_within(&engine, rows(&[3.0]), LONG).await.unwrap();
    assert!(matches!(outcome, Err(InferError::Stopped)), "{outcome:?}");
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

/// One that gives up a run after a moment.
fn watched(instances: usize, factory: &Factory) -> (Arc<Engine>, VersionMetrics) {
    let plan = Plan {
        run_timeout: Some(Duration::from_millis(1)),
        instances,
        ..plan()
    };
    let metrics = metrics();
    metrics.loaded.set(1);
    let engine = Engine::start(plan, factory, metrics.clone()).unwrap();
    (Arc::new(engine), metrics)
}

/// Long after whatever runs has begun.
fn later() -> Instant {
    clock::now() + LONG
}

#[tokio::test]
async fn a_run_that_hangs_is_answered_and_its_instance_works_no_more() {
    let (mut gate, factory) = gate();
    let (engine, metrics) = watched(1, &factory);
    let hangs = ask_within(&engine, rows(&[1.0]), LONG);
    gate.next().await;
    let waits = queue(&engine, rows(&[2.0]), 0).await;
    engine.give_up_hung(later());
    let outcome = hangs.await.unwrap();
    assert!(
        matches!(outcome, Err(InferError::Hung { .. })),
        "{outcome:?}"
    );
    assert!(matches!(waits.await.unwrap(), Err(InferError::Stopped)));
    let fault = engine.fault().unwrap();
    assert!(
        fault.contains("a run of 1 rows takes more than 1 ms"),
        "{fault}"
    );
    assert!(engine.has_lost_instances());
    assert_eq!((metrics.hung.get(), metrics.loaded.get()), (1, 0));
    // It is given up once.
    engine.give_up_hung(later());
    assert_eq!(metrics.hung.get(), 1);
    // Nobody waits for it at the end; and once it is back, it does no more.
    assert!(!engine.stop(later()));
    gate.open();
    until(|| engine.stop(clock::now())).await;
    assert_eq!(metrics.batch_size.get_sample_count(), 0);
}

#[tokio::test]
async fn beside_an_instance_that_hangs_another_goes_on() {
    let (mut gate, factory) = gate();
    let (engine, _) = watched(2, &factory);
    let hangs = ask_within(&engine, rows(&[1.0]), LONG);
    gate.next().await;
    engine.give_up_hung(later());
    assert!(matches!(hangs.await.unwrap(), Err(InferError::Hung { .. })));
    assert!(engine.has_lost_instances() && engine.fault().is_some());
    let runs = ask_within(&engine, rows(&[2.0]), LONG);
    gate.next().await;
    gate.open();
    gate.open();
    assert_eq!(answered(runs.await.unwrap()), [2.0]);
}

#[tokio::test]
async fn what_ends_in_time_is_not_given_up() {
    let (engine, metrics) = watched(1, &function(fragile));
    let outcome = ask_within(&engine, rows(&[1.0]), LONG).await.unwrap();
    assert_eq!(answered(outcome), [1.0]);
    engine.give_up_hung(later());
    assert_eq!((engine.fault(), metrics.hung.get()), (None, 0));
}

/// Fails while it is told to, whatever the inputs are.
fn moody() -> (Arc<AtomicBool>, Factory) {
    let fails = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&fails);
    let run = move |batch: &[Tensor]| {
        if told.load(Ordering::Relaxed) {
            return Err(ModelError::Executor("moody".into()));
        }
        Ok(batch.to_vec())
    };
    (fails, function(run))
}

#[tokio::test]
async fn a_model_that_fails_zeros_too_is_not_ready_until_it_does_no_more() {
    let (fails, factory) = moody();
    let engine = engine(&factory);
    for _ in 0..2 {
        let outcome = ask_within(&engine, rows(&[1.0]), LONG).await.unwrap();
        assert!(matches!(outcome, Err(InferError::Model(_))));
        assert_eq!(engine.fault(), None);
    }
    let outcome = ask_within(&engine, rows(&[1.0]), LONG).await.unwrap();
    assert!(matches!(outcome, Err(InferError::Model(_))));
    until(|| engine.fault().is_some()).await;
    assert!(engine.fault().unwrap().contains("of zeros too"));
    assert!(!engine.has_lost_instances());
    fails.store(false, Ordering::Relaxed);
    // Nobody asks: it finds out by itself.
    until(|| engine.fault().is_none()).await;
    let outcome = ask_within(&engine, rows(&[1.0]), LONG).await.unwrap();
    assert_eq!(answered(outcome), [1.0]);
}

#[tokio::test]
async fn a_clients_inputs_alone_take_nobody_out_of_service() {
    let metrics = metrics();
    let engine = Engine::start(plan(), &function(fragile), metrics.clone()).unwrap();
    let engine = Arc::new(engine);
    for _ in 0..10 {
        let outcome = ask_within(&engine, rows(&[POISON]), LONG).await.unwrap();
        assert!(matches!(outcome, Err(InferError::Model(_))));
    }
    let outcome = ask_within(&engine, rows(&[1.0]), LONG).await.unwrap();
    assert_eq!(answered(outcome), [1.0]);
    assert_eq!(engine.fault(), None);
    assert_eq!((metrics.tests(true), metrics.tests(false)), (3, 0));
}

#[tokio::test]
async fn an_engine_that_is_retired_leaves_the_gauges_to_the_one_in_its_place() {
    let (mut gate, factory) = gate();
    let (old, metrics) = watched(1, &factory);
    let new = Engine::start(plan(), &function(fragile), metrics.clone()).unwrap();
    let hangs = ask_within(&old, rows(&[1.0]), LONG);
    gate.next().await;
    let leaves = queue(&old, rows(&[2.0]), 0).await;
    assert_eq!((metrics.queue_depth.get(), metrics.loaded.get()), (1, 1));
    old.retire();
    new.show();
    assert_eq!((metrics.queue_depth.get(), metrics.loaded.get()), (0, 1));
    // As if it were the other's.
    metrics.queue_depth.set(7);
    let waits = queue(&old, rows(&[3.0]), 1).await;
    leaves.abort();
    until(|| old.queue_depth() == 1).await;
    old.give_up_hung(later());
    assert!(matches!(hangs.await.unwrap(), Err(InferError::Hung { .. })));
    assert!(matches!(waits.await.unwrap(), Err(InferError::Stopped)));
    assert_eq!((metrics.queue_depth.get(), metrics.loaded.get()), (7, 1));
    gate.open();
}
