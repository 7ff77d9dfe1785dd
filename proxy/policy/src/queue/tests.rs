use proptest::prelude::*;

use super::*;
use crate::tests::origin;

const MS: Duration = Duration::from_millis(1);

fn lane(version: &str, may_leave: bool) -> LaneKey {
    LaneKey {
        version: version.into(),
        may_leave,
    }
}

#[test]
fn the_most_urgent_goes_first_and_among_equals_the_first_to_come() {
    let now = origin();
    let mut queue = Queue::default();
    let deadlines = [30, 10, 20, 10, 30, 10];
    for (i, ms) in deadlines.into_iter().enumerate() {
        queue.enter(lane("1", true), now + ms * MS, i, now);
    }
    let mut order = Vec::new();
    while let Some((_, waiter)) = queue.first(None) {
        order.extend(queue.leave(waiter, true, now));
    }
    assert_eq!(order, [1, 3, 5, 2, 0, 4]);
}

#[test]
fn a_lane_that_does_not_move_holds_up_no_other() {
    let now = origin();
    let mut queue = Queue::default();
    let stuck = queue.enter(lane("1", false), now + MS, 'a', now);
    queue.enter(lane("1", false), now + 2 * MS, 'b', now);
    let next = queue.enter(lane("2", true), now + 9 * MS, 'c', now);
    let (rank, waiter) = queue.first(None).unwrap();
    assert_eq!(waiter, stuck);
    let (rank, waiter) = queue.first(Some(rank)).unwrap();
    assert_eq!(waiter, next, "b stands behind a, and nobody asks for it");
    assert_eq!(queue.first(Some(rank)), None);
}

/// Serves one request every `gap` for `seconds`, with others always waiting.
fn served_every(gap: Duration, seconds: u64) -> (Queue<()>, Instant) {
    let mut queue = Queue::default();
    let mut now = origin();
    let end = now + Duration::from_secs(seconds);
    let late = now + Duration::from_hours(1);
    queue.enter(lane("1", true), late, (), now);
    queue.enter(lane("1", true), late, (), now);
    while now < end {
        now += gap;
        let (_, waiter) = queue.first(None).unwrap();
        queue.leave(waiter, true, now);
        queue.enter(lane("1", true), late, (), now);
    }
    (queue, now)
}

#[test]
fn the_expected_wait_is_the_place_in_line_times_the_time_between_two_slots() {
    for (gap, off) in [(1, 0.01), (10, 0.01), (100, 0.05), (500, 0.15)] {
        let (mut queue, now) = served_every(gap * MS, 20);
        let deadline = now + Duration::from_hours(2);
        for ahead in [2, 10, 50] {
            while queue.len() < ahead {
                queue.enter(lane("1", true), deadline, (), now);
            }
            let wait = queue
                .expected_wait(&lane("1", true), deadline, now)
                .unwrap();
            let exact = (gap * MS * (u32::try_from(ahead).unwrap() + 1)).as_secs_f64();
            let error = (wait.as_secs_f64() / exact - 1.0).abs();
            assert!(
                error <= off,
                "every {gap} ms, {ahead} ahead: {wait:?}, not {exact} s"
            );
        }
        let urgent = queue.expected_wait(&lane("1", true), now, now).unwrap();
        assert!(urgent <= gap * MS, "nobody is more urgent: {urgent:?}");
    }
}

#[test]
fn how_fast_it_moved_is_forgotten_with_the_lanes_that_are_empty() {
    let (mut queue, now) = served_every(100 * MS, 20);
    let key = lane("1", true);
    let gone = queue.enter(lane("2", true), now, (), now);
    queue.leave(gone, true, now);
    assert_eq!(queue.lanes.len(), 2);
    assert!(queue.expected_wait(&key, now, now).unwrap() > 50 * MS);
    queue.forget_paces();
    assert_eq!(queue.lanes.len(), 1);
    assert_eq!(queue.len(), 2, "who waits goes on waiting");
    assert_eq!(queue.expected_wait(&key, now, now), Some(Duration::ZERO));
}

#[test]
fn slots_that_come_in_bursts_are_averaged() {
    let mut queue = Queue::default();
    let mut now = origin();
    let late = now + Duration::from_hours(1);
    let enter = |queue: &mut Queue<()>, now| {
        queue.enter(lane("1", true), late, (), now);
    };
    (0..33).for_each(|_| enter(&mut queue, now));
    for _ in 0..200 {
        now += 100 * MS;
        for _ in 0..32 {
            let (_, waiter) = queue.first(None).unwrap();
            queue.leave(waiter, true, now);
            enter(&mut queue, now);
        }
    }
    let wait = queue.expected_wait(&lane("1", true), late, now).unwrap();
    // 34 places at 320 a second.
    assert!((95 * MS..=120 * MS).contains(&wait), "{wait:?}");
}

