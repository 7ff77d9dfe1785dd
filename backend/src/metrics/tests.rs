use std::collections::BTreeSet;

use super::*;

/// Statuses that no request to a known version ends with: they are of paths, of heads that are no
/// request's, and of proxies.
const ELSEWHERE: [u16; 9] = [403, 404, 405, 414, 417, 431, 501, 502, 505];

#[test]
fn every_reason_of_a_refusal_has_a_code() {
    let mut codes: BTreeSet<u16> = Reason::ALL
        .iter()
        .map(|reason| reason.status().as_u16())
        .collect();
    codes.retain(|code| !ELSEWHERE.contains(code));
    codes.extend([200, 408, CLIENT_LEFT]);
    assert_eq!(codes, BTreeSet::from(CODES));
}

#[test]
fn counts_go_to_their_own_series() {
    let metrics = Metrics::new();
    let one = metrics.version("m", "1");
    let _two = metrics.version("m", "2");
    one.answered(StatusCode::OK);
    one.answered(StatusCode::OK);
    one.client_left();
    one.flagged(Check::NanInfOutput, Action::Block);
    one.ran(8, Duration::from_millis(30));
    metrics.rejected(Reason::QueueFull);
    let text = metrics.render().unwrap();
    for line in [
        "aegis_inference_requests_total{code=\"200\",model=\"m\",model_version=\"1\"} 2",
        "aegis_inference_requests_total{code=\"499\",model=\"m\",model_version=\"1\"} 1",
        "aegis_inference_requests_total{code=\"200\",model=\"m\",model_version=\"2\"} 0",
        "aegis_safety_flags_total{action=\"block\",model=\"m\",model_version=\"1\",reason=\"nan_inf_output\"} 1",
        "aegis_inference_batch_size_bucket{model=\"m\",model_version=\"1\",le=\"4\"} 0",
        "aegis_inference_batch_size_bucket{model=\"m\",model_version=\"1\",le=\"8\"} 1",
        "aegis_inference_batch_seconds_bucket{model=\"m\",model_version=\"1\",le=\"0.025\"} 0",
        "aegis_inference_batch_seconds_bucket{model=\"m\",model_version=\"1\",le=\"0.05\"} 1",
        "aegis_instance_busy_seconds_total{model=\"m\",model_version=\"1\"} 0.03",
        "aegis_inference_rejected_total{reason=\"queue_full\"} 1",
        "aegis_inference_rejected_total{reason=\"deadline\"} 0",
    ] {
        assert!(
            text.lines().any(|got| got == line),
            "expected {line} in\n{text}"
        );
    }
}

#[test]
fn nothing_is_counted_where_nothing_is_kept() {
    let metrics = Metrics::off();
    let version = metrics.version("m", "1");
    version.answered(StatusCode::OK);
    version.took(Duration::from_millis(1));
    version.waited(Duration::from_millis(1));
    version.waited_too_long(1);
    version.ran(3, Duration::from_millis(1));
    version.show_depth(4);
    version.show_cost(1.0, 2.0);
    let text = metrics.render().unwrap();
    let mut values = text.lines().filter(|line| !line.starts_with('#'));
    assert!(values.all(|line| line.ends_with(" 0")), "{text}");
}
