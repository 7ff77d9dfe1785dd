//! HDR logs: histograms in the format that every tool of `HdrHistogram`'s reads.
//!
//! Written while the run goes, an interval a second, so that a log takes no memory and what was
//! measured until a crash is there. Read line by line, and added up. A log says in a comment that
//! it is ours: the format has no unit, and a guess would be wrong by a thousand; and in others of which runs it is
//! ([`RunId`]), so that none is counted twice.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogHistogram, IntervalLogIterator, IntervalLogWriterBuilder, IntervalLogWriterError,
    LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializeError, V2DeflateSerializer};

use super::examples::MAX_SETS;
use super::run_id::{MAX_RUNS, RunId};
use super::{Examples, LatenciesError, Measured};

/// Says who wrote a log and in which unit.
const MARK: &str = "aegis-loadtest: microseconds from the intended send time";

/// How many different examples of a set were compared so far: its id, and the number.
const EXAMPLES: &str = "aegis-loadtest: examples ";

/// Of which run it is; of several, where it was merged.
const RUN: &str = "aegis-loadtest: run ";

/// Ends a log of a run that came to its end.
const COMPLETE: &str = "aegis-loadtest: complete";

/// The longest histogram that is unpacked: some times as long as all that ours can hold.
const MAX_HISTOGRAM: u64 = 64 << 20;

/// The longest line that is read: far longer than any histogram of ours.
const MAX_LINE: u64 = 16 << 20;

/// Writes a log, interval by interval.
pub(crate) struct LogWriter<W: Write> {
    file: W,
    serializer: V2DeflateSerializer,
    /// When the next interval begins, since the start.
    at: Duration,
    /// What it says of examples.
    examples: Examples,
}

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Log {
    /// All of its intervals together.
    pub(crate) measured: Measured,
    /// From its start to the end of the last.
    pub(crate) span: Duration,
    /// Whether its run came to its end.
    pub(crate) is_complete: bool,
    /// The runs that it is of; none where it was written before logs said so.
    pub(crate) runs: BTreeSet<RunId>,
}

/// Says why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Nothing is in it.
    #[error("expected an HDR log, got an empty file")]
    Empty,
    /// Somebody else wrote it, in a unit that it does not say.
    #[error("expected a log that `aegis-loadtest run --hdr` wrote: it has no line `#{MARK}`")]
    Foreign,
    /// A line is none of a log.
    #[error("line {line}: {problem}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: LineError,
    },
}

/// Says why a line is none of a log.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It is longer than any that is written.
    #[error("expected at most {MAX_LINE} bytes")]
    Long,
    /// It is neither a comment nor an interval, or not whole.
    #[error("expected a comment, or `[Tag=NAME,]start,length,max,histogram`")]
    Shape,
    /// Its tag is none of ours.
    #[error(
        "expected no tag, or timeout, failed, wrong, unscored, dropped, lag, unsent, late or early, got `{0}`"
    )]
    Tag(String),
    /// What it says of examples is nothing, or of too many sets.
    #[error("expected a set of examples and their number, of at most {MAX_SETS} sets")]
    Examples,
    /// What it says of a run is nothing, or of too many.
    #[error("expected a run's seed and when it began, of at most {MAX_RUNS} runs")]
    Run,
    /// What should be a histogram is none.
    #[error("the histogram cannot be read: {0}")]
    Histogram(String),
    /// The histogram has another range.
    #[error(transparent)]
    Range(#[from] LatenciesError),
}

// === impl LogWriter ===

impl<W: Write> LogWriter<W> {
    /// Begins a log of runs that begins at `start`.
    pub(crate) fn new(
        mut file: W,
        start: SystemTime,
        runs: impl IntoIterator<Item = RunId>,
    ) -> io::Result<Self> {
        let mut serializer = V2DeflateSerializer::new();
        IntervalLogWriterBuilder::new()
            .add_comment("[Histogram log format version 1.3]")
            .add_comment(MARK)
            .with_start_time(start)
            .with_base_time(start)
            .begin_log_with(&mut file, &mut serializer)?;
        for run in runs {
            writeln!(file, "#{RUN}{}", run.to_text())?;
        }
        writeln!(
            file,
            r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#
        )?;
        Ok(Self {
            file,
            serializer,
            at: Duration::ZERO,
            examples: Examples::default(),
        })
    }

