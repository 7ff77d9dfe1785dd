//! How many frames a client of HTTP/2 may send that carry nothing.
//!
//! A frame of 9 to 17 bytes can cost far more than it does to send. The h2 library holds memory
//! down whatever comes (it answers one PING or SETTINGS before it reads the next, and closes over
//! header blocks without an end and over empty DATA), but it lets a client go on for ever in two
//! ways, each of which keeps a core busy, or endpoints:
//!
//! - requests that are taken back as soon as they were sent ("rapid reset", CVE-2023-44487). Of
//!   those that come one by one, each has reached an endpoint before it is cancelled;
//! - PING, SETTINGS, PRIORITY, `WINDOW_UPDATE` and empty DATA in any number, which are worked through.
//!
//! A budget for each is paid by the frames and filled by time and by real work: what asks, or is
//! answered. So a client that is busy may do much of it, as those do that measure the round trip
//! with a PING for every answer, or acknowledge each DATA frame; one that does nothing else may
//! not. When a budget is spent, the connection ends with `ENHANCE_YOUR_CALM`.
//!
//! Both directions are read frame by frame, nine bytes of each; what a frame holds is passed over.

use std::time::{Duration, Instant};

/// Idle frames that a connection may send at once,
const IDLE_FRAMES: u32 = 2_000;
/// more of them each second,
const IDLE_A_SECOND: u32 = 200;
/// and for each HEADERS frame that comes in, and each HEADERS and DATA frame that goes out. A client
/// that reads a long answer may send a `WINDOW_UPDATE` for the stream and one for the connection with
/// each DATA frame, and a PING.
const IDLE_A_FRAME: u32 = 4;

/// Requests that a connection may take back at once. Many clients of one proxy in front of this one
/// may leave together.
const RESETS: u32 = 1_000;
/// More of them each second: at this pace they may go on for ever.
const RESETS_A_SECOND: u32 = 100;
/// What taking one back costs; each request gives 1. So a client may take back half of what it asks.
const RESET_COST: u32 = 2;

/// Types of frames (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
/// The last DATA of a stream may be empty.
const END_STREAM: u8 = 1;

/// Length of a frame's head, and of what of a GOAWAY is read with it: the last stream and the error.
const HEAD: usize = 9;
const GOAWAY_HEAD: usize = HEAD + 8;

/// What a client sends too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    /// Requests that are taken back.
    Resets,
    /// Frames that carry nothing.
    IdleFrames,
}

/// Counts both directions of one connection.
#[derive(Debug)]
pub(super) struct Meter {
    incoming: Frames,
    outgoing: Frames,
    /// The last stream that the client has opened.
    newest: u32,
    idle: Budget,
    resets: Budget,
    /// What was too much, once: what comes behind it is no longer read.
    flood: Option<Flood>,
}

/// Something that is paid for and fills up again.
#[derive(Debug)]
struct Budget {
    left: u32,
    full: u32,
    /// Comes back in a second.
    pace: u32,
    /// Since when nothing has come back.
    since: Instant,
}

/// One direction's frames, however their bytes are cut.
#[derive(Debug)]
struct Frames {
    /// Of the frame that begins.
    head: Vec<u8>,
    /// Bytes still to pass over.
    skip: usize,
}

/// What is told of a frame.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
    /// The error of a GOAWAY.
    error: u32,
}

// === impl Meter ===

impl Meter {
    /// Of a connection that begins with so many bytes that are no frame: the preface.
    pub(super) fn new(preface: usize, now: Instant) -> Self {
        Self {
            incoming: Frames::after(preface),
            outgoing: Frames::after(0),
            newest: 0,
            idle: Budget::new(IDLE_FRAMES, IDLE_A_SECOND, now),
            resets: Budget::new(RESETS, RESETS_A_SECOND, now),
            flood: None,
        }
    }

