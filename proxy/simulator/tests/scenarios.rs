//! Every scenario that ships, on a configuration with a canary, with bounds on what clients see.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use aegis_policy::Rules;
use aegis_simulator::{
    Report, Scenario, Setup, run,
    scenario::{BUILTIN, Expect, PodKind},
    setup::{Place, Version},
};

/// Version 1 with nine tenths of the traffic, version 2 with the rest; 1 stands in.
fn setup() -> Setup {
    let version = |name: &str, weight, port| Version {
        name: name.into(),
        weight,
        endpoints: vec![Place {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            zone: None,
        }],
    };
    Setup {
        model: "digits".to_owned(),
        versions: vec![version("1", 90.0, 8001), version("2", 10.0, 8002)],
        fallback: vec!["1".into()],
        rules: Rules::default(),
        max_retries: 3,
        on_500: true,
        request_timeout: Duration::from_millis(1_500),
        connect_timeout: Duration::from_millis(250),
        check_interval: Duration::from_secs(1),
        check_timeout: Duration::from_millis(500),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "any instant will do as the epoch"
)]
fn epoch() -> Instant {
    Instant::now()
}

fn scenario(name: &str) -> Scenario {
    let mut builtin = BUILTIN.iter();
    let builtin = builtin.find(|builtin| builtin.name == name);
    let builtin = builtin.expect("a scenario that ships");
    Scenario::parse(name, builtin.text).unwrap_or_else(|rejected| panic!("{rejected}"))
}

fn simulate(name: &str, seed: u64) -> Report {
    let report = run(&setup(), &scenario(name), seed, epoch());
    let report = report.expect("a scenario that fits");
    eprintln!("{name}: {report}");
    report
}

/// Runs a scenario over some seeds; each has to keep what it promises.
fn holds(name: &str, also: impl Fn(&Report)) {
    for seed in [1, 20_261_124] {
        let report = simulate(name, seed);
        assert_eq!(report.missed, [""; 0], "{name}, seed {seed}");
        also(&report);
    }
}

fn opened(report: &Report, reason: &str) -> u64 {
    report.ejections.by_reason.get(reason).copied().unwrap_or(0)
}

#[test]
fn on_a_good_day_nothing_is_ejected_or_retried() {
    holds("healthy", |report| {
        assert_eq!(report.ejections.opened, 0);
        let canary = report.versions[1].share;
        assert!((0.08..0.12).contains(&canary), "{canary} of the split");
    });
}

#[test]
fn a_slow_pod_is_found_by_its_peers_and_left() {
    holds("slow", |report| {
        assert_eq!(report.ejections.opened, 1);
        let slow = opened(report, "consecutive_slow") + opened(report, "slow_ratio");
        assert_eq!(slow, 1);
        let trouble = report.trouble().unwrap();
        assert!(
            trouble.over_100_ms <= 6,
            "{} over 100 ms",
            trouble.over_100_ms
        );
        assert!(report.out_after_ms.unwrap() < 1_000.0);
    });
}

#[test]
fn a_hung_pod_is_found_by_age_and_its_requests_are_rescued() {
    holds("hung", |report| {
        assert_eq!(report.ejections.opened, 1);
        assert!(report.retries.made >= 3, "{:?}", report.retries);
        assert!(report.trouble().unwrap().over_100_ms <= 6);
    });
}

#[test]
fn a_failing_pod_is_ejected_by_each_proxy() {
    holds("failing", |report| {
        assert!(report.ejections.opened >= 2);
        assert!(opened(report, "consecutive_failures") >= 2);
    });
}

#[test]
fn a_pod_that_fails_half_of_the_time_is_ejected_too() {
    holds("half-failing", |report| {
        assert!(report.ejections.opened >= 2);
    });
}

#[test]
fn a_busy_pod_is_left_alone_and_not_ejected() {
    holds("busy", |report| assert_eq!(report.ejections.opened, 0));
}

#[test]
fn a_flapping_pod_comes_back_and_is_ejected_again() {
    holds("flapping", |report| {
        assert!(report.ejections.opened > 2, "{:?}", report.ejections);
        assert!(report.ejections.closed >= 1, "{:?}", report.ejections);
    });
}

#[test]
fn cold_pods_are_avoided_and_come_back_when_they_are_warm() {
    holds("cold", |report| {
        assert_eq!(report.ejections.opened, report.ejections.closed);
    });
}

#[test]
fn a_rolling_restart_costs_nobody_an_answer() {
    holds("rolling-restart", |report| assert!(report.fallbacks > 0));
}

#[test]
fn a_zone_that_vanishes_is_out_in_a_second_and_comes_back() {
    holds("zone-gone", |report| {
        assert_eq!(report.ejections.opened, 24, "eight pods, three proxies");
        assert!(report.out_after_ms.unwrap() < 1_500.0);
        let last = report.series.last().unwrap();
        assert_eq!(last.open, 0, "all are back");
    });
}

