//! What a reload may change, and how a change is told.

use super::{GOOD, good};
use crate::config::reload;

const TWO: &str = r#"
[models.digits]
fallback = ["1"]
[models.digits.versions.1]
weight = 90
endpoints = ["10.0.0.1:1", "10.0.0.2:1"]
[models.digits.versions.2]
weight = 10
endpoints = ["10.0.0.3:1"]
"#;

#[test]
fn nothing_changes_between_two_spellings_of_one_configuration() {
    let config = good(GOOD);
    let spelt_out = format!("# a comment\n[drain]\ndelay_ms = 3_000\n{GOOD}");
    assert!(good(&spelt_out).diff(&config).is_empty());
    assert_eq!(good(&spelt_out), config);
}

#[test]
fn a_change_of_weight_says_what_it_does_to_every_share() {
    let new = good(&TWO.replace("weight = 10", "weight = 60"));
    assert_eq!(
        new.diff(&good(TWO)),
        [
            "models.digits.versions.1.weight: still 90 (90.0 % -> 60.0 %)",
            "models.digits.versions.2.weight: 10 -> 60 (10.0 % -> 40.0 %)",
        ]
    );
}

#[test]
fn endpoints_that_come_and_go_are_named() {
    let new = good(&TWO.replace("\"10.0.0.2:1\"", "\"10.0.0.9:1\", \"10.0.0.8:1\""));
    assert_eq!(
        new.diff(&good(TWO)),
        [
            "models.digits.versions.1.endpoints: added 10.0.0.8:1, 10.0.0.9:1",
            "models.digits.versions.1.endpoints: removed 10.0.0.2:1",
        ]
    );
}

#[test]
fn zones_that_change_are_named() {
    let zoned = |zone: &str| format!("{{ address = \"10.0.0.1:1\", zone = \"{zone}\" }}");
    let of = |endpoint: &str| good(&TWO.replace("\"10.0.0.1:1\"", endpoint));
    let diff = |old: &str, new: &str| of(new).diff(&of(old));
    let line = "models.digits.versions.1.endpoints: zone of 10.0.0.1:1";
    let plain = "\"10.0.0.1:1\"";
    let (a, b) = (zoned("a"), zoned("b"));
    assert_eq!(diff(plain, &a), [format!("{line} (none -> a)")]);
    assert_eq!(diff(&a, &b), [format!("{line} (a -> b)")]);
    assert_eq!(diff(&b, &zoned("")), [format!("{line} (b -> none)")]);
    assert_eq!(diff(plain, &zoned("")), [""; 0]);
}

#[test]
fn versions_models_and_settings_that_change_are_named() {
    let new = good(
        r#"
[models.digits]
allow_pin = false
[models.digits.breaker]
enforce = false
[models.digits.versions.1]
weight = 90
endpoints = ["10.0.0.1:1", "10.0.0.2:1"]
[models.letters.versions.a]
weight = 1
endpoints = ["10.0.0.1:1"]
"#,
    );
    assert_eq!(
        new.diff(&good(TWO)),
        [
            "models.digits.allow_pin: true -> false",
            "models.digits.breaker.enforce: true -> false",
            "models.digits.fallback: [\"1\"] -> []",
            "models.digits.versions.1.weight: still 90 (90.0 % -> 100.0 %)",
            "models.digits.versions.2: removed (was 10.0 %)",
            "models.letters: added",
            "models.letters.versions.a: added, weight 1 (100.0 %), endpoints 10.0.0.1:1",
        ]
    );
    assert_eq!(
        good(TWO).diff(&new).last().map(String::as_str),
        Some("models.letters: removed")
    );
}

#[test]
fn models_change_while_running_and_nothing_else_does() {
    let running = good(TWO);
    let changed = TWO.replace("weight = 10", "weight = 50");
    let config = reload("proxy.toml", &changed, &running).unwrap();
    assert_eq!(config, good(&changed));

    let text = format!(
        "log_format = \"json\"\n[listen]\ndata = \"127.0.0.1:81\"\n[limits]\nmax_body_bytes = 5\n{changed}"
    );
    let rejected = reload("proxy.toml", &text, &running).unwrap_err();
    assert_eq!(
        rejected.to_string(),
        "proxy.toml:1: log_format: cannot change while running: restart to make it \"json\", or put back \"text\"\n\
         proxy.toml:3: listen.data: cannot change while running: restart to make it \"127.0.0.1:81\", or put back \"127.0.0.1:8080\"\n\
         proxy.toml:5: limits.max_body_bytes: cannot change while running: restart to make it 5, or put back 67108864"
    );
}

#[test]
fn what_is_bound_at_start_may_be_spelt_out_or_left_out() {
    let text = format!("[listen]\ndata = \"127.0.0.1:81\"\n{TWO}");
    let running = good(&text);
    // Leaving the key out means its default, which is another address.
    let rejected = reload("proxy.toml", TWO, &running).unwrap_err();
    assert_eq!(rejected.faults.len(), 1, "{rejected}");
    assert_eq!(rejected.faults[0].path, "listen.data");
    assert!(reload("proxy.toml", &text, &running).is_ok());
}
