//! Requests meet in batches, and leave the queue in every way that there is.

use bytes::Bytes;

use super::*;
use crate::batcher::QueueFull;

#[tokio::test]
async fn a_lone_request_is_answered_without_waiting_for_company() {
    // `max_wait` is a minute here.
    let engine = engine(&function(fragile));
    let outcome = tokio::time::timeout(
        LONG / 2,
        engine.infer(rows(&[3.0]), clock::now() + LONG, Priority::default()),
    );
    assert_eq!(answered(outcome.await.unwrap()), [3.0]);
}

#[tokio::test]
async fn requests_that_wait_share_a_batch_and_each_gets_its_own_rows() {
    let (mut gate, factory) = gate();
    let engine = engine(&factory);
    let first = ask_within(&engine, rows(&[1.0]), LONG);
    assert_eq!(gate.next().await, [1.0]);
    let second = queue(&engine, rows(&[2.0]), 0).await;
    let third = queue(&engine, rows(&[3.0, 4.0, 5.0]), 1).await;
    gate.open();
    assert_eq!(gate.next().await, [2.0, 3.0, 4.0, 5.0]);
    assert_eq!(engine.queue_depth(), 0);
    gate.open();
    assert_eq!(answered(first.await.unwrap()), [1.0]);
    assert_eq!(answered(second.await.unwrap()), [2.0]);
    assert_eq!(answered(third.await.unwrap()), [3.0, 4.0, 5.0]);
}

#[tokio::test]
async fn two_instances_run_at_the_same_time() {
    let (mut gate, factory) = gate();
    let plan = Plan {
        instances: 2,
        ..plan()
    };
    let engine = Arc::new(Engine::start(plan, &factory, metrics()).unwrap());
    let first = ask_within(&engine, rows(&[1.0]), LONG);
    assert_eq!(gate.next().await, [1.0]);
    let second = ask_within(&engine, rows(&[2.0]), LONG);
    assert_eq!(gate.next().await, [2.0]);
    gate.open();
    gate.open();
    assert_eq!(answered(first.await.unwrap()), [1.0]);
    assert_eq!(answered(second.await.unwrap()), [2.0]);
}

#[tokio::test]
async fn shapes_that_differ_beside_the_batch_axis_run_apart() {
    let (mut gate, factory) = gate();
    let engine = engine(&factory);
    let first = ask_within(&engine, rows(&[1.0]), LONG);
    gate.next().await;
    let narrow = queue(&engine, rows(&[2.0]), 0).await;
    let wide = Tensor::from_f32([1, 2], &[3.0, 4.0]).unwrap();
    let wide = queue(
        &engine,
        Inputs {
            tensors: vec![wide],
            rows: 1,
            plain: Vec::new(),
        },
        1,
    )
    .await;
    gate.open();
    assert_eq!(gate.next().await, [2.0]);
    gate.open();
    assert_eq!(gate.next().await, [3.0]);
    gate.open();
    assert_eq!(answered(wide.await.unwrap()), [3.0, 4.0]);
    assert!(narrow.await.unwrap().is_ok() && first.await.unwrap().is_ok());
}

