//! A recorded arrival trace: when requests came once, to be sent at the same times again.
//!
//! One arrival a line: seconds since any origin, an RFC 3339 time, or a JSON object whose `time` is one,
//! as in the access log of aegis-proxy. Lines need no order: an access log has that of the ends. The
//! first arrival is the start. A log of a part of all requests says so in its lines, and what is replayed of it
//! is called a sample: it is less than what once came.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

/// The most arrivals that are read: eight bytes of memory each.
const MAX_ARRIVALS: usize = 20_000_000;

/// The longest line.
const MAX_LINE: u64 = 1 << 20;

/// The longest trace.
const MAX_LENGTH: Duration = Duration::from_hours(24);

/// Recorded arrivals; at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// In their order, as nanoseconds since the first.
    at: Vec<u64>,
    /// The least part of ordinary requests that any line says was written.
    sample: Option<f64>,
}

/// Says why a file is no trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line is no arrival.
    #[error(
        "{}:{line}: expected seconds, an RFC 3339 time, or JSON with such a `time`, got `{got}`",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is there, cut.
        got: String,
    },
    /// There is none, or there are too many.
    #[error("{}: expected 1 to {MAX_ARRIVALS} arrivals, got {got}", path.display())]
    Count {
        /// The file.
        path: PathBuf,
        /// How many were read.
        got: usize,
    },
    /// It is longer than a day.
    #[error("{}: expected arrivals of at most a day, got {got:?}; --speed shortens them", path.display())]
    Long {
        /// The file.
        path: PathBuf,
        /// How long it is.
        got: Duration,
    },
}

/// A line of an access log.
#[derive(Deserialize)]
struct Logged {
    time: String,
    sample: Option<f64>,
}

// === impl Trace ===

impl Trace {
    /// Reads a file, and makes it so many times as fast.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no trace.
    pub fn read(path: &Path, speed: f64) -> Result<Self, TraceError> {
        let file = File::open(path).map_err(|source| TraceError::Read {
            path: path.to_owned(),
            source,
        })?;
        if path.extension().is_some_and(|extension| extension == "gz") {
            Self::from_reader(path, MultiGzDecoder::new(file), speed)
        } else {
            Self::from_reader(path, file, speed)
        }
    }

    /// Reads text; `origin` is only for errors.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no trace.
    pub fn from_reader(origin: &Path, text: impl Read, speed: f64) -> Result<Self, TraceError> {
        let path = || origin.to_owned();
        let mut text = BufReader::new(text);
        let mut at: Vec<i128> = Vec::new();
        let mut sample: Option<f64> = None;
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = text.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
            let read = read.map_err(|source| TraceError::Read {
                path: path(),
                source,
            })?;
            if read == 0 || at.len() > MAX_ARRIVALS {
                break;
            }
            let shown = String::from_utf8_lossy(&line);
            let trimmed = shown.trim();
            if trimmed.is_empty() {
                continue;
            }
            let (arrival, part) = arrival(trimmed).ok_or_else(|| TraceError::Line {
                path: path(),
                line: number,
                got: aegis_protocol::excerpt(trimmed).to_string(),
            })?;
            at.push(arrival);
            let part = part.filter(|part| (0.0..1.0).contains(part));
            sample = sample.into_iter().chain(part).reduce(f64::min);
        }
        let got = at.len();
        if !(1..=MAX_ARRIVALS).contains(&got) {
            return Err(TraceError::Count { path: path(), got });
        }
        at.sort_unstable();
        let first = at.first().copied().unwrap_or_default();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "sorted, so never before the first; and `as` saturates"
        )]
        let since = at.iter().map(|at| ((at - first) as f64 / speed) as u64);
        let trace = Self {
            at: since.collect(),
            sample,
        };
        match trace.length() {
            got if got > MAX_LENGTH => Err(TraceError::Long { path: path(), got }),
            _ => Ok(trace),
        }
    }

    /// From the first arrival to the last.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.at
            .last()
            .map_or(Duration::ZERO, |&at| Duration::from_nanos(at))
    }

    /// How many there are.
    #[must_use]
    pub fn arrivals(&self) -> usize {
        self.at.len()
    }

    /// The part of ordinary requests that was written down; none where it was all, or where nobody says.
    #[must_use]
    pub fn sample(&self) -> Option<f64> {
        self.sample
    }

    /// The arrival of that number, since the first.
    pub(crate) fn at(&self, number: usize) -> Option<Duration> {
        self.at.get(number).map(|&at| Duration::from_nanos(at))
    }
}

