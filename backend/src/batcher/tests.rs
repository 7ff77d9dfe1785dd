//! The rules one by one, and all together against a [model](model) that is too slow to be wrong.

use super::*;

mod model;

/// A request that is told apart by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    id: u32,
    rows: usize,
    bytes: usize,
    shape: u8,
}

impl Batchable for Item {
    fn rows(&self) -> usize {
        self.rows
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn joins(&self, other: &Self) -> bool {
        self.shape == other.shape
    }
}

const LIMITS: Limits = Limits {
    max_rows: 4,
    max_requests: 6,
    max_bytes: 100,
    max_wait: Duration::from_millis(20),
};

fn item(id: u32) -> Item {
    Item {
        id,
        rows: 1,
        bytes: 1,
        shape: 0,
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The ids of a batch.
fn ran(decision: Decision<Item>) -> Vec<u32> {
    match decision {
        Decision::Run(batch) => batch.requests.iter().map(|one| one.request.id).collect(),
        other => panic!("expected a batch, got {other:?}"),
    }
}

#[test]
fn an_idle_instance_takes_a_lone_request_at_once() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    batcher.push(item(1), None, now).unwrap();
    assert_eq!(ran(batcher.poll(now, 1)), [1]);
    assert_eq!(batcher.poll(now, 1), Decision::Idle);
}

#[test]
fn while_all_are_busy_it_wakes_for_the_next_deadline_only() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    batcher.push(item(1), None, now).unwrap();
    assert_eq!(batcher.poll(now, 0), Decision::Idle);
    batcher.push(item(2), Some(now + ms(9)), now).unwrap();
    batcher.push(item(3), Some(now + ms(5)), now).unwrap();
    assert_eq!(batcher.poll(now, 0), Decision::WakeAt(now + ms(5)));
}

#[test]
fn the_earliest_deadline_runs_first_and_equals_in_order_of_arrival() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    batcher.push(item(1), None, now).unwrap();
    batcher.push(item(2), Some(now + ms(9)), now).unwrap();
    batcher.push(item(3), Some(now + ms(5)), now).unwrap();
    batcher.push(item(4), Some(now + ms(9)), now).unwrap();
    batcher.push(item(5), None, now).unwrap();
    assert_eq!(ran(batcher.poll(now, 1)), [3, 2, 4, 1]);
    assert_eq!(ran(batcher.poll(now, 1)), [5]);
}

#[test]
fn other_shapes_wait_for_their_own_batch() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    for (id, shape) in [(1, 0), (2, 1), (3, 0), (4, 1)] {
        batcher.push(Item { shape, ..item(id) }, None, now).unwrap();
    }
    assert_eq!(ran(batcher.poll(now, 1)), [1, 3]);
    assert_eq!(ran(batcher.poll(now, 1)), [2, 4]);
}

#[test]
fn rows_fill_a_batch_up_to_the_limit_past_one_that_does_not_fit() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    for (id, rows) in [(1, 2), (2, 3), (3, 1), (4, 1), (5, 1)] {
        batcher.push(Item { rows, ..item(id) }, None, now).unwrap();
    }
    assert_eq!(ran(batcher.poll(now, 1)), [1, 3, 4]);
    assert_eq!(ran(batcher.poll(now, 1)), [2, 5]);
}

#[test]
fn a_request_over_the_limit_runs_alone() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    batcher
        .push(Item { rows: 9, ..item(1) }, None, now)
        .unwrap();
    batcher.push(item(2), None, now).unwrap();
    assert_eq!(ran(batcher.poll(now, 1)), [1]);
    assert_eq!(ran(batcher.poll(now, 1)), [2]);
}

#[test]
fn what_is_late_is_handed_back_before_anything_runs() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    batcher.push(item(1), Some(now + ms(5)), now).unwrap();
    batcher.push(item(2), Some(now + ms(6)), now).unwrap();
    batcher.push(item(3), Some(now + ms(7)), now).unwrap();
    let later = now + ms(6);
    assert_eq!(
        batcher.poll(later, 1),
        Decision::Expire(vec![item(1), item(2)])
    );
    assert_eq!(ran(batcher.poll(later, 1)), [3]);
}

