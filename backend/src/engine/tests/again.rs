//! What becomes of the requests of a batch that failed: each runs alone, as a run of its own.

use super::*;

/// The batch that fails is about to: it is the second to run, and these are its requests.
async fn failing(engine: &Arc<Engine>, gate: &mut Gate, values: &[f32]) -> Vec<Asked> {
    let first = ask_within(engine, rows(&[1.0]), LONG);
    gate.next().await;
    let mut asked = Vec::new();
    for (at, value) in values.iter().enumerate() {
        asked.push(queue(engine, rows(&[*value]), at).await);
    }
    gate.open();
    assert_eq!(gate.next().await, values);
    assert!(first.await.unwrap().is_ok());
    asked
}

fn watched(instances: usize, factory: &Factory) -> (Arc<Engine>, VersionMetrics) {
    let plan = Plan {
        run_timeout: Some(LONG),
        instances,
        ..plan()
    };
    let metrics = metrics();
    let engine = Engine::start(plan, factory, metrics.clone()).unwrap();
    (Arc::new(engine), metrics)
}

#[tokio::test]
async fn each_is_a_run_of_its_own_to_the_watchdog() {
    let (mut gate, factory) = gate();
    let (engine, metrics) = watched(1, &factory);
    let asked = failing(&engine, &mut gate, &[2.0, POISON, 3.0]).await;
    for _ in &asked {
        // Whatever runs now has begun before, and the next will begin after.
        let between = clock::now();
        gate.open();
        gate.next().await;
        engine.give_up_hung(between + LONG);
    }
    gate.open();
    assert_eq!((engine.fault(), metrics.hung.get()), (None, 0));
    let [good, bad, also_good] = asked.try_into().unwrap();
    assert_eq!(answered(good.await.unwrap()), [2.0]);
    assert!(matches!(bad.await.unwrap(), Err(InferError::Model(_))));
    assert_eq!(answered(also_good.await.unwrap()), [3.0]);
    // The first, the batch, and each of its three.
    until(|| metrics.batch_size.get_sample_count() == 5).await;
}

#[tokio::test]
async fn who_has_left_or_is_late_is_not_run_again() {
    let (mut gate, factory) = gate();
    let (engine, _) = watched(1, &factory);
    let first = ask_within(&engine, rows(&[1.0]), LONG);
    gate.next().await;
    let bad = queue(&engine, rows(&[POISON]), 0).await;
    let leaves = queue(&engine, rows(&[2.0]), 1).await;
    let late = ask_within(&engine, rows(&[3.0]), Duration::from_millis(300));
    until(|| engine.queue_depth() > 2).await;
    let stays = queue(&engine, rows(&[4.0]), 3).await;
    gate.open();
    assert_eq!(gate.next().await, [3.0, POISON, 2.0, 4.0]);
    leaves.abort();
    assert!(leaves.await.is_err());
    assert!(matches!(late.await.unwrap(), Err(InferError::Deadline)));
    gate.open();
    assert_eq!(gate.next().await, [POISON]);
    gate.open();
    assert_eq!(gate.next().await, [4.0]);
    gate.open();
    assert!(matches!(bad.await.unwrap(), Err(InferError::Model(_))));
    assert_eq!(answered(stays.await.unwrap()), [4.0]);
    assert!(first.await.unwrap().is_ok());
    assert!(gate.began.try_recv().is_err());
}

#[test]
fn a_request_is_over_when_its_deadline_passes_though_its_caller_still_waits() {
    let (sender, waits) = oneshot::channel();
    let now = clock::now();
    let job = Job::new(rows(&[1.0]), sender, now + LONG);
    assert!(!job.answer.is_over(now));
    assert!(job.answer.is_over(now + LONG));
    drop(waits);
    assert!(job.answer.is_over(now));
}

/// As [`gate`], which only 0 and 1 have to pass; alone, [`POISON`] hangs until the other end is dropped.
fn gate_for_some() -> (Gate, mpsc::Sender<()>, Factory) {
    let (announce, began) = unbounded::unbounded_channel();
    let (pass, passes) = mpsc::channel();
    let (release, hangs) = mpsc::channel::<()>();
    let (passes, hangs) = (Arc::new(Mutex::new(passes)), Arc::new(Mutex::new(hangs)));
    let run = move |batch: &[Tensor]| {
        let values = batch[0].as_f32().unwrap();
        announce.send(values.clone()).unwrap();
        if values == [POISON] {
            let _ = hangs.lock().recv();
        } else if values == [0.0] || values == [1.0] {
            let _ = passes.lock().recv();
        }
        fragile(batch)
    };
    (Gate { began, pass }, release, function(run))
}

#[tokio::test]
async fn one_that_hangs_alone_costs_the_others_of_its_batch_nothing() {
    let (mut gate, release, factory) = gate_for_some();
    let (engine, metrics) = watched(2, &factory);
    let first = ask_within(&engine, rows(&[0.0]), LONG);
    assert_eq!(gate.next().await, [0.0]);
    let second = ask_within(&engine, rows(&[1.0]), LONG);
    assert_eq!(gate.next().await, [1.0]);
    // Both are busy, so these meet in a batch.
    let hangs = queue(&engine, rows(&[POISON]), 0).await;
    let waits = queue(&engine, rows(&[2.0]), 1).await;
    gate.open();
    assert_eq!(gate.next().await, [POISON, 2.0]);
    assert_eq!(gate.next().await, [POISON]);
    gate.open();
    assert_eq!(gate.next().await, [2.0]);
    assert_eq!(answered(waits.await.unwrap()), [2.0]);
    assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
    engine.give_up_hung(clock::now() + 2 * LONG);
    assert!(matches!(hangs.await.unwrap(), Err(InferError::Hung { .. })));
    assert_eq!(metrics.hung.get(), 1);
    drop(release);
}

#[tokio::test]
async fn where_nobody_is_left_to_run_them_they_are_told_so() {
    let (mut gate, factory) = gate();
    let (engine, metrics) = watched(1, &factory);
    let asked = failing(&engine, &mut gate, &[POISON, 2.0]).await;
    gate.open();
    assert_eq!(gate.next().await, [POISON]);
    engine.give_up_hung(clock::now() + 2 * LONG);
    let [hangs, waits] = asked.try_into().unwrap();
    assert!(matches!(hangs.await.unwrap(), Err(InferError::Hung { .. })));
    assert!(matches!(waits.await.unwrap(), Err(InferError::Stopped)));
    assert_eq!(metrics.hung.get(), 1);
    gate.open();
}