#[test]
fn the_zone_that_vanishes_is_one_of_the_configuration() {
    let mut setup = setup();
    for (version, zone) in setup.versions.iter_mut().zip(["east", "west"]) {
        version.endpoints[0].zone = Some(zone.into());
    }
    let report = run(&setup, &scenario("zone-gone"), 1, epoch()).unwrap();
    assert_eq!(report.marks[0].zone.as_deref(), Some("west"));
    let line = "fault       zone west is gone, 5 s to 25 s";
    assert!(report.to_string().contains(line), "{report}");
    assert!(
        report.ejections.opened >= 30,
        "half of 24 pods, three proxies"
    );
    // Those that the configuration lists, where the scenario makes none up.
    let listed = Scenario {
        endpoints: None,
        rate: 100.0,
        ..scenario("zone-gone")
    };
    let report = run(&setup, &listed, 1, epoch()).unwrap();
    let canary = &report.versions[1];
    let share = canary.answered as f64 / report.all().unwrap().requests as f64;
    assert!(share < 0.07, "{share}: gone for half of the time");
}

#[test]
fn a_bad_release_is_left_at_once() {
    holds("bad-release", |report| {
        assert!(report.ejections.first_after_ms.unwrap() < 1_000.0);
        let canary = report.versions[1].answered as f64;
        let before = &report.phases[0];
        assert!(
            canary < 0.13 * before.requests as f64,
            "nothing after it went bad"
        );
        assert!(report.fallbacks > 1_000);
    });
}

#[test]
fn under_three_times_the_load_the_pods_do_what_they_can() {
    holds("overload", |report| {
        assert_eq!(report.ejections.opened, 0, "each is as slow as its peers");
        let trouble = report.trouble().unwrap();
        // 8 pods, 8 at once, 50 ms: 1,280 of 3,000 a second.
        assert!(trouble.availability > 0.4, "{}", trouble.availability);
        let made = report.retries.made as f64 / report.all().unwrap().requests as f64;
        assert!(made < 0.2, "{made} retries a request make it worse");
        let last = report.series.last().unwrap();
        assert_eq!(last.ended, last.answered, "it recovers");
    });
}

/// Four pods that take 900 ms where there are 1,500, and 60 where there are 100: at
/// one request a second nearly nothing is known, at more there is a line.
#[test]
fn a_model_that_takes_more_than_half_of_the_time_is_served_at_any_load() {
    let healthy = scenario("healthy");
    for (takes, patience, rates) in [
        (900, 1_500, [1.0, 3.5, 20.0]),
        (60, 100, [1.0, 14.0, 100.0]),
    ] {
        let setup = Setup {
            request_timeout: Duration::from_millis(patience),
            ..setup()
        };
        for rate in rates {
            let slow = Scenario {
                endpoints: Some(8),
                rate,
                pods: PodKind {
                    service: Duration::from_millis(takes),
                    spread: 0.0,
                    ..healthy.pods
                },
                lasts: Duration::from_secs(40),
                expect: Expect::default(),
                ..healthy.clone()
            };
            let report = run(&setup, &slow, 1, epoch()).unwrap();
            let all = report.all().unwrap();
            assert!(all.availability > 0.99, "{takes} ms at {rate}: {report}");
        }
    }
}

/// The same shape, a fiftieth of the size: the whole is for `make bench-simulator`.
#[test]
fn the_large_scenario_keeps_its_promise_in_small() {
    let large = scenario("large");
    let small = Scenario {
        endpoints: large.endpoints.map(|count| count / 50),
        rate: large.rate / 50.0,
        lasts: Duration::from_secs(20),
        ..large
    };
    let report = run(&setup(), &small, 1, epoch()).unwrap();
    assert_eq!(report.missed, [""; 0], "{report}");
}

#[test]
fn the_same_seed_makes_the_same_report_to_the_last_byte() {
    let [one, same, other] = [5, 5, 6].map(|seed| {
        let report = simulate("zone-gone", seed);
        (report.to_string(), serde_json::to_string(&report).unwrap())
    });
    assert_eq!(one, same);
    assert_ne!(one, other);
}

#[test]
fn a_fault_in_what_is_not_there_is_said_by_its_key() {
    let of = |text: &str| {
        let scenario = Scenario::parse("s.toml", text).unwrap();
        run(&setup(), &scenario, 1, epoch())
            .unwrap_err()
            .to_string()
    };
    let fault = "rate = 10\n[[faults]]\nkind = \"hung\"\n";
    assert_eq!(
        of(&format!("{fault}zone = \"z\"")),
        "faults[0].zone: no endpoint is in zone \"z\" (known: )"
    );
    assert_eq!(
        of(&format!("{fault}nth_zone = 4\n").replace("rate", "endpoints = 9\nrate")),
        "faults[0].nth_zone: there is no zone 4 (known: a, b, c)"
    );
    assert_eq!(
        of(&format!("{fault}version = \"9\"")),
        "faults[0].version: no version \"9\""
    );
}

#[test]
fn a_plot_shows_every_second_and_every_fault() {
    let report = simulate("bad-release", 1);
    let svg = aegis_simulator::plot::svg(&report).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for text in ["version 1", "version 2", "p99", "retries", "available"] {
        assert!(svg.contains(text), "{text}");
    }
    let lines = svg.matches("<polyline").count();
    assert!(lines >= 7, "{lines} lines");
}
