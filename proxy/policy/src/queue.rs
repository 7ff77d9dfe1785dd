//! Requests that wait for a slot: bounded by whoever fills it, the most urgent
//! first.
//!
//! A request whose version is full waits in a *lane*, one for each version and
//! for whether its requests may leave that version: all that stand in one lane
//! can use the same slots, so whether a lane moves is known from its head alone.
//! Within a lane the earliest deadline goes first (the order that meets all
//! deadlines if any order does), equal ones in the order of arrival. Lines are
//! sorted rings: nearly all requests have nearly the same patience, so they enter
//! near the end, and they leave at the front.
//!
//! How long a newcomer will wait is its place in line times the time between two
//! slots, as lately seen. Time counts only while somebody waits: how fast slots
//! come back under less load says nothing. Until the first has come, the next one
//! is taken to be due now, so that the estimate is low and grows with the wait.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use slotmap::SlotMap;

/// In how many seconds what was seen of a lane falls to 1/e of its weight.
const MEMORY: f64 = 5.0;

slotmap::new_key_type! {
    /// Names one request that waits; stale once it does not.
    pub struct Waiter;
}

/// What the requests of one lane have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LaneKey {
    /// The version that was chosen for them.
    pub(crate) version: Arc<str>,
    /// Whether they may be answered by another.
    pub(crate) may_leave: bool,
}

/// Where a request stands: by deadline, then by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    deadline: Instant,
    arrival: u64,
}

/// Requests that wait, each with what it asks for.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    lanes: Vec<Lane>,
    waiting: SlotMap<Waiter, Waiting<T>>,
    arrivals: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    lane: LaneKey,
    rank: Rank,
    asks: T,
}

#[derive(Debug)]
struct Lane {
    key: LaneKey,
    /// Sorted.
    line: VecDeque<(Rank, Waiter)>,
    pace: Pace,
}

/// How fast a lane moves while somebody stands in it.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// Slots that came, and the time in which they did, both fading.
    slots: f64,
    seconds: f64,
    seen: Option<Instant>,
}

// === impl Queue ===

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            lanes: Vec::new(),
            waiting: SlotMap::with_key(),
            arrivals: 0,
        }
    }
}

impl<T> Queue<T> {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Puts a request in line.
    pub(crate) fn enter(
        &mut self,
        key: LaneKey,
        deadline: Instant,
        asks: T,
        now: Instant,
    ) -> Waiter {
        self.arrivals += 1;
        let rank = Rank {
            deadline,
            arrival: self.arrivals,
        };
        let waiter = self.waiting.insert(Waiting {
            lane: key.clone(),
            rank,
            asks,
        });
        let lane = self.lane_of(key);
        lane.pace.advance(!lane.line.is_empty(), now);
        let at = lane.line.partition_point(|(other, _)| *other < rank);
        lane.line.insert(at, (rank, waiter));
        waiter
    }

    /// What a request asks for, while it waits.
    pub(crate) fn get(&self, waiter: Waiter) -> Option<(&LaneKey, &T)> {
        let waiting = self.waiting.get(waiter)?;
        Some((&waiting.lane, &waiting.asks))
    }

    /// Takes a request out. `served` says that a slot had come for it.
    pub(crate) fn leave(&mut self, waiter: Waiter, served: bool, now: Instant) -> Option<T> {
        let Waiting { lane, rank, asks } = self.waiting.remove(waiter)?;
        if let Some(lane) = self.lanes.iter_mut().find(|known| known.key == lane) {
            lane.pace.advance(true, now);
            lane.pace.slots += f64::from(u8::from(served));
            if let Ok(at) = lane.line.binary_search_by(|(other, _)| other.cmp(&rank)) {
                lane.line.remove(at);
            }
        }
        Some(asks)
    }

    /// The most urgent of those that stand first in a lane and rank after `after`.
    pub(crate) fn first(&self, after: Option<Rank>) -> Option<(Rank, Waiter)> {
        let heads = self.lanes.iter().filter_map(|lane| lane.line.front());
        heads
            .filter(|(rank, _)| after.is_none_or(|after| *rank > after))
            .min_by_key(|(rank, _)| *rank)
            .copied()
    }

    /// How long a request of such a deadline would wait; none where nobody does,
    /// and so nothing is known.
    pub(crate) fn expected_wait(
        &self,
        key: &LaneKey,
        deadline: Instant,
        now: Instant,
    ) -> Option<Duration> {
        let lane = self.lanes.iter().find(|lane| lane.key == *key)?;
        let before = lane
            .line
            .partition_point(|(rank, _)| rank.deadline <= deadline);
        let mut pace = lane.pace;
        pace.advance(true, now);
        (!lane.line.is_empty()).then(|| pace.time_for(before + 1))
    }

    /// Forgets lanes in which nobody stands, and how fast the others moved: what
    /// is served, and by whom, has changed.
    pub(crate) fn forget_paces(&mut self) {
        self.lanes.retain(|lane| !lane.line.is_empty());
        for lane in &mut self.lanes {
            lane.pace = Pace::default();
        }
    }

    fn lane_of(&mut self, key: LaneKey) -> &mut Lane {
        let at = self.lanes.iter().position(|lane| lane.key == key);
        let at = at.unwrap_or_else(|| {
            self.lanes.push(Lane {
                key,
                line: VecDeque::new(),
                pace: Pace::default(),
            });
            self.lanes.len() - 1
        });
        &mut self.lanes[at]
    }
}

// === impl Pace ===

impl Pace {
    /// Lets what was seen fade; `waited` says that somebody stood in line all the
    /// time since.
    fn advance(&mut self, waited: bool, now: Instant) {
        let since = self.seen.replace(now).unwrap_or(now);
        let passed = now.saturating_duration_since(since).as_secs_f64();
        let kept = (-passed / MEMORY).exp();
        self.slots *= kept;
        self.seconds *= kept;
        if waited {
            self.seconds += MEMORY * (1.0 - kept);
        }
    }

    /// The time in which so many slots come.
    fn time_for(&self, slots: usize) -> Duration {
        Duration::from_secs_f64(slots as f64 * self.seconds / (self.slots + 1.0))
    }
}

#[cfg(test)]
mod tests;
