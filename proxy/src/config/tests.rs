//! Bad files of every kind, and what is told of them.

mod changes;
mod kubernetes;
mod observe;
mod round_trip;
mod shipped;
mod static_answer;
mod without_kubernetes;

use super::{Config, parse};

/// The smallest valid file.
const GOOD: &str = r#"
[models.digits.versions.1]
weight = 1
endpoints = ["127.0.0.1:8001"]
"#;

/// Takes a text that must be valid.
#[track_caller]
fn good(text: &str) -> Config {
    parse("proxy.toml", text).unwrap_or_else(|rejected| panic!("{rejected}"))
}

/// Asserts that a text has exactly these faults: line, key path, a part of the
/// message.
#[track_caller]
fn assert_faults(text: &str, expected: &[(usize, &str, &str)]) {
    let rejected = parse("proxy.toml", text).expect_err("has faults");
    assert_eq!(rejected.faults.len(), expected.len(), "{rejected}");
    for (fault, (line, path, message)) in rejected.faults.iter().zip(expected) {
        assert_eq!(fault.line.unwrap_or_default(), *line, "{rejected}");
        assert_eq!(fault.path, *path, "{rejected}");
        assert!(
            fault.message.contains(message),
            "{message:?} in\n{rejected}"
        );
    }
}

#[test]
fn the_smallest_file_takes_every_default() {
    let config = good(GOOD);
    assert_eq!(config.listen.data, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.drain.grace.as_secs(), 25);
    let model = &config.models["digits"];
    assert!(model.allow_pin);
    assert_eq!(model.breaker.consecutive_failures.get(), 5);
    assert_eq!(model.health_check.interval.as_millis(), 1000);
    assert_eq!(config.endpoint_count(), 1);
}

#[test]
fn a_file_without_models_is_refused() {
    assert_faults("", &[(0, "models", "at least one model")]);
    assert_faults("[models]\n", &[(1, "models", "at least one model")]);
}

#[test]
fn a_model_without_versions_and_a_version_without_endpoints_are_refused() {
    let text = "[models.a]\n[models.b.versions.1]\nweight = 1\n[models.c.versions.1]\nweight = 1\nendpoints = []\n";
    assert_faults(
        text,
        &[
            (1, "models.a.versions", "at least one version"),
            (2, "models.b.versions.1.endpoints", "at least one endpoint"),
            (6, "models.c.versions.1.endpoints", "at least one endpoint"),
        ],
    );
}

#[test]
fn weights_must_be_numbers_of_which_one_is_above_zero() {
    let text = r#"
[models.a.versions]
1 = { weight = -3, endpoints = ["10.0.0.1:1"] }
2 = { weight = nan, endpoints = ["10.0.0.1:1"] }
3 = { weight = inf, endpoints = ["10.0.0.1:1"] }
4 = { weight = "x", endpoints = ["10.0.0.1:1"] }
5 = { endpoints = ["10.0.0.1:1"] }
6 = { weight = 1e7, endpoints = ["10.0.0.1:1"] }
[models.b.versions]
1 = { weight = 0, endpoints = ["10.0.0.1:1"] }
2 = { weight = 0.0, endpoints = ["10.0.0.1:1"] }
"#;
    assert_faults(
        text,
        &[
            (3, "models.a.versions.1.weight", "from 0 to 1000000, got -3"),
            (4, "models.a.versions.2.weight", "got NaN"),
            (5, "models.a.versions.3.weight", "got inf"),
            (
                6,
                "models.a.versions.4.weight",
                "expected a number, got the string \"x\"",
            ),
            (7, "models.a.versions.5.weight", "missing"),
            (8, "models.a.versions.6.weight", "from 0 to 1000000"),
            (
                9,
                "models.b.versions",
                "at least one weight must be above 0",
            ),
        ],
    );
}

#[test]
fn endpoints_must_be_addresses_or_names_and_each_there_once() {
    let text = r#"
[models.a.versions.1]
weight = 1
endpoints = [
  "10.0.0.1:8000",
  "10.0.0.1",
  "back end:8000",
  "10.0.0.1:0",
  "10.0.0.1:8000",
  "[fd00::1]:8000",
  "fd00::1:8000",
  7,
  "[fd00:0::1]:8000",
  "127.0.0.1:8080",
]
"#;
    assert_faults(
        text,
        &[
            (6, "models.a.versions.1.endpoints[1]", "expected a port"),
            (
                7,
                "models.a.versions.1.endpoints[2]",
                "a host name has only letters",
            ),
            (
                8,
                "models.a.versions.1.endpoints[3]",
                "port from 1 to 65535, got 0",
            ),
            (
                9,
                "models.a.versions.1.endpoints[4]",
                "is endpoints[0] already",
            ),
            (11, "models.a.versions.1.endpoints[6]", "brackets"),
            (
                12,
                "models.a.versions.1.endpoints[7]",
                "expected a string, got 7",
            ),
            (
                13,
                "models.a.versions.1.endpoints[8]",
                "is endpoints[5] already",
            ),
            (
                14,
                "models.a.versions.1.endpoints[9]",
                "the proxy's own data port",
            ),
        ],
    );
}

