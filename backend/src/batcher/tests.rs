//! The rules one by one, and all together against a [model](model) that is too slow to be wrong.

use aegis_protocol::{Parameter, Parameters};

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

    fn class(&self) -> Class {
        Class(self.shape.into())
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

/// Nothing is known of what a batch takes.
fn unknown(_: &Item, _: usize) -> Option<Duration> {
    None
}

/// What a batch of so many rows takes, where that is known.
fn takes_ms(rows: usize) -> u64 {
    2 + rows as u64
}

#[expect(clippy::unnecessary_wraps, reason = "as `unknown` says it")]
fn takes(_: &Item, rows: usize) -> Option<Duration> {
    Some(ms(takes_ms(rows)))
}

fn at_level(level: i64) -> Priority {
    let parameter = ("priority".to_owned(), Parameter::Int(level));
    Priority::of_parameters(&Parameters::from([parameter])).unwrap()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What came of a push, without the request that is handed back.
fn why(pushed: Result<Ticket, Rejected<Item, QueueFull>>) -> Result<Ticket, QueueFull> {
    pushed.map_err(|rejected| rejected.why)
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
    assert_eq!(ran(batcher.poll(now, 1, unknown)), [1]);
    assert_eq!(batcher.poll(now, 1, unknown), Decision::Idle);
}

#[test]
fn while_all_are_busy_it_wakes_for_the_next_deadline_only() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    batcher.push(item(1), None, now).unwrap();
    assert_eq!(batcher.poll(now, 0, unknown), Decision::Idle);
    batcher.push(item(2), Some(now + ms(9)), now).unwrap();
    batcher.push(item(3), Some(now + ms(5)), now).unwrap();
    assert_eq!(batcher.poll(now, 0, unknown), Decision::WakeAt(now + ms(5)));
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
    assert_eq!(ran(batcher.poll(now, 1, unknown)), [3, 2, 4, 1]);
    assert_eq!(ran(batcher.poll(now, 1, unknown)), [5]);
}

#[test]
fn other_shapes_wait_for_their_own_batch() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    for (id, shape) in [(1, 0), (2, 1), (3, 0), (4, 1)] {
        batcher.push(Item { shape, ..item(id) }, None, now).unwrap();
    }
    assert_eq!(ran(batcher.poll(now, 1, unknown)), [1, 3]);
    assert_eq!(ran(batcher.poll(now, 1, unknown)), [2, 4]);
}

#[test]
fn rows_fill_a_batch_up_to_the_limit_past_one_that_does_not_fit() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    for (id, rows) in [(1, 2), (2, 3), (3, 1), (4, 1), (5, 1)] {
        batcher.push(Item { rows, ..item(id) }, None, now).unwrap();
    }
    assert_eq!(ran(batcher.poll(now, 1, unknown)), [1, 3, 4]);
    assert_eq!(ran(batcher.poll(now, 1, unknown)), [2, 5]);
}

#[test]
fn a_request_over_the_limit_runs_alone() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    batcher
        .push(Item { rows: 9, ..item(1) }, None, now)
        .unwrap();
    batcher.push(item(2), None, now).unwrap();
    assert_eq!(ran(batcher.poll(now, 1, unknown)), [1]);
    assert_eq!(ran(batcher.poll(now, 1, unknown)), [2]);
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
        batcher.poll(later, 1, unknown),
        Decision::Expire(vec![item(1), item(2)])
    );
    assert_eq!(ran(batcher.poll(later, 1, unknown)), [3]);
}

#[test]
fn a_full_queue_refuses_with_the_limit_and_takes_again_when_one_leaves() {
    let now = crate::clock::now();
    let mut batcher = Batcher::new(LIMITS);
    let tickets: Vec<_> = (0..6)
        .map(|id| batcher.push(item(id), None, now).unwrap())
        .collect();
    let full = Err(QueueFull::Requests { limit: 6 });
    assert_eq!(why(batcher.push(item(9), None, now)), full);
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
        why(refused),
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
        why(huge),
        Err(QueueFull::Bytes {
            bytes: usize::MAX,
            limit: 100
        })
    );
    assert_eq!(ran(batcher.poll(now, 1, unknown)), [1]);
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
        why(refused),
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
    let Decision::Run(batch) = batcher.poll(now + ms(21), 1, unknown) else {
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
    assert_eq!(ran(batcher.poll(now, 1, unknown)), [1]);
    assert_eq!(ran(batcher.poll(now, 1, unknown)), [2]);
}

/// A queue of these, by id, level and patience in milliseconds.
fn queue(now: Instant, items: &[(u32, i64, u64)]) -> Batcher<Item> {
    let mut batcher = Batcher::new(Limits {
        max_requests: 100,
        ..LIMITS
    });
    for &(id, level, patience) in items {
        let place = Place {
            priority: at_level(level),
            deadline: Some(now + ms(patience)),
        };
        batcher.push(item(id), place, now).unwrap();
    }
    batcher
}

