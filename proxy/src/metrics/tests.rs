//! By scraping: what a Prometheus server would see.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aegis_policy::{
    BreakerState, FallbackReason, RouteKind, Transition, TripReason, breaker::Step,
    status as policy,
};
use aegis_protocol::Reason;

use super::{LATENCY_BUCKETS, Metrics, RetryResult, specs};
use crate::{
    config::{self, Config, Name},
    kubernetes::{Listing, News, WatchError},
    pools::Pools,
    shadow::Difference,
    status::{DnsStatus, KubernetesStatus, ModelStatus, Running, ServiceStatus},
};

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

fn config(text: &str) -> Config {
    config::parse("a", text).unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn reconcile(metrics: &Metrics, text: &str, generation: u64) {
    let config = config(text);
    metrics.reconcile(&config, &Pools::listed(&config), generation);
}

fn scrape(metrics: &Metrics) -> String {
    String::from_utf8(metrics.render().unwrap()).unwrap()
}

/// The value of a series, written as Prometheus writes it.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}"))
        .parse()
        .unwrap()
}

#[test]
fn every_series_of_a_configuration_is_there_at_zero() {
    let metrics = Metrics::new().unwrap();
    reconcile(&metrics, TWO, 3);
    let text = scrape(&metrics);
    let labels = "model=\"digits\",model_version=\"2\"";
    for series in [
        format!("aegis_proxy_requests_total{{code=\"503\",kind=\"fallback\",{labels}}}"),
        format!("aegis_proxy_request_duration_seconds_count{{{labels}}}"),
        format!("aegis_proxy_time_to_first_byte_seconds_count{{{labels}}}"),
        format!("aegis_proxy_breaker_state{{endpoint=\"10.0.0.3:1\",{labels}}}"),
        format!(
            "aegis_proxy_breaker_transitions_total{{endpoint=\"10.0.0.3:1\",{labels},reason=\"time_up\",to=\"half_open\"}}"
        ),
        format!("aegis_proxy_endpoint_healthy{{endpoint=\"10.0.0.3:1\",{labels}}}"),
        format!("aegis_proxy_version_available_ratio{{{labels}}}"),
        "aegis_proxy_fallbacks_total{from=\"2\",model=\"digits\",reason=\"spill\",to=\"1\"}".into(),
        "aegis_proxy_retries_total{model=\"digits\",reason=\"reset\",result=\"made\"}".into(),
        "aegis_proxy_rejected_total{reason=\"no_endpoint\"}".into(),
        "aegis_proxy_in_flight".into(),
        "aegis_proxy_connections".into(),
        "aegis_proxy_config_reloads_total{result=\"refused\"}".into(),
        format!("aegis_inference_requests_total{{code=\"200\",{labels},via=\"proxy\"}}"),
        format!("aegis_inference_latency_seconds_count{{{labels},via=\"proxy\"}}"),
        format!("aegis_inference_queue_depth{{{labels},via=\"proxy\"}}"),
    ] {
        assert!(value(&text, &series).abs() < f64::EPSILON, "{series}");
    }
    assert!((value(&text, "aegis_proxy_config_generation") - 3.0).abs() < f64::EPSILON);
    let weight = value(&text, &format!("aegis_proxy_split_weight{{{labels}}}"));
    assert!((weight - 10.0).abs() < f64::EPSILON);
    assert!(
        !text.contains("from=\"1\""),
        "version 1 does not fall back to itself"
    );
}

