//! What has to be reached, and what makes a run count.

use std::fmt::Write as _;

use super::contender::Contender;
use super::form::Form;
use super::{CONNECTIONS, Figures, Key, Table};

/// Requests a second of Triton and mosec, measured elsewhere on two cores, with the same model.
const ELSEWHERE: [(Contender, Form, [f64; 3]); 5] = [
    (Contender::Triton, Form::Binary, [2966.0, 11986.0, 14754.0]),
    (
        Contender::TritonWaits,
        Form::Binary,
        [652.0, 7563.0, 16140.0],
    ),
    (Contender::TritonWaits, Form::Json, [634.0, 7422.0, 14404.0]),
    (Contender::TritonWaits, Form::Grpc, [579.0, 7210.0, 10322.0]),
    (Contender::Mosec, Form::Binary, [357.0, 4370.0, 17687.0]),
];
/// How far from that they may be.
const VALID: f64 = 0.25;
/// Requests a second with many connections, in proportion to the better peer's.
const THROUGHPUT: [(Form, f64); 3] = [(Form::Binary, 2.0), (Form::Json, 2.0), (Form::Grpc, 1.5)];
/// P50 with one connection, in proportion to that of Triton without a delay.
const P50_OF_TRITON: f64 = 0.5;

/// Everything that does not hold, in a sentence each.
pub(super) fn missed(table: &Table) -> Vec<String> {
    let mut missed = invalid(table);
    for form in Form::ALL {
        for connections in CONNECTIONS {
            if let Some(ours) = table.get(&(form, connections, Contender::Aegis)) {
                compare(table, form, connections, ours, &mut missed);
            }
        }
    }
    for ((form, connections, contender), figures) in table {
        if figures.failed > 0 {
            let (form, name) = (form.name(), contender.name());
            let failed = figures.failed;
            missed.push(format!(
                "{name}, {form}, {connections}: {failed} requests failed"
            ));
        }
    }
    missed
}

fn compare(
    table: &Table,
    form: Form,
    connections: usize,
    ours: &Figures,
    missed: &mut Vec<String>,
) {
    let peer = |contender| table.get(&(form, connections, contender));
    let peers: Vec<&Figures> = Contender::ALL
        .into_iter()
        .filter(|one| *one != Contender::Aegis)
        .filter_map(peer)
        .collect();
    if peers.is_empty() {
        return;
    }
    let place = format!("{}, {connections} connections", form.name());
    let best = |of: fn(&Figures) -> f64, better: fn(f64, f64) -> f64| {
        peers
            .iter()
            .map(|one| of(one))
            .reduce(better)
            .unwrap_or(f64::NAN)
    };
    let fastest = best(|f| f.requests_per_second, f64::max);
    let wanted = THROUGHPUT.iter().find(|(of, _)| *of == form);
    if let Some((_, wanted)) = wanted
        && connections == CONNECTIONS[CONNECTIONS.len() - 1]
    {
        let ratio = ours.requests_per_second / fastest;
        if ratio.is_nan() || ratio < *wanted {
            missed.push(format!(
                "{place}: {ratio:.2} × the requests/s of the better peer, and it should be {wanted} ×"
            ));
        }
    }
    if connections == 1
        && let Some(triton) = peer(Contender::Triton)
    {
        let ratio = ours.p50_ms / triton.p50_ms;
        if ratio.is_nan() || ratio > P50_OF_TRITON {
            missed.push(format!(
                "{place}: p50 is {ratio:.2} × that of Triton without delay, and may be {P50_OF_TRITON} ×"
            ));
        }
    }
    let least = best(|f| f.p99_ms, f64::min);
    if ours.p99_ms > least {
        let ours = ours.p99_ms;
        missed.push(format!(
            "{place}: p99 is {ours:.2} ms, and the best peer's {least:.2} ms"
        ));
    }
}

/// Why the run says nothing.
fn invalid(table: &Table) -> Vec<String> {
    let mut why = Vec::new();
    for (contender, form, expected) in ELSEWHERE {
        for (connections, expected) in CONNECTIONS.into_iter().zip(expected) {
            let key: Key = (form, connections, contender);
            let Some(figures) = table.get(&key) else {
                continue;
            };
            let ratio = figures.requests_per_second / expected;
            if (ratio - 1.0).abs() > VALID {
                let mut text = String::from("invalid: ");
                let (name, form) = (contender.name(), form.name());
                let got = figures.requests_per_second;
                // Writing to a string cannot fail.
                let _ = write!(
                    text,
                    "{name} answers {got:.0} {form} requests/s from {connections} connections, and \
                     elsewhere {expected:.0}"
                );
                why.push(text);
            }
        }
    }
    why
}
