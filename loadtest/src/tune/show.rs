//! What a tuning came to, for people, and as keys of `model.toml`.

use std::fmt::{self, Display, Formatter};

use super::{Advice, Setting, Trial, Tuning};

impl Display for Tuning {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {}", self.model, self.version)?;
        if let Some(costs) = self.costs {
            let (beta, alpha) = (1000.0 * costs.beta, 1000.0 * costs.alpha);
            write!(
                f,
                ", a batch of b rows takes {beta:.3} ms + b x {alpha:.4} ms"
            )?;
        }
        writeln!(
            f,
            "\n\n{:>9} {:>14} {:>11} {:>11} {:>11} {:>10} {:>5}",
            "instances", "max_batch_size", "predicted/s", "capacity/s", "within SLO", "p99", "runs"
        )?;
        for trial in &self.trials {
            writeln!(f, "{trial}")?;
        }
        let (runs, untried, sweep) = (self.runs, self.untried, self.sweep_runs);
        writeln!(
            f,
            "{runs} runs, of {sweep} of a sweep; settings that were not tried: {untried}"
        )?;
        if let Some(reason) = &self.partial {
            writeln!(f, "partial: {reason}")?;
        }
        match &self.best {
            Some(best) => write!(f, "\n{best}"),
            None => writeln!(f, "\nno setting was seen to keep the objectives"),
        }
    }
}

impl Display for Trial {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.1}"));
        let p99 = self
            .p99_ms
            .map_or("-".to_owned(), |ms| format!("{ms:.1} ms"));
        write!(
            f,
            "{:>9} {:>14} {:>11} {:>11} {:>11} {p99:>10} {:>5}",
            self.setting.instances,
            self.setting.max_batch_size,
            rate(self.predicted),
            rate(self.capacity),
            rate(self.sustained),
            self.runs
        )?;
        if self.is_doubtful {
            f.write_str("  (a run was too small, or this client could not keep up)")?;
        }
        Ok(())
    }
}

/// As comments and keys, to be put into `model.toml` as it is.
impl Display for Advice {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            per_pod,
            target_rate,
            replicas,
            queue_depth,
            ..
        } = *self;
        writeln!(
            f,
            "# One pod keeps the objectives at {per_pod:.0} requests/s."
        )?;
        writeln!(
            f,
            "# For {target_rate} requests/s with one pod down: {replicas} pods."
        )?;
        writeln!(
            f,
            "# More pods where over {queue_depth:.1} requests wait in each (aegis_inference_queue_depth)."
        )?;
        write!(f, "{}", self.setting)
    }
}

impl Display for Setting {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "max_batch_size = {}", self.max_batch_size)?;
        writeln!(f, "instances = {}", self.instances)
    }
}