#[test]
fn a_request_is_counted_once_in_each_of_its_metrics() {
    let metrics = Metrics::new().unwrap();
    reconcile(&metrics, TWO, 1);
    let version = metrics.version(&name("digits"), &name("2"));
    version.answered(
        RouteKind::Split,
        200,
        Duration::from_millis(30),
        Some(Duration::from_millis(20)),
    );
    version.answered(RouteKind::Pinned, 200, Duration::from_millis(170), None);
    version.answered(
        RouteKind::Fallback(FallbackReason::Spill),
        418,
        Duration::from_secs(9),
        Some(Duration::from_secs(4)),
    );
    let waiting = version.waiting();
    let text = scrape(&metrics);
    let labels = "model=\"digits\",model_version=\"2\"";
    let count = |series: &str| value(&text, &series.replace('@', labels));
    let is = |series: &str, expected: f64| {
        assert!(
            (count(series) - expected).abs() < 1e-9,
            "{series}: {}",
            count(series)
        );
    };
    is(
        "aegis_proxy_requests_total{code=\"200\",kind=\"split\",@}",
        1.0,
    );
    is(
        "aegis_proxy_requests_total{code=\"4xx\",kind=\"fallback\",@}",
        1.0,
    );
    is(
        "aegis_inference_requests_total{code=\"200\",@,via=\"proxy\"}",
        2.0,
    );
    is(
        "aegis_inference_latency_seconds_bucket{@,via=\"proxy\",le=\"0.05\"}",
        1.0,
    );
    is(
        "aegis_inference_latency_seconds_bucket{@,via=\"proxy\",le=\"0.2\"}",
        2.0,
    );
    is(
        "aegis_inference_latency_seconds_count{@,via=\"proxy\"}",
        3.0,
    );
    is("aegis_proxy_request_duration_seconds_sum{@}", 9.2);
    is("aegis_proxy_time_to_first_byte_seconds_sum{@}", 4.02);
    is("aegis_proxy_time_to_first_byte_seconds_count{@}", 2.0);
    is("aegis_inference_queue_depth{@,via=\"proxy\"}", 1.0);
    drop(waiting);
    let text = scrape(&metrics);
    let series = format!("aegis_inference_queue_depth{{{labels},via=\"proxy\"}}");
    assert!(value(&text, &series).abs() < f64::EPSILON);
}

#[test]
fn what_goes_takes_its_series_with_it_and_what_stays_keeps_its_counts() {
    let metrics = Metrics::new().unwrap();
    reconcile(&metrics, TWO, 1);
    let stays = metrics.version(&name("digits"), &name("1"));
    stays.answered(RouteKind::Split, 200, Duration::from_millis(1), None);
    let goes = metrics.version(&name("digits"), &name("2"));
    metrics.fell_back("digits", "2", "1", FallbackReason::Unavailable);

    let smaller = r#"
[models.digits.versions.1]
weight = 1
endpoints = ["10.0.0.1:1"]
"#;
    reconcile(&metrics, smaller, 2);
    // A request that was under way when its version went.
    goes.answered(RouteKind::Split, 200, Duration::from_millis(1), None);
    let text = scrape(&metrics);
    assert!(!text.contains("model_version=\"2\""), "{text}");
    assert!(!text.contains("10.0.0.2:1"), "{text}");
    assert!(!text.contains("from=\"2\""), "{text}");
    let series = "aegis_proxy_requests_total{code=\"200\",kind=\"split\",model=\"digits\",model_version=\"1\"}";
    assert!((value(&text, series) - 1.0).abs() < f64::EPSILON);

    reconcile(&metrics, &TWO.replace("digits", "letters"), 3);
    assert!(!scrape(&metrics).contains("digits"));
}

fn tripped(address: &str) -> Transition {
    Transition {
        version: "2".into(),
        address: address.parse().unwrap(),
        step: Step {
            to: BreakerState::Open,
            reason: TripReason::ConsecutiveFailures { failures: 5 },
        },
    }
}

/// What a scrape finds of version 2 and this endpoint of it.
fn with_endpoint(address: &str) -> Running {
    let version = policy::VersionStatus {
        name: "2".into(),
        weight: 10.0,
        share: 0.1,
        available: 1.0,
        endpoints: vec![policy::EndpointStatus::new(address.parse().unwrap())],
    };
    let model = ModelStatus {
        static_answer: false,
        queued: 0,
        max_queued: 0,
        ready: true,
        fallback: Vec::new(),
        shadow: None,
        versions: [("2".to_owned(), (&version).into())].into(),
    };
    Running {
        models: [("digits".to_owned(), model)].into(),
        ..with_service("none", &ServiceStatus::default())
    }
}

