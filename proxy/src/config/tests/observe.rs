//! What is told of requests: where lines go, who is believed, what stands for a client.

use super::{GOOD, assert_faults, good};
use crate::config::{LogTarget, Sticky};

fn with(text: &str) -> String {
    format!("{text}\n{GOOD}")
}

#[test]
fn the_log_goes_to_a_stream_or_a_file_and_to_nothing_by_default() {
    assert_eq!(good(GOOD).access_log.target, None);
    for (path, target) in [
        ("stdout", LogTarget::Stdout),
        ("stderr", LogTarget::Stderr),
        ("./a.log", LogTarget::File("./a.log".into())),
    ] {
        let config = good(&with(&format!("access_log = {{ path = {path:?} }}")));
        assert_eq!(config.access_log.target, Some(target));
    }
    for bad in ["stdou", "logs/", "a\\u0000/b"] {
        let text = with(&format!("access_log = {{ path = \"{bad}\" }}"));
        assert_faults(&text, &[(1, "access_log.path", "expected")]);
    }
    let text = with("access_log = { sample = 1.5, buffer_bytes = 1 }");
    assert_faults(
        &text,
        &[
            (1, "access_log.sample", "from 0 to 1"),
            (1, "access_log.buffer_bytes", "65536"),
        ],
    );
}

#[test]
fn traces_go_to_a_collector_and_to_nobody_by_default() {
    assert_eq!(good(GOOD).traces.otlp_endpoint, None);
    for (given, taken) in [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://collector/", "http://collector/v1/traces"),
        ("http://collector:80/traces", "http://collector:80/traces"),
    ] {
        let config = good(&with(&format!("traces = {{ otlp_endpoint = {given:?} }}")));
        assert_eq!(config.traces.otlp_endpoint.as_deref(), Some(taken));
    }
    for bad in [
        "collector",
        "collector:4318",
        "https://collector",
        "http://",
        "http://user:secret@collector",
        "http://collector/?token=secret",
    ] {
        let text = with(&format!("traces = {{ otlp_endpoint = {bad:?} }}"));
        assert_faults(&text, &[(1, "traces.otlp_endpoint", "without TLS")]);
    }
    let text = with("traces = { sample = -1.0, queue_requests = 5, batch_requests = 6 }");
    assert_faults(
        &text,
        &[
            (1, "traces.sample", "from 0 to 1"),
            (1, "traces.batch_requests", "at most queue_requests, 5"),
        ],
    );
}

#[test]
fn networks_are_taken_as_they_are_meant_and_slips_are_named() {
    let config = good(&with(
        r#"forwarded = { trusted = ["10.0.0.0/8", "fd00::/8", "192.0.2.7"] }"#,
    ));
    let trusted: Vec<_> = config
        .forwarded
        .trusted
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(trusted, ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"]);
    let text = with(r#"forwarded = { trusted = ["10.1.2.3/8", "10.0.0.0/33", "proxy"] }"#);
    assert_faults(
        &text,
        &[
            (1, "forwarded.trusted[0]", "expected 10.0.0.0/8"),
            (1, "forwarded.trusted[1]", "such as 10.0.0.0/8"),
            (1, "forwarded.trusted[2]", "\"proxy\""),
        ],
    );
}

#[test]
fn one_thing_stands_for_a_client() {
    let sticky = |text: &str| {
        let text = format!("{GOOD}[models.digits.sticky]\n{text}\n");
        good(&text).models["digits"].sticky.clone()
    };
    assert_eq!(
        sticky("jwt_claim = \"sub\""),
        Some(Sticky::Jwt {
            header: http::header::AUTHORIZATION,
            claim: "sub".to_owned()
        })
    );
    assert_eq!(
        sticky("jwt_claim = \"sub\"\njwt_header = \"X-Token\""),
        Some(Sticky::Jwt {
            header: http::HeaderName::from_static("x-token"),
            claim: "sub".to_owned()
        })
    );
    for (text, path, message) in [
        ("jwt_header = \"x\"", "jwt_header", "`jwt_claim` is empty"),
        (
            "jwt_claim = \"a\"\njwt_header = \"a b\"",
            "jwt_header",
            "invalid",
        ),
        (
            "jwt_claim = \"a\"\nheader = \"b\"",
            "jwt_claim",
            "expected one of",
        ),
        (
            "cookie = \"a\"\nheader = \"b\"",
            "cookie",
            "expected one of",
        ),
    ] {
        let text = format!("[models.digits.sticky]\n{text}\n{GOOD}");
        let rejected = crate::config::parse("a", &text).unwrap_err();
        assert_eq!(rejected.faults.len(), 1, "{rejected}");
        assert_eq!(
            rejected.faults[0].path,
            format!("models.digits.sticky.{path}")
        );
        assert!(rejected.faults[0].message.contains(message), "{rejected}");
    }
}