#[tokio::test]
async fn the_most_urgent_request_runs_first() {
    let (mut gate, factory) = gate();
    let plan = Plan {
        limits: batcher::Limits {
            max_rows: 1,
            ..plan().limits
        },
        ..plan()
    };
    let engine = Arc::new(Engine::start(plan, &factory, metrics()).unwrap());
    let first = ask_within(&engine, rows(&[1.0]), LONG);
    gate.next().await;
    let patient = queue(&engine, rows(&[2.0]), 0).await;
    let urgent = ask_within(&engine, rows(&[3.0]), LONG / 2);
    until(|| engine.queue_depth() == 2).await;
    gate.open();
    assert_eq!(gate.next().await, [3.0]);
    gate.open();
    assert_eq!(gate.next().await, [2.0]);
    gate.open();
    for asked in [first, patient, urgent] {
        assert!(asked.await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn a_late_request_leaves_the_queue_while_every_instance_hangs() {
    let (mut gate, factory) = gate();
    let engine = engine(&factory);
    let _hung = ask_within(&engine, rows(&[1.0]), LONG);
    gate.next().await;
    let late = ask_within(&engine, rows(&[2.0]), Duration::from_millis(20));
    assert!(matches!(late.await.unwrap(), Err(InferError::Deadline)));
    assert_eq!(engine.queue_depth(), 0);
}

#[tokio::test]
async fn a_request_that_is_late_already_is_never_queued() {
    let (_gate, factory) = gate();
    let engine = engine(&factory);
    let outcome = engine
        .infer(rows(&[1.0]), clock::now(), Priority::default())
        .await;
    assert!(matches!(outcome, Err(InferError::Deadline)), "{outcome:?}");
}

#[tokio::test]
async fn a_client_that_left_is_taken_out_of_the_queue() {
    let (mut gate, factory) = gate();
    let engine = engine(&factory);
    let first = ask_within(&engine, rows(&[1.0]), LONG);
    gate.next().await;
    let gone = queue(&engine, rows(&[2.0]), 0).await;
    let stays = queue(&engine, rows(&[3.0]), 1).await;
    gone.abort();
    until(|| engine.queue_depth() == 1).await;
    gate.open();
    assert_eq!(gate.next().await, [3.0]);
    gate.open();
    assert!(first.await.unwrap().is_ok() && stays.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let (mut gate, factory) = gate();
    let plan = Plan {
        limits: batcher::Limits {
            max_requests: 1,
            ..plan().limits
        },
        ..plan()
    };
    let engine = Arc::new(Engine::start(plan, &factory, metrics()).unwrap());
    let _first = ask_within(&engine, rows(&[1.0]), LONG);
    gate.next().await;
    let _second = queue(&engine, rows(&[2.0]), 0).await;
    let refused = engine
        .infer(rows(&[3.0]), clock::now() + LONG, Priority::default())
        .await;
    let full = QueueFull::Requests { limit: 1 };
    assert!(matches!(refused, Err(InferError::Refused(Refusal::Full(got))) if got == full));
}

/// The bytes of a row, which tell whether the engine's lock was held when they were freed.
struct Telling {
    row: [u8; 4],
    engine: Arc<Engine>,
    freed: unbounded::UnboundedSender<bool>,
}

impl AsRef<[u8]> for Telling {
    fn as_ref(&self) -> &[u8] {
        &self.row
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let _ = self.freed.send(self.engine.shared.state.is_locked());
    }
}

/// A row of such bytes, and what they tell.
fn telling(engine: &Arc<Engine>) -> (Inputs, unbounded::UnboundedReceiver<bool>) {
    let (freed, tells) = unbounded::unbounded_channel();
    let bytes = Bytes::from_owner(Telling {
        row: 1.0_f32.to_le_bytes(),
        engine: Arc::clone(engine),
        freed,
    });
    let inputs = Inputs {
        tensors: vec![Tensor::new(Datatype::Fp32, [1, 1], bytes).unwrap()],
        rows: 1,
        plain: Vec::new(),
    };
    (inputs, tells)
}

#[tokio::test]
async fn a_request_that_is_refused_is_freed_while_others_may_push() {
    let (mut gate, factory) = gate();
    let plan = Plan {
        limits: batcher::Limits {
            max_requests: 0,
            ..plan().limits
        },
        ..plan()
    };
    let engine = Arc::new(Engine::start(plan, &factory, metrics()).unwrap());
    // Nothing may wait: whatever comes is one too many.
    let (inputs, mut tells) = telling(&engine);
    let refused = engine
        .infer(inputs, clock::now() + LONG, Priority::default())
        .await;
    assert!(matches!(
        refused,
        Err(InferError::Refused(Refusal::Full(_)))
    ));
    assert_eq!(tells.recv().await, Some(false));
    assert!(gate.began.try_recv().is_err());
}

#[tokio::test]
async fn a_request_that_ran_is_freed_while_others_may_push() {
    let zeros = |batch: &[Tensor]| {
        let rows = batch[0].rows().unwrap();
        Ok(vec![Tensor::from_f32([rows, 1], &vec![0.0; rows]).unwrap()])
    };
    let engine = engine(&function(zeros));
    let (inputs, mut tells) = telling(&engine);
    assert_eq!(
        answered(ask_within(&engine, inputs, LONG).await.unwrap()),
        [0.0]
    );
    assert_eq!(tells.recv().await, Some(false));
}