#[test]
fn an_endpoint_may_name_its_zone_and_is_judged_as_any_other() {
    let text = r#"
[models.a.versions.1]
weight = 1
endpoints = [
  { address = "10.0.0.1:1", zone = "eu-1a" },
  { address = "pods.svc:1", zone = "" },
  "10.0.0.2:1",
]
"#;
    let config = good(text);
    let zones = config.models["a"].versions["1"].zones();
    let zones: Vec<String> = zones
        .iter()
        .map(|(at, zone)| format!("{at} {zone}"))
        .collect();
    assert_eq!(zones, ["10.0.0.1:1 eu-1a"]);
    assert_faults(
        r#"
[models.a.versions.1]
weight = 1
endpoints = [
  { address = "10.0.0.1:1", zone = "eu 1a" },
  { address = "10.0.0.1", zone = "a" },
  { zone = "a" },
  { address = "10.0.0.3:1", zoen = "a" },
  { address = "10.0.0.4:1", zone = 7 },
  { address = "10.0.0.1:1" },
]
"#,
        &[
            (
                5,
                "models.a.versions.1.endpoints[0].zone",
                "only characters of",
            ),
            (6, "models.a.versions.1.endpoints[1]", "expected a port"),
            (7, "models.a.versions.1.endpoints[2]", "got an empty string"),
            (
                8,
                "models.a.versions.1.endpoints[3].zoen",
                "did you mean `zone`?",
            ),
            (
                9,
                "models.a.versions.1.endpoints[4].zone",
                "expected a string, got 7",
            ),
            (
                10,
                "models.a.versions.1.endpoints[5]",
                "is endpoints[0] already",
            ),
        ],
    );
}

#[test]
fn one_address_may_serve_several_versions() {
    let text = r#"
[models.a.versions]
1 = { weight = 1, endpoints = ["10.0.0.1:1"] }
2 = { weight = 1, endpoints = ["10.0.0.1:1"] }
"#;
    assert_eq!(good(text).endpoint_count(), 2);
}

#[test]
fn a_fallback_must_exist_and_stand_there_once() {
    let text = format!("[models.digits]\nfallback = [\"1\", \"3\", \"1\"]\n{GOOD}");
    assert_faults(
        &text,
        &[
            (
                2,
                "models.digits.fallback[1]",
                "no version \"3\" (known: 1)",
            ),
            (2, "models.digits.fallback[2]", "\"1\" is there twice"),
        ],
    );
}

#[test]
fn names_that_fit_no_path_or_label_are_refused() {
    let long = "n".repeat(129);
    let version = "weight = 1\nendpoints = [\"10.0.0.1:1\"]\n";
    let text = format!(
        "[models.\"a/b\".versions.1]\n{version}[models.\"\".versions.1]\n{version}\
         [models.{long}.versions.1]\n{version}[models.ok.versions.\"..\"]\n{version}"
    );
    assert_faults(
        &text,
        &[
            (1, "models.\"a/b\"", "got '/'"),
            (4, "models.\"\"", "must not be empty"),
            (7, &format!("models.{long}"), "at most 128 bytes, got 129"),
            (10, "models.ok.versions.\"..\"", "dots alone"),
        ],
    );
}