/// When a line says that a request came, in nanoseconds since something, and of which sample it is.
fn arrival(line: &str) -> Option<(i128, Option<f64>)> {
    if let Ok(seconds) = line.parse::<f64>() {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "`as` saturates, and it is bounded"
        )]
        return (seconds.abs() < 1e12).then_some(((seconds * 1e9) as i128, None));
    }
    if line.starts_with('{') {
        let logged: Logged = serde_json::from_str(line).ok()?;
        return Some((time(&logged.time)?, logged.sample));
    }
    Some((time(line)?, None))
}

fn time(text: &str) -> Option<i128> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(time.as_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, speed: f64) -> Result<Trace, TraceError> {
        Trace::from_reader("t.txt".as_ref(), text.as_bytes(), speed)
    }

    fn millis(trace: &Trace) -> Vec<u128> {
        let at = (0..trace.arrivals()).map(|number| trace.at(number).unwrap().as_millis());
        at.collect()
    }

    #[test]
    fn times_are_read_in_each_form_and_begin_with_the_first() {
        assert_eq!(
            millis(&read("10\n10.5\n\n12\n", 1.0).unwrap()),
            [0, 500, 2000]
        );
        let log = "{\"time\":\"2026-11-28T12:00:01.500Z\",\"status\":200}\n\
                   {\"time\":\"2026-11-28T12:00:01.250Z\",\"status\":200}\n";
        assert_eq!(millis(&read(log, 1.0).unwrap()), [0, 250]);
        let times = "2026-11-28T12:00:00Z\n2026-11-28T13:00:01+01:00\n";
        assert_eq!(millis(&read(times, 1.0).unwrap()), [0, 1000]);
    }

    #[test]
    fn a_log_of_a_part_of_the_requests_is_a_sample() {
        let line = |sample: &str| format!("{{\"time\":\"2026-11-28T12:00:01Z\"{sample}}}\n");
        let sample = |text: &str| read(text, 1.0).unwrap().sample();
        assert_eq!(sample(&line("")), None);
        assert_eq!(sample(&line(",\"sample\":1")), None);
        let mixed = [line(",\"sample\":0.5"), line(""), line(",\"sample\":0.25")];
        assert_eq!(sample(&mixed.concat()), Some(0.25));
    }

    #[test]
    fn a_trace_is_replayed_faster() {
        let trace = read("0\n1\n4\n", 2.0).unwrap();
        assert_eq!(millis(&trace), [0, 500, 2000]);
        assert_eq!(trace.length(), Duration::from_secs(2));
    }

    #[test]
    fn what_is_no_trace_says_why() {
        for (text, error) in [
            ("", "t.txt: expected 1 to 20000000 arrivals, got 0"),
            (
                "1\nx\n",
                "t.txt:2: expected seconds, an RFC 3339 time, or JSON with such a `time`, got `x`",
            ),
            (
                "{\"at\": 3}\n",
                "t.txt:1: expected seconds, an RFC 3339 time, or JSON with such a `time`, got `{\"at\": 3}`",
            ),
            (
                "nan\n",
                "t.txt:1: expected seconds, an RFC 3339 time, or JSON with such a `time`, got `nan`",
            ),
            (
                "0\n90000\n",
                "t.txt: expected arrivals of at most a day, got 90000s; --speed shortens them",
            ),
        ] {
            assert_eq!(read(text, 1.0).unwrap_err().to_string(), error);
        }
    }
}
