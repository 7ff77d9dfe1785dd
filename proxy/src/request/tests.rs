use http::{HeaderValue, StatusCode};

use super::*;
use crate::{config, metrics::Metrics, state::Shared};

const CONFIG: &str = r#"
[models.digits.versions.1]
weight = 90
endpoints = ["127.0.0.1:1"]
[models.digits.versions.2]
weight = 10
endpoints = ["127.0.0.1:2"]
[models.fixed]
allow_pin = false
[models.fixed.versions.1]
weight = 1
endpoints = ["127.0.0.1:3"]
"#;

fn shared() -> Shared {
    let config = config::parse("test", CONFIG).unwrap();
    Shared::new(config, Arc::new(Metrics::new().unwrap())).unwrap()
}

fn ask(method: &Method, path: &str, pin: Option<&str>) -> Result<Wanted, Refusal> {
    let mut headers = HeaderMap::new();
    if let Some(pin) = pin {
        headers.insert(headers::MODEL_VERSION, HeaderValue::from_str(pin).unwrap());
    }
    identify(
        method,
        path,
        &headers,
        Seen::of(&headers),
        &shared().snapshot(),
    )
}

fn refused(method: &Method, path: &str, pin: Option<&str>) -> (StatusCode, String) {
    let refusal = ask(method, path, pin).expect_err("it was taken");
    (refusal.reason.status(), refusal.message)
}

fn pinned(path: &str, pin: Option<&str>) -> Option<String> {
    match ask(&Method::POST, path, pin) {
        Ok(Wanted::Forward(forward)) => forward.pinned.map(|v| v.to_string()),
        other => panic!("not forwarded: {other:?}"),
    }
}

#[test]
fn the_path_pins_or_the_header_and_neither_is_needed() {
    let (plain, versioned) = (
        "/v2/models/digits/infer",
        "/v2/models/digits/versions/2/infer",
    );
    assert_eq!(pinned(plain, None), None);
    assert_eq!(pinned(plain, Some("1")).as_deref(), Some("1"));
    assert_eq!(pinned(versioned, None).as_deref(), Some("2"));
    assert_eq!(pinned(versioned, Some("2")).as_deref(), Some("2"));
    let (status, message) = refused(&Method::POST, versioned, Some("1"));
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        message.contains("`2`") && message.contains("`1`"),
        "{message}"
    );
}

#[test]
fn what_is_unknown_is_404_and_the_known_ones_are_named() {
    let (status, message) = refused(&Method::POST, "/v2/models/cats/infer", None);
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(message, "unknown model `cats`; known: digits, fixed");

    let path = "/v2/models/digits/versions/3/infer";
    let (status, message) = refused(&Method::POST, path, None);
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(message, "model `digits` has no version `3`; known: 1, 2");

    let (status, message) = refused(&Method::POST, "/v2/modles/digits/infer", None);
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(message.starts_with("no such path"), "{message}");
}

#[test]
fn a_pin_is_refused_where_the_model_does_not_allow_it() {
    let (status, message) = refused(&Method::POST, "/v2/models/fixed/infer", Some("1"));
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(message.contains("allow_pin"), "{message}");
}

#[test]
fn a_wrong_method_is_405_and_told_the_right_one() {
    let refusal = ask(&Method::GET, "/v2/models/digits/infer", None).unwrap_err();
    assert_eq!(refusal.reason.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(refusal.allow, Some("POST"));
    let refusal = ask(&Method::DELETE, "/v2/health/live", None).unwrap_err();
    assert_eq!(refusal.allow, Some("GET"));
}

#[test]
fn the_proxy_answers_health_and_metadata_of_the_server_itself() {
    for path in [
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/health",
        "/v2/models/digits/ready",
    ] {
        let wanted = ask(&Method::GET, path, None);
        assert!(matches!(wanted, Ok(Wanted::Own(_))), "{path}: {wanted:?}");
    }
    let wanted = ask(&Method::GET, "/v2/models/digits", None);
    assert!(matches!(
        wanted,
        Ok(Wanted::Forward(Forward {
            action: Action::Metadata,
            ..
        }))
    ));
}

#[test]
fn long_names_and_long_lists_are_cut() {
    let path = format!("/v2/models/{}/infer", "x".repeat(120));
    let (_, message) = refused(&Method::POST, &path, None);
    assert!(message.len() < 120, "{message}");
    let names: Vec<_> = (0..100).map(|i| i.to_string()).collect();
    let text = listed(names.iter().map(String::as_str));
    assert!(text.ends_with("and 84 more"), "{text}");
}
