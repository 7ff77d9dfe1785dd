//! The endpoints of one pool whose breakers are not closed.
//!
//! When a zone is gone, thousands of breakers open within seconds, and each
//! that moves raises two questions about all of them: which are spared, and when
//! the next probe is due. So what both ask of a breaker is copied here, side by
//! side, whenever it changes; a question then reads one list from end to end
//! and no endpoint. Which are spared is only worked out again when something that
//! decides it has changed, which no probe does by itself.

use std::time::Instant;

use crate::{
    breaker::{BreakerState, TripReason},
    endpoint::Endpoints,
    model::EndpointKey,
};

/// Breakers that are not closed, and what is asked of all of them.
#[derive(Debug, Default)]
pub(crate) struct Tripped {
    list: Vec<Entry>,
    /// No probe can be due before this.
    next_probe: Option<Instant>,
    /// What [`Self::protect`] last went by.
    settled: Option<Settled>,
}

/// Who can take the traffic that a pool's tripped endpoints do not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Help {
    /// Another version: none of them needs to stay in use.
    Version,
    /// The static answer. It is better than an endpoint that fails; but it does
    /// no work, so it is no relief for endpoints that are overloaded.
    StaticAnswer,
    /// Nobody.
    None,
}

/// What decides which endpoints are spared, beside the entries themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settled {
    help: Help,
    well: usize,
}

/// One breaker.
#[derive(Clone, Copy, Debug)]
struct Entry {
    key: EndpointKey,
    /// When a probe may be sent.
    due: Option<Instant>,
    weight: Weight,
    /// It is used all the same.
    spared: bool,
}

/// What decides whether an endpoint is spared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weight {
    ready: bool,
    /// Ready, and refused by its breaker: in a dry run none is.
    out: bool,
    slow: bool,
    since: Option<Instant>,
}

// === impl Tripped ===

impl Tripped {
    /// Takes note of an endpoint as it is now.
    pub(crate) fn refresh(&mut self, key: EndpointKey, endpoints: &mut Endpoints, now: Instant) {
        let endpoint = &mut endpoints[key];
        let breaker = &endpoint.cold.breaker;
        let at = endpoint.cold.tripped_at;
        if breaker.state() == BreakerState::Closed {
            if let Some(at) = at {
                endpoint.cold.tripped_at = None;
                self.remove(at, endpoints);
            }
            return;
        }
        let ready = endpoint.is_ready();
        let reason = breaker.tripped_by();
        let entry = Entry {
            key,
            due: breaker.probe_due(now).filter(|_| ready),
            weight: Weight {
                ready,
                out: ready && !endpoint.is_well(),
                slow: reason.is_some_and(TripReason::is_slowness),
                since: breaker.tripped_since(),
            },
            spared: endpoint.cold.protected,
        };
        if let Some(at) = at {
            if self.list[at].weight != entry.weight {
                self.settled = None;
            }
            self.list[at] = entry;
        } else {
            endpoint.cold.tripped_at = Some(self.list.len());
            self.list.push(entry);
            self.settled = None;
        }
        self.schedule();
    }

    /// The endpoint whose probe has been due for longest, of those that are `fit`.
    pub(crate) fn due(
        &self,
        now: Instant,
        fit: impl Fn(EndpointKey) -> bool,
    ) -> Option<EndpointKey> {
        if self.next_probe.is_none_or(|due| due > now) {
            return None;
        }
        let due = self.list.iter().filter_map(|entry| {
            let due = entry.due.filter(|due| *due <= now)?;
            fit(entry.key).then_some((due, entry.key))
        });
        due.min_by_key(|(due, _)| *due).map(|(_, key)| key)
    }

    /// Those that are ready.
    pub(crate) fn ready(&self) -> Vec<EndpointKey> {
        let ready = self.list.iter().filter(|entry| entry.weight.ready);
        ready.map(|entry| entry.key).collect()
    }

    /// Says which endpoints are spared from now on, and which no longer are: at
    /// most half of those that are ready are out, the first to trip; and when more
    /// than half are slow they are overloaded, not ill, and taking any of them out
    /// makes it worse. `well` says how many of the pool have nothing against them.
    pub(crate) fn protect(&mut self, help: Help, well: usize) -> Vec<(EndpointKey, bool)> {
        let now = Settled { help, well };
        if self.list.is_empty() || self.settled == Some(now) {
            return Vec::new();
        }
        self.settled = Some(now);
        let out = self.list.iter().filter(|entry| entry.weight.out);
        let (all, slow) = out.fold((0, 0), |(all, slow), entry| {
            (all + 1, slow + usize::from(entry.weight.slow))
        });
        let ready = well + all;
        let overloaded = slow * 2 > ready;
        let room = (ready / 2).max(1).min(ready.saturating_sub(1));
        let first = self.first_spared(room, overloaded);
        let mut changed = Vec::new();
        for (at, entry) in self.list.iter_mut().enumerate() {
            let Weight {
                out, slow, since, ..
            } = entry.weight;
            if !out {
                continue;
            }
            let late = first.is_some_and(|first| (since, at) >= first);
            let spared = match help {
                Help::Version => false,
                Help::StaticAnswer => overloaded && slow,
                Help::None => overloaded && slow || late,
            };
            if spared != entry.spared {
                entry.spared = spared;
                changed.push((entry.key, spared));
            }
        }
        changed
    }