#[test]
fn a_full_queue_refuses_with_the_limit_and_takes_again_when_one_leaves() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    let tickets: Vec<_> = (0..6)
        .map(|id| batcher.push(item(id), None, now).unwrap())
        .collect();
    let full = Err(QueueFull::Requests { limit: 6 });
    assert_eq!(batcher.push(item(9), None, now), full);
    assert_eq!(batcher.cancel(tickets[2]), Some(item(2)));
    assert!(batcher.push(item(9), None, now).is_ok());
}

#[test]
fn the_bytes_that_wait_are_bounded_too() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    batcher
        .push(
            Item {
                bytes: 60,
                ..item(1)
            },
            None,
            now,
        )
        .unwrap();
    let refused = batcher.push(
        Item {
            bytes: 41,
            ..item(2)
        },
        None,
        now,
    );
    assert_eq!(
        refused,
        Err(QueueFull::Bytes {
            bytes: 41,
            limit: 100
        })
    );
    let huge = batcher.push(
        Item {
            bytes: usize::MAX,
            ..item(3)
        },
        None,
        now,
    );
    assert_eq!(
        huge,
        Err(QueueFull::Bytes {
            bytes: usize::MAX,
            limit: 100
        })
    );
    assert_eq!(ran(batcher.poll(now, 1)), [1]);
    assert!(
        batcher
            .push(
                Item {
                    bytes: 100,
                    ..item(4)
                },
                None,
                now
            )
            .is_ok()
    );
}

#[test]
fn a_request_over_the_limit_of_bytes_may_wait_alone() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    assert!(
        batcher
            .push(
                Item {
                    bytes: 101,
                    ..item(1)
                },
                None,
                now
            )
            .is_ok()
    );
    let refused = batcher.push(
        Item {
            bytes: 0,
            ..item(2)
        },
        None,
        now,
    );
    assert_eq!(
        refused,
        Err(QueueFull::Bytes {
            bytes: 0,
            limit: 100
        })
    );
}

#[test]
fn a_ticket_is_good_once() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    let ticket = batcher.push(item(1), None, now).unwrap();
    assert_eq!(batcher.cancel(ticket), Some(item(1)));
    assert_eq!(batcher.cancel(ticket), None);
    batcher.push(item(2), None, now).unwrap();
    assert_eq!(batcher.cancel(ticket), None);
    assert_eq!(batcher.len(), 1);
}

#[test]
fn a_batch_says_how_long_its_requests_waited_and_who_over_the_cap() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    batcher.push(item(1), None, now).unwrap();
    batcher.push(item(2), None, now + ms(1)).unwrap();
    let Decision::Run(batch) = batcher.poll(now + ms(21), 1) else {
        panic!("expected a batch")
    };
    let waited: Vec<_> = batch.requests.iter().map(|one| one.waited).collect();
    assert_eq!(waited, [ms(21), ms(20)]);
    assert_eq!((batch.rows, batch.over_max_wait), (2, 1));
}

#[test]
fn clearing_hands_back_everything_in_order() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    batcher.push(item(1), None, now).unwrap();
    batcher.push(item(2), Some(now), now).unwrap();
    assert_eq!(batcher.clear(), [item(2), item(1)]);
    assert!(batcher.is_empty());
    assert!(
        batcher
            .push(
                Item {
                    bytes: 100,
                    ..item(3)
                },
                None,
                now
            )
            .is_ok()
    );
}

#[test]
fn rows_beyond_counting_run_alone() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    let vast = Item {
        rows: usize::MAX,
        ..item(2)
    };
    batcher.push(item(1), None, now).unwrap();
    batcher.push(vast, None, now).unwrap();
    assert_eq!(ran(batcher.poll(now, 1)), [1]);
    assert_eq!(ran(batcher.poll(now, 1)), [2]);
}