fn expired(decision: Decision<Item>) -> Vec<u32> {
    match decision {
        Decision::Expire(items) => items.iter().map(|item| item.id).collect(),
        other => panic!("expected to expire, got {other:?}"),
    }
}

#[test]
fn the_more_important_run_first_whatever_their_deadlines() {
    let now = crate::clock::now();
    let mut batcher = queue(
        now,
        &[(1, 5, 50), (2, 1, 90), (3, 10, 20), (4, 5, 40), (5, 1, 80)],
    );
    assert_eq!(ran(batcher.poll(now, 1, unknown)), [5, 2, 4, 1]);
    assert_eq!(ran(batcher.poll(now, 1, unknown)), [3]);
}

#[test]
fn every_level_is_looked_at_for_deadlines() {
    let now = crate::clock::now();
    let mut batcher = queue(
        now,
        &[(1, 1, 50), (2, 5, 9), (3, 5, 60), (4, 9, 8), (5, 9, 30)],
    );
    assert_eq!(batcher.poll(now, 0, unknown), Decision::WakeAt(now + ms(8)));
    assert_eq!(expired(batcher.poll(now + ms(9), 1, unknown)), [2, 4]);
    assert_eq!(
        batcher.poll(now, 0, unknown),
        Decision::WakeAt(now + ms(30))
    );
}

#[test]
fn what_would_be_late_alone_is_given_up_before_it_runs() {
    let now = crate::clock::now();
    // One row takes 3 ms.
    let mut batcher = queue(now, &[(1, 5, 2), (2, 5, 3)]);
    assert_eq!(expired(batcher.poll(now, 1, takes)), [1]);
    assert_eq!(ran(batcher.poll(now, 1, takes)), [2]);
}

#[test]
fn the_last_that_waits_is_tried_whatever_was_predicted() {
    let now = crate::clock::now();
    let mut batcher = queue(now, &[(1, 5, 1), (2, 5, 2)]);
    assert_eq!(expired(batcher.poll(now, 1, takes)), [1]);
    assert_eq!(ran(batcher.poll(now, 1, takes)), [2]);
}

#[test]
fn a_batch_grows_as_far_as_its_earliest_deadline_allows() {
    let now = crate::clock::now();
    // Two rows take 4 ms, three 5 ms.
    let mut batcher = queue(now, &[(1, 5, 4), (2, 5, 50), (3, 5, 50)]);
    assert_eq!(ran(batcher.poll(now, 1, takes)), [1, 2]);
    assert_eq!(ran(batcher.poll(now, 1, takes)), [3]);
}

#[test]
fn one_that_would_be_late_in_company_is_left_out_of_it() {
    let now = crate::clock::now();
    // Of a lower level, so it comes behind; it would make the others late for nothing.
    let mut batcher = queue(now, &[(1, 5, 50), (2, 5, 50), (3, 6, 4), (4, 6, 50)]);
    assert_eq!(ran(batcher.poll(now, 1, takes)), [1, 2, 4]);
}

#[test]
fn the_most_urgent_is_given_up_where_several_would_be_late_for_it() {
    let now = crate::clock::now();
    // Alone it takes 3 ms, and the two that could have joined 4 ms behind that.
    let late = [(1, 5, 3), (2, 5, 6), (3, 5, 6)];
    let mut batcher = queue(now, &late);
    assert_eq!(expired(batcher.poll(now, 1, takes)), [1]);
    assert_eq!(ran(batcher.poll(now, 1, takes)), [2, 3]);
    // In time behind it, they wait.
    let in_time = [(1, 5, 3), (2, 5, 6), (3, 5, 7)];
    assert_eq!(ran(queue(now, &in_time).poll(now, 1, takes)), [1]);
    // Nor is it given up for the sake of the less important, or of one.
    let lesser = [(1, 5, 3), (2, 6, 6), (3, 6, 6)];
    assert_eq!(ran(queue(now, &lesser).poll(now, 1, takes)), [1]);
    assert_eq!(ran(queue(now, &late[..2]).poll(now, 1, takes)), [1]);
}

#[test]
fn the_rows_before_a_place_are_those_that_run_first() {
    let now = crate::clock::now();
    let batcher = queue(now, &[(1, 5, 10), (2, 5, 20), (3, 1, 90), (4, 9, 5)]);
    let before = |level, patience: u64| {
        batcher
            .before(Place {
                priority: at_level(level),
                deadline: Some(now + ms(patience)),
            })
            .requests()
    };
    assert_eq!(before(5, 5), 1);
    // First come first served among equals.
    assert_eq!(before(5, 10), 2);
    assert_eq!(before(5, 30), 3);
    assert_eq!(before(1, 1), 0);
    assert_eq!(before(10, 1), 4);
    let all = batcher.before(None.into());
    assert_eq!((all.requests(), all.rows()), (3, 3));
}