    /// The first to trip for whom there is no room among those that are out; none
    /// when there is room for all.
    fn first_spared(&self, room: usize, overloaded: bool) -> Option<(Option<Instant>, usize)> {
        let mut out: Vec<_> = self
            .list
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.weight.out && !(overloaded && entry.weight.slow))
            .map(|(at, entry)| (entry.weight.since, at))
            .collect();
        (room < out.len()).then(|| *out.select_nth_unstable(room).1)
    }

    fn remove(&mut self, at: usize, endpoints: &mut Endpoints) {
        self.list.swap_remove(at);
        if let Some(moved) = self.list.get(at) {
            endpoints[moved.key].cold.tripped_at = Some(at);
        }
        self.settled = None;
        self.schedule();
    }

    fn schedule(&mut self) {
        self.next_probe = self.list.iter().filter_map(|entry| entry.due).min();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use slotmap::SlotMap;

    use super::*;
    use crate::tests::origin;

    /// What is said in words at [`Tripped::protect`], step by step.
    fn spared_by_the_rules(list: &[Entry], help: Help, well: usize) -> Vec<bool> {
        let mut out: Vec<usize> = (0..list.len()).filter(|&i| list[i].weight.out).collect();
        out.sort_by_key(|&i| list[i].weight.since);
        let ready = well + out.len();
        let overloaded = out.iter().filter(|&&i| list[i].weight.slow).count() * 2 > ready;
        let mut room = (ready / 2).max(1).min(ready.saturating_sub(1));
        let mut spared: Vec<bool> = list.iter().map(|entry| entry.spared).collect();
        for i in out {
            spared[i] = match help {
                Help::Version => false,
                Help::StaticAnswer => overloaded && list[i].weight.slow,
                Help::None => (overloaded && list[i].weight.slow) || room == 0,
            };
            room -= usize::from(!spared[i] && room > 0);
        }
        spared
    }

    fn entry() -> impl Strategy<Value = (bool, bool, bool, u64, bool)> {
        (
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
            0..8u64,
            any::<bool>(),
        )
    }

    fn help() -> impl Strategy<Value = Help> {
        prop_oneof![
            Just(Help::Version),
            Just(Help::StaticAnswer),
            Just(Help::None)
        ]
    }

    proptest! {
        #[test]
        fn who_is_spared_is_what_the_rules_say_step_by_step(
            entries in prop::collection::vec(entry(), 1..40),
            rounds in prop::collection::vec((help(), 0..60usize, 0..40usize, entry()), 1..6),
        ) {
            let mut keys: SlotMap<EndpointKey, ()> = SlotMap::with_key();
            let made = |(ready, out, slow, since, spared): (bool, bool, bool, u64, bool), key| Entry {
                key,
                due: None,
                weight: Weight {
                    ready,
                    out: ready && out,
                    slow,
                    since: Some(origin() + Duration::from_secs(since)),
                },
                spared,
            };
            let list = entries.into_iter().map(|entry| made(entry, keys.insert(()))).collect();
            let mut tripped = Tripped { list, ..Tripped::default() };
            for (help, well, at, changed) in rounds {
                let at = at % tripped.list.len();
                tripped.list[at] = made(changed, tripped.list[at].key);
                tripped.settled = None;
                let expected = spared_by_the_rules(&tripped.list, help, well);
                tripped.protect(help, well);
                let spared: Vec<bool> = tripped.list.iter().map(|entry| entry.spared).collect();
                prop_assert_eq!(spared, expected);
                prop_assert!(tripped.protect(help, well).is_empty(), "it changed its mind");
            }
        }
    }

    #[test]
    fn the_probe_that_has_been_due_for_longest_comes_first() {
        let mut endpoints: SlotMap<EndpointKey, ()> = SlotMap::with_key();
        let at = |seconds| origin() + Duration::from_secs(seconds);
        let mut tripped = Tripped::default();
        for due in [7, 3, 5] {
            tripped.list.push(Entry {
                key: endpoints.insert(()),
                due: Some(at(due)),
                weight: Weight {
                    ready: true,
                    out: true,
                    slow: false,
                    since: None,
                },
                spared: false,
            });
        }
        tripped.schedule();
        let keys: Vec<EndpointKey> = tripped.list.iter().map(|entry| entry.key).collect();
        assert_eq!(tripped.due(at(2), |_| true), None, "none is due");
        assert_eq!(tripped.due(at(9), |_| true), Some(keys[1]));
        assert_eq!(tripped.due(at(9), |key| key != keys[1]), Some(keys[2]));
        assert_eq!(tripped.due(at(4), |key| key != keys[1]), None);
    }
}