#[test]
fn a_queue_that_stands_still_is_expected_to_go_on_so_and_one_that_is_empty_is_not() {
    let now = origin();
    let mut queue = Queue::default();
    let key = lane("1", true);
    assert_eq!(queue.expected_wait(&key, now, now), None);
    let deadline = now + Duration::from_secs(9);
    let waiter = queue.enter(key.clone(), deadline, (), now);
    assert_eq!(
        queue.expected_wait(&key, deadline, now),
        Some(Duration::ZERO)
    );
    let later = now + Duration::from_secs(1);
    let wait = queue.expected_wait(&key, deadline, later).unwrap();
    assert!(
        wait > Duration::from_millis(1_700),
        "two places, and not a slot in 1 s: {wait:?}"
    );
    queue.leave(waiter, false, later);
    assert_eq!(queue.expected_wait(&key, deadline, later), None);
}

#[test]
fn time_in_which_nobody_waits_does_not_count() {
    let (mut queue, now) = served_every(10 * MS, 20);
    let key = lane("1", true);
    while let Some((_, waiter)) = queue.first(None) {
        queue.leave(waiter, false, now);
    }
    let later = now + Duration::from_secs(3);
    let deadline = later + Duration::from_secs(9);
    queue.enter(key.clone(), deadline, (), later);
    let wait = queue.expected_wait(&key, deadline, later).unwrap();
    assert!(
        (15 * MS..=21 * MS).contains(&wait),
        "two places at 100 a second: {wait:?}"
    );
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Enter(u8, u32),
    Leave(usize),
    Serve(u8),
    Pass(u32),
    Forget,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..3u8, 0..20u32).prop_map(|(lane, ms)| Op::Enter(lane, ms)),
        1 => (0..99usize).prop_map(Op::Leave),
        3 => (0..8u8).prop_map(Op::Serve),
        1 => (0..9u32).prop_map(Op::Pass),
        1 => Just(Op::Forget),
    ]
}

proptest! {
    /// Against a plain list that is sorted before every look: who is first among
    /// the lanes that move, how many wait, how many stand before a newcomer, and
    /// that who has left is gone.
    #[test]
    fn it_serves_in_the_order_that_a_sorted_list_would(ops in prop::collection::vec(op(), 1..200)) {
        let keys = [lane("1", true), lane("1", false), lane("2", true)];
        let mut queue = Queue::default();
        let mut list: Vec<(Instant, usize, u8, Waiter)> = Vec::new();
        let mut now = origin();
        for (i, op) in ops.into_iter().enumerate() {
            match op {
                Op::Enter(lane, ms) => {
                    let deadline = now + ms * MS;
                    let waiter = queue.enter(keys[usize::from(lane)].clone(), deadline, i, now);
                    list.push((deadline, i, lane, waiter));
                }
                Op::Leave(at) if !list.is_empty() => {
                    let (_, asks, _, waiter) = list.remove(at % list.len());
                    prop_assert_eq!(queue.leave(waiter, false, now), Some(asks));
                    prop_assert_eq!(queue.leave(waiter, true, now), None, "it left twice");
                }
                // The lanes whose bit is set have a slot.
                Op::Serve(moving) => {
                    list.sort();
                    let moves = |lane: u8| moving & (1 << lane) != 0;
                    let expected = list.iter().position(|&(_, _, lane, _)| moves(lane));
                    let mut after = None;
                    let found = loop {
                        let Some((rank, waiter)) = queue.first(after) else { break None };
                        let (key, _) = queue.get(waiter).expect("who is first waits");
                        let lane = keys.iter().position(|known| known == key).expect("is known");
                        if moves(u8::try_from(lane).expect("three lanes")) {
                            break Some(waiter);
                        }
                        after = Some(rank);
                    };
                    prop_assert_eq!(found, expected.map(|at| list[at].3));
                    if let Some(at) = expected {
                        let (_, asks, _, waiter) = list.remove(at);
                        prop_assert_eq!(queue.leave(waiter, true, now), Some(asks));
                    }
                }
                Op::Pass(ms) => now += ms * MS,
                Op::Forget => queue.forget_paces(),
                Op::Leave(_) => {}
            }
            prop_assert_eq!(queue.len(), list.len());
            for (lane, key) in (0..).zip(&keys) {
                let stands = list.iter().any(|entry| entry.2 == lane);
                let wait = queue.expected_wait(key, now + 10 * MS, now);
                prop_assert_eq!(wait.is_some(), stands);
            }
        }
    }
}
