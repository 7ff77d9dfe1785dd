//! What has to be reached, and what makes a run count.

use super::{Costs, RATE, Table};

/// CPU per request of peers in proportion to nginx's, measured elsewhere on one pinned core
/// (nginx 1.22 14.6 µs, HAProxy 2.6 15.3, Envoy 1.40 35.0, bare pingora 0.9.1 20.3).
const ELSEWHERE: [(&str, f64); 3] = [
    ("haproxy", 15.3 / 14.6),
    ("envoy", 35.0 / 14.6),
    ("bare", 20.3 / 14.6),
];
/// How far from that they may be.
const VALID: f64 = 0.25;
/// CPU per request, in proportion to a peer's.
const CPU_OF_BARE: f64 = 1.15;
const CPU_OF_ENVOY: f64 = 0.70;
/// 99th percentile of the open load, in proportion to bare pingora's.
const P99_OF_BARE: f64 = 1.15;
const RESIDENT_MB: f64 = 30.0;
const KIB_PER_IDLE_CONNECTION: f64 = 20.0;
/// The part of the open load that has to be answered for its latencies to mean anything.
const ANSWERED: f64 = 0.999;

/// Everything that does not hold, in a sentence each.
pub(super) fn missed(table: &Table, costs: &Costs) -> Vec<String> {
    let mut missed = invalid(table, costs);
    let Some(ours) = table.get("aegis") else {
        return missed;
    };
    let mut at_most = |what: &str, value: f64, bound: f64| {
        if value.is_nan() || value > bound {
            missed.push(format!("{what} is {value:.2}, and may be {bound:.2}"));
        }
    };
    if let Some(cpu) = costs.ratio("aegis", "bare") {
        at_most("CPU per request ÷ bare pingora's", cpu, CPU_OF_BARE);
    }
    if let Some(bare) = table.get("bare") {
        let p99 = ours.steady_p99_ms / bare.steady_p99_ms;
        at_most(
            &format!("p99 at {RATE}/s ÷ bare pingora's"),
            p99,
            P99_OF_BARE,
        );
    }
    if let Some(cpu) = costs.ratio("aegis", "envoy") {
        at_most("CPU per request ÷ Envoy's", cpu, CPU_OF_ENVOY);
    }
    at_most("resident MB", ours.resident_mb, RESIDENT_MB);
    let idle = ours.kib_per_idle_connection;
    at_most("KiB for an idle connection", idle, KIB_PER_IDLE_CONNECTION);
    at_most("failed requests", ours.failed as f64, 0.0);
    missed
}

/// Why the run says nothing.
fn invalid(table: &Table, costs: &Costs) -> Vec<String> {
    let mut why = Vec::new();
    for (name, figures) in table {
        if figures.steady_answered < ANSWERED {
            let part = figures.steady_answered * 100.0;
            why.push(format!(
                "invalid: only {part:.1} % of the open load was answered in time through {name}"
            ));
        }
    }
    for (name, expected) in ELSEWHERE {
        let Some(ratio) = costs.ratio(name, "nginx") else {
            continue;
        };
        if (ratio / expected - 1.0).abs() > VALID {
            why.push(format!(
                "invalid: {name} takes {ratio:.2} × the CPU of nginx, and elsewhere {expected:.2} ×"
            ));
        }
    }
    why
}
