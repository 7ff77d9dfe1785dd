//! The batcher against a vector that is sorted anew for every question.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::{Batcher, Decision, Item, LIMITS, at_level, ms, takes_ms};
use crate::batcher::{Place, Ticket};
use crate::clock;
use std::time::Instant;

/// What can happen to a queue.
#[derive(Clone, Debug)]
enum Event {
    Push {
        rows: usize,
        bytes: usize,
        shape: u8,
        level: i64,
        patience: Option<u64>,
    },
    /// The client of the nth request ever pushed leaves; it may have left the queue before.
    Cancel(u32),
    /// `known` says whether it is known what batches take.
    Poll {
        idle: usize,
        known: bool,
    },
    Pass(u64),
}

/// What should come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Effect {
    Pushed(bool),
    Cancelled(bool),
    Expired(Vec<u32>),
    Ran { ids: Vec<u32>, over: usize },
    WakeAt(u64),
    Idle,
    Passed,
}

#[derive(Clone, Debug)]
struct Waiting {
    item: Item,
    level: i64,
    since: u64,
    deadline: Option<u64>,
}

/// The reference, in milliseconds since the start.
#[derive(Clone, Debug)]
struct Reference {
    now: u64,
    pushed: u32,
    queue: Vec<Waiting>,
    effect: Effect,
}

/// The batcher, and what a driver would remember.
struct Subject {
    start: Instant,
    now: Instant,
    pushed: u32,
    batcher: Batcher<Item>,
    tickets: HashMap<u32, Ticket>,
}

// === impl Reference ===

impl Reference {
    fn happen(&mut self, event: &Event) -> Effect {
        match *event {
            Event::Push {
                rows,
                bytes,
                shape,
                level,
                patience,
            } => {
                let item = Item {
                    id: self.pushed,
                    rows,
                    bytes,
                    shape,
                };
                self.pushed += 1;
                self.push(item, level, patience.map(|patience| self.now + patience))
            }
            Event::Cancel(id) => {
                let before = self.queue.len();
                self.queue.retain(|waiting| waiting.item.id != id);
                Effect::Cancelled(self.queue.len() < before)
            }
            Event::Poll { idle, known } => self.poll(idle, known),
            Event::Pass(time) => {
                self.now += time;
                Effect::Passed
            }
        }
    }

    fn push(&mut self, item: Item, level: i64, deadline: Option<u64>) -> Effect {
        let bytes: usize = self.queue.iter().map(|waiting| waiting.item.bytes).sum();
        let fits = self.queue.is_empty()
            || (self.queue.len() < LIMITS.max_requests && bytes + item.bytes <= LIMITS.max_bytes);
        if fits {
            self.queue.push(Waiting {
                item,
                level,
                since: self.now,
                deadline,
            });
        }
        Effect::Pushed(fits)
    }

    fn poll(&mut self, idle: usize, known: bool) -> Effect {
        // Stable: equals stay in the order of arrival.
        self.queue
            .sort_by_key(|waiting| (waiting.level, waiting.deadline.unwrap_or(u64::MAX)));
        let now = self.now;
        let is_late = |waiting: &Waiting| waiting.deadline.is_some_and(|deadline| deadline <= now);
        let (late, rest): (Vec<_>, Vec<_>) = self.queue.clone().into_iter().partition(is_late);
        if !late.is_empty() {
            self.queue = rest;
            return Effect::Expired(late.iter().map(|waiting| waiting.item.id).collect());
        }
        if self.queue.is_empty() {
            return Effect::Idle;
        }
        if idle == 0 {
            let deadlines = self.queue.iter().filter_map(|waiting| waiting.deadline);
            return deadlines.min().map_or(Effect::Idle, Effect::WakeAt);
        }
        let mut lost = Vec::new();
        while let Some(at) = self.to_give_up(known) {
            lost.push(self.queue.remove(at).item.id);
        }
        if lost.is_empty() {
            self.run(known)
        } else {
            Effect::Expired(lost)
        }
    }

    /// Whether it would be late in a batch of so many rows that begins then.
    fn is_late(&self, at: usize, begins: u64, rows: usize, known: bool) -> bool {
        let ends = begins + takes_ms(rows);
        known
            && self.queue[at]
                .deadline
                .is_some_and(|deadline| deadline < ends)
    }

    /// The batch, and who could join but for the deadline of one that is in it.
    fn batch(&self, known: bool) -> (Vec<usize>, Vec<usize>) {
        let (mut batch, mut left) = (vec![0], Vec::new());
        let rows =
            |batch: &[usize]| -> usize { batch.iter().map(|at| self.queue[*at].item.rows).sum() };
        for at in 1..self.queue.len() {
            let item = &self.queue[at].item;
            let together = rows(&batch) + item.rows;
            if together > LIMITS.max_rows || item.shape != self.queue[0].item.shape {
                continue;
            }
            let late = |at: usize| self.is_late(at, self.now, together, known);
            if batch.iter().any(|at| late(*at)) {
                left.push(at);
            } else if !late(at) {
                batch.push(at);
            }
        }
        (batch, left)
    }

