//! A comparison as a table for people.

use std::fmt::{self, Display, Formatter};

use super::{Comparison, Difference, Side, Standing, Verdict, least_pairs};
use crate::transport::Transport;

// === impl Comparison ===

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "A  {}\nB  {}", self.a, self.b)?;
        let transport = match self.transport {
            Transport::Json => "",
            Transport::Binary => " in binary",
            Transport::Grpc => " over gRPC",
        };
        let pairs = self.pairs.len();
        write!(
            f,
            "{pairs} pairs of {}{transport}, seed {}",
            self.load, self.seed
        )?;
        if self.left_out > 0 {
            write!(
                f,
                "; run again, since this client could not keep up: {}",
                self.left_out
            )?;
        }
        writeln!(f)?;
        if let Some(reason) = &self.partial {
            writeln!(f, "partial: {reason}")?;
        }
        if !self.figures.is_empty() {
            let sure = format!("{} % interval", (self.confidence * 1e6).round() / 1e4);
            writeln!(
                f,
                "\n{:<12} {:>12} {:>12} {:>12}   {sure:<28} {:>11}  B is",
                "figure", "A", "B", "B - A", "margin"
            )?;
        }
        for figure in &self.figures {
            writeln!(f, "{figure}")?;
        }
        match self.verdict {
            Verdict::NoWorse => writeln!(f, "\nB is no worse than A"),
            Verdict::Worse => writeln!(f, "\nB is worse than A"),
            Verdict::Undecided if pairs < least_pairs(self.confidence) => {
                let least = least_pairs(self.confidence);
                writeln!(f, "\nnot shown: that takes at least {least} pairs")
            }
            Verdict::Undecided => writeln!(
                f,
                "\nnot shown: more pairs (--pairs) or longer ones would tell"
            ),
        }
    }
}

// === impl Side ===

impl Display for Side {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.url, self.model)?;
        match &self.version {
            Some(version) => write!(f, " version {version}"),
            None => Ok(()),
        }
    }
}

// === impl Difference ===

impl Difference {
    /// The name without its unit.
    fn title(&self) -> &'static str {
        match self.name {
            "p50_ms" => "p50",
            "p99_ms" => "p99",
            "error_rate" => "errors",
            _ => "answers/s",
        }
    }

    fn number(&self, value: f64) -> String {
        match self.name {
            "error_rate" => format!("{:.3} %", 100.0 * value),
            "rate" => format!("{value:.1}"),
            _ if value.abs() < 10.0 => format!("{value:.3} ms"),
            _ => format!("{value:.1} ms"),
        }
    }

    fn signed(&self, value: f64) -> String {
        let number = self.number(value);
        // What rounds to nothing has no sign.
        let size = number.strip_prefix('-').unwrap_or(&number);
        if !size.contains(|digit| matches!(digit, '1'..='9')) {
            return size.to_owned();
        }
        let sign = if value >= 0.0 { "+" } else { "" };
        format!("{sign}{number}")
    }
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let interval = format!("{} to {}", self.signed(self.low), self.signed(self.high));
        write!(
            f,
            "{:<12} {:>12} {:>12} {:>12}   {interval:<28} {:>11}  {}",
            self.title(),
            self.number(self.a),
            self.number(self.b),
            self.signed(self.difference),
            self.number(self.margin),
            self.standing
        )
    }
}

// === impl Standing ===

impl Display for Standing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Better => "better",
            Self::NoWorse => "no worse",
            Self::Worse => "worse",
            Self::Undecided => "not known",
        })
    }
}
