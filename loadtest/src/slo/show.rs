//! A judgement as a table for people.

use std::fmt::{self, Display, Formatter};

use super::{Invalid, Judgement, Objective, State, Verdict};

// === impl Judgement ===

impl Display for Judgement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sure = format!("{} % interval", (self.confidence * 1e6).round() / 1e4);
        writeln!(
            f,
            "{:<14} {:>12} {:>12}   {sure:<25} verdict",
            "objective", "wanted", "measured"
        )?;
        for objective in &self.objectives {
            writeln!(f, "{objective}")?;
        }
        write!(f, "SLO: {}", self.verdict)
    }
}

// === impl Objective ===

impl Objective {
    /// Whether its figures are shares, and not milliseconds.
    pub(crate) fn is_share(&self) -> bool {
        !self.name.starts_with('p')
    }

    /// A figure of this objective, to four digits or so.
    pub(crate) fn figure(&self, figure: Option<f64>) -> String {
        match figure {
            None => "-".to_owned(),
            Some(share) if self.is_share() => format!("{:.3} %", share * 100.0),
            Some(millis) if millis < 10.0 => format!("{millis:.3} ms"),
            Some(millis) if millis < 100.0 => format!("{millis:.2} ms"),
            Some(millis) => format!("{millis:.1} ms"),
        }
    }

    /// The target, and on which side of it is well.
    pub(crate) fn wanted(&self) -> String {
        if self.is_share() {
            format!(">= {} %", (self.target * 1e8).round() / 1e6)
        } else {
            format!("< {} ms", self.target)
        }
    }

    /// The confidence interval.
    pub(crate) fn interval(&self) -> String {
        match (self.low, self.high) {
            (None, None) => "-".to_owned(),
            (low, high) => format!("{} to {}", self.figure(low), self.figure(high)),
        }
    }

    /// What it comes to.
    pub(crate) fn said(&self) -> String {
        match (self.state, self.needs) {
            (State::Met, _) => "met".to_owned(),
            (State::Missed, _) => "missed".to_owned(),
            (State::Undecided, Some(needs)) => {
                let what = if self.name == "accuracy" {
                    "different examples"
                } else {
                    "requests"
                };
                format!("undecided: about {needs} {what} would tell")
            }
            (State::Undecided, None) => "undecided: too near to the target to tell".to_owned(),
        }
    }
}

impl Display for Objective {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (wanted, measured) = (self.wanted(), self.figure(self.measured));
        write!(
            f,
            "{:<14} {wanted:>12} {measured:>12}   {:<25} {}",
            self.name,
            self.interval(),
            self.said()
        )?;
        match self.examples {
            Some(examples) => write!(f, " (of {examples} different examples)"),
            None => Ok(()),
        }
    }
}

// === impl Verdict ===

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TooSmall => "not shown, the run is too small",
            Self::Invalid => "not judged, the run is invalid",
            Self::Partial => "not shown, the run broke off",
        })
    }
}

// === impl Invalid ===

impl Display for Invalid {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped { requests } => write!(
                f,
                "{requests} requests were not sent, since the most that may be under way were \
                 (--max-in-flight)"
            ),
            Self::Unsent { requests } => write!(
                f,
                "{requests} requests were not sent, since this machine was out of file descriptors, local ports or \
                 memory, as the failures say; raise its limits (ulimit -n, net.ipv4.ip_local_port_range), or bound \
                 the load (--connections, --max-in-flight)"
            ),
            Self::Late { lag, limit_ms } => write!(
                f,
                "this client could not keep up: 1 % of requests were sent {:.2} ms late or later, where \
                 {limit_ms} ms are allowed (--max-lag); lower the rate, or use a faster or idle machine",
                lag.p99_ms
            ),
            Self::Empty => f.write_str("no request came due"),
        }
    }
}
