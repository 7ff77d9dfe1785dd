//! What has to be reached.

use super::Table;

/// Requests a second that go out.
const SENT: f64 = 30_000.0;
/// How late 99 % of them may begin.
const SEND_ERROR_MS: f64 = 1.0;
/// How far the 99th percentile may be from what arithmetic says, of it.
const OFF: f64 = 0.05;
/// What a small fraction of it is.
const FRACTION: f64 = 0.2;
/// CPU per request, in proportion to wrk's.
const CPU_OF_WRK: f64 = 1.3;
/// What may be added between two readings of memory.
const GROWTH: f64 = 1.05;
const SLACK_MB: f64 = 1.0;

/// Everything that does not hold, in a sentence each.
pub(super) fn missed(table: &Table) -> Vec<String> {
    let medians = &table.medians;
    let mut missed = Vec::new();
    let mut hold = |holds: bool, text: String| {
        if !holds {
            missed.push(text);
        }
    };
    let sent = medians.sent_per_second;
    hold(
        sent >= SENT,
        format!("{sent:.0} requests/s were sent, and have to be {SENT:.0}"),
    );
    let late = medians.send_error_p99_ms;
    hold(
        late <= SEND_ERROR_MS,
        format!("1 % were sent {late:.2} ms late, and may be {SEND_ERROR_MS:.2} ms"),
    );
    let (p99, expected) = (medians.stalled_p99_ms, table.expected_p99_ms);
    hold(
        (p99 / expected - 1.0).abs() <= OFF,
        format!("p99 of a server that stalls is {p99:.0} ms, and arithmetic says {expected:.0} ms"),
    );
    let wrk = medians.wrk_stalled_p99_ms;
    hold(
        wrk <= expected * FRACTION,
        format!(
            "wrk measured a p99 of {wrk:.0} ms, which is no small fraction of {expected:.0} ms"
        ),
    );
    let ratio = medians.closed_cpu_us_per_request / medians.wrk_cpu_us_per_request;
    hold(
        ratio <= CPU_OF_WRK,
        format!("CPU per request ÷ wrk's is {ratio:.2}, and may be {CPU_OF_WRK:.2}"),
    );
    let (early, late) = table.resident_mb;
    hold(
        late <= early * GROWTH + SLACK_MB,
        format!("{early:.1} MB were resident early, and {late:.1} MB at the end"),
    );
    let failed = medians.failed;
    hold(
        failed == 0,
        format!("{failed} requests failed or were not sent, and none may"),
    );
    missed
}