#[test]
fn what_has_gone_is_not_brought_back_by_who_still_speaks_of_it() {
    let metrics = Metrics::new().unwrap();
    reconcile(&metrics, TWO, 1);
    let seen = with_endpoint("10.0.0.3:1");
    let config = config(&TWO.replace("10.0.0.3:1", "10.0.0.4:1"));
    metrics.repool(&config, &Pools::listed(&config));
    assert!(scrape(&metrics).contains("10.0.0.4:1"));
    metrics.show(&seen);
    metrics.breaker_moved("digits", &tripped("10.0.0.3:1"));
    let text = scrape(&metrics);
    assert!(!text.contains("10.0.0.3:1"), "{text}");

    reconcile(&metrics, &TWO.replace("digits", "letters"), 2);
    metrics.show(&seen);
    metrics.retried("digits", "connect", RetryResult::Made);
    metrics.fell_back("digits", "2", "1", FallbackReason::Spill);
    let text = scrape(&metrics);
    assert!(!text.contains("digits"), "{text}");
}

#[test]
fn an_endpoint_that_stays_keeps_its_counts_when_another_goes() {
    let metrics = Metrics::new().unwrap();
    reconcile(&metrics, TWO, 1);
    metrics.breaker_moved("digits", &tripped("10.0.0.3:1"));
    let config = config(&TWO.replace("10.0.0.2:1", "10.0.0.4:1"));
    metrics.repool(&config, &Pools::listed(&config));
    let text = scrape(&metrics);
    assert!(!text.contains("10.0.0.2:1"), "{text}");
    let moved = "aegis_proxy_breaker_transitions_total{endpoint=\"10.0.0.3:1\",model=\"digits\",model_version=\"2\",reason=\"consecutive_failures\",to=\"open\"}";
    assert!((value(&text, moved) - 1.0).abs() < f64::EPSILON);
}

#[test]
fn events_are_counted_under_their_reasons() {
    let metrics = Metrics::new().unwrap();
    reconcile(&metrics, TWO, 1);
    metrics.breaker_moved("digits", &tripped("10.0.0.3:1"));
    metrics.retried("digits", "connect", RetryResult::Made);
    metrics.rejected(Reason::UnknownModel);
    let connection = metrics.connection_open();
    let request = metrics.request_in_flight();
    let text = scrape(&metrics);
    for series in [
        "aegis_proxy_breaker_transitions_total{endpoint=\"10.0.0.3:1\",model=\"digits\",model_version=\"2\",reason=\"consecutive_failures\",to=\"open\"}",
        "aegis_proxy_retries_total{model=\"digits\",reason=\"connect\",result=\"made\"}",
        "aegis_proxy_rejected_total{reason=\"unknown_model\"}",
        "aegis_proxy_in_flight",
        "aegis_proxy_connections",
    ] {
        assert!(
            (value(&text, series) - 1.0).abs() < f64::EPSILON,
            "{series}"
        );
    }
    drop((connection, request));
    assert_eq!((metrics.in_flight(), metrics.connections()), (0, 0));
}

#[test]
fn names_are_declared_once_and_everything_declared_is_exported() {
    let metrics = Metrics::new().unwrap();
    let text = format!("{TWO}\n[models.digits.shadow]\nversion = \"2\"\n");
    reconcile(&metrics, &text, 1);
    // The outputs of a model are known when the first two answers are compared.
    let shadow = metrics.shadow(&name("digits"), &name("2"));
    shadow.compared(&Difference {
        output: "scores".into(),
        absolute: 0.0,
        relative: 0.0,
        agrees: true,
        rows: 1,
        same_largest: 1,
    });
    // A build without the feature has no services, and no series of them.
    know_service(&metrics, "models/digits");
    metrics.show(&with_service("models/digits", &ServiceStatus::default()));
    let text = scrape(&metrics);
    let exported: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, _)| name)
        .collect();
    let declared: BTreeSet<&str> = specs::ALL.iter().map(|spec| spec.name).collect();
    assert_eq!(declared.len(), specs::ALL.len(), "a name is declared twice");
    assert_eq!(exported, declared);
}

/// As if the configuration named it, which it can only with a feature.
fn know_service(metrics: &Metrics, name: &str) {
    metrics.known.write().services.insert(name.to_owned());
}

