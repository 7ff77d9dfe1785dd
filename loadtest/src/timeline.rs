//! What happened when, second by second, in memory that does not grow with the run.
//!
//! A run's [`Summary`](crate::Summary) has no time in it: a server that stalled for ten seconds and one that was
//! a little slow throughout may have the same P99. Here every outcome goes into the bucket of its second. When
//! there are too many buckets, neighbours are merged and each is twice as long: a run of a minute is seen by
//! the second, one of a day by the few minutes, and both take the same memory.
//!
//! Latencies and failures belong to the second in which the request was *due*, so that a stall is seen as what
//! its users saw: the first waited longest. Answers a second are counted when they came.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::bucket::Bucket;
use self::names::Names;
pub(crate) use self::names::Seen;
pub(crate) use self::series::{Point, Series};
use crate::outcome::{Outcome, Sample};

mod bucket;
mod names;
mod series;
#[cfg(test)]
mod tests;

/// The most buckets: ten minutes by the second.
const MAX_BUCKETS: usize = 600;

/// How long a bucket is at first.
const WIDTH: Duration = Duration::from_secs(1);

/// The most versions and reasons that are told apart: lines of a plot.
const MAX_NAMES: usize = 8;

/// What requests count as that were due when too many were under way.
const DROPPED: &str = "dropped by this client";

/// What requests count as for which this machine had no descriptor or port.
const UNSENT: &str = "not sent by this client";

/// Records outcomes by their time; shared by everything that sends.
#[derive(Debug)]
pub(crate) struct Timeline(Mutex<Recording>);

#[derive(Debug)]
struct Recording {
    /// When the first request could be due.
    start: Instant,
    /// When the measurement began: what was due before is warm-up.
    measured: Instant,
    /// When nothing more was sent.
    end: Option<Instant>,
    width: Duration,
    buckets: Vec<Bucket>,
    /// Versions by their answers of the measurement, latencies included.
    versions: Names,
    /// Reasons of failures.
    reasons: Names,
    latency: bucket::Latency,
}

// === impl Timeline ===

impl Timeline {
    /// Records from `now` on; [`Load`](crate::Load) says when sending really begins.
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Recording {
            start: now,
            measured: now,
            end: None,
            width: WIDTH,
            buckets: Vec::new(),
            versions: Names::new(MAX_NAMES),
            reasons: Names::new(MAX_NAMES),
            latency: bucket::Latency::default(),
        }))
    }

    /// Sets when sending and when the measurement begins.
    pub(crate) fn begin(&self, start: Instant, measured: Instant) {
        let mut recording = self.0.lock();
        recording.start = start;
        recording.measured = measured;
    }

    /// Sets when sending ended, or ends: the earliest that it is told. What is under way then still comes in.
    pub(crate) fn close(&self, at: Instant) {
        let mut recording = self.0.lock();
        recording.end = Some(recording.end.map_or(at, |end| end.min(at)));
    }

    /// Counts a request whose instant has come.
    pub(crate) fn due(&self, at: Instant, is_sent: bool) {
        let mut recording = self.0.lock();
        recording.bucket(at).due += 1;
        if !is_sent {
            recording.failed(at, DROPPED);
        }
    }

    /// Counts the fate of a request.
    pub(crate) fn record(&self, sample: &Sample) {
        let mut recording = self.0.lock();
        match &sample.outcome {
            Outcome::Scored { from, .. } => {
                recording.waited(sample);
                recording.bucket(sample.ended).answered += 1;
                let version = from.version.as_deref().unwrap_or("unknown");
                recording.answered_by(version, sample, true);
            }
            Outcome::Refused {
                from,
                status,
                reason,
                ..
            } => {
                if let Some(version) = &from.version {
                    recording.answered_by(version, sample, false);
                }
                match reason {
                    Some(reason) => recording.failed(sample.intended, reason),
                    None => recording.failed(sample.intended, &format!("status {status}")),
                }
            }
            Outcome::Unsent { .. } => recording.failed(sample.intended, UNSENT),
            Outcome::Failed { kind, .. } => {
                // As in the summary: whoever gave up waited that long.
                if *kind == crate::ErrorKind::Timeout {
                    recording.waited(sample);
                }
                recording.failed(sample.intended, kind.name());
            }
        }
    }

    /// Everything so far; `now` is where it ends while it is not closed.
    pub(crate) fn series(&self, now: Instant) -> Series {
        let recording = self.0.lock();
        let at = |instant: Instant| recording.since_start(instant).as_secs_f64();
        let end = at(recording.end.unwrap_or(now));
        Series::of(&recording, at(recording.measured), end)
    }
}

// === impl Recording ===

impl Recording {
    fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }

    /// The bucket of an instant. Makes room for it where there is none.
    fn bucket(&mut self, at: Instant) -> &mut Bucket {
        let at = self.since_start(at);
        let mut index = position(at, self.width);
        while index >= MAX_BUCKETS {
            self.halve();
            index = position(at, self.width);
        }
        if self.buckets.len() <= index {
            self.buckets.resize_with(index + 1, Bucket::default);
        }
        &mut self.buckets[index]
    }

    /// Merges each two neighbours.
    fn halve(&mut self) {
        let mut buckets = std::mem::take(&mut self.buckets).into_iter();
        while let Some(mut bucket) = buckets.next() {
            if let Some(next) = buckets.next() {
                bucket.absorb(&next);
            }
            self.buckets.push(bucket);
        }
        self.width *= 2;
    }

    fn waited(&mut self, sample: &Sample) {
        let latency = sample.ended.saturating_duration_since(sample.intended);
        self.bucket(sample.intended).latency.record(latency);
        if sample.intended >= self.measured {
            self.latency.record(latency);
        }
    }

    fn failed(&mut self, at: Instant, reason: &str) {
        let since = self.since_start(at);
        let reason = self.reasons.saw(reason, since);
        self.bucket(at).failed.add(reason);
    }

    fn answered_by(&mut self, version: &str, sample: &Sample, is_ok: bool) {
        let since = self.since_start(sample.ended);
        let version = self.versions.saw(version, since);
        if is_ok && sample.intended >= self.measured {
            let latency = sample.ended.saturating_duration_since(sample.intended);
            self.versions.latency(version).record(latency);
        }
        self.bucket(sample.ended).versions.add(version);
    }
}

fn position(at: Duration, width: Duration) -> usize {
    usize::try_from(at.as_nanos() / width.as_nanos()).unwrap_or(usize::MAX)
}
