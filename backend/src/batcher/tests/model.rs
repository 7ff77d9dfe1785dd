//! The batcher against a vector that is sorted anew for every question.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::{Batcher, Decision, Item, LIMITS, ms};
use crate::batcher::Ticket;
use crate::clock;
use std::time::Instant;

/// What can happen to a queue.
#[derive(Clone, Debug)]
enum Event {
    Push {
        rows: usize,
        bytes: usize,
        shape: u8,
        patience: Option<u64>,
    },
    /// The client of the nth request ever pushed leaves; it may have left the queue before.
    Cancel(u32),
    Poll {
        idle: usize,
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
                patience,
            } => {
                let item = Item {
                    id: self.pushed,
                    rows,
                    bytes,
                    shape,
                };
                self.pushed += 1;
                self.push(item, patience.map(|patience| self.now + patience))
            }
            Event::Cancel(id) => {
                let before = self.queue.len();
                self.queue.retain(|waiting| waiting.item.id != id);
                Effect::Cancelled(self.queue.len() < before)
            }
            Event::Poll { idle } => self.poll(idle),
            Event::Pass(time) => {
                self.now += time;
                Effect::Passed
            }
        }
    }

    fn push(&mut self, item: Item, deadline: Option<u64>) -> Effect {
        let bytes: usize = self.queue.iter().map(|waiting| waiting.item.bytes).sum();
        let fits = self.queue.is_empty()
            || (self.queue.len() < LIMITS.max_requests && bytes + item.bytes <= LIMITS.max_bytes);
        if fits {
            self.queue.push(Waiting {
                item,
                since: self.now,
                deadline,
            });
        }
        Effect::Pushed(fits)
    }

    fn poll(&mut self, idle: usize) -> Effect {
        // Stable: equals stay in the order of arrival.
        self.queue
            .sort_by_key(|waiting| waiting.deadline.unwrap_or(u64::MAX));
        let now = self.now;
        let is_late = |waiting: &Waiting| waiting.deadline.is_some_and(|deadline| deadline <= now);
        let (late, rest): (Vec<_>, Vec<_>) = self.queue.clone().into_iter().partition(is_late);
        if !late.is_empty() {
            self.queue = rest;
            return Effect::Expired(late.iter().map(|waiting| waiting.item.id).collect());
        }
        match self.queue.first() {
            None => Effect::Idle,
            Some(head) if idle == 0 => head.deadline.map_or(Effect::Idle, Effect::WakeAt),
            Some(head) => self.run(head.item.shape),
        }
    }

    fn run(&mut self, shape: u8) -> Effect {
        let mut rows = 0;
        let mut ids = Vec::new();
        let mut over = 0;
        for waiting in &self.queue {
            let fits = rows == 0 || rows + waiting.item.rows <= LIMITS.max_rows;
            if waiting.item.shape == shape && fits {
                rows += waiting.item.rows;
                ids.push(waiting.item.id);
                over += usize::from(ms(self.now - waiting.since) > LIMITS.max_wait);
            }
        }
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
            0..2_u8,
            prop::option::of(0..30_u64),
        )
            .prop_map(|(rows, bytes, shape, patience)| Event::Push {
                rows,
                bytes,
                shape,
                patience,
            });
        prop_oneof![
            4 => push,
            1 => (0..=state.pushed).prop_map(Event::Cancel),
            2 => (0..3_usize).prop_map(|idle| Event::Poll { idle }),
            2 => (0..25_u64).prop_map(Event::Pass),
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
                let deadline = patience.map(|patience| self.now + ms(patience));
                let ticket = self.batcher.push(item, deadline, self.now).ok();
                self.tickets.extend(ticket.map(|ticket| (id, ticket)));
                Effect::Pushed(ticket.is_some())
            }
            Event::Cancel(id) => {
                let ticket = self.tickets.get(&id);
                let left = ticket.and_then(|ticket| self.batcher.cancel(*ticket));
                Effect::Cancelled(left.is_some_and(|item| item.id == id))
            }
            Event::Poll { idle } => self.poll(idle),
            Event::Pass(time) => {
                self.now += ms(time);
                Effect::Passed
            }
        }
    }

    fn poll(&mut self, idle: usize) -> Effect {
        match self.batcher.poll(self.now, idle) {
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
        let rows: usize = reference.queue.iter().map(|queued| queued.item.rows).sum();
        assert_eq!(subject.batcher.rows(), rows);
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
        assert_eq!(subject.batcher.rows(), rows);
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_batcher_does_what_the_sorted_vector_does(sequential 1..60 => AgainstReference);
}
