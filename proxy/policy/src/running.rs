//! The requests that are out, oldest first.
//!
//! A hung endpoint sends no answer to judge it by. What can be judged is the
//! age of the requests that it holds, so every request that waits for its
//! answer stands in one list, in the order in which it was sent. Looking for old
//! ones starts at the front and ends at the first that is young: it costs what
//! it finds, not what is out.
//!
//! A request is named by a key that goes stale when the request ends, so a
//! permit that comes back twice, or after its endpoint is gone, finds nothing.

use std::time::{Duration, Instant};

use slotmap::SlotMap;

use crate::{breaker::Ticket, model::EndpointKey};

slotmap::new_key_type! {
    /// Names one request that is out.
    pub(crate) struct RequestKey;
}

/// One request that is out.
#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) endpoint: EndpointKey,
    pub(crate) ticket: Ticket,
    pub(crate) given: Given,
    /// Whether anything is learnt from it.
    pub(crate) teaches: bool,
    /// Whether it has been judged, by its answer or by its age.
    pub(crate) counted: bool,
    /// Whether it has failed.
    pub(crate) failed: bool,
    /// Since when it waits for its answer; none before it is sent, and after.
    since: Option<Instant>,
    older: Option<RequestKey>,
    younger: Option<RequestKey>,
}

/// What an attempt was given, as far as its verdict depends on that.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Given {
    /// The time that its request had left, which is what the endpoint is told.
    pub(crate) left: Duration,
    /// The time for its first byte.
    pub(crate) within: Duration,
    /// Whether that is all that can be asked of its endpoint.
    pub(crate) is_fair: bool,
    /// Whether it says how long the model takes, should it be given up: the second
    /// endpoint to be, for one request that nobody else can answer.
    pub(crate) tells: bool,
}

/// Every request that is out.
#[derive(Debug, Default)]
pub(crate) struct Running {
    out: SlotMap<RequestKey, Out>,
    oldest: Option<RequestKey>,
    youngest: Option<RequestKey>,
}

// === impl Out ===

impl Out {
    pub(crate) fn new(endpoint: EndpointKey, ticket: Ticket, given: Given, teaches: bool) -> Self {
        Self {
            endpoint,
            ticket,
            given,
            teaches,
            counted: false,
            failed: false,
            since: None,
            older: None,
            younger: None,
        }
    }

    /// How long it has waited for its answer; nothing while it is not waiting.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

// === impl Running ===

impl Running {
    /// Takes a request that is not waiting yet.
    pub(crate) fn enter(&mut self, out: Out) -> RequestKey {
        self.out.insert(out)
    }

    /// Whether it has not ended.
    pub(crate) fn holds(&self, key: RequestKey) -> bool {
        self.out.contains_key(key)
    }

    pub(crate) fn get(&self, key: RequestKey) -> Option<&Out> {
        self.out.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: RequestKey) -> Option<&mut Out> {
        self.out.get_mut(key)
    }

    /// From now on it waits for its answer.
    pub(crate) fn wait(&mut self, key: RequestKey, now: Instant) {
        let youngest = self.youngest;
        // Clocks that are read before a lock is taken come out of order by a
        // little; the list must not.
        let since = youngest
            .and_then(|y| self.out.get(y)?.since)
            .map_or(now, |last| last.max(now));
        let Some(out) = self.out.get_mut(key) else {
            return;
        };
        if out.since.is_some() || out.counted {
            return;
        }
        out.since = Some(since);
        out.older = youngest;
        match youngest.and_then(|y| self.out.get_mut(y)) {
            Some(last) => last.younger = Some(key),
            None => self.oldest = Some(key),
        }
        self.youngest = Some(key);
    }

    /// It waits no longer: its answer has begun, or it has been counted.
    pub(crate) fn rest(&mut self, key: RequestKey) {
        let Some(out) = self.out.get_mut(key) else {
            return;
        };
        if out.since.take().is_none() {
            return;
        }
        let (older, younger) = (out.older.take(), out.younger.take());
        match older.and_then(|o| self.out.get_mut(o)) {
            Some(before) => before.younger = younger,
            None => self.oldest = younger,
        }
        match younger.and_then(|y| self.out.get_mut(y)) {
            Some(after) => after.older = older,
            None => self.youngest = older,
        }
    }

    /// It has ended.
    pub(crate) fn leave(&mut self, key: RequestKey) -> Option<Out> {
        self.rest(key);
        self.out.remove(key)
    }

    /// Forgets the requests of endpoints that are gone.
    pub(crate) fn retain(&mut self, exists: impl Fn(EndpointKey) -> bool) {
        let gone: Vec<RequestKey> = self
            .out
            .iter()
            .filter(|(_, out)| !exists(out.endpoint))
            .map(|(key, _)| key)
            .collect();
        for key in gone {
            self.leave(key);
        }
    }

    /// Those that have waited for longer than `age`, oldest first.
    pub(crate) fn older_than(
        &self,
        age: Duration,
        now: Instant,
    ) -> impl Iterator<Item = (RequestKey, &Out, Duration)> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let key = next?;
            let out = self.out.get(key)?;
            let waited = out.age(now);
            next = out.younger;
            (waited > age).then_some((key, out, waited))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{breaker::Breaker, config::BreakerConfig, tests::origin};
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn out() -> Out {
        let breaker = Breaker::new(BreakerConfig::default());
        Out::new(
            EndpointKey::default(),
            breaker.acquire_in_panic(),
            Given::default(),
            true,
        )
    }

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Enter,
        Wait(usize),
        Rest(usize),
        Leave(usize),
        Pass(u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            Just(Op::Enter),
            (0..9usize).prop_map(Op::Wait),
            (0..9usize).prop_map(Op::Rest),
            (0..9usize).prop_map(Op::Leave),
            (0..9u32).prop_map(Op::Pass),
        ]
    }

    proptest! {
        /// Against a plain list that is searched from end to end.
        #[test]
        fn it_finds_what_a_search_would(ops in prop::collection::vec(op(), 1..200), age in 0..30u32) {
            let mut running = Running::default();
            let mut model: Vec<(RequestKey, Option<Instant>, bool)> = Vec::new();
            let mut now = origin();
            for op in ops {
                match op {
                    Op::Enter => model.push((running.enter(out()), None, false)),
                    Op::Pass(ms) => now += ms * MS,
                    Op::Wait(i) if !model.is_empty() => {
                        let i = i % model.len();
                        running.wait(model[i].0, now);
                        if model[i].1.is_none() {
                            // To wait again puts it at the end of the line.
                            let mut entry = model.remove(i);
                            entry.1 = Some(now);
                            model.push(entry);
                        }
                    }
                    Op::Rest(i) if !model.is_empty() => {
                        let i = i % model.len();
                        running.rest(model[i].0);
                        model[i].1 = None;
                    }
                    Op::Leave(i) if !model.is_empty() => {
                        let (key, ..) = model.remove(i % model.len());
                        prop_assert!(running.leave(key).is_some());
                        prop_assert!(running.leave(key).is_none(), "it left twice");
                    }
                    _ => {}
                }
                let found: Vec<_> = running.older_than(age * MS, now).map(|(key, ..)| key).collect();
                let expected: Vec<_> = model
                    .iter()
                    .filter(|(_, since, _)| since.is_some_and(|s| now - s > age * MS))
                    .map(|(key, ..)| *key)
                    .collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