    /// The head, when it would be late alone and is not; or the most urgent of the batch, when several
    /// others no less important would be late for it.
    fn to_give_up(&self, known: bool) -> Option<usize> {
        if self.is_late(0, self.now, self.queue[0].item.rows, known) && self.queue.len() > 1 {
            return Some(0);
        }
        let (batch, left) = self.batch(known);
        let urgent = batch
            .iter()
            .copied()
            .min_by_key(|at| self.queue[*at].deadline.unwrap_or(u64::MAX))?;
        let rows: usize = batch.iter().map(|at| self.queue[*at].item.rows).sum();
        let after = self.now + takes_ms(rows);
        let left = &left[..left.len().min(LIMITS.max_rows)];
        let behind: usize = left.iter().map(|at| self.queue[*at].item.rows).sum();
        let behind = behind.min(LIMITS.max_rows);
        let lost = left.iter().filter(|at| {
            self.queue[**at].level <= self.queue[urgent].level
                && self.is_late(**at, after, behind, known)
        });
        (lost.count() > 1).then_some(urgent)
    }

    fn run(&mut self, known: bool) -> Effect {
        let (batch, _) = self.batch(known);
        let batch: Vec<&Waiting> = batch.iter().map(|at| &self.queue[*at]).collect();
        let ids: Vec<u32> = batch.iter().map(|waiting| waiting.item.id).collect();
        let waited_long = |waiting: &&&Waiting| ms(self.now - waiting.since) > LIMITS.max_wait;
        let over = batch.iter().filter(waited_long).count();
        self.queue.retain(|waiting| !ids.contains(&waiting.item.id));
        Effect::Ran { ids, over }
    }
}

impl ReferenceStateMachine for Reference {
    type State = Self;
    type Transition = Event;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self {
            now: 0,
            pushed: 0,
            queue: Vec::new(),
            effect: Effect::Passed,
        })
        .boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Event> {
        let push = (
            1..6_usize,
            prop_oneof![9 => 0..40_usize, 1 => 100..200_usize],
            prop_oneof![3 => Just(0_u8), 1 => Just(1)],
            prop_oneof![3 => Just(5_i64), 1 => 4..7_i64],
            prop::option::weighted(0.8, 0..30_u64),
        )
            .prop_map(|(rows, bytes, shape, level, patience)| Event::Push {
                rows,
                bytes,
                shape,
                level,
                patience,
            });
        prop_oneof![
            4 => push,
            1 => (0..=state.pushed).prop_map(Event::Cancel),
            2 => (0..3_usize, any::<bool>()).prop_map(|(idle, known)| Event::Poll { idle, known }),
            2 => (0..12_u64).prop_map(Event::Pass),
        ]
        .boxed()
    }

    fn apply(mut state: Self, event: &Event) -> Self {
        state.effect = state.happen(event);
        state
    }
}

// === impl Subject ===

impl Subject {
    fn happen(&mut self, event: &Event) -> Effect {
        match *event {
            Event::Push {
                rows,
                bytes,
                shape,
                level,
                patience,
            } => {
                let item = Item {
                    id: self.pushed,
                    rows,
                    bytes,
                    shape,
                };
                self.pushed += 1;
                let id = item.id;
                let place = Place {
                    priority: at_level(level),
                    deadline: patience.map(|patience| self.now + ms(patience)),
                };
                let ticket = self.batcher.push(item, place, self.now).ok();
                self.tickets.extend(ticket.map(|ticket| (id, ticket)));
                Effect::Pushed(ticket.is_some())
            }
            Event::Cancel(id) => {
                let ticket = self.tickets.get(&id);
                let left = ticket.and_then(|ticket| self.batcher.cancel(*ticket));
                Effect::Cancelled(left.is_some_and(|item| item.id == id))
            }
            Event::Poll { idle, known } => self.poll(idle, known),
            Event::Pass(time) => {
                self.now += ms(time);
                Effect::Passed
            }
        }
    }

    fn poll(&mut self, idle: usize, known: bool) -> Effect {
        let takes = |_: &Item, rows| known.then(|| ms(takes_ms(rows)));
        match self.batcher.poll(self.now, idle, takes) {
            Decision::Expire(items) => Effect::Expired(items.iter().map(|item| item.id).collect()),
            Decision::Run(batch) => {
                let rows: usize = batch.requests.iter().map(|one| one.request.rows).sum();
                assert_eq!(batch.rows, rows);
                let ids = batch.requests.iter().map(|one| one.request.id).collect();
                Effect::Ran {
                    ids,
                    over: batch.over_max_wait,
                }
            }
            Decision::WakeAt(time) => {
                Effect::WakeAt(u64::try_from((time - self.start).as_millis()).unwrap())
            }
            Decision::Idle => Effect::Idle,
        }
    }
}

struct AgainstReference;

impl StateMachineTest for AgainstReference {
    type SystemUnderTest = Subject;
    type Reference = Reference;

    fn init_test(_: &Reference) -> Subject {
        let start = clock::now();
        Subject {
            start,
            now: start,
            pushed: 0,
            batcher: Batcher::new(LIMITS),
            tickets: HashMap::new(),
        }
    }

    fn apply(mut subject: Subject, reference: &Reference, event: Event) -> Subject {
        assert_eq!(subject.happen(&event), reference.effect);
        subject
    }

    fn check_invariants(subject: &Subject, reference: &Reference) {
        assert_eq!(subject.batcher.len(), reference.queue.len());
        let bytes: usize = reference
            .queue
            .iter()
            .map(|waiting| waiting.item.bytes)
            .sum();
        assert_eq!(subject.batcher.bytes, bytes);
        let rows: usize = reference
            .queue
            .iter()
            .map(|waiting| waiting.item.rows)
            .sum();
        let tally = subject.batcher.tally();
        assert_eq!(tally.rows(), rows);
        assert_eq!(tally.requests(), reference.queue.len());
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_batcher_does_what_the_sorted_vector_does(sequential 1..60 => AgainstReference);
}
