//! Admission, and what is promised to whom.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::batcher::Priority;
use crate::clock;

/// So many rows; rows of other shapes are of another class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    id: u32,
    rows: usize,
    shape: u8,
}

impl Batchable for Item {
    fn rows(&self) -> usize {
        self.rows
    }

    fn bytes(&self) -> usize {
        1
    }

    fn joins(&self, other: &Self) -> bool {
        self.shape == other.shape
    }

    fn class(&self) -> Class {
        Class(self.shape.into())
    }
}

const LIMITS: Limits = Limits {
    max_rows: 4,
    max_requests: 1_000,
    max_bytes: 1_000_000,
    max_wait: Duration::from_millis(20),
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn one(id: u32) -> Item {
    Item {
        id,
        rows: 1,
        shape: 0,
    }
}

/// d(b) = 10 + b milliseconds.
fn takes(rows: usize) -> Duration {
    ms(10 + rows as u64)
}

/// One that knows that of its only class.
fn experienced(instances: usize, now: Instant) -> Scheduler<Item> {
    let mut scheduler = Scheduler::new(LIMITS, instances, now);
    for rows in [1, 2, 4, 1, 2, 4] {
        scheduler.learn(Class(0), rows, takes(rows));
    }
    scheduler
}

/// The time that a refused request was told, in milliseconds.
fn refused(pushed: Result<Ticket, Rejected<Item, Refusal>>) -> u128 {
    match pushed.map_err(|rejected| rejected.why) {
        Err(Refusal::TooLate { expected, .. }) => expected.as_millis(),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Runs what it would run now; the ids.
fn run(scheduler: &mut Scheduler<Item>, now: Instant) -> (BatchId, Vec<u32>) {
    match scheduler.poll(now, 1) {
        Decision::Run(batch) => {
            let ids = batch.requests.iter().map(|one| one.request.id).collect();
            (scheduler.begin(Class(0), batch.rows, now), ids)
        }
        other => panic!("expected a batch, got {other:?}"),
    }
}

#[test]
fn nobody_is_refused_before_anything_is_known() {
    let now = clock::now();
    let mut scheduler = Scheduler::new(LIMITS, 1, now);
    scheduler.begin(Class(0), 1, now);
    for id in 0..20 {
        scheduler.push(one(id), Some(now + ms(1)), now).unwrap();
    }
}

#[test]
fn an_idle_instance_tries_whatever_was_predicted() {
    let now = clock::now();
    let mut scheduler = experienced(1, now);
    scheduler.push(one(1), Some(now + ms(1)), now).unwrap();
    assert_eq!(run(&mut scheduler, now).1, [1]);
    // The next would wait for it.
    refused(scheduler.push(one(2), Some(now + ms(1)), now));
}

#[test]
fn what_would_be_late_behind_what_runs_and_waits_is_refused_with_the_time() {
    let now = clock::now();
    let mut scheduler = experienced(1, now);
    scheduler.begin(Class(0), 4, now);
    // 14 ms of the batch that runs and 11 of its own, and a tenth.
    assert_eq!(refused(scheduler.push(one(1), Some(now + ms(27)), now)), 27);
    scheduler.push(one(1), Some(now + ms(28)), now).unwrap();
    // It shares the batch of the one before it: 12 ms.
    assert_eq!(refused(scheduler.push(one(2), Some(now + ms(28)), now)), 28);
    scheduler.push(one(2), Some(now + ms(29)), now).unwrap();
    // Half of the batch has run, and three more rows do not fit beside the two: they run behind
    // them, alone.
    let later = now + ms(7);
    let three = Item { rows: 3, ..one(3) };
    let late = scheduler.push(three, Some(later + ms(34)), later);
    assert_eq!(refused(late), 35);
}

#[test]
fn who_comes_before_others_waits_for_less() {
    let now = clock::now();
    let mut scheduler = experienced(1, now);
    scheduler.begin(Class(0), 4, now);
    for id in 0..40 {
        scheduler.push(one(id), Some(now + ms(1_000)), now).unwrap();
    }
    assert!(refused(scheduler.push(one(40), Some(now + ms(0)), now)) < 30);
    scheduler.push(one(40), Some(now + ms(28)), now).unwrap();
    let place = |priority| Place {
        priority,
        deadline: Some(now + ms(60)),
    };
    scheduler
        .push(one(41), place(Priority::FIRST), now)
        .unwrap();
    assert!(refused(scheduler.push(one(42), place(Priority::LAST), now)) > 150);
}

#[test]
fn instances_share_the_work_until_one_is_lost() {
    let now = clock::now();
    let mut scheduler = experienced(2, now);
    scheduler.begin(Class(0), 4, now);
    scheduler.push(one(0), Some(now + ms(1)), now).unwrap();
    scheduler.begin(Class(0), 4, now);
    assert_eq!(refused(scheduler.push(one(1), Some(now), now)), 27);
    scheduler.lose_instance();
    assert_eq!(refused(scheduler.push(one(1), Some(now), now)), 42);
}

#[test]
fn a_class_is_predicted_by_its_own_cost() {
    let now = clock::now();
    let mut scheduler = experienced(1, now);
    for _ in 0..6 {
        scheduler.learn(Class(1), 1, ms(100));
    }
    scheduler.begin(Class(0), 4, now);
    let slow = Item { shape: 1, ..one(1) };
    assert_eq!(refused(scheduler.push(slow, Some(now), now)), 125);
    assert!(refused(scheduler.push(one(1), Some(now), now)) < 30);
}

#[test]
fn a_run_that_hangs_is_given_up_once_and_counts_as_busy_until_then() {
    let now = clock::now();
    let mut scheduler = experienced(1, now);
    let hung = scheduler.begin(Class(0), 3, now);
    assert_eq!(scheduler.give_up(now, now), None);
    let later = now + ms(500);
    assert_eq!(scheduler.give_up(now + ms(1), later), Some((hung, 3)));
    assert_eq!(scheduler.give_up(now + ms(1), later), None);
    assert!(scheduler.load_report(0.0, later).utilization.unwrap() > 0.05);
}

/// α is 1 ms and β 10, eight rows share a batch, and one of so many runs, before requests of these rows.
fn behind(running: usize, waiting: &[usize], now: Instant) -> Scheduler<Item> {
    let limits = Limits {
        max_rows: 8,
        ..LIMITS
    };
    let mut scheduler = Scheduler::new(limits, 1, now);
    for rows in [1, 4, 8, 1, 4, 8] {
        scheduler.learn(Class(0), rows, takes(rows));
    }
    scheduler.begin(Class(0), running, now);
    for (id, rows) in (0..).zip(waiting) {
        let item = Item {
            rows: *rows,
            ..one(id)
        };
        scheduler.push(item, None, now).unwrap();
    }
    scheduler
}

/// When such a request is expected to be answered, and when it would be if it were the last: all that
/// is queued is then run, batch by batch, as the batcher says. In milliseconds, and without the tenth.
fn expected_and_true(running: usize, waiting: &[usize], rows: usize) -> (f64, f64) {
    let now = clock::now();
    let mut scheduler = behind(running, waiting, now);
    let last = Item {
        rows,
        ..one(u32::MAX)
    };
    let expected = scheduler.expected(&last, None.into(), now).unwrap();
    scheduler.push(last, None, now).unwrap();
    let mut ends = now + takes(running);
    while let Decision::Run(batch) = scheduler.poll(ends, 1) {
        ends += takes(batch.rows);
    }
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    (ms(expected) / MARGIN, ms(ends - now))
}

#[test]
fn requests_that_run_alone_cost_one_batch_each() {
    for (running, waiting, rows, truth) in [
        (16, &[16; 4][..], 16, 156.0),
        // Eight that share a batch, and one behind it.
        (8, &[1; 8], 100, 146.0),
        // One that is large makes nobody else wait for more batches than there are.
        (1, &[1, 1, 100, 1, 1], 4, 11.0 + 110.0 + 18.0),
        (1, &[100, 8, 1, 1], 8, 11.0 + 110.0 + 18.0 + 12.0 + 18.0),
    ] {
        let (expected, is) = expected_and_true(running, waiting, rows);
        assert!((is - truth).abs() < 0.01, "{waiting:?}: {is}");
        assert!((expected - truth).abs() < 0.01, "{waiting:?}: {expected}");
    }
}

#[test]
fn the_proxy_is_told_the_same_of_requests_that_run_alone() {
    let now = clock::now();
    let report = behind(16, &[16; 4], now).load_report(0.0, now);
    let wait = report.expected_wait.unwrap().as_secs_f64() * 1e3;
    assert!((wait - 5.0 * 26.0).abs() < 0.01, "{wait}");
}

/// What it says once it has given up whom it gives up.
fn next_batch(scheduler: &mut Scheduler<Item>, now: Instant) -> Decision<Item> {
    match scheduler.poll(now, 1) {
        Decision::Expire(_) => scheduler.poll(now, 1),
        other => other,
    }
}

proptest! {
    /// Where all have as many rows, or one and others run alone, the prediction is what the batcher does.
    #[test]
    fn what_is_expected_is_what_the_batcher_takes_for_all_of_it(
        same in 1..40_usize,
        count in 0..30_usize,
        mixed in prop::collection::vec(prop_oneof![3 => Just(1_usize), 1 => 8..120_usize], 0..40),
        last in prop_oneof![Just(1_usize), 8..120_usize],
        running in 1..40_usize,
    ) {
        for (waiting, rows) in [(vec![same; count], same), (mixed, last)] {
            let (expected, truth) = expected_and_true(running, &waiting, rows);
            prop_assert!((expected - truth).abs() < 0.01, "{waiting:?}, {rows}: {expected}, {truth}");
        }
    }

    /// Admission is nearly a promise where all ask for the same time and rows, and predictions come
    /// true: only a batch that grows after one was admitted to it may make that one late. Of patience
    /// for no more than two runs there is less to promise.
    #[test]
    fn who_was_admitted_is_nearly_always_in_time_where_predictions_hold(
        gaps in prop::collection::vec(0..8_u64, 1..150),
        rows in 1..5_usize,
        patience in 45..120_u64,
    ) {
        let start = clock::now();
        let mut scheduler = experienced(1, start);
        let (mut now, mut free_at) = (start, None::<(BatchId, Vec<u32>, Instant)>);
        let mut due = HashMap::new();
        let arrivals = gaps.into_iter().scan(start, |at, gap| {
            *at += ms(gap);
            Some(*at)
        });
        let mut arrivals = arrivals.enumerate().peekable();
        let mut answered = 0;
        loop {
            let next = arrivals.peek().map(|(_, at)| *at);
            let ends = free_at.as_ref().map(|(_, _, at)| *at);
            now = match (next, ends) {
                (Some(next), Some(ends)) => next.min(ends),
                (one, other) => match one.or(other) {
                    Some(time) => time,
                    None => break,
                },
            };
            if ends == Some(now) {
                let (id, ids, _) = free_at.take().unwrap();
                scheduler.end(id, true, now);
                for id in ids {
                    prop_assert!(now <= due[&id], "{id} is answered late");
                    answered += 1;
                }
            } else if let Some((id, _)) = arrivals.next() {
                let id = u32::try_from(id).unwrap();
                let deadline = now + ms(patience);
                if scheduler.push(Item { id, rows, shape: 0 }, Some(deadline), now).is_ok() {
                    due.insert(id, deadline);
                }
            }
            if free_at.is_none() && !scheduler.is_empty() {
                match next_batch(&mut scheduler, now) {
                    Decision::Run(batch) => {
                        let ids = batch.requests.iter().map(|one| one.request.id).collect();
                        let id = scheduler.begin(Class(0), batch.rows, now);
                        free_at = Some((id, ids, now + takes(batch.rows)));
                    }
                    other => prop_assert!(false, "expected a batch, got {other:?}"),
                }
            }
        }
        prop_assert!(now >= start);
        prop_assert!(answered <= due.len());
        let given_up = due.len() - answered;
        prop_assert!(given_up <= 1 + due.len() / 20, "{given_up} of {}", due.len());
    }
}
