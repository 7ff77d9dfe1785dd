//! The report as a table: what a terminal shows, the same for the same seed.

use std::fmt::{self, Display, Formatter};

use super::Report;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.about.is_empty() {
            writeln!(f, "{}", self.about)?;
        }
        writeln!(
            f,
            "model {}: {}, {}, {} requests/s for {} s, seed {}\n",
            self.model,
            count(u64::from(self.proxies), "proxy", "proxies"),
            count(self.endpoints as u64, "endpoint", "endpoints"),
            self.rate,
            self.seconds,
            self.seed
        )?;
        self.phases(f)?;
        self.versions(f)?;
        for mark in &self.marks {
            if let Some(zone) = &mark.zone {
                let (from, until) = (mark.from_seconds, mark.until_seconds);
                writeln!(
                    f,
                    "fault       zone {zone} is {}, {from} s to {until} s",
                    mark.what
                )?;
            }
        }
        self.breakers(f)?;
        for (what, how_often) in &self.failures {
            writeln!(f, "failed      {how_often} × {what}")?;
        }
        for missed in &self.missed {
            writeln!(f, "missed      {missed}")?;
        }
        Ok(())
    }
}

impl Report {
    fn phases(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:8} {:>9} {:>8} {:>10} {:>10} {:>10} {:>10} {:>10} {:>8}",
            "", "requests", "failed", "available", "p50", "p99", "p99.9", "max", "retries"
        )?;
        for phase in &self.phases {
            writeln!(
                f,
                "{:8} {:>9} {:>8} {:>8.3} % {:>7.1} ms {:>7.1} ms {:>7.1} ms {:>7.1} ms {:>8}",
                phase.name,
                phase.requests,
                phase.failed,
                phase.availability * 100.0,
                phase.p50_ms,
                phase.p99_ms,
                phase.p999_ms,
                phase.max_ms,
                phase.retries
            )?;
        }
        writeln!(f)
    }

    fn versions(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for share in &self.versions {
            writeln!(
                f,
                "version     {} answered {:.2} %, on {}",
                share.version,
                share.share * 100.0,
                count(share.endpoints as u64, "endpoint", "endpoints")
            )?;
        }
        let retries = &self.retries;
        writeln!(
            f,
            "retries     {} made; {} without budget, {} too late, {} with nobody left",
            retries.made, retries.no_budget, retries.no_time, retries.nobody_left
        )?;
        writeln!(
            f,
            "fallbacks   {} answers of another version",
            self.fallbacks
        )
    }

    fn breakers(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ejections = &self.ejections;
        write!(
            f,
            "breakers    {} opened, {} of them at healthy endpoints; {} closed",
            ejections.opened, ejections.of_healthy, ejections.closed
        )?;
        if let Some(after) = ejections.first_after_ms {
            write!(f, "; the first after {after:.0} ms")?;
        }
        writeln!(f)?;
        if !ejections.by_reason.is_empty() {
            let reasons: Vec<String> = ejections
                .by_reason
                .iter()
                .map(|(reason, count)| format!("{count} {reason}"))
                .collect();
            writeln!(f, "opened by   {}", reasons.join(", "))?;
        }
        match self.out_after_ms {
            Some(after) => writeln!(
                f,
                "out after   {after:.0} ms: under a quarter of a fair share"
            ),
            None => Ok(()),
        }
    }
}

fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
