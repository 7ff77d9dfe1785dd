//! What happens next: a heap by time, and by the order of planning where times are equal.

use std::{cmp::Reverse, collections::BinaryHeap};

use aegis_policy::Waiter;

use crate::{pod::Job, time::Time};

/// Something that happens at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The next request comes.
    Arrival,
    /// A pod has worked on a job for as long as it takes.
    Done { pod: u32, job: Job },
    /// An answer reaches the proxy.
    Answer { job: Job, status: u16 },
    /// An attempt finds that it has no connection, or none any more.
    Broken { job: Job, never_connected: bool },
    /// The deadline of a request that stood in line.
    WaitEnds { proxy: u32, waiter: Waiter },
    /// A proxy looks at the age of what is out.
    Tick { proxy: u32 },
    /// Attempts whose time is up are ended.
    Sweep,
    /// A proxy asks a pod whether it is ready.
    Check { proxy: u32, pod: u32 },
    /// The answer to that, when it took its time.
    Checked { proxy: u32, pod: u32 },
    /// Step `step` of a fault.
    Fault { fault: u32, step: u32 },
    /// A second is over.
    Second,
}

/// What is yet to happen.
#[derive(Debug, Default)]
pub(crate) struct Events {
    heap: BinaryHeap<Reverse<Planned>>,
    planned: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Planned {
    at: Time,
    nth: u64,
    event: Event,
}

// === impl Events ===

impl Events {
    pub(crate) fn plan(&mut self, at: Time, event: Event) {
        self.planned += 1;
        let nth = self.planned;
        self.heap.push(Reverse(Planned { at, nth, event }));
    }

    pub(crate) fn next(&mut self) -> Option<(Time, Event)> {
        let Reverse(planned) = self.heap.pop()?;
        Some((planned.at, planned.event))
    }
}

// === impl Planned ===

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.nth).cmp(&(other.at, other.nth))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_decides_and_then_the_order_of_planning() {
        let mut events = Events::default();
        let at = |ms| Time::from(Duration::from_millis(ms));
        events.plan(at(2), Event::Sweep);
        events.plan(at(1), Event::Second);
        events.plan(at(2), Event::Arrival);
        let order: Vec<Event> = std::iter::from_fn(|| events.next().map(|(_, e)| e)).collect();
        assert_eq!(order, [Event::Second, Event::Sweep, Event::Arrival]);
    }
}
