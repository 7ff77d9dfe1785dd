//! The closed load, in turns: each contender has a second, then the next, and so on.
//!
//! What disturbs a machine that others use, too, lasts for seconds: it would fall on one contender of a round and
//! not on another. In turns it falls on all, and a ratio of two that had theirs one after the other tells less of
//! the machine. Every other time the order is reversed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use super::{load, measure};
use crate::median;
use crate::process::Running;
use crate::wrk::{Closed, Wrk};

/// How long a turn lasts.
const TURN: Duration = Duration::from_secs(1);

/// What contenders took for each request, turn by turn, in microseconds of CPU time.
#[derive(Debug, Default)]
pub(super) struct Costs(BTreeMap<&'static str, Vec<f64>>);

/// The turns that one contender had in a round.
#[derive(Debug)]
pub(super) struct Turns {
    pub(super) turns: Vec<Closed>,
    pub(super) cpu_us_per_request: f64,
}

/// Gives each so many turns.
pub(super) async fn run(
    proxies: &[(&'static str, Running)],
    wrk: &Wrk,
    count: u64,
    costs: &mut Costs,
) -> Result<Vec<Turns>> {
    for (_, proxy) in proxies {
        // Until connections stand, caches are warm and checks have passed.
        load::run(wrk, proxy, TURN).await?;
    }
    let mut all: Vec<(Vec<Closed>, Vec<f64>)> =
        proxies.iter().map(|_| Default::default()).collect();
    for turn in 0..count.max(1) {
        let mut order: Vec<_> = proxies.iter().zip(&mut all).collect();
        if turn % 2 == 1 {
            order.reverse();
        }
        for ((_, proxy), (closed, cpu)) in order {
            let before = measure::cpu_time(proxy.pid())?;
            let seen = load::run(wrk, proxy, TURN).await?;
            let took = measure::cpu_time(proxy.pid())?.saturating_sub(before);
            cpu.push(measure::micros_each(took, seen.requests));
            closed.push(seen);
        }
    }
    let turns = proxies.iter().zip(all).map(|((name, _), (turns, cpu))| {
        let cpu_us_per_request = median::between(&cpu, |us| *us);
        costs.0.entry(name).or_default().extend(cpu);
        Turns {
            turns,
            cpu_us_per_request,
        }
    });
    Ok(turns.collect())
}

// === impl Costs ===

impl Costs {
    /// What one takes in proportion to another: the median over their turns. None where one of them had none.
    pub(super) fn ratio(&self, one: &str, other: &str) -> Option<f64> {
        let (one, other) = (self.0.get(one)?, self.0.get(other)?);
        let ratios: Vec<f64> = one
            .iter()
            .zip(other)
            .map(|(one, other)| one / other)
            .collect();
        (!ratios.is_empty()).then(|| median::between(&ratios, |ratio| *ratio))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_that_of_turns_side_by_side() {
        // All of the machine is slower by half in the middle.
        let costs = Costs(BTreeMap::from([
            ("bare", vec![10.0, 15.0, 10.0]),
            ("aegis", vec![11.0, 16.5, 12.0]),
            ("envoy", vec![]),
        ]));
        assert_eq!(costs.ratio("aegis", "bare"), Some(1.1));
        assert_eq!(costs.ratio("aegis", "envoy"), None);
        assert_eq!(costs.ratio("aegis", "nginx"), None);
    }
}
