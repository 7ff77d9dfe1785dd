//! One instance in virtual time before the server's own scheduler, or before the queues of others.
//!
//! Requests of one row come at random instants, of a seed; a batch of b rows takes α·b + β. What is
//! answered within its deadline is goodput. The scheduler is the one that serves; the two it is
//! compared with are the shortest that say what they are.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aegis_backend::batcher::{Batchable, Class, Decision, Limits};
use aegis_backend::scheduler::{BatchId, Scheduler};

/// The most rows of a batch.
pub(crate) const ROWS: usize = 8;

/// What is simulated.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    /// Seconds for each row, and for each batch.
    pub(crate) alpha: f64,
    pub(crate) beta: f64,
    /// Offered, in proportion to the capacity with full batches.
    pub(crate) load: f64,
    /// How long clients wait: each takes the next of these.
    pub(crate) deadlines: Vec<Duration>,
    pub(crate) requests: usize,
    pub(crate) seed: u64,
}

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The server's own.
    Aegis,
    /// First come first served, as many as there are, for so many at most; nobody is dropped.
    Fifo(usize),
    /// First come first served, and who would be late is dropped when it is its turn.
    FifoDropping,
    /// Waits for a full batch, or so long.
    Window(Duration),
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Answered in time a second, in proportion to the capacity.
    pub(crate) goodput: f64,
    /// Neither answered in time nor at all, of those that came.
    pub(crate) lost: f64,
    /// Of what was answered, late or not.
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    came: Instant,
    deadline: Instant,
}

/// A policy at work.
enum Queue {
    Aegis(Box<Scheduler<Request>>),
    Other(VecDeque<Request>, Policy),
}

/// A batch that runs.
struct Running {
    id: Option<BatchId>,
    requests: Vec<Request>,
    ends: Instant,
}

/// What a queue says.
enum Next {
    Run(Vec<Request>),
    WakeAt(Instant),
    Nothing,
}

impl Batchable for Request {
    fn rows(&self) -> usize {
        1
    }

    fn bytes(&self) -> usize {
        0
    }

    fn joins(&self, _: &Self) -> bool {
        true
    }

    fn class(&self) -> Class {
        Class(0)
    }
}

// === impl Scene ===

impl Scene {
    fn takes(&self, rows: usize) -> Duration {
        Duration::from_secs_f64(self.alpha * rows as f64 + self.beta)
    }

    /// Rows a second in full batches.
    pub(crate) fn capacity(&self) -> f64 {
        ROWS as f64 / self.takes(ROWS).as_secs_f64()
    }

    /// When requests come, and when they must be answered.
    fn arrivals(&self, start: Instant) -> impl Iterator<Item = Request> {
        let mut random = self.seed;
        let mut at = 0.0;
        let mean = 1.0 / (self.load * self.capacity());
        (0..self.requests).map(move |index| {
            at -= mean * uniform(&mut random).ln();
            let came = start + Duration::from_secs_f64(at);
            Request {
                came,
                deadline: came + self.deadlines[index % self.deadlines.len()],
            }
        })
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, policy: Policy, start: Instant) -> Seen {
        let mut queue = Queue::new(policy, self, start);
        let mut arrivals = self.arrivals(start).peekable();
        let (mut running, mut wake) = (None::<Running>, None::<Instant>);
        let (mut took, mut in_time, mut now) = (Vec::new(), 0_usize, start);
        loop {
            let came = arrivals.peek().map(|request| request.came);
            let ends = running.as_ref().map(|running| running.ends);
            let Some(next) = [came, ends, wake].into_iter().flatten().min() else {
                break;
            };
            now = next;
            if ends == Some(now)
                && let Some(batch) = running.take()
            {
                queue.end(batch.id, now);
                for request in batch.requests {
                    in_time += usize::from(now <= request.deadline);
                    took.push(now - request.came);
                }
            } else if came == Some(now)
                && let Some(request) = arrivals.next()
            {
                queue.push(request, now);
            }
            if running.is_some() {
                continue;
            }
            wake = None;
            match queue.next(self, now) {
                Next::Run(requests) => {
                    let ends = now + self.takes(requests.len());
                    let id = queue.begin(requests.len(), now);
                    running = Some(Running { id, requests, ends });
                }
                Next::WakeAt(time) => wake = Some(time.max(now + Duration::from_nanos(1))),
                Next::Nothing => {}
            }
        }
        took.sort_unstable();
        let quantile = |part: usize| took.get(took.len() * part / 100).copied();
        let lasted = (now - start).as_secs_f64();
        Seen {
            goodput: in_time as f64 / lasted / self.capacity(),
            lost: 1.0 - in_time as f64 / self.requests as f64,
            p50: quantile(50).unwrap_or_default(),
            p99: quantile(99).unwrap_or_default(),
        }
    }
}

// === impl Queue ===

impl Queue {
    fn new(policy: Policy, scene: &Scene, start: Instant) -> Self {
        if policy != Policy::Aegis {
            return Self::Other(VecDeque::new(), policy);
        }
        let limits = Limits {
            max_rows: ROWS,
            max_requests: 1024,
            max_bytes: usize::MAX,
            max_wait: Duration::from_millis(20),
        };
        let mut scheduler = Scheduler::new(limits, 1, start);
        // As after a warm-up.
        for rows in 1..=ROWS {
            scheduler.learn(Class(0), rows, scene.takes(rows));
        }
        Self::Aegis(Box::new(scheduler))
    }

    fn push(&mut self, request: Request, now: Instant) {
        match self {
            // Who is refused is lost.
            Self::Aegis(scheduler) => drop(scheduler.push(request, Some(request.deadline), now)),
            Self::Other(queue, Policy::Fifo(most)) if queue.len() >= *most => {}
            Self::Other(queue, _) => queue.push_back(request),
        }
    }

    fn next(&mut self, scene: &Scene, now: Instant) -> Next {
        match self {
            Self::Aegis(scheduler) => loop {
                match scheduler.poll(now, 1) {
                    Decision::Run(batch) => {
                        let requests = batch.requests.into_iter();
                        return Next::Run(requests.map(|one| one.request).collect());
                    }
                    Decision::Expire(_) => {}
                    Decision::WakeAt(time) => return Next::WakeAt(time),
                    Decision::Idle => return Next::Nothing,
                }
            },
            Self::Other(queue, policy) => {
                if *policy == Policy::FifoDropping {
                    queue.retain(|request| now + scene.takes(ROWS) <= request.deadline);
                }
                let Some(first) = queue.front() else {
                    return Next::Nothing;
                };
                if let Policy::Window(window) = *policy
                    && queue.len() < ROWS
                    && now < first.came + window
                {
                    return Next::WakeAt(first.came + window);
                }
                let rows = queue.len().min(ROWS);
                Next::Run(queue.drain(..rows).collect())
            }
        }
    }

    fn begin(&mut self, rows: usize, now: Instant) -> Option<BatchId> {
        match self {
            Self::Aegis(scheduler) => Some(scheduler.begin(Class(0), rows, now)),
            Self::Other(..) => None,
        }
    }

    fn end(&mut self, id: Option<BatchId>, now: Instant) {
        if let (Self::Aegis(scheduler), Some(id)) = (self, id) {
            scheduler.end(id, true, now);
        }
    }
}

/// In (0, 1), by xorshift*.
fn uniform(state: &mut u64) -> f64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    let high = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
    (high as f64 + 0.5) / (1_u64 << 53) as f64
}
