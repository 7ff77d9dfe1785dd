//! The HDR log of a run, written while it goes.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use crate::measured::log::LogWriter;
use crate::{Measured, RunId, clock};

/// How long an interval is.
const INTERVAL: Duration = Duration::from_secs(1);

/// A log of what was measured, an interval a second.
pub(super) struct HdrLog {
    writer: LogWriter<BufWriter<File>>,
    written: Measured,
    next: Duration,
}

// === impl HdrLog ===

impl HdrLog {
    /// Begins a log of a measurement that begins so long from now.
    pub(super) fn create(path: &Path, warmup: Duration, seed: u64) -> Result<Self> {
        let start = clock::calendar() + warmup;
        Self::begin(path, start, [RunId::new(seed, start)])
    }

    /// Begins a log of what several runs came to.
    pub(super) fn merged(path: &Path, runs: impl IntoIterator<Item = RunId>) -> Result<Self> {
        Self::begin(path, clock::calendar(), runs)
    }

    fn begin(
        path: &Path,
        start: SystemTime,
        runs: impl IntoIterator<Item = RunId>,
    ) -> Result<Self> {
        let begin = || -> io::Result<_> {
            let file = BufWriter::new(File::create(path)?);
            LogWriter::new(file, start, runs)
        };
        let writer = begin()
            .with_context(|| path.display().to_string())
            .context("--hdr")?;
        Ok(Self {
            writer,
            written: Measured::default(),
            next: INTERVAL,
        })
    }

    /// Whether an interval is over, so long after the measurement began.
    pub(super) fn is_due(&self, elapsed: Duration) -> bool {
        elapsed >= self.next
    }

    /// Says that the run came to its end.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.writer.finish().context("--hdr")
    }

    /// Writes what came since the last interval.
    pub(super) fn write(&mut self, measured: Measured, elapsed: Duration) -> Result<()> {
        let interval = measured.since(&self.written);
        self.writer.interval(&interval, elapsed).context("--hdr")?;
        self.written = measured;
        self.next = elapsed + INTERVAL;
        Ok(())
    }
}