fn with_service(name: &str, service: &ServiceStatus) -> Running {
    Running {
        generation: 1,
        draining: false,
        ready: true,
        models: BTreeMap::new(),
        dns: DnsStatus::default(),
        kubernetes: KubernetesStatus {
            services: [(name.to_owned(), service.clone())].into(),
        },
    }
}

#[test]
fn what_is_known_of_a_service_is_shown_and_goes_with_it() {
    let metrics = Metrics::new().unwrap();
    let service = ServiceStatus {
        ready: 3,
        terminating: 1,
        slices_left_out: 2,
        stale_for_seconds: Some(1.5),
        ..ServiceStatus::default()
    };
    know_service(&metrics, "models/digits");
    metrics.show(&with_service("models/digits", &service));
    let text = scrape(&metrics);
    for (series, expected) in [
        (
            "aegis_proxy_kubernetes_stale_seconds{service=\"models/digits\"}",
            1.5,
        ),
        (
            "aegis_proxy_kubernetes_pods{service=\"models/digits\",state=\"ready\"}",
            3.0,
        ),
        (
            "aegis_proxy_kubernetes_pods{service=\"models/digits\",state=\"terminating\"}",
            1.0,
        ),
        ("aegis_proxy_kubernetes_slices_left_out", 2.0),
    ] {
        let shown = value(&text, series);
        assert!((shown - expected).abs() < f64::EPSILON, "{series} {shown}");
    }
    reconcile(&metrics, TWO, 2);
    // A scrape that looked before that.
    metrics.show(&with_service("models/digits", &service));
    assert!(!scrape(&metrics).contains("models/digits"));
}

#[test]
fn whatever_is_heard_of_a_service_has_a_counter_that_was_there_at_zero() {
    let metrics = Metrics::new().unwrap();
    let series =
        |result: &str| format!("aegis_proxy_kubernetes_watches_total{{result=\"{result}\"}}");
    let text = || String::new();
    let errors = [
        WatchError::NoCluster(text()),
        WatchError::Unreachable(text()),
        WatchError::Timeout,
        WatchError::Refused {
            status: 403,
            message: text(),
        },
        WatchError::Failed {
            status: 500,
            message: text(),
        },
        WatchError::Expired,
        WatchError::Silent,
        WatchError::Unreadable(text()),
    ];
    assert_eq!(errors.len(), WatchError::LABELS.len());
    let failed = errors
        .into_iter()
        .map(|error| (error.label(), News::Failed(error)));
    let well = [
        ("listed", News::Listed(Listing::default())),
        ("watched", News::Watched),
        ("changed", News::Gone("a".into())),
    ];
    for (result, news) in failed.chain(well) {
        assert!(value(&scrape(&metrics), &series(result)).abs() < f64::EPSILON);
        metrics.watched(&news);
        let counted = value(&scrape(&metrics), &series(result));
        assert!((counted - 1.0).abs() < f64::EPSILON, "{result}");
    }
}

#[test]
fn the_buckets_resolve_the_latency_objectives() {
    assert!(LATENCY_BUCKETS.is_sorted());
    assert!(LATENCY_BUCKETS.contains(&0.2) && LATENCY_BUCKETS.contains(&1.5));
}

/// The rows of the proxy's table in `config/METRICS.md`: name, kind, labels.
fn documented() -> BTreeSet<(String, String, BTreeSet<String>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/METRICS.md");
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (_, section) = text
        .split_once("## aegis-proxy\n")
        .expect("has the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let words = |cell: &str| -> BTreeSet<String> {
        let names = cell.split('`').skip(1).step_by(2);
        names.map(str::to_owned).collect()
    };
    section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [name, kind, labels, _meaning] = cells[..] else {
                panic!("not four cells: {line}");
            };
            (
                name.trim_matches('`').to_owned(),
                kind.to_owned(),
                words(labels),
            )
        })
        .collect()
}

#[test]
fn the_document_lists_every_metric_with_its_kind_and_labels() {
    let declared: BTreeSet<_> = specs::ALL
        .iter()
        .map(|spec| {
            let labels = spec
                .labels
                .iter()
                .map(|label| (*label).to_owned())
                .collect();
            (
                spec.name.to_owned(),
                format!("{:?}", spec.kind).to_lowercase(),
                labels,
            )
        })
        .collect();
    assert_eq!(documented(), declared);
}
