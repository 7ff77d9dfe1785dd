//! A report as a table for people.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use super::{PlanSummary, Quantiles, Report, Summary, VersionSummary};

/// The most failure texts that are printed; JSON has the rest.
const FAILURES: usize = 10;

// === impl Report ===

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            plan,
            interrupted,
            partial,
            summary,
            invalid,
            slo,
        } = self;
        write!(f, "{plan}")?;
        match partial {
            Some(reason) => write!(f, " (partial: {reason})")?,
            None if *interrupted => write!(f, " (partial: stopped early)")?,
            None => {}
        }
        writeln!(f)?;
        write!(f, "{summary}")?;
        for reason in invalid {
            writeln!(f, "\ninvalid: {reason}")?;
        }
        match slo {
            Some(judgement) => writeln!(f, "\n{judgement}"),
            None => Ok(()),
        }
    }
}

// === impl PlanSummary ===

impl Display for PlanSummary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.url, self.model)?;
        if let Some(version) = &self.version {
            write!(f, " version {version}")?;
        }
        write!(
            f,
            ", {}, timeout {} ms, seed {}",
            self.load, self.timeout_ms, self.seed
        )
    }
}

// === impl Summary ===

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            requests,
            ok,
            failed,
            in_flight,
            ..
        } = self;
        let dropped = self.client.dropped;
        writeln!(f)?;
        write!(
            f,
            "requests  {requests} due, {ok} answered, {failed} failed, "
        )?;
        write!(f, "{dropped} dropped by this client")?;
        if self.client.unsent > 0 {
            write!(f, ", {} that it could not send", self.client.unsent)?;
        }
        if *in_flight > 0 {
            write!(f, ", {in_flight} under way")?;
        }
        writeln!(f)?;
        writeln!(f, "achieved  {:.1} answers/s", self.achieved_rate)?;
        writeln!(f, "statuses  {}", Counts(&self.statuses))?;
        if !self.reasons.is_empty() {
            writeln!(f, "reasons   {}", Counts(&self.reasons))?;
        }
        writeln!(f, "errors    {}", Counts(&self.errors))?;
        if let Some(lag) = self.client.lag {
            writeln!(
                f,
                "lag       p99 {:.2} ms, max {:.2} ms",
                lag.p99_ms, lag.max_ms
            )?;
        }
        // Where nobody waits for a connection there is nothing to say.
        if let Some(wait) = self.client.wait.filter(|wait| wait.p99_ms >= 1.0) {
            writeln!(
                f,
                "wait      p99 {:.2} ms, max {:.2} ms, for one of the connections that are allowed",
                wait.p99_ms, wait.max_ms
            )?;
        }
        self.fmt_versions(f)?;
        self.fmt_parts(f)?;
        self.fmt_failures(f)
    }
}

impl Summary {
    fn fmt_versions(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        writeln!(
            f,
            "{:<12} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}  route",
            "version",
            "answers",
            "share",
            "accuracy",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms"
        )?;
        for (name, version) in &self.versions {
            let VersionSummary {
                answers,
                share,
                accuracy,
                latency,
                routes,
                ..
            } = version;
            let row = Row {
                name,
                answers: *answers,
                share: Some(*share),
                accuracy: *accuracy,
            };
            writeln!(f, "{row}{}  {}", Columns(*latency), Counts(routes))?;
        }
        let row = Row {
            name: "all",
            answers: self.ok,
            share: None,
            accuracy: self.accuracy,
        };
        writeln!(f, "{row}{}", Columns(self.latency))
    }

    fn fmt_parts(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.parts.is_empty() {
            return Ok(());
        }
        let header = [
            "requests", "finished", "answered", "accuracy", "p50 ms", "p90 ms", "p99 ms",
            "p99.9 ms", "max ms",
        ];
        write!(f, "\n{:<12}", header[0])?;
        for name in &header[1..] {
            write!(f, " {name:>9}")?;
        }
        writeln!(f)?;
        for (name, part) in &self.parts {
            write!(f, "{name:<12} {:>9} {:>9}", part.finished, part.ok)?;
            match part.accuracy {
                Some(ratio) => write!(f, " {:>7.2} %", ratio * 100.0)?,
                None => write!(f, " {:>9}", "-")?,
            }
            writeln!(f, "{}", Columns(part.latency))?;
        }
        Ok(())
    }

    fn fmt_failures(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.failures.is_empty() {
            return Ok(());
        }
        let mut failures: Vec<_> = self.failures.iter().collect();
        failures.sort_by_key(|failure| std::cmp::Reverse(failure.count));
        writeln!(f, "\nfailures")?;
        for failure in failures.iter().take(FAILURES) {
            writeln!(f, "{:>9} x {}", failure.count, failure.text)?;
        }
        if let Some(more) = failures
            .len()
            .checked_sub(FAILURES)
            .filter(|&more| more > 0)
        {
            writeln!(f, "          and {more} other texts")?;
        }
        Ok(())
    }
}

/// The first columns of a version's line.
struct Row<'a> {
    name: &'a str,
    answers: u64,
    share: Option<f64>,
    accuracy: Option<f64>,
}

/// The latency columns of a version's line.
struct Columns(Option<Quantiles>);

/// `a: 3, b: 1`, or `none`.
struct Counts<'a, K>(&'a BTreeMap<K, u64>);

// === impl Row ===

impl Display for Row<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:<12} {:>9}", self.name, self.answers)?;
        for (ratio, width) in [(self.share, 6), (self.accuracy, 7)] {
            match ratio {
                Some(ratio) => write!(f, " {:>width$.2} %", ratio * 100.0)?,
                None => write!(f, " {:>1$}", "-", width + 2)?,
            }
        }
        Ok(())
    }
}

// === impl Columns ===

impl Display for Columns {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let columns = match self.0 {
            Some(q) => [q.p50_ms, q.p90_ms, q.p99_ms, q.p999_ms, q.max_ms].map(Some),
            None => [None; 5],
        };
        for column in columns {
            match column {
                Some(millis) => write!(f, " {millis:>9.2}")?,
                None => write!(f, " {:>9}", "-")?,
            }
        }
        Ok(())
    }
}

// === impl Counts ===

impl<K: Display> Display for Counts<'_, K> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, (name, count)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name}: {count}")?;
        }
        Ok(())
    }
}
