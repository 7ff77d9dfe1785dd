//! Any valid configuration can be written back, read again and decided by.

use std::collections::BTreeMap;

use proptest::{collection::btree_map, prelude::*};

use crate::{
    config::{
        RawConfig, parse,
        raw::{
            RawBreaker, RawEndpoint, RawHealthCheck, RawKubernetes, RawModel, RawPort,
            RawStaticAnswer, RawVersion, RawZonedEndpoint,
        },
    },
    pools::Pools,
};

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-][A-Za-z0-9._-]{0,7}"
}

fn version() -> impl Strategy<Value = RawVersion> {
    let weight = prop_oneof![Just(0.0), 0.0..=1e6, Just(1e6), Just(f64::MIN_POSITIVE)];
    let address = (any::<[u8; 4]>(), 1..=u16::MAX)
        .prop_map(|endpoint| std::net::SocketAddr::from(endpoint).to_string());
    let named = ("([a-z0-9]{1,5}\\.){0,2}[a-z]{1,5}", 1..=u16::MAX)
        .prop_map(|(host, port)| format!("{host}:{port}"));
    let zone = proptest::option::of(name());
    let endpoints = btree_map(prop_oneof![address, named], zone, 1..4);
    let endpoint = |(address, zone)| match zone {
        None => RawEndpoint::At(address),
        Some(zone) => RawEndpoint::Table(RawZonedEndpoint { address, zone }),
    };
    (weight, endpoints, kubernetes()).prop_map(move |(weight, endpoints, kubernetes)| RawVersion {
        weight: Some(weight),
        endpoints: endpoints.into_iter().map(endpoint).collect(),
        kubernetes,
    })
}

/// A service, where this build knows what that is.
fn kubernetes() -> impl Strategy<Value = RawKubernetes> {
    let label = || "[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?";
    let port = prop_oneof![
        Just(RawPort::default()),
        label().prop_map(RawPort::Name),
        (1..=65_535_u64).prop_map(RawPort::Number),
    ];
    let namespace = prop_oneof![Just(String::new()), label().prop_map(String::from)];
    let given = (label(), namespace, port).prop_map(|(service, namespace, port)| RawKubernetes {
        service,
        namespace,
        port,
    });
    let given = proptest::option::of(given);
    given.prop_map(|given| {
        given
            .filter(|_| cfg!(feature = "kubernetes"))
            .unwrap_or_default()
    })
}

fn model() -> impl Strategy<Value = RawModel> {
    (
        btree_map(name(), version(), 1..4),
        any::<(bool, bool)>(),
        (1..=1000_u64, 10..=86_400_000_u64, 1..=100_u64),
        10..=3_600_000_u64,
        static_answer(),
    )
        .prop_map(
            |(versions, (allow_pin, chained), breaker, interval_ms, static_answer)| RawModel {
                static_answer,
                allow_pin,
                fallback: if chained {
                    versions.keys().cloned().collect()
                } else {
                    Vec::new()
                },
                versions,
                breaker: RawBreaker {
                    consecutive_failures: breaker.0,
                    open_base_ms: breaker.1,
                    open_max_ms: breaker.1,
                    half_open_max_probes: breaker.2,
                    ..RawBreaker::default()
                },
                health_check: RawHealthCheck {
                    interval_ms,
                    ..RawHealthCheck::default()
                },
                ..RawModel::default()
            },
        )
        .prop_filter("some weight is above 0", |model| {
            model
                .versions
                .values()
                .any(|version| version.weight > Some(0.0))
        })
}

fn static_answer() -> impl Strategy<Value = RawStaticAnswer> {
    let header = "[a-z]{1,9}".prop_map(|name| format!("x-{name}: a \"b\" c"));
    let given = (
        400..=599_u64,
        "\\PC{0,20}",
        proptest::collection::vec(header, 0..3),
    );
    let given = given.prop_map(|(status, body, headers)| RawStaticAnswer {
        status,
        body,
        headers,
    });
    prop_oneof![Just(RawStaticAnswer::default()), given]
}

fn valid() -> impl Strategy<Value = BTreeMap<String, RawModel>> {
    btree_map(name(), model(), 1..4)
}

proptest! {
    #[test]
    fn what_is_written_back_reads_the_same(models in valid()) {
        let raw = RawConfig { models, ..RawConfig::default() };
        let text = toml::to_string(&raw).unwrap();
        let config = parse("a", &text).unwrap();
        prop_assert_eq!(&RawConfig::from(&config), &raw);
        let again = parse("b", &toml::to_string(&RawConfig::from(&config)).unwrap()).unwrap();
        prop_assert!(again.diff(&config).is_empty());
        prop_assert_eq!(again, config);
    }

    #[test]
    fn whatever_is_taken_can_be_decided_by(models in valid()) {
        let raw = RawConfig { models, ..RawConfig::default() };
        let config = parse("a", &toml::to_string(&raw).unwrap()).unwrap();
        let pools = Pools::listed(&config);
        for (name, model) in &config.models {
            let decided = model.decided_by(|version| pools.addresses(name, version));
            prop_assert!(decided.is_ok());
        }
    }

    #[test]
    fn any_text_is_taken_or_refused_without_a_panic(text in "\\PC*") {
        let _ = parse("a", &text);
    }
}