    /// Writes what was measured since the last interval, which ends at `end` since the start.
    pub(crate) fn interval(&mut self, measured: &Measured, end: Duration) -> io::Result<()> {
        let length = end.saturating_sub(self.at);
        let mut writer =
            IntervalLogWriterBuilder::new().begin_log_with(&mut self.file, &mut self.serializer)?;
        for (tag, part) in measured.parts() {
            if let Some(histogram) = part.histogram() {
                writer
                    .write_histogram(histogram, self.at, length, tag.and_then(Tag::new))
                    .map_err(written)?;
            }
        }
        if measured.examples != self.examples {
            for (set, count) in measured.examples.iter() {
                writeln!(self.file, "#{EXAMPLES}{set:016x} {count}")?;
            }
            self.examples.clone_from(&measured.examples);
        }
        self.at = end.max(self.at);
        self.file.flush()
    }
}

impl<W: Write> LogWriter<W> {
    /// Says that the run came to its end: without this, it broke off.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        writeln!(self.file, "#{COMPLETE}")?;
        self.file.flush()
    }
}

fn written(error: IntervalLogWriterError<V2DeflateSerializeError>) -> io::Error {
    match error {
        IntervalLogWriterError::IoError(error) => error,
        IntervalLogWriterError::SerializeError(error) => io::Error::other(error.to_string()),
    }
}

/// Adds up a whole log.
pub(crate) fn read(log: impl Read) -> Result<Log, LogError> {
    let mut log = BufReader::new(log);
    let mut sum = Log::default();
    let mut is_ours = false;
    let mut deserializer = Deserializer::new();
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        if log.by_ref().take(MAX_LINE).read_until(b'\n', &mut text)? == 0 {
            return match (line, is_ours) {
                (1, _) => Err(LogError::Empty),
                (_, false) => Err(LogError::Foreign),
                (_, true) => Ok(sum),
            };
        }
        let comment = text.strip_prefix(b"#").map(<[u8]>::trim_ascii);
        is_ours |= comment == Some(MARK.as_bytes());
        sum.is_complete |= comment == Some(COMPLETE.as_bytes());
        let at = |problem| LogError::Line { line, problem };
        if let Some(told) = comment.and_then(|comment| comment.strip_prefix(EXAMPLES.as_bytes())) {
            let noted =
                examples(told).is_some_and(|(set, count)| sum.measured.examples.note(set, count));
            if !noted {
                return Err(at(LineError::Examples));
            }
        }
        if let Some(told) = comment.and_then(|comment| comment.strip_prefix(RUN.as_bytes())) {
            let run = RunId::parse(told).filter(|_| sum.runs.len() < MAX_RUNS);
            sum.runs.insert(run.ok_or_else(|| at(LineError::Run))?);
        }
        if text.len() as u64 >= MAX_LINE {
            return Err(at(LineError::Long));
        }
        add(&text, &mut deserializer, &mut sum).map_err(at)?;
    }
    Ok(sum)
}

/// A set of examples, and how many of it.
fn examples(told: &[u8]) -> Option<(u64, u64)> {
    let (set, count) = std::str::from_utf8(told).ok()?.split_once(' ')?;
    let set = u64::from_str_radix(set, 16).ok()?;
    Some((set, count.parse().ok()?))
}

/// Adds what one line holds.
fn add(line: &[u8], deserializer: &mut Deserializer, sum: &mut Log) -> Result<(), LineError> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    for entry in IntervalLogIterator::new(line) {
        if let LogEntry::Interval(interval) = entry.map_err(|_| LineError::Shape)? {
            let tag = interval.tag().map(|tag| tag.as_str());
            let unknown = || LineError::Tag(aegis_protocol::excerpt(tag.unwrap_or("")).to_string());
            let part = sum.measured.part_mut(tag).ok_or_else(unknown)?;
            part.add_histogram(&histogram(&interval, deserializer)?)?;
            let end = interval
                .start_timestamp()
                .saturating_add(interval.duration());
            sum.span = sum.span.max(end);
        }
    }
    Ok(())
}

fn histogram(
    interval: &IntervalLogHistogram<'_>,
    deserializer: &mut Deserializer,
) -> Result<Histogram<u64>, LineError> {
    let text = interval.encoded_histogram();
    let bytes = STANDARD
        .decode(text)
        .map_err(|error| LineError::Histogram(error.to_string()))?;
    // The library makes room for as much as the histogram claims.
    let mut head = [0; 8];
    let packed = bytes.get(8..).unwrap_or_default();
    let claimed = match ZlibDecoder::new(packed).read_exact(&mut head) {
        Ok(()) => u64::from(u32::from_be_bytes([head[4], head[5], head[6], head[7]])),
        // It has a word for what is none.
        Err(_) => 0,
    };
    if claimed > MAX_HISTOGRAM {
        let problem = format!("it claims {claimed} bytes, of at most {MAX_HISTOGRAM}");
        return Err(LineError::Histogram(problem));
    }
    deserializer
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| LineError::Histogram(error.to_string()))
}

#[cfg(test)]
mod tests;