#[test]
fn every_number_has_a_range_and_the_message_says_it() {
    let text = format!(
        r#"[drain]
delay_ms = 10
grace_ms = 5
[limits]
max_connections = 0
read_timeout_ms = 1
max_body_bytes = 0
[upstream]
max_idle_connections = 0
[models.digits.breaker]
consecutive_failures = 0
open_base_ms = 5000
open_max_ms = 4000
half_open_max_probes = 101
[models.digits.health_check]
interval_ms = 0
timeout_ms = 0
healthy_after = -1
path = "ready {{model}}"
[models.digits.retry]
max_retries = 11
[models.digits.timeouts]
connect_ms = 0
{GOOD}"#
    );
    assert_faults(
        &text,
        &[
            (3, "drain.grace_ms", "at least delay_ms, 10, got 5"),
            (5, "limits.max_connections", "expected 1 to 1000000, got 0"),
            (6, "limits.read_timeout_ms", "expected 10 to 3600000, got 1"),
            (
                7,
                "limits.max_body_bytes",
                "expected 1 to 4294967296, got 0",
            ),
            (
                9,
                "upstream.max_idle_connections",
                "expected 1 to 100000, got 0",
            ),
            (
                11,
                "models.digits.breaker.consecutive_failures",
                "expected 1 to 1000, got 0",
            ),
            (
                13,
                "models.digits.breaker.open_max_ms",
                "at least open_base_ms, 5000, got 4000",
            ),
            (
                14,
                "models.digits.breaker.half_open_max_probes",
                "expected 1 to 100, got 101",
            ),
            (
                16,
                "models.digits.health_check.interval_ms",
                "expected 10 to 3600000, got 0",
            ),
            (
                17,
                "models.digits.health_check.timeout_ms",
                "expected 10 to 3600000, got 0",
            ),
            (
                18,
                "models.digits.health_check.healthy_after",
                "a whole number >= 0, got -1",
            ),
            (19, "models.digits.health_check.path", "starts with /"),
            (
                21,
                "models.digits.retry.max_retries",
                "expected 0 to 10, got 11",
            ),
            (
                23,
                "models.digits.timeouts.connect_ms",
                "expected 1 to 86400000, got 0",
            ),
        ],
    );
}

#[test]
fn a_health_path_must_fit_a_request_line() {
    for bad in ["", "ready", "/a b", "/é", "/{name}", "/a#b"] {
        let text = format!("[models.digits.health_check]\npath = \"{bad}\"\n{GOOD}");
        assert_faults(&text, &[(2, "models.digits.health_check.path", "expected")]);
    }
    let text = format!("[models.digits.health_check]\npath = \"/health?m={{model}}\"\n{GOOD}");
    let config = good(&text);
    assert_eq!(
        config.models["digits"].health_check.path_for("digits", "1"),
        "/health?m=digits"
    );
}

#[test]
fn the_two_listeners_must_not_collide() {
    for (data, admin) in [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("127.0.0.1:80", "[::]:80"),
    ] {
        let text = format!("[listen]\ndata = \"{data}\"\nadmin = \"{admin}\"\n{GOOD}");
        assert_faults(&text, &[(3, "listen.admin", "collides with listen.data")]);
    }
    good(&format!(
        "[listen]\ndata = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n{GOOD}"
    ));
    let text = format!("[listen]\ndata = \"localhost:80\"\nadmin = \"127.0.0.1\"\n{GOOD}");
    assert_faults(
        &text,
        &[
            (2, "listen.data", "host names are not resolved"),
            (3, "listen.admin", "expected a port"),
        ],
    );
}

#[test]
fn unknown_keys_name_the_nearest_that_is_known() {
    let text = format!(
        "[listne]\n[models.digits]\nfalback = []\n[models.digits.breaker]\nenforced = true\n{GOOD}"
    );
    assert_faults(
        &text,
        &[
            (1, "listne", "did you mean `listen`?"),
            (3, "models.digits.falback", "did you mean `fallback`?"),
            (
                5,
                "models.digits.breaker.enforced",
                "did you mean `enforce`?",
            ),
        ],
    );
}

#[test]
fn nothing_is_unbounded() {
    let mut text = String::from("[models.a]\n[models.a.versions.1]\nweight = 1\nendpoints = [");
    for i in 0..10_001 {
        text.push_str(
            &[
                "\"10.0.",
                &(i / 250).to_string(),
                ".",
                &(i % 250).to_string(),
                ":1\",",
            ]
            .concat(),
        );
    }
    text.push(']');
    assert_faults(
        &text,
        &[(
            1,
            "models",
            "at most 10000 endpoints over all versions, got 10001",
        )],
    );

    let chain: Vec<String> = (0..9).map(|i| format!("\"{i}\"")).collect();
    let versions: Vec<String> = (0..9)
        .map(|i| format!("{i} = {{ weight = 1, endpoints = [\"10.0.0.1:1\"] }}\n"))
        .collect();
    let text = format!(
        "[models.a]\nfallback = [{}]\n[models.a.versions]\n{}",
        chain.join(","),
        versions.concat()
    );
    assert_faults(
        &text,
        &[(2, "models.a.fallback", "at most 8 versions, got 9")],
    );
}
