//! One line of JSON for every request, written by a thread of its own.
//!
//! A request adds its line to a buffer in memory, under a lock that is held for
//! one copy; a thread takes the whole buffer ten times a second and writes it at
//! once. A channel of lines, which `tracing-appender` is made of, would cost an
//! allocation a line, and a wake-up of its reader for nearly every one: more than
//! the line itself. (It also turns files over by the clock, and cannot be told
//! that somebody else, such as logrotate, has moved one.)
//!
//! The buffer is bounded. When what is behind the log is slower than the traffic,
//! lines are dropped and counted, and no request waits.

mod line;
mod target;

#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    io, mem,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;

use crate::config;

pub use line::Line;
use line::Writer;
use target::Target;

/// How long the first line waits for others.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the end of the process waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Where a line is put together keeps this much from one to the next.
const LINE_ROOM: usize = 1024;

thread_local! {
    /// Where a line is put together, so that it costs no allocation.
    static SCRATCH: RefCell<Writer> = RefCell::default();
}

/// The log could not be opened. The operator's fault.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to {} (access_log.path): {source}", path.display())]
pub struct OpenError {
    /// The file.
    path: PathBuf,
    /// What the system said.
    source: io::Error,
}

/// The log of requests. It is closed when dropped.
#[derive(Debug)]
pub struct AccessLog {
    waiting: Arc<Waiting>,
    sample: f64,
    slow: Duration,
    /// Says that the last line is written.
    written: Mutex<Option<mpsc::Receiver<()>>>,
}

/// What counts the lines that were lost.
#[derive(Clone, Debug)]
pub struct Lost {
    /// Too many waited.
    pub full: IntCounter,
    /// They could not be written.
    pub unwritten: IntCounter,
}

/// Lines that wait to be written.
#[derive(Debug)]
struct Waiting {
    lines: Mutex<Lines>,
    /// There is something to do.
    changed: Condvar,
    /// The most bytes that may wait.
    room: usize,
    lost: Lost,
}

#[derive(Debug, Default)]
struct Lines {
    text: Vec<u8>,
    count: u64,
    closed: bool,
}

// === impl AccessLog ===

impl AccessLog {
    /// Opens the log, where there is to be one, and starts its thread.
    ///
    /// # Errors
    /// When its file cannot be opened, or the system starts no thread.
    pub fn open(config: &config::AccessLog, lost: Lost) -> Result<Option<Self>, OpenError> {
        let Some(target) = &config.target else {
            return Ok(None);
        };
        let target = Target::open(target)?;
        let path = target.path().to_owned();
        let room = usize::try_from(config.buffer_bytes).unwrap_or(usize::MAX);
        let waiting = Arc::new(Waiting {
            lines: Mutex::default(),
            changed: Condvar::new(),
            room,
            lost,
        });
        let (done, written) = mpsc::channel();
        let lines = Arc::clone(&waiting);
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                lines.write_all(target);
                // Nobody waits when the process is not about to end.
                let _ = done.send(());
            })
            .map_err(|source| OpenError { path, source })?;
        Ok(Some(Self {
            waiting,
            sample: config.sample,
            slow: config.slow,
            written: Mutex::new(Some(written)),
        }))
    }

    /// Whether an ordinary request is written down, by a number that was drawn
    /// from 0 to 1.
    #[must_use]
    pub fn takes(&self, drawn: f64) -> bool {
        drawn < self.sample
    }

    /// The part of ordinary requests that is written; none where that is all of them.
    #[must_use]
    pub fn sample(&self) -> Option<f64> {
        (self.sample < 1.0).then_some(self.sample)
    }

    /// Whether a request that took so long is slow.
    #[must_use]
    pub fn is_slow(&self, took: Duration) -> bool {
        took > self.slow
    }

    /// Adds a line.
    pub fn write(&self, line: &Line<'_>) {
        SCRATCH.with_borrow_mut(|scratch| {
            self.waiting.add(scratch.write(line));
            scratch.shrink_to(LINE_ROOM);
        });
    }

    /// Writes what waits and takes no more, within a second.
    pub fn close(&self) {
        self.waiting.close();
        if let Some(written) = self.written.lock().take() {
            // A pipe that nobody reads may never take the rest.
            let _ = written.recv_timeout(LAST_LINES);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

// === impl Waiting ===

impl Waiting {
    fn add(&self, line: &[u8]) {
        let mut lines = self.lines.lock();
        let before = lines.text.len();
        let after = before + line.len();
        if lines.closed || after > self.room {
            drop(lines);
            self.lost.full.inc();
            return;
        }
        lines.text.extend_from_slice(line);
        lines.count += 1;
        drop(lines);
        let half = self.room / 2;
        if before == 0 || (before < half && after >= half) {
            self.changed.notify_one();
        }
    }

    fn close(&self) {
        self.lines.lock().closed = true;
        self.changed.notify_one();
    }

    /// Writes until the log is closed and empty.
    fn write_all(&self, mut target: Target) {
        let mut text = Vec::new();
        let mut failing = false;
        while let Some(count) = self.take(&mut text) {
            let result = target.write(&text);
            if let Err(error) = &result {
                self.lost.unwritten.inc_by(count);
                if !failing {
                    tracing::error!(path = %target.path().display(), %error, "cannot write the access log");
                }
            }
            failing = result.is_err();
            text.clear();
        }
    }

    /// Waits for lines and takes all of them; says how many, none at the end.
    fn take(&self, text: &mut Vec<u8>) -> Option<u64> {
        let mut lines = self.lines.lock();
        while lines.text.is_empty() && !lines.closed {
            self.changed.wait(&mut lines);
        }
        if lines.text.len() < self.room / 2 && !lines.closed {
            self.changed.wait_for(&mut lines, PAUSE);
        }
        mem::swap(&mut lines.text, text);
        (!text.is_empty()).then(|| mem::take(&mut lines.count))
    }
}