    /// Counts what came in; says how many frames began in it.
    ///
    /// # Errors
    ///
    /// When it is too much, from then on.
    pub(super) fn came(&mut self, mut bytes: &[u8], now: Instant) -> Result<u32, Flood> {
        let mut frames = 0;
        while self.flood.is_none()
            && let Some(frame) = self.incoming.next(&mut bytes)
        {
            self.flood = self.charge(&frame, now);
            frames += 1;
        }
        self.flood.map_or(Ok(frames), Err)
    }

    /// Takes a frame that came in from the budget that it belongs to.
    fn charge(&mut self, frame: &Frame, now: Instant) -> Option<Flood> {
        match frame.kind {
            HEADERS => {
                // Trailers are of a stream that is open.
                if frame.stream > self.newest {
                    self.newest = frame.stream;
                    self.resets.earn(1);
                }
                self.idle.earn(IDLE_A_FRAME);
                None
            }
            DATA if frame.length > 0 || frame.flags & END_STREAM != 0 => None,
            // The library takes no more than the longest header block has.
            CONTINUATION => None,
            RST_STREAM => (!self.resets.pay(RESET_COST, now)).then_some(Flood::Resets),
            _ => (!self.idle.pay(1, now)).then_some(Flood::IdleFrames),
        }
    }

    /// Counts what went out. Tells with which error we gave the connection up, if we did.
    pub(super) fn went(&mut self, mut bytes: &[u8]) -> Option<u32> {
        let mut given_up = None;
        while let Some(frame) = self.outgoing.next(&mut bytes) {
            match frame.kind {
                HEADERS | DATA => self.idle.earn(IDLE_A_FRAME),
                GOAWAY if frame.error != 0 => given_up = Some(frame.error),
                _ => {}
            }
        }
        given_up
    }
}

// === impl Budget ===

impl Budget {
    fn new(full: u32, pace: u32, now: Instant) -> Self {
        Self {
            left: full,
            full,
            pace,
            since: now,
        }
    }

    fn earn(&mut self, amount: u32) {
        self.left = self.left.saturating_add(amount).min(self.full);
    }

    /// Whether there was as much.
    fn pay(&mut self, amount: u32, now: Instant) -> bool {
        self.refill(now);
        let Some(left) = self.left.checked_sub(amount) else {
            return false;
        };
        self.left = left;
        true
    }

    fn refill(&mut self, now: Instant) {
        let each = Duration::from_secs(1) / self.pace;
        let passed = now.saturating_duration_since(self.since);
        if passed >= each * self.full {
            self.left = self.full;
            self.since = now;
            return;
        }
        let came = passed.as_nanos() / each.as_nanos();
        if let Ok(came @ 1..) = u32::try_from(came) {
            self.earn(came);
            // What is left over of the time counts later.
            self.since += each * came;
        }
    }
}

// === impl Frames ===

impl Frames {
    fn after(skip: usize) -> Self {
        Self {
            head: Vec::with_capacity(GOAWAY_HEAD),
            skip,
        }
    }

    /// The next frame that begins in these bytes; they move on behind what was read. None when
    /// they are at their end.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        let skipped = self.skip.min(bytes.len());
        *bytes = bytes.get(skipped..)?;
        self.skip -= skipped;
        self.fill(HEAD, bytes)?;
        if self.head.get(3) == Some(&GOAWAY) {
            self.fill(GOAWAY_HEAD, bytes)?;
        }
        let &[a, b, c, kind, flags, s0, s1, s2, s3, ref more @ ..] = self.head.as_slice() else {
            return None;
        };
        let error = match *more {
            [_, _, _, _, e0, e1, e2, e3] => u32::from_be_bytes([e0, e1, e2, e3]),
            _ => 0,
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        self.skip = length.saturating_sub(more.len());
        self.head.clear();
        Some(Frame {
            length,
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
            error,
        })
    }

    /// Takes bytes until the head has so many.
    fn fill(&mut self, wanted: usize, bytes: &mut &[u8]) -> Option<()> {
        let missing = wanted.saturating_sub(self.head.len());
        let (part, rest) = bytes.split_at(missing.min(bytes.len()));
        self.head.extend_from_slice(part);
        *bytes = rest;
        (self.head.len() >= wanted).then_some(())
    }
}

#[cfg(test)]
mod tests;
